"""Pictures in tar files as WebDataset lays them out: read where they lie, nothing is unpacked."""

import glob
import hashlib
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.datasets.imageset import ImageSet
from fastuq.datasets.picture import MAX_BYTES, SUFFIXES, prepared
from fastuq.datasets.pictures import PictureImages, checked_crop, passed_over
from fastuq.datasets.tar_index import TarIndex, read_index
from fastuq.errors import InputError, RemoteError
from fastuq.util.file_names import FileNames
from fastuq.util.npy import open_regular
from fastuq.util.process import processors
from fastuq.util.progress import progress_bar
from fastuq.util.remote import Copies, base_name, is_remote, matching, stamp

SUFFIX = ".tar"
MAX_TARS = 100_000
"""Most tar files of one data set."""
_THREADS = 4
"""Most pictures that are decoded at once."""
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")


@dataclass(frozen=True)
class Member:
    """A picture in a tar file."""

    name: str
    tar: str
    start: int
    size: int
    copies: Copies

    def __str__(self) -> str:
        return f"{self.tar}: {self.name}"

    def read_bytes(self) -> bytes:
        """Return what it holds."""
        if self.size > MAX_BYTES:
            raise InputError(f"{self}: refused: {self.size} bytes, more than {MAX_BYTES}; scale it down")
        if is_remote(self.tar):
            copy = self.copies.open(self.tar)  # held here, or it might be closed meanwhile
            return os.pread(copy.descriptor, self.size, self.start)
        descriptor = open_regular(self.tar)
        try:
            return os.pread(descriptor, self.size, self.start)
        finally:
            os.close(descriptor)


class TarMembers:
    """Where the pictures of some tar files lie; 20 bytes each beside their names.

    Attributes
    ----------
    names : FileNames
        ``TAR/MEMBER``.
    """

    def __init__(
        self, tars: Sequence[str], names: FileNames, which: np.ndarray, places: np.ndarray, copies: Copies | None = None
    ) -> None:
        self.names, self._tars, self._which, self._places = names, tars, which, places
        self._copies, self.threads = Copies() if copies is None else copies, min(_THREADS, processors())

    def at(self, number: int) -> Member:
        """Return one of the pictures."""
        tar, (start, size) = self._tars[self._which[number]], self._places[number].tolist()
        return Member(self.names[number].partition("/")[2], tar, start, size, self._copies)

    def take(self, numbers: Sequence[int]) -> "TarMembers":
        """Return some of the pictures."""
        return TarMembers(
            self._tars, self.names.take(numbers), self._which[numbers], self._places[numbers], self._copies
        )

    def part(self, start: int, stop: int) -> "TarMembers":
        """Return a range of the pictures, with the tar files that they lie in."""
        which = self._which[start:stop]
        first, last = int(which[0]), int(which[-1])
        tars, places = self._tars[first : last + 1], self._places[start:stop]
        return TarMembers(tars, self.names[start:stop], which - first, places, self._copies)

    def stamp(self) -> str:
        """Return what tells whether a tar file has changed; empty where one has no stamp."""
        digest = hashlib.sha256(self._places.tobytes())
        for tar in self._tars:
            inner = tar_stamp(tar)
            if not inner:
                return ""
            digest.update(f"{base_name(tar)}\0{inner}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        tars = [tar if is_remote(tar) else os.path.abspath(tar) for tar in self._tars]
        return TarMembers, (tars, self.names, self._which, self._places)


def tar_paths(spec: str) -> list[str] | None:
    """Return the tar files that a name, a range (``data-{00000..00009}.tar``) or a pattern stands for, else None.

    Raises
    ------
    InputError
        There are none, or more than `MAX_TARS`.
    """
    if not spec.endswith(SUFFIX):
        return None
    found = [path for name in _ranges(spec) for path in _matching(name)]
    if not found:
        raise InputError(f"images {spec!r}: no such tar file; check the pattern, and quote it for the shell")
    if len(set(found)) != len(found):
        raise InputError(f"images {spec!r}: a tar file is there twice; name each once")
    return found


def _ranges(spec: str) -> Iterator[str]:
    match = _RANGE.search(spec)
    if match is None:
        yield spec
        return
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < MAX_TARS:
        raise InputError(
            f"images {spec!r}: expected 1 to {MAX_TARS} tar files, found {last - first + 1}; mend the range"
        )
    width = len(match[1])
    for number in range(first, last + 1):
        yield from _ranges(f"{spec[: match.start()]}{number:0{width}}{spec[match.end() :]}")


def _matching(name: str) -> list[str]:
    if not any(sign in name for sign in "*?") or os.path.exists(name):
        return [name]
    return matching(name) if is_remote(name) else sorted(glob.glob(name))


def open_tars(
    tars: Sequence[str], name: str, image_size: tuple[int, int], crop: float | None = None
) -> tuple[ImageSet, str]:
    """Return the pictures of tar files, in their order, and what their labels are; each is looked through.

    Raises
    ------
    InputError
        A file is missing, cut, damaged or no tar, none has pictures, or labels are there for some and not for others.
    MissingExtraError
        Pillow is not installed.
    """
    crop, copies, others = checked_crop(crop), Copies(), Counter[str]()
    names, which, places, labels = bytearray(), array("i"), array("q"), list[str | None]()
    texts = dict[str | None, str | None]()  # each label once
    with progress_bar(len(tars), "tar files", unit="file") as bar:
        for number, tar in enumerate(tars):
            index = _index(tar, copies)
            others += index.others
            names += FileNames.of(f"{base_name(tar)}/{each}" for each in index.names).to_bytes()
            which.extend([number] * len(index.names))
            places.extend(value for place in index.places for value in place)
            labels += [texts.setdefault(label, label) for label in index.labels]
            bar.update()
    files, passed = FileNames(bytes(names)), passed_over(others)
    if not files:
        raise InputError(f"{name}: expected pictures ({', '.join(SUFFIXES)}), found none{passed and f' ({passed})'}")
    members = TarMembers(
        tars, files, np.frombuffer(which, np.int32), np.frombuffer(places, np.int64).reshape(-1, 2), copies
    )
    numbers, class_names, kind = _classes(labels, files)
    pictures, notes = PictureImages(members, image_size, crop), (passed,) if passed else ()
    images = ImageSet(pictures, numbers, class_names, f"file:{name}", files, prepared=prepared(crop), notes=notes)
    return images, kind


def _index(tar: str, copies: Copies) -> TarIndex:
    if is_remote(tar):
        copy = copies.open(tar)
        descriptor = os.dup(copy.descriptor)
    else:
        try:
            descriptor = open_regular(tar)
        except FileNotFoundError:
            raise InputError(f"{tar}: no such file; check its name") from None
        except OSError as error:
            raise InputError(f"cannot read {tar}: {error.strerror or error}; check its permissions") from None
        except ValueError as error:
            raise InputError(f"{tar}: expected a tar file, found {error}") from None
    with open(descriptor, "rb") as stream:
        return read_index(stream, tar)


def _classes(labels: Sequence[str | None], files: FileNames) -> tuple[np.ndarray | None, tuple[str, ...] | None, str]:
    """Return labels, class names and kind of labels: of the label of each picture, else of its folder."""
    missing = next((number for number, label in enumerate(labels) if label is None), None)
    given = next((number for number, label in enumerate(labels) if label is not None), None)
    if given is not None and missing is not None:
        raise InputError(
            f"{files[missing]}: expected a label (.cls, or label in .json), as {files[given]} has, found none; label "
            "all pictures or none"
        )
    if given is None:
        folders = [name.split("/")[1] if name.count("/") > 1 else None for name in files]
        if len(set(map(bool, folders))) > 1:
            loose = folders.index(None)
            raise InputError(f"{files[loose]}: lies beside folders with pictures; keep all in folders, or none")
        return (*_numbered(folders), "folders") if folders[0] else (None, None, "none")
    if all(label.isdecimal() and len(label) < 10 for label in set(labels) if label):
        return np.array(labels, np.int64), None, "class numbers"
    signed = sorted(label for label in set(labels) if label and not label.isdecimal())
    if all(_NUMBER.fullmatch(label) for label in set(labels) if label) and signed:
        raise InputError(
            f"{files[labels.index(signed[0])]}: expected a class number, counted from 0, as label, found {signed[0]}; "
            "mend it, or take all labels out"
        )
    return *_numbered(labels), "class names"


def _numbered(labels: Sequence[str | None]) -> tuple[np.ndarray, tuple[str, ...]]:
    names = sorted(label for label in set(labels) if label)
    names = sorted(names, key=int) if all(name.isdecimal() and len(name) < 20 for name in names) else names
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[label or ""] for label in labels], np.int64), tuple(names)


def tar_stamp(tar: str) -> str:
    """Return what tells whether a tar file has changed; empty where it cannot be looked at or has no version."""
    try:
        if is_remote(tar):
            return stamp(tar)
        found = os.stat(tar)
    except (OSError, RemoteError):
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
