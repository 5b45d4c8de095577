"""How images go into a TFLite network: their codes, layout and number, as its input says."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import ModelError

_LUMA = np.array([299, 587, 114], np.uint32)
"""Thousandths of red, green and blue in the brightness of ITU-R BT.601."""
_UNIT_RANGES = ((0.0, 1.0), (-1.0, 1.0))
"""What networks are commonly trained on in place of pixels."""
_UNSEEN = 0.1
"""Share of a range that a file need not reach, whose calibration images had no such pixels; it saturates there."""


@dataclass(frozen=True)
class ImageInput:
    """The input of a network.

    Attributes
    ----------
    batch : int
        Images that it takes at once.
    image_shape : (int, int, int)
        Height, width and 3: images are RGB whatever the network has.
    grey : bool
        Whether it takes their brightness in place of three channels.
    channels_first : bool
    codes : ndarray, (256,), uint8 or int8, or None
        The code of each pixel value; None where it is the value.
    """

    batch: int
    image_shape: tuple[int, int, int]
    grey: bool
    channels_first: bool
    codes: np.ndarray | None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return images (N, H, W, 3) uint8 as the network takes them."""
        if self.grey:
            images = ((images @ _LUMA + 500) // 1000).astype(np.uint8)[..., None]
        taken = images if self.codes is None else self.codes[images]
        return np.moveaxis(taken, 3, 1) if self.channels_first else taken


def image_input(details: dict[str, Any], name: str) -> ImageInput | None:
    """Return how images go into the input that LiteRT describes; None where it takes none.

    Raises
    ------
    ModelError
        Its scale does not say how pixels become its codes.
    """
    shape, dtype = [int(n) for n in details["shape"]], details["dtype"]
    if len(shape) != 4 or min(shape) < 1 or dtype not in (np.uint8, np.int8):
        return None
    channels_first = shape[3] not in (1, 3)
    batch, *sides = (shape[0], *shape[2:], shape[1]) if channels_first else shape
    height, width, channels = sides
    if channels not in (1, 3):
        return None
    codes = pixel_codes(details["quantization_parameters"], name, signed=dtype == np.int8)
    return ImageInput(batch, (height, width, 3), channels == 1, channels_first, codes)


def pixel_codes(quantization: dict[str, Any], name: str, *, signed: bool = False) -> np.ndarray | None:
    """Return the code (256,) that each pixel value 0 to 255 has in a network's input; None where it is the value.

    A network that normalises its input has a converter choose a scale of its own: Caffe's preprocessing gives 1.485.
    A network of 0 to 1 or -1 to 1 has a scale whose codes span that, and takes pixels as codes.
    """
    codes = _unsigned_codes(quantization, name, 128 if signed else 0)
    return codes if not signed else ((np.arange(256) if codes is None else codes) - 128).astype(np.int8)


def _unsigned_codes(quantization: dict[str, Any], name: str, above: int) -> np.ndarray | None:
    scales, zero_points = quantization["scales"], quantization["zero_points"]
    pixels = np.arange(256)
    if len(scales) == 0:  # not quantized: whole numbers mean themselves
        return None
    scale, zero_point = float(scales[0]), int(zero_points[0]) + above
    if len(scales) == 1 and 0 < scale < np.inf:
        codes = np.clip(np.rint(pixels / scale) + zero_point, 0, 255)
        if (np.abs(scale * (codes - zero_point) - pixels) <= 0.501 * scale).all():
            return None if np.array_equal(codes, pixels) else codes.astype(np.uint8)
        ends = np.array([-zero_point, 255 - zero_point]) * scale
        if any(np.abs(ends - unit).max() <= 1.5 * scale for unit in _UNIT_RANGES):
            return None
        for low, high in ((0.0, 255.0), *_UNIT_RANGES):
            if np.abs(ends - (low, high)).max() <= _UNSEEN * (high - low):  # the brightest were not calibrated on
                values = low + (high - low) / 255 * pixels
                return np.clip(np.rint(values / scale) + zero_point, 0, 255).astype(np.uint8)
    raise ModelError(
        f"{name}: expected an input that holds the pixels 0 to 255, or 0 to 1, or -1 to 1, found one with scale "
        f"{scale:.6g} and zero point {zero_point - above}, from {scale * -zero_point:.6g} to "
        f"{scale * (255 - zero_point):.6g}; the network was trained or calibrated on other values than pixels: put "
        "the scaling into it, and quantize it with `fastuq quantize`"
    )
