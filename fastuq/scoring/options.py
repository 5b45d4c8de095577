"""How predictions are judged. Nothing heavy is imported here, so that help texts can name the defaults."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fastuq.errors import InputError
from fastuq.montecarlo.sampling import MASKS, MAX_ITERATIONS, PRECISIONS, Sampling
from fastuq.util.checks import finite_number, one_of, shown, whole_number

INTERVALS = ("std", "sem")
MIXED = ("ignore", "keep")
METHODS = ("sampling", "analytic")
RULES = ("interval", "score")
THRESHOLD = 0.5
"""Where a class counts as present, unless another value is given."""
SCORE = "max"
"""What a rule by a score goes by, unless another one or a bank is given."""
AUTO = "auto"
"""As many iterations for each sample as settle its decision."""
SAMPLED = ("num_iter", "masks", "seed")
CHOICES = {
    "method": METHODS,
    "rule": RULES,
    "interval": INTERVALS,
    "mixed": MIXED,
    "masks": MASKS,
    "precision": PRECISIONS,
}
_ONLY_WITH = {
    **dict.fromkeys(("mixed", "doubt_floor"), ("rule", "interval")),
    **dict.fromkeys(("score", "coverage", "foreign", "foreign_coverage", "foreign_threshold"), ("rule", "score")),
    **dict.fromkeys(SAMPLED, ("method", "sampling")),
    **dict.fromkeys(("settle_error", "max_iter"), ("num_iter", AUTO)),
}
"""By option: what else has to be so, or it would be ignored."""
_ONE_OF_TWO = (("coverage", "threshold"), ("foreign_coverage", "foreign_threshold"))
_LEAST = 1e-9
_LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127


def check_conf_factor(value: Any) -> float:
    """Return a confidence as a plain float; raises InputError where it is not between 0 and 1, both excluded."""
    return finite_number("conf_factor", value, 0, 1, open_ends=True)


def check_threshold(value: Any) -> float:
    """Return a threshold as a plain float; raises InputError where it is not finite as a float32."""
    return finite_number("threshold", value, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)


def check_together(given: Collection[str], *, rule: str, method: str, num_iter: int | str) -> None:
    """Raise InputError where an option is given that would be ignored, for the rule, the method or another option."""
    found = {"rule": rule, "method": method, "num_iter": num_iter}
    for option, (name, value) in _ONLY_WITH.items():
        if option in given and found[name] != value:
            raise InputError(
                f"{option}: expected {name} {value}, found {name} {found[name]}, which knows no {option}; leave it "
                f"out, or ask for {name} {value}"
            )
    for option in ("foreign_coverage", "foreign_threshold"):
        if option in given and "foreign" not in given:
            raise InputError(f"{option}: expected a second score that it is of, found none; give foreign, its name")
    for first, second in _ONE_OF_TWO:
        if first in given and second in given:
            raise InputError(
                f"{first} and {second}: expected one of them, found both; the {second} is a least score, the {first} "
                "a share of the samples"
            )


def iterations(text: str) -> int | str:
    """Return a number of iterations, or 'auto', as people type it; raises ValueError for anything else."""
    return text if text == AUTO else int(text)


@dataclass(frozen=True)
class Options:
    """How predictions are judged; the defaults are the paper's, and a threshold of 0.5.

    Attributes
    ----------
    num_iter : int or 'auto'
        Monte-Carlo iterations T, from 2; with 'auto' each sample runs until its decision is settled.
    conf_factor : float
        Confidence of the interval, between 0 and 1.
    threshold : float
        Where a class counts as present (default: 0.5). With ``rule="score"``: the least score that is kept, unless a
        coverage is given.
    interval : {'std', 'sem'}
        Half width z·std, or z·std/sqrt(T).
    mixed : {'ignore', 'keep'}
        What becomes of a sample with a certain and an uncertain class.
    doubt_floor : float, optional
        Least mean of a single uncertain class that gets the benefit of the doubt.
    masks : {'shared', 'per_sample'}
    precision : {'int8', 'float32'}
    seed : int
    method : {'sampling', 'analytic'}
        Moments over iterations, or carried through the head's float32 layers without any: num_iter, masks and seed
        play no part then.
    rule : {'interval', 'score'}
        By the interval of every class (the paper's), or by a score of each sample.
    score : str, optional
        For ``rule="score"``, as in docs/scores.md. Default: ``bank`` where there is a bank, else ``max``.
    coverage : float, optional
        Share of the samples to keep, those of the largest scores.
    foreign : str, optional
        A second score: samples below its threshold are not of the kind that the model knows, and are ignored first.
    foreign_coverage : float
        Share of the samples that the second score leaves in.
    foreign_threshold : float, optional
        The least second score that is kept, in place of a share.
    settle_error : float
        For ``num_iter="auto"``: a decision is settled where endless iterations would change it with at most this
        chance, from 1e-6 to 0.25.
    max_iter : int
        For ``num_iter="auto"``: the most iterations of a sample.

    Examples
    --------
    >>> import fastuq
    >>> fastuq.Options(num_iter=1000)  # doctest: +ELLIPSIS
    Options(num_iter=1000, conf_factor=0.7, threshold=0.5, interval='std', mixed='ignore', ...)
    >>> fastuq.Options(conf_factor=2)
    Traceback (most recent call last):
    fastuq.errors.InputError: conf_factor: expected a number between 0 and 1, both excluded, found 2
    """

    num_iter: int | str = Sampling.num_iter
    conf_factor: float = 0.7
    threshold: float | None = None
    interval: str = "std"
    mixed: str = "ignore"
    doubt_floor: float | None = None
    masks: str = Sampling.masks
    precision: str = Sampling.precision
    seed: int = Sampling.seed
    method: str = "sampling"
    settle_error: float = 0.005
    max_iter: int = 8000
    rule: str = "interval"
    score: str | None = None
    coverage: float | None = None
    foreign: str | None = None
    foreign_coverage: float = 0.95
    foreign_threshold: float | None = None

    def __post_init__(self) -> None:
        plain = {
            "max_iter": whole_number("max_iter", self.max_iter, 2, MAX_ITERATIONS),
            **asdict(self.most),
            "num_iter": AUTO if self.settles else self.most.num_iter,
            "settle_error": finite_number("settle_error", self.settle_error, 1e-6, 0.25),
            "conf_factor": check_conf_factor(self.conf_factor),
            "method": one_of("method", self.method, METHODS),
            "rule": one_of("rule", self.rule, RULES),
            "threshold": check_threshold(self._threshold()),
            "interval": one_of("interval", self.interval, INTERVALS),
            "mixed": one_of("mixed", self.mixed, MIXED),
            "foreign_coverage": finite_number("foreign_coverage", self.foreign_coverage, _LEAST, 1),
        }
        if self.coverage is not None:
            plain["coverage"] = finite_number("coverage", self.coverage, _LEAST, 1)
        for name in ("doubt_floor", "foreign_threshold"):
            if (value := getattr(self, name)) is not None:
                plain[name] = finite_number(name, value, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
        for name, value in plain.items():  # NumPy's numbers would fail as JSON, after the work
            object.__setattr__(self, name, value)
        # whoever tries several num_iter may do so whatever the method
        check_together(self._given() - set(SAMPLED), rule=self.rule, method=self.method, num_iter=self.num_iter)
        for name, value in (("rule", "interval"), ("method", "sampling"), ("interval", "std")):
            if self.settles and getattr(self, name) != value:
                raise InputError(
                    f"num_iter {AUTO}: expected {name} {value}, found {name} {getattr(self, name)}, where iterations "
                    "settle nothing; give a number of them"
                )

    def _given(self) -> set[str]:
        """Return the names of the options that are not at their defaults."""
        defaults = _defaults() | {"threshold": THRESHOLD}
        values = {name: value for name in defaults if (value := getattr(self, name)) is not None}
        return {name for name, value in values.items() if defaults[name] is None or value != defaults[name]}

    def _threshold(self) -> float:
        if self.threshold is not None:
            return self.threshold
        if self.rule == "score" and self.coverage is None:
            raise InputError(
                "rule score: expected a coverage (the share of samples to keep) or a threshold (the least score to "
                "keep), found neither; give one of them"
            )
        return THRESHOLD

    @property
    def presence(self) -> float:
        """Where a class counts as present, whatever the rule."""
        return THRESHOLD if self.threshold is None or self.rule == "score" else self.threshold

    @property
    def by_interval(self) -> "Options":
        """The same with the rule of the interval, whatever the rule."""
        scores = {name: default for name, default in _defaults().items() if _ONLY_WITH.get(name) == ("rule", "score")}
        return replace(self, rule="interval", threshold=self.presence, **scores)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The scores that the rule goes by."""
        if self.rule == "interval":
            return ()
        first = SCORE if self.score is None else self.score
        return (first,) if self.foreign is None else (first, self.foreign)

    @property
    def sampling(self) -> Sampling:
        """What the iterations depend on; raises InputError where their number does on the samples."""
        if self.settles:
            raise InputError(f"num_iter: expected a number of iterations here, found {AUTO}; give one, such as 50")
        return self.most

    @property
    def settles(self) -> bool:
        """Whether each sample runs until its decision is settled."""
        return isinstance(self.num_iter, str) and self.num_iter == AUTO

    @property
    def most(self) -> Sampling:
        """What the iterations depend on, and the most of them that a sample takes."""
        count = self.max_iter if self.settles else self.num_iter
        return Sampling(count, self.seed, self.masks, self.precision)  # type: ignore[arg-type]


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(Options)}


def options_of(options: Options | None, single: dict[str, Any]) -> Options:
    """Return `options` (default: `Options()`) with the `single` ones in their place; raises InputError for others."""
    if options is not None and not isinstance(options, Options):
        raise InputError(f"options: expected fastuq.Options(...), found {shown(options)}")
    known = [field.name for field in fields(Options)]
    for name in single:
        if name not in known:
            raise InputError(f"score: no option {name!r}; there are {', '.join(known)}")
    return Options(**single) if options is None else replace(options, **single)
