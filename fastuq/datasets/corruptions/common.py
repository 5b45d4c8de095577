"""What the families of corruptions share: pixels to numbers and back, draws per image, the centre zoom."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

SIZE = 32
Generators = Sequence[np.random.Generator]


def to_unit(images: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """Return uint8 pixels as numbers from 0 to 1; divided in float64, as the benchmark does."""
    return (images / 255.0).astype(dtype, copy=False)


def to_pixels(x: np.ndarray) -> np.ndarray:
    """Return numbers from 0 to 1 as uint8, clipped and truncated (not rounded), as the benchmark does."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def draw(rngs: Generators, one: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
    """Return one draw per image, stacked."""
    return np.stack([one(rng) for rng in rngs])


def blur(x: np.ndarray, sigma: float, *, mode: str = "nearest", truncate: float = 4.0) -> np.ndarray:
    """Return (B, H, W) or (B, H, W, 3) numbers under a Gaussian blur of height and width (scikit-image's defaults)."""
    sigmas = (0.0, sigma, sigma, 0.0)[: x.ndim]
    return ndimage.gaussian_filter(x, sigmas, mode=mode, truncate=truncate)


def centre_zoom(x: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the centre of (H, W, K) by `factor` (linear) and return its (H, W) centre.

    K may run over channels and images alike: each plane is zoomed on its own.
    """
    size = x.shape[0]
    part = int(np.ceil(size / factor))
    start = (size - part) // 2
    zoomed = ndimage.zoom(x[start : start + part, start : start + part], (factor, factor, 1), order=1)
    trim = (zoomed.shape[0] - size) // 2
    return zoomed[trim : trim + size, trim : trim + size]


def motion(planes: np.ndarray, radius: int, sigma: float, degrees: np.ndarray) -> np.ndarray:
    """Smear uint8 (B, H, W, K) along one direction per image, as ImageMagick's motion blur does.

    The kernel is a one-sided Gaussian ``k[i] ~ exp(-i**2 / (2 sigma**2))``, i = 0 to 2 radius, sampled at
    ``x + ceil(i cos - 1/2)``, ``y + ceil(i sin - 1/2)`` with edges replicated. ImageMagick rounds to whole
    pixels by itself, so this does too.
    """
    steps = np.arange(2 * radius + 1)
    kernel = np.exp(-(steps**2) / (2.0 * sigma**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    margin = 2 * radius
    _, height, width, _ = planes.shape
    padded = np.pad(planes, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge").astype(np.float32)
    out = np.empty(planes.shape, np.uint8)
    for place, angle in enumerate(np.radians(degrees)):
        columns = np.ceil(steps * np.cos(angle) - 0.5).astype(int) + margin
        rows = np.ceil(steps * np.sin(angle) - 0.5).astype(int) + margin
        total = np.zeros(planes.shape[1:], np.float32)
        for weight, row, column in zip(kernel, rows, columns, strict=True):
            total += weight * padded[place, row : row + height, column : column + width]
        out[place] = np.minimum(total + np.float32(0.5), 255)
    return out
