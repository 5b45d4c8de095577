"""Noise: Gaussian, shot, impulse, speckle."""

import numpy as np

from fastuq.datasets.corruptions.common import Generators, draw, to_pixels, to_unit


def gaussian_noise(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Return x + N(0, c)."""
    c = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    x = to_unit(images)
    return to_pixels(x + draw(rngs, lambda rng: rng.normal(0, c, x.shape[1:])))


def shot_noise(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Return Poisson(x c) / c."""
    c = (500, 250, 100, 75, 50)[severity - 1]
    rates = to_unit(images) * c
    return to_pixels(np.stack([rng.poisson(rate) for rng, rate in zip(rngs, rates, strict=True)]) / c)


def impulse_noise(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Salt and pepper: each channel value on its own, share c of them, half of those white."""
    c = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    u = draw(rngs, lambda rng: rng.random(images.shape[1:], np.float32))
    out = images.copy()
    out[u < c] = 0
    out[u < c / 2] = 255
    return out


def speckle_noise(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Return x + x N(0, c)."""
    c = (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1]
    x = to_unit(images)
    return to_pixels(x + x * draw(rngs, lambda rng: rng.normal(0, c, x.shape[1:])))
