"""Pictures as one lazy array, whatever they lie in: a folder, a store of another machine, tar files."""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastuq.datasets.picture import MAX_BYTES, PictureFile, read_picture
from fastuq.errors import InputError, MissingExtraError, printable
from fastuq.util.checks import finite_number
from fastuq.util.file_names import FileNames
from fastuq.util.process import muted, processors
from fastuq.util.remote import joined, read_bytes

_THREADS = 4
"""Most pictures that are decoded at once, each of up to 150 MB."""
_WAITING = 16
"""The same where they come from another machine, and mostly wait for it."""
_KINDS = 5
"""Most kinds of other files that are named."""


class Pictures(Protocol):
    """Picture files in order; they can be pickled, and are opened where they are read."""

    names: FileNames
    threads: int
    """How many may be read at once."""

    def at(self, number: int) -> PictureFile:
        """Return one of them."""

    def take(self, numbers: Sequence[int]) -> "Pictures":
        """Return some of them."""

    def part(self, start: int, stop: int) -> "Pictures":
        """Return a range of them."""

    def stamp(self) -> str:
        """Return what tells whether a file has changed; empty where only a look at all of them would."""


class PictureImages:
    """Picture files as one lazy (N, H, W, 3) uint8 array: each slice decodes its own files, in RGB.

    Parameters
    ----------
    pictures : Pictures
    image_size : (int, int)
        Height and width that each picture is resized to.
    crop : float, optional
        As `fastuq.datasets.picture.read_picture` takes it.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, pictures: Pictures, image_size: tuple[int, int], crop: float | None = None) -> None:
        self._pictures, self._size, self._crop = pictures, image_size, crop
        self.shape = (len(pictures.names), *image_size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice) -> np.ndarray:
        start, stop, step = key.indices(len(self))
        pixels, failed = self.attempt(start, max(start, stop))
        if failed:
            raise InputError(failed[0][1])
        return pixels[::step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)

    def attempt(self, start: int, stop: int) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Return the pictures that can be read of a range, and the number and error of each of the others."""
        out, failed = np.empty((stop - start, *self.shape[1:]), np.uint8), list[tuple[int, str]]()

        def read(place: int) -> str | None:
            try:
                out[place] = read_picture(self._pictures.at(start + place), self._size, self._crop)
            except InputError as error:
                return str(error)
            return None

        # What Pillow warns of (a large picture, odd metadata) is settled; the library of TIFFs prints on its own.
        with muted(2), warnings.catch_warnings(), ThreadPoolExecutor(self._pictures.threads) as pool:
            warnings.simplefilter("ignore")
            failed += [(start + n, why) for n, why in enumerate(pool.map(read, range(stop - start))) if why is not None]
        return (np.delete(out, [n - start for n, _ in failed], axis=0) if failed else out), failed

    def take(self, numbers: Sequence[int]) -> "PictureImages":
        """Return some of the pictures."""
        return PictureImages(self._pictures.take(numbers), self._size, self._crop)

    def resized(self, image_size: tuple[int, int]) -> "PictureImages":
        """Return the same pictures in another size."""
        return PictureImages(self._pictures, image_size, self._crop)

    def part(self, start: int, stop: int) -> "PictureImages":
        """Return a range of the pictures."""
        return PictureImages(self._pictures.part(start, stop), self._size, self._crop)

    def stamp(self) -> str:
        """Return what tells whether a file has changed; empty where only the pixels do."""
        return self._pictures.stamp()


class LocalPictures:
    """Picture files below a folder of this machine."""

    def __init__(self, folder: Path, names: FileNames) -> None:
        self._folder, self.names, self.threads = folder, names, min(_THREADS, processors())

    def at(self, number: int) -> Path:
        """Return one of them."""
        return self._folder / self.names[number]

    def take(self, numbers: Sequence[int]) -> "LocalPictures":
        """Return some of them."""
        return LocalPictures(self._folder, self.names.take(numbers))

    def part(self, start: int, stop: int) -> "LocalPictures":
        """Return a range of them."""
        return LocalPictures(self._folder, self.names[start:stop])

    def stamp(self) -> str:
        """Return what tells whether a file has changed: of names, sizes, times; empty where one cannot be looked at."""
        digest = hashlib.sha256()
        try:
            for name in self.names:
                found = os.stat(self._folder / name)
                digest.update(os.fsencode(name) + f"\0{found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:
            return ""
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalPictures, (self._folder.absolute(), self.names)


class RemotePictures:
    """Picture files below a folder of another machine."""

    def __init__(self, folder: str, names: FileNames) -> None:
        self._folder, self.names, self.threads = folder, names, _WAITING

    def at(self, number: int) -> "_RemotePicture":
        """Return one of them."""
        return _RemotePicture(joined(self._folder, self.names[number]))

    def take(self, numbers: Sequence[int]) -> "RemotePictures":
        """Return some of them."""
        return RemotePictures(self._folder, self.names.take(numbers))

    def part(self, start: int, stop: int) -> "RemotePictures":
        """Return a range of them."""
        return RemotePictures(self._folder, self.names[start:stop])

    def stamp(self) -> str:
        """Return nothing: asking for every file costs as much as reading it."""
        return ""


@dataclass(frozen=True)
class _RemotePicture:
    address: str

    def __str__(self) -> str:
        return self.address

    def read_bytes(self) -> bytes:
        return read_bytes(self.address, MAX_BYTES)


def checked_crop(crop: float | None) -> float | None:
    """Return the crop; raises InputError where it is none, MissingExtraError where Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise MissingExtraError("pictures need Pillow: pip install 'fastuq[images]'") from None
    return None if crop is None else finite_number("crop", crop, 0.01, 1)


def passed_over(others: Counter[str]) -> str:
    """Return what is said of files that are no pictures: ``12 files passed over: 10 .heic, 2 .txt``."""
    if not others.total():
        return ""
    kinds = [f"{count} {printable(kind)[:20]}" for kind, count in others.most_common(_KINDS) if count]
    count = others.total()
    more = ["..."] if len(others) > _KINDS else []
    return f"{count} file{'s' * (count > 1)} passed over: {', '.join(kinds + more)}"
