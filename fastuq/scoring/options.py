"""How predictions are judged."""

from dataclasses import dataclass

from fastuq.scoring.decisions import INTERVALS, MIXED, check_conf_factor, check_threshold
from fastuq.util.checks import one_of


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

    num_iter: int = 50
    conf_factor: float = 0.7
    threshold: float = 0.5
    interval: str = "std"
    mixed: str = "ignore"
    masks: str = "shared"
    precision: str = "int8"
    seed: int = 0

    def __post_init__(self) -> None:
        from fastuq.montecarlo.engine import check_options  # loads numba, which reading results does not need

        num_iter, seed = check_options(self.num_iter, self.seed, self.masks, self.precision)
        plain = {
            "num_iter": num_iter,
            "conf_factor": check_conf_factor(self.conf_factor),
            "threshold": check_threshold(self.threshold),
            "interval": one_of("interval", self.interval, INTERVALS),
            "mixed": one_of("mixed", self.mixed, MIXED),
            "seed": seed,
        }
        for name, value in plain.items():  # NumPy's numbers would fail as JSON, after the work
            object.__setattr__(self, name, value)
