"""How predictions are judged. Nothing heavy is imported here, so that help texts can name the defaults."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fastuq.errors import InputError
from fastuq.montecarlo.sampling import MASKS, PRECISIONS, Sampling
from fastuq.util.checks import finite_number, one_of, shown

INTERVALS = ("std", "sem")
MIXED = ("ignore", "keep")
CHOICES = {"interval": INTERVALS, "mixed": MIXED, "masks": MASKS, "precision": PRECISIONS}
_LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127


def check_conf_factor(value: Any) -> float:
    """Return a confidence as a plain float; raises InputError where it is not between 0 and 1, both excluded."""
    return finite_number("conf_factor", value, 0, 1, open_ends=True)


def check_threshold(value: Any) -> float:
    """Return a threshold as a plain float; raises InputError where it is not finite as a float32."""
    return finite_number("threshold", value, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)


@dataclass(frozen=True)
class Options:
    """How predictions are judged; the defaults are the paper's, and a threshold of 0.5.

    Attributes
    ----------
    num_iter : int
        Monte-Carlo iterations T, from 2.
    conf_factor : float
        Confidence of the interval, between 0 and 1.
    threshold : float
        Where a class counts as present.
    interval : {'std', 'sem'}
        Half width z·std, or z·std/sqrt(T).
    mixed : {'ignore', 'keep'}
        What becomes of a sample with a certain and an uncertain class.
    masks : {'shared', 'per_sample'}
    precision : {'int8', 'float32'}
    seed : int

    Examples
    --------
    >>> import fastuq
    >>> fastuq.Options(num_iter=1000)  # doctest: +ELLIPSIS
    Options(num_iter=1000, conf_factor=0.7, threshold=0.5, interval='std', mixed='ignore', ...)
    >>> fastuq.Options(conf_factor=2)
    Traceback (most recent call last):
    fastuq.errors.InputError: conf_factor: expected a number between 0 and 1, both excluded, found 2
    """

    num_iter: int = Sampling.num_iter
    conf_factor: float = 0.7
    threshold: float = 0.5
    interval: str = "std"
    mixed: str = "ignore"
    masks: str = Sampling.masks
    precision: str = Sampling.precision
    seed: int = Sampling.seed

    def __post_init__(self) -> None:
        plain = {
            **asdict(self.sampling),
            "conf_factor": check_conf_factor(self.conf_factor),
            "threshold": check_threshold(self.threshold),
            "interval": one_of("interval", self.interval, INTERVALS),
            "mixed": one_of("mixed", self.mixed, MIXED),
        }
        for name, value in plain.items():  # NumPy's numbers would fail as JSON, after the work
            object.__setattr__(self, name, value)

    @property
    def sampling(self) -> Sampling:
        """What the iterations depend on."""
        return Sampling(self.num_iter, self.seed, self.masks, self.precision)


def options_of(options: Options | None, single: dict[str, Any]) -> Options:
    """Return `options` (default: `Options()`) with the `single` ones in their place; raises InputError for others."""
    if options is not None and not isinstance(options, Options):
        raise InputError(f"options: expected fastuq.Options(...), found {shown(options)}")
    known = [field.name for field in fields(Options)]
    for name in single:
        if name not in known:
            raise InputError(f"score: no option {name!r}; there are {', '.join(known)}")
    return replace(options or Options(), **single)
