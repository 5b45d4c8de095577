"""Lazy image arrays made of others, a range, mirrored or resized; how pictures that cannot be read are told apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastuq.errors import MissingExtraError


class Rows:
    """A range of a lazy image array; nothing is read before it is sliced itself."""

    def __init__(self, images: Any, start: int, stop: int) -> None:
        self._images, self._start = images, start
        self.shape = (stop - start, *images.shape[1:])
        self.dtype = images.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: slice) -> np.ndarray:
        start, stop, step = key.indices(len(self))
        return np.asarray(self._images[self._start + start : self._start + max(start, stop) : step])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)

    def attempt(self, start: int, stop: int) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Return what can be read of a range, and the number and error of each picture that cannot."""
        pixels, failed = attempt(self._images, self._start + start, self._start + stop)
        return pixels, [(number - self._start, why) for number, why in failed]

    def take(self, numbers: Sequence[int]) -> Any:
        """Return some of the pictures, for images that can."""
        return self._images.take([self._start + number for number in numbers])

    def resized(self, image_size: tuple[int, int]) -> "Rows":
        """Return the same range in another size, for images that have any."""
        return Rows(self._images.resized(image_size), self._start, self._start + len(self))

    def part(self, start: int, stop: int) -> Any:
        """Return a range of the range."""
        return part_of(self._images, self._start + start, self._start + stop)

    def stamp(self) -> str:
        """Return what tells whether a file has changed; empty for images that have none."""
        inner = stamp_of(self._images)
        return inner and f"{self._start}:{self._start + len(self)} of {inner}"


class Mirrored:
    """A lazy image array with every image mirrored left to right."""

    def __init__(self, images: Any) -> None:
        self._images, self.shape, self.dtype = images, images.shape, images.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: slice) -> np.ndarray:
        return np.asarray(self._images[key])[:, :, ::-1]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)

    def attempt(self, start: int, stop: int) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Return what can be read of a range, and the number and error of each picture that cannot."""
        pixels, failed = attempt(self._images, start, stop)
        return np.ascontiguousarray(pixels[:, :, ::-1]), failed

    def take(self, numbers: Sequence[int]) -> "Mirrored":
        """Return some of the pictures, for images that can."""
        return Mirrored(self._images.take(numbers))

    def resized(self, image_size: tuple[int, int]) -> "Mirrored":
        """Return the same in another size, for images that have any."""
        return Mirrored(self._images.resized(image_size))

    def part(self, start: int, stop: int) -> "Mirrored":
        """Return a range."""
        return Mirrored(part_of(self._images, start, stop))

    def stamp(self) -> str:
        """Return what tells whether a file has changed; empty for images that have none."""
        inner = stamp_of(self._images)
        return inner and f"mirrored {inner}"


class Resized:
    """A lazy image array with every image in another size (bilinear, with antialias), as pictures are resized."""

    def __init__(self, images: Any, image_size: tuple[int, int]) -> None:
        self._images, self.dtype, self._picture = images, images.dtype, pillow()
        self.shape = (len(images), *image_size, 3)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: slice) -> np.ndarray:
        size, how = (self.shape[2], self.shape[1]), self._picture.Resampling.BILINEAR
        pixels = np.asarray(self._images[key])
        out = np.empty((len(pixels), *self.shape[1:]), np.uint8)
        for place, image in enumerate(pixels):
            out[place] = self._picture.fromarray(image).resize(size, how)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)


def pillow() -> Any:
    """Return the module of Pillow that opens and resizes; raises MissingExtraError where it is not installed."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pictures need Pillow: pip install 'fastuq[images]'") from None
    return Image


def attempt(images: Any, start: int, stop: int) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Return images that nobody else can change, and which of them cannot be read, where images tell."""
    if hasattr(images, "attempt"):
        return images.attempt(start, stop)
    return np.array(images[start:stop], order="C"), []


def part_of(images: Any, start: int, stop: int) -> Any:
    """Return a range of images, which brings nothing of the others along when it is pickled."""
    if isinstance(images, np.ndarray):
        return images[start:stop]
    return images.part(start, stop) if hasattr(images, "part") else Rows(images, start, stop)


def stamp_of(images: Any) -> str:
    """Return what tells, without the pixels, whether the files of images have changed; empty where there are none."""
    return images.stamp() if hasattr(images, "stamp") else ""
