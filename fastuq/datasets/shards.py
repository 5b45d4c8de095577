"""A data set as a list of shards, each small enough to be sent to whoever caches it."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastuq.datasets.imageset import ImageSet
from fastuq.datasets.opening import open_images
from fastuq.datasets.rows import stamp_of
from fastuq.datasets.tars import open_tars, tar_paths, tar_stamp
from fastuq.errors import InputError
from fastuq.util.checks import one_of, whole_number
from fastuq.util.file_names import FileNames
from fastuq.util.remote import base_name, is_remote

SHARD_SIZE = 10_000
MAX_SHARDS = 99_999
"""Most shards of a data set: what five digits count."""


@dataclass(frozen=True, eq=False)
class ImageShard:
    """Shard `index` of `count` of a data set, counted from 1; pickled it is paths and names, and the pixels of arrays.

    Attributes
    ----------
    images : ImageSet
        A range of the data set, not read yet.
    source : str
        Name of the whole data set.
    index, count : int
    skip : bool
        Leave out the pictures that cannot be read.
    """

    images: ImageSet
    source: str
    index: int
    count: int
    skip: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the whole data set."""
        return self.images.notes

    def open(self) -> ImageSet:
        """Return the images, a set of its own each time, so that what is kept of its pixels goes with it."""
        images = replace(self.images)
        return images.readable() if self.skip else images

    def stamp(self) -> str:
        """Return what tells, without a look at pixels, whether they can have changed; empty where only they tell.

        Two equal stamps mean files of the same names, sizes and times, read in the same way, with the same labels.
        """
        images, inner = self.images, stamp_of(self.images.images)
        if not inner:
            return ""
        labels = b"" if images.labels is None else images.labels.astype("<i8").tobytes()
        names = b"" if images.files is None else FileNames.of(images.files).to_bytes()
        parts = (hashlib.sha256(part).hexdigest() for part in (labels, names))
        how = None if images.prepared is None else dict(images.prepared)
        about = [inner, [int(n) for n in images.images.shape], how, self.skip, images.labels is None, *parts]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class TarShard:
    """One of several tar files of pictures; it is looked into where it is opened, and nowhere else.

    Attributes
    ----------
    tar : str
        Its path or address.
    source, index, count, skip
        As `ImageShard` has them.
    image_size, crop, class_names, mirror
        As `open_shards` takes them.
    labels : str
        What kind of labels the first of the tar files has: all have the same.
    notes : tuple of str
        What is to be said of labels.
    """

    tar: str
    source: str
    index: int
    count: int
    skip: bool
    image_size: tuple[int, int]
    crop: float | None
    class_names: tuple[str, ...] | None
    mirror: bool
    labels: str = ""
    notes: tuple[str, ...] = ()

    def open(self) -> ImageSet:
        """Return the images, a set of its own each time; raises InputError where their labels are of another kind."""
        images, labels, _ = self.looked_into()
        if labels != self.labels:
            raise InputError(
                f"{self.tar}: expected labels of the kind that the first of the tar files has ({self.labels}), found "
                f"{labels}; label all of them in one way"
            )
        images = images.mirrored() if self.mirror else images
        return images.readable() if self.skip else images

    def looked_into(self) -> tuple[ImageSet, str, tuple[str, ...]]:
        """Return the images as they lie there, the kind of their labels, and what is to be said of these."""
        images, labels = open_tars([self.tar], base_name(self.tar), self.image_size, self.crop)
        if self.class_names is None:
            return images, labels, ()
        matched = images.matched_to(self.class_names)
        notes = matched.notes[len(images.notes) :]
        if notes:
            labels += " unknown to the model" if matched.labels is None else " that are numbers"
        return replace(matched, notes=images.notes), labels, notes

    def stamp(self) -> str:
        """Return what tells, without a look at pixels, whether they can have changed; empty where only they tell."""
        inner, how = tar_stamp(self.tar), replace(self, tar=base_name(self.tar), index=0, count=0, notes=())
        return inner and hashlib.sha256(repr((inner, how)).encode()).hexdigest()


AnyShard = ImageShard | TarShard


class Told(NamedTuple):
    """What is to be said of images in shards, as an `ImageSet` has it."""

    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


def open_shards(
    spec: str | Path | np.ndarray | ImageSet | None = None,
    *,
    size: int = SHARD_SIZE,
    class_names: tuple[str, ...] | None = None,
    image_size: tuple[int, int] = (32, 32),
    crop: float | None = None,
    mirror: bool = False,
    on_error: str = "stop",
) -> Sequence[AnyShard]:
    """Open images as shards; no pixels of files are read. Several tar files are a shard each, whatever the size.

    Of several tar files the first is looked into for what labels they have.

    Parameters
    ----------
    spec, image_size, crop
        As `open_images` takes them, or a set that is open already.
    size : int
        Images of a shard; the last one holds the rest.
    class_names : tuple of str, optional
        Those of a model, which labels are to count.
    mirror : bool
        Every image mirrored left to right.
    on_error : {'stop', 'skip'}
        ``skip``: each shard leaves out the pictures that cannot be read when it is opened.

    Raises
    ------
    InputError
        As `open_images` does, or there would be more than `MAX_SHARDS`.
    """
    size, on_error = whole_number("shard size", size, 1), one_of("on_error", on_error, ("stop", "skip"))
    tars = tar_paths(spec) if isinstance(spec, str) else None
    if tars is not None and len(tars) > 1:
        _check_count(size, len(tars))
        name, how = f"file:{base_name(str(spec))}", (on_error == "skip", image_size, crop, class_names, mirror)
        places = [tar if is_remote(tar) else os.path.abspath(tar) for tar in tars]
        missing = [tar for tar in places if not is_remote(tar) and not os.path.exists(tar)]
        if missing:
            raise InputError(f"{missing[0]}: no such file ({len(missing)} of {len(places)} missing); mend the range")
        _, labels, notes = TarShard(places[0], name, 1, len(tars), *how).looked_into()
        return [TarShard(tar, name, number, len(tars), *how, labels, notes) for number, tar in enumerate(places, 1)]
    images = spec if isinstance(spec, ImageSet) else open_images(spec, image_size=image_size, crop=crop)
    images = images if class_names is None else images.matched_to(class_names)
    images = images.mirrored() if mirror else images
    count = -(-len(images) // size)
    _check_count(size, count)
    parts = [images.subset(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    skip = on_error == "skip" and images.prepared is not None
    return [ImageShard(part, images.name, number, count, skip) for number, part in enumerate(parts, 1)]


def _check_count(size: int, count: int) -> None:
    if count > MAX_SHARDS:
        raise InputError(
            f"shard size {size}: expected at most {MAX_SHARDS} shards, found {count}; make them larger, or the tar "
            "files"
        )
