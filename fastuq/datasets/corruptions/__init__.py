"""The 19 corruptions of CIFAR-100-C (Hendrycks and Dietterich 2019, arXiv 1903.12261), with their CIFAR parameters.

The algorithms follow the benchmark's script for CIFAR, quirks included; the draws differ, for the benchmark used no
seed. Here each image has its own generator, seeded by (seed, corruption, severity, number of the image), so that any
subset of images, in any batches, gives the same pixels.
"""

import zlib
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from fastuq.datasets.corruptions import blurs, digital, noise, weather
from fastuq.datasets.corruptions.common import SIZE, Generators
from fastuq.errors import InputError, MissingExtraError
from fastuq.util.checks import checked_seed, whole_number

RANDOM: dict[str, Callable[[np.ndarray, int, Generators], np.ndarray]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "speckle_noise": noise.speckle_noise,
    "glass_blur": blurs.glass_blur,
    "motion_blur": blurs.motion_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "spatter": weather.spatter,
    "elastic_transform": digital.elastic_transform,
}
DETERMINISTIC: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "gaussian_blur": blurs.gaussian_blur,
    "defocus_blur": blurs.defocus_blur,
    "zoom_blur": blurs.zoom_blur,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "saturate": digital.saturate,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}
CORRUPTIONS: tuple[str, ...] = tuple(sorted([*RANDOM, *DETERMINISTIC]))
SEVERITIES = (1, 2, 3, 4, 5)


def require_extra() -> None:
    """Check that what the corruptions need is installed.

    Raises
    ------
    MissingExtraError
        OpenCV, scikit-image or Pillow is missing.
    """
    missing = [module for module in ("cv2", "skimage", "PIL") if find_spec(module) is None]
    if missing:
        raise MissingExtraError(f"corruptions need {', '.join(missing)}: pip install 'fastuq[corrupt]'")


def corrupt(images: np.ndarray, corruption: str, severity: int, *, seed: int = 0, first: int = 0) -> np.ndarray:
    """Return corrupted copies of CIFAR images.

    Parameters
    ----------
    images : (N, 32, 32, 3) uint8
        RGB images.
    corruption : str
        One of `CORRUPTIONS`.
    severity : int
        1 to 5.
    seed : int
        Seed of all random draws; eight corruptions have none.
    first : int
        Number of the first image in its data set, by which its draws are seeded.

    Returns
    -------
    (N, 32, 32, 3) uint8

    Raises
    ------
    InputError
        Unknown corruption or severity, or images of another shape.
    MissingExtraError
        The extra ``corrupt`` is not installed.
    """
    if corruption not in CORRUPTIONS:
        raise InputError(f"no corruption {corruption!r}; there are {', '.join(CORRUPTIONS)}")
    severity = whole_number("severity", severity, 1, 5)
    seed, first = checked_seed(seed), whole_number("first", first, 0, 2**63 - 1)
    if images.shape[1:] != (SIZE, SIZE, 3) or images.dtype != np.uint8:
        raise InputError(
            f"expected uint8 (N, 32, 32, 3), found {images.dtype} {images.shape}; the parameters are those of CIFAR"
        )
    require_extra()
    if corruption in DETERMINISTIC:
        return DETERMINISTIC[corruption](images, severity)
    key = zlib.crc32(corruption.encode())
    rngs = [np.random.default_rng([seed, key, severity, first + place]) for place in range(len(images))]
    return RANDOM[corruption](images, severity, rngs)
