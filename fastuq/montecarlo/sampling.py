"""What the iterations depend on. Nothing heavy is imported here, so that help texts can name the defaults."""

from dataclasses import dataclass

from fastuq.util.checks import checked_seed, one_of, whole_number

MASKS = ("shared", "per_sample")
PRECISIONS = ("int8", "float32")
MAX_ITERATIONS = 10_000_000


@dataclass(frozen=True)
class Sampling:
    """Which iterations are run, and in what arithmetic.

    Attributes
    ----------
    num_iter : int
        Iterations T, from 2.
    seed : int
        0 to 2^64 - 1.
    masks : {'shared', 'per_sample'}
        One set of T thinned heads for all samples, or masks of its own for each sample.
    precision : {'int8', 'float32'}
    """

    num_iter: int = 50
    seed: int = 0
    masks: str = "shared"
    precision: str = "int8"

    def __post_init__(self) -> None:
        one_of("masks", self.masks, MASKS)
        one_of("precision", self.precision, PRECISIONS)
        # Plain numbers: NumPy's would fail as JSON, after the work.
        object.__setattr__(self, "num_iter", whole_number("num_iter", self.num_iter, 2, MAX_ITERATIONS))
        object.__setattr__(self, "seed", checked_seed(self.seed))
