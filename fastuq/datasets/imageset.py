"""ImageSet: images, labels and class names as the rest of fastuq sees them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fastuq.datasets.rows import Mirrored, part_of
from fastuq.datasets.seeing import DIGEST, Seen, digests, see
from fastuq.errors import InputError
from fastuq.util.checks import sides_of, whole_number
from fastuq.util.file_names import FileNames
from fastuq.util.labels import check_width, checked_labels, one_hot_width, places_of


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
    prepared : mapping or None
        How pixels were made of picture files, JSON values; None where they are given. Part of the fingerprint.
    notes : tuple of str
        What is to be said of the set: files that were passed over, classes that a model does not know.
    skipped : tuple of (str, str)
        File and error of each picture that could not be read and was left out.
    one_hot : int or None
        How many classes the labels count that came one-hot; else None.

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
    prepared: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    one_hot: int | None = None

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
            object.__setattr__(self, "one_hot", one_hot_width(self.labels) or self.one_hot)
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_seen"}  # no pixels but those of arrays

    @cached_property
    def _seen(self) -> Seen:
        return see(self.images, pictures=self.prepared is not None)

    def _copy(self, start: int, stop: int) -> np.ndarray:
        """Return pixels that nobody else can change: a slice of a memory map is the file itself."""
        seen = vars(self).get("_seen")
        kept = None if seen is None else seen.pixels
        return np.array((self.images if kept is None else kept)[start:stop], order="C")

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape, pixels and labels, as 64 hexadecimal digits; computed once, in chunks.

        Raises
        ------
        InputError
            Pictures cannot be read: the first of them and their number.
        """
        seen = self._seen
        if seen.failed:
            raise InputError(
                f"{seen.failed[0][1]}; {len(seen.failed)} of {len(self)} pictures cannot be read; "
                "--on-error skip leaves them out"
            )
        total = seen.whole.copy()
        if self.prepared is not None:  # of the digests, so that pictures can be left out after they were looked at
            shape, how = tuple(int(n) for n in self.images.shape), json.dumps(dict(self.prepared), sort_keys=True)
            total = hashlib.sha256(f"pictures uint8 {shape} {how}\n".encode() + seen.each)
        if self.labels is not None:
            total.update(b"labels int64\n")
            total.update(self.labels.astype("<i8").tobytes())
        return str(total.hexdigest())

    def readable(self) -> "ImageSet":
        """Return the set without the pictures that cannot be read, which its `skipped` names.

        Raises
        ------
        InputError
            None can be read.
        """
        seen = self._seen
        if not seen.failed:
            return self
        if len(seen.failed) == len(self):
            raise InputError(f"{seen.failed[0][1]}; none of {len(self)} pictures can be read")
        good = np.delete(np.arange(len(self)), [number for number, _ in seen.failed]).tolist()
        files = None if self.files is None else FileNames.of(self.files)
        names = ["" if files is None else files[number] for number, _ in seen.failed]
        return self._with(
            replace(seen, failed=[]),
            images=self.images.take(good),
            labels=None if self.labels is None else self.labels[good],
            files=None if files is None else files.take(good),
            skipped=(*self.skipped, *zip(names, (why for _, why in seen.failed), strict=True)),
        )

    def _with(self, seen: Seen | None, **changes: Any) -> "ImageSet":
        """Return the set with changes after which the pixels need no other look."""
        changed = replace(self, **changes)
        if seen is not None:
            vars(changed)["_seen"] = seen
        return changed

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
        expected = self._seen.each[start * DIGEST : stop * DIGEST]
        pixels = self._copy(start, stop)
        if digests(pixels) != expected:
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
        images = part_of(self.images, start, stop)
        files = None if self.files is None else self.files[start:stop]
        return replace(self, images=images, labels=labels, name=f"{self.name}[{start}:{stop}]", files=files)

    def mirrored(self) -> "ImageSet":
        """Return the images mirrored left to right, a set with a fingerprint of its own: a second view of each."""
        return replace(self, images=Mirrored(self.images), name=f"{self.name}, mirrored")

    def resized(self, image_size: tuple[int, int]) -> "ImageSet":
        """Return pictures in another size (height, width); pixels that are given stay as they are."""
        image_size = sides_of("image_size", image_size)
        if self.prepared is None or tuple(self.images.shape[1:3]) == image_size:
            return self
        return replace(self, images=self.images.resized(image_size))

    def check_crop(self, crop: float | None) -> None:
        """Raise InputError where these are pictures of which another part was taken than a model with `crop` sees."""
        if self.prepared is not None and self.prepared["crop"] != crop:
            raise InputError(
                f"{self.name}: expected pictures opened with crop={crop}, as the model sees them, found "
                f"crop={self.prepared['crop']}; open them with open_images(..., crop={crop})"
            )

    def named(self, class_names: tuple[str, ...]) -> "ImageSet":
        """Return the set with these names for its classes, in the order of their numbers.

        Labels without names are taken as the numbers; others as `matched_to` does.

        Raises
        ------
        InputError
            A label is no number of a name, or a class is not among the names.
        """
        matched = self.matched_to(class_names)
        if self.labels is not None and matched.labels is None:
            raise InputError(f"{self.name}: found {matched.notes[-1]}; name the classes that the labels count")
        return matched._with(vars(self).get("_seen"), class_names=tuple(class_names))

    def matched_to(self, class_names: tuple[str, ...]) -> "ImageSet":
        """Return the set with labels that count `class_names` (those of a model) in place of its own.

        Classes are matched by name; sub-folders of a folder need not be all of a model's classes. Where none is known
        and all are numbers, they are class numbers, counted from 0. Where none is known at all, the images have
        another subject: they lose their labels, and a note says so.

        Raises
        ------
        InputError
            Some labelled classes are among `class_names`, and some are not; or the labels came one-hot, of another
            number of classes.
        """
        if self.labels is not None and self.class_names is None:
            check_width(self.name, self.one_hot, len(class_names))
        if self.labels is None or self.class_names is None or self.class_names == tuple(class_names):
            return self
        used = [self.class_names[number] for number in np.unique(self.labels)]
        place, by_number = places_of(used, class_names)
        unknown = [name for name in used if name not in place]
        known = f"the {len(class_names)} classes {', '.join(class_names[:3])}, ..."
        seen = vars(self).get("_seen")
        if len(unknown) == len(used):
            note = f"no labels: none of {', '.join(used[:3])}{', ...' * (len(used) > 3)} is among {known}"
            return self._with(seen, labels=None, class_names=None, notes=(*self.notes, note))
        if unknown:
            raise InputError(
                f"{self.name}: class {unknown[0]!r} is unknown to the model, which has {known}; rename the class, or "
                "give the images without labels"
            )
        table = np.array([place.get(name, -1) for name in self.class_names], np.int64)
        few = [f"{name} ({class_names[place[name]]})" for name in used[:3]] + ["..."] * (len(used) > 3)
        note = f"labels are class numbers, counted from 0: {', '.join(few)}"
        notes = (*self.notes, note) if by_number else self.notes
        return self._with(seen, labels=table[self.labels], class_names=tuple(class_names), notes=notes)
