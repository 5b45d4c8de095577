"""Images from .npy and .npz files: nothing executed, memory bounded by what the headers declare."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.rows import part_of, stamp_of
from fastuq.errors import FastUQError, InputError, short
from fastuq.util.npy import EmptyError, NpyArray, TooLargeError, open_regular, read_npz
from fastuq.util.remote import fetch, is_remote

MAX_NPZ_BYTES = 2**30
"""Largest total of unpacked arrays taken from one .npz; a .npy, read piece by piece, has no such limit."""


def open_npy(path: str | Path) -> NpyArray:
    """Return a .npy file as an array that is read when it is sliced.

    Raises
    ------
    InputError
        The file is missing, truncated, no .npy, empty, or holds Python objects.
    """
    try:
        return NpyArray(path)
    except FastUQError:
        raise
    except Exception as error:  # a hostile header can raise nearly anything
        raise _unreadable(path, error) from None


def open_npz(path: str | Path) -> dict[str, Any]:
    """Return the arrays of a .npz file that describe images: ``images``, and ``labels``, ``class_names`` if there.

    An archive with one array alone is taken as the images, whatever its name.

    Raises
    ------
    InputError
        The file is missing, truncated, no .npz, has no images, holds Python objects, or declares more than 1 GiB.
    """

    def of_images(names: Collection[str]) -> Iterable[str]:
        if "images" in names:
            return [name for name in ("images", "labels", "class_names") if name in names]
        if len(names) == 1:
            return names
        found = ", ".join(sorted(names)[:5]) or "nothing"
        raise InputError(f"{path}: expected an array named images, found {found}")

    try:
        with open(fetch(str(path)) if is_remote(path) else open_regular(path), "rb") as file:
            arrays = read_npz(file, MAX_NPZ_BYTES, of_images)
    except TooLargeError as error:
        raise InputError(f"{path}: {error}; save large images as .npy, which is read piece by piece") from None
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from None
    return arrays if "images" in arrays else {"images": arrays.popitem()[1]}


def as_rgb(images: Any, name: str) -> Any:
    """Return images (N, H, W, 3) of what people have: one (H, W, 3) or (H, W, 1), grey ones (N, H, W) or (N, H, W, 1).

    Anything else is returned as it is. Grey files are read when they are sliced, like others.

    Raises
    ------
    InputError
        It may as well be one image with another order or number of channels.
    """
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) == 2:
        raise InputError(
            f"{name}: expected images as uint8 (N, H, W, 3), found {shape}; one grey image is (H, W, 1), several are "
            "(N, H, W)"
        )
    if len(shape) == 3 and shape[2] in (1, 3):
        image = np.asarray(images[:])[None]
        return image if shape[2] == 3 else Grey(image)
    if len(shape) == 3 and (shape[0] in (3, 4) or shape[2] in (2, 4)):
        raise InputError(
            f"{name}: expected images as uint8 (N, H, W, 3), found {shape}, which is one image with its "
            f"channels first or with transparency, or {shape[0]} grey ones; give one image as (H, W, 3), grey ones as "
            "(N, H, W, 1)"
        )
    return Grey(images) if len(shape) == 3 or (len(shape) == 4 and shape[3] == 1) else images


class Grey:
    """Grey images as RGB; nothing is read before it is sliced."""

    def __init__(self, images: Any) -> None:
        self._images = images
        self.shape, self.dtype = (*images.shape[:3], 3), images.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: slice) -> np.ndarray:
        grey = np.asarray(self._images[key])
        return np.repeat(grey.reshape(*grey.shape[:3], 1), 3, axis=3)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)

    def part(self, start: int, stop: int) -> "Grey":
        """Return a range."""
        return Grey(part_of(self._images, start, stop))

    def stamp(self) -> str:
        """Return what tells whether a file has changed; empty for images that have none."""
        return stamp_of(self._images)


def _unreadable(path: Path | str, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file")
    if isinstance(error, OSError) and error.strerror:
        return InputError(f"cannot read {path}: {error.strerror}")
    if isinstance(error, EmptyError):
        return InputError(f"{path}: expected an array of at least one row, found {error}; was anything saved to it?")
    return InputError(
        f"{path}: expected a NumPy array of numbers, found a truncated or foreign file ({short(error, 100)}); "
        "save it anew"
    )
