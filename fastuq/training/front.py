"""What is put before a network so that it takes RGB images with values 0 to 255."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.text_numbers import fraction

PREPROCESSING = ("tf", "torch", "caffe")
_LUMA = np.array([65, 127, 25], np.float32) / 217
"""Red, green and blue in grey: 0.299, 0.587, 0.114 in the nearest numbers that int8 weights hold exactly."""
_TORCH_MEAN, _TORCH_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68])


@dataclass(frozen=True)
class Front:
    """What people do to pixels outside of their network.

    Attributes
    ----------
    rescale : str or None
        Factor, such as ``1/255``.
    preprocess : str or None
        Name of a Keras convention: ``tf`` (x / 127.5 - 1), ``torch`` (ImageNet's mean and deviation), ``caffe`` (BGR,
        less a mean).
    """

    rescale: str | None = None
    preprocess: str | None = None

    def __post_init__(self) -> None:
        if self.rescale is not None and self.preprocess is not None:
            raise InputError("--rescale and --preprocess: expected one of them, found both; leave one out")
        if self.preprocess not in (None, *PREPROCESSING):
            raise InputError(f"--preprocess: expected one of {', '.join(PREPROCESSING)}, found {self.preprocess!r}")
        if self.rescale is not None:
            fraction("--rescale", self.rescale)

    def __bool__(self) -> bool:
        return self.rescale is not None or self.preprocess is not None

    def into(self, channels: int) -> Callable[[Any], Any]:
        """Return a function from a tensor of RGB images to what a network with so many channels takes."""
        if channels == 1 and self.preprocess in ("torch", "caffe"):
            raise InputError(
                f"--preprocess {self.preprocess}: is for three channels, the network takes one; use --rescale"
            )

        def apply(x: Any) -> Any:
            from keras import layers

            if channels == 1:
                grey = layers.Conv2D(1, 1, use_bias=False, name="fastuq_grey")
                x = grey(x)
                grey.set_weights([_LUMA.reshape(1, 1, 3, 1)])
            if self.rescale is not None:
                return layers.Rescaling(fraction("--rescale", self.rescale), name="fastuq_rescale")(x)
            scale, offset = _affine(self.preprocess)
            if self.preprocess == "caffe":
                x = x[..., ::-1]
            return x if self.preprocess is None else layers.Rescaling(scale, offset, name="fastuq_preprocess")(x)

        return apply


def _affine(preprocess: str | None) -> tuple[Any, Any]:
    """Return scale and offset of a convention, for the channels in the network's order."""
    if preprocess == "torch":
        return (1 / (255 * _TORCH_STD)).tolist(), (-_TORCH_MEAN / _TORCH_STD).tolist()
    return (1.0, (-_CAFFE_MEAN).tolist()) if preprocess == "caffe" else (1 / 127.5, -1.0)


READINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "--rescale 1/255": lambda pixels: pixels / 255,
    "--preprocess tf": lambda pixels: pixels / 127.5 - 1,
    "--preprocess torch": lambda pixels: (pixels / 255 - _TORCH_MEAN) / _TORCH_STD,
    "--preprocess caffe": lambda pixels: pixels[..., ::-1] - _CAFFE_MEAN,
}
"""What each option does to pixels (N, H, W, 3) of a network that takes three channels."""
