"""Blur: Gaussian, glass, defocus, motion, zoom."""

import numpy as np

from fastuq.datasets.corruptions.common import SIZE, Generators, blur, centre_zoom, draw, motion, to_pixels, to_unit


def gaussian_blur(images: np.ndarray, severity: int) -> np.ndarray:
    """Gaussian of width c."""
    c = (0.4, 0.6, 0.7, 0.8, 1)[severity - 1]
    return to_pixels(blur(to_unit(images), c))


def glass_blur(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Blur, move each pixel's neighbour into its place, blur again.

    The benchmark means to swap the two, but swaps views, so the neighbour is copied and stays where it was too.
    """
    sigma, delta, rounds = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    x = to_pixels(blur(to_unit(images), sigma))
    side = SIZE - 2 * delta
    moves = draw(rngs, lambda rng: rng.integers(-delta, delta, (rounds * side * side, 2)))
    offsets = (moves[:, :, 1] * SIZE + moves[:, :, 0]).T  # (steps, B): by how much the flat index moves
    places = np.arange(SIZE - delta, delta, -1)
    targets = np.tile((places[:, None] * SIZE + places).ravel(), rounds)
    every = np.arange(len(images))
    source = np.repeat(np.arange(SIZE * SIZE)[:, None], len(images), axis=1)  # which pixel lies where, per image
    for target, offset in zip(targets, offsets, strict=True):
        source[target] = source[target + offset, every]
    x = np.take_along_axis(x.reshape(len(images), SIZE * SIZE, 3), source.T[:, :, None], axis=1)
    return to_pixels(blur(to_unit(x.reshape(images.shape)), sigma))


def defocus_blur(images: np.ndarray, severity: int) -> np.ndarray:
    """Convolution with a disk of radius c0 on a 17 x 17 grid, itself blurred by c1 (aliasing)."""
    import cv2

    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    grid = np.arange(-8, 9)
    disk = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (3, 3), alias)
    planes = np.ascontiguousarray(to_unit(images).transpose(0, 3, 1, 2)).reshape(-1, SIZE, SIZE)
    out = np.empty_like(planes)
    for plane, target in zip(planes, out, strict=True):
        cv2.filter2D(plane, -1, kernel, dst=target)
    return to_pixels(out.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1))


def motion_blur(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """ImageMagick's motion blur at an angle from U(-45, 45) degrees."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    return motion(images, radius, sigma, np.array([rng.uniform(-45, 45) for rng in rngs]))


def zoom_blur(images: np.ndarray, severity: int) -> np.ndarray:
    """Mean of the image and its centre zooms by 1, 1.01, ... up to c, in float32."""
    c = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, c, 0.01)
    x = np.ascontiguousarray(to_unit(images, np.float32).transpose(1, 2, 3, 0)).reshape(SIZE, SIZE, -1)
    total = np.zeros_like(x)
    for factor in factors:
        total += centre_zoom(x, factor)
    mean = (x + total) / (len(factors) + 1)
    return to_pixels(mean.reshape(SIZE, SIZE, 3, -1).transpose(3, 0, 1, 2))
