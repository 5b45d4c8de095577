"""ImageSet: images, labels and class names as the rest of fastuq sees them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.checks import whole_number
from fastuq.util.file_names import FileNames
from fastuq.util.labels import checked_labels

CHUNK_BYTES = 16 * 2**20
_DIGEST = 16


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with optional labels; pixels are read when they are sliced.

    Attributes
    ----------
    images : array-like, (N, H, W, 3) uint8
        An ndarray or a lazy object with ``shape``, ``dtype``, ``len`` and ``[slice] -> ndarray``; RGB.
    labels : (N,) int64 or None
        Index into `class_names`.
    class_names : tuple of str or None
        Names of the classes that `labels` count.
    name : str
        Where the images come from: ``cifar100/test``, ``bundled``, ``folder:NAME``, ``cifar100c/fog/3``.
    files : sequence of str, or None
        The file of each image, relative to the folder that was opened; None where images are not files. Names in no
        encoding have surrogates, as `os.fsdecode` makes them. They are not part of the fingerprint.

    Examples
    --------
    >>> import fastuq
    >>> images = fastuq.open_images("bundled")
    >>> images.images.shape
    (20, 32, 32, 3)
    >>> few = images.subset(5, 8)
    >>> few.name, len(few)
    ('bundled[5:8]', 3)
    >>> images.fingerprint()[:8]
    '8cca2732'
    """

    images: Any
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    name: str
    files: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not self.name.isprintable():  # file names may hold anything, and names reach the terminal
            object.__setattr__(self, "name", self.name.encode("unicode_escape").decode())
        shape, dtype = tuple(getattr(self.images, "shape", ())), np.dtype(getattr(self.images, "dtype", object))
        if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or 0 in shape:
            raise InputError(
                f"{self.name}: expected images as uint8 (N, H, W, 3) with N >= 1, found {dtype} {shape}; "
                "RGB pixels from 0 to 255, one image after the other, are needed"
            )
        if self.labels is not None:
            classes = None if self.class_names is None else len(self.class_names)
            way_out = "give the labels of these images, counted from 0, or the images without labels"
            labels = checked_labels(f"{self.name}: labels do not match", self.labels, shape[0], classes, way_out)
            labels.flags.writeable = False  # they are part of the fingerprint
            object.__setattr__(self, "labels", labels)
        if self.files is not None:
            files = FileNames.of(self.files)
            if len(files) != shape[0]:
                raise InputError(f"{self.name}: expected {shape[0]} file names, one per image, found {len(files)}")
            object.__setattr__(self, "files", files)

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else "labels"
        return f"ImageSet({self.name!r}, images {tuple(self.images.shape)}, {labels})"

    @cached_property
    def _digests(self) -> tuple[str, bytes]:
        """The fingerprint, and the digests of all images one after the other; both of the same bytes, read once."""
        digest = hashlib.sha256(f"images uint8 {tuple(int(n) for n in self.images.shape)}\n".encode())
        each = bytearray()
        step = max(1, CHUNK_BYTES // int(np.prod(self.images.shape[1:])))
        for start in range(0, len(self), step):
            pixels = self._copy(start, start + step)
            digest.update(pixels.data)
            each += _each(pixels)
        if self.labels is not None:
            digest.update(b"labels int64\n")
            digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest(), bytes(each)

    def _copy(self, start: int, stop: int) -> np.ndarray:
        """Return pixels that nobody else can change: a slice of a memory map is the file itself."""
        return np.array(self.images[start:stop], order="C")

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape, pixels and labels, as 64 hexadecimal digits; computed once, in chunks."""
        return self._digests[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return images `start` to `stop` (exclusive), the very ones that `fingerprint` was taken of.

        Returns
        -------
        ndarray, (stop - start, H, W, 3), uint8
            A copy.

        Raises
        ------
        InputError
            An image is another one by now: what is computed from it would pass for that of the fingerprint.
        """
        expected = self._digests[1][start * _DIGEST : stop * _DIGEST]
        pixels = self._copy(start, stop)
        if _each(pixels) != expected:
            raise InputError(
                f"{self.name}: images {start} to {stop - 1} are others than when the fingerprint was taken of them; "
                "something writes to them: let it end, and open them again"
            )
        return pixels

    def subset(self, start: int, stop: int) -> "ImageSet":
        """Return images `start` to `stop` (exclusive) as a set of their own.

        Raises
        ------
        InputError
            The range is empty or reaches past the end.
        """
        start, stop = whole_number("start", start), whole_number("stop", stop)
        if not 0 <= start < stop <= len(self):
            raise InputError(f"{self.name}: images {start} to {stop} asked for, but it holds 0 to {len(self)}")
        if (start, stop) == (0, len(self)):
            return self
        labels = None if self.labels is None else self.labels[start:stop]
        images = Rows(self.images, start, stop)
        files = None if self.files is None else self.files[start:stop]
        return replace(self, images=images, labels=labels, name=f"{self.name}[{start}:{stop}]", files=files)

    def matched_to(self, class_names: tuple[str, ...]) -> "ImageSet":
        """Return the set with labels that count `class_names` (those of a model) in place of its own.

        Sub-folders of a folder of images are numbered by name, and need not be all of a model's classes.

        Raises
        ------
        InputError
            A labelled class is not among `class_names`.
        """
        if self.labels is None or self.class_names is None or self.class_names == tuple(class_names):
            return self
        place = {name: number for number, name in enumerate(class_names)}
        used = [self.class_names[number] for number in np.unique(self.labels)]
        unknown = [name for name in used if name not in place]
        if unknown:
            raise InputError(
                f"{self.name}: class {unknown[0]!r} is unknown to the model, whose {len(place)} classes are "
                f"{', '.join(list(place)[:3])}, ...; rename the class, or give the images without labels"
            )
        table = np.array([place.get(name, -1) for name in self.class_names], np.int64)
        return replace(self, labels=table[self.labels], class_names=tuple(class_names))


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


def _each(pixels: np.ndarray) -> bytes:
    """Return the digests of images, `_DIGEST` bytes each, so that those of any batch can be taken out."""
    return b"".join(hashlib.sha256(image.data).digest()[:_DIGEST] for image in pixels)
