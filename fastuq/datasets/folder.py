"""A folder of pictures, decoded when they are asked for; sub-folders are classes."""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.imageset import ImageSet
from fastuq.datasets.picture import SUFFIXES, prepared, read_picture
from fastuq.datasets.rows import pillow
from fastuq.errors import InputError, printable
from fastuq.util.checks import finite_number
from fastuq.util.file_names import FileNames
from fastuq.util.process import muted, processors

_JUNK = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir")
"""What systems put into folders, in small letters; what begins with a dot is hidden, and passed over too."""
_THREADS = 4
"""Most pictures that are decoded at once, each of up to 150 MB."""
_KINDS = 5
"""Most kinds of other files that are named."""


class FolderImages:
    """Picture files as one lazy (N, H, W, 3) uint8 array: each slice decodes its own files, in RGB.

    Parameters
    ----------
    folder : Path
    files : FileNames
        Relative to `folder`.
    image_size : (int, int)
        Height and width that each picture is resized to.
    crop : float, optional
        As `fastuq.datasets.picture.read_picture` takes it.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, folder: Path, files: FileNames, image_size: tuple[int, int], crop: float | None = None) -> None:
        self.folder, self.files, self._crop = folder, files, crop
        self.shape = (len(files), *image_size, 3)

    def __len__(self) -> int:
        return len(self.files)

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
        files = self.files[start:stop]
        out, failed = np.empty((len(files), *self.shape[1:]), np.uint8), list[tuple[int, str]]()

        def read(place: int) -> str | None:
            try:
                out[place] = read_picture(self.folder / files[place], (self.shape[1], self.shape[2]), self._crop)
            except InputError as error:
                return str(error)
            return None

        # What Pillow warns of (a large picture, odd metadata) is settled; the library of TIFFs prints on its own.
        with muted(2), warnings.catch_warnings(), ThreadPoolExecutor(min(_THREADS, processors())) as pool:
            warnings.simplefilter("ignore")
            failed += [(start + n, why) for n, why in enumerate(pool.map(read, range(len(files)))) if why is not None]
        return (np.delete(out, [n - start for n, _ in failed], axis=0) if failed else out), failed

    def take(self, numbers: Sequence[int]) -> "FolderImages":
        """Return some of the pictures."""
        return FolderImages(self.folder, self.files.take(numbers), (self.shape[1], self.shape[2]), self._crop)

    def resized(self, image_size: tuple[int, int]) -> "FolderImages":
        """Return the same pictures in another size."""
        return FolderImages(self.folder, self.files, image_size, self._crop)

    def part(self, start: int, stop: int) -> "FolderImages":
        """Return a range of the pictures."""
        return FolderImages(self.folder, self.files[start:stop], (self.shape[1], self.shape[2]), self._crop)

    def stamp(self) -> str:
        """Return what tells whether a file has changed: of names, sizes, times; empty where one cannot be looked at."""
        digest = hashlib.sha256()
        try:
            for name in self.files:
                found = os.stat(self.folder / name)
                digest.update(os.fsencode(name) + f"\0{found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:
            return ""
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        size = (self.shape[1], self.shape[2])
        return FolderImages, (self.folder.absolute(), self.files, size, self._crop)


def open_folder(folder: Path, image_size: tuple[int, int], crop: float | None = None) -> ImageSet:
    """Return the pictures of a folder, sorted by name; its sub-folders that hold some, however deep, are the classes.

    Hidden files and what systems leave behind are passed over; other files are counted in the notes of the set.

    Raises
    ------
    InputError
        No picture is there, pictures lie both beside and inside of sub-folders, or a folder cannot be read.
    MissingExtraError
        Pillow is not installed.
    """
    crop = _checked(crop)
    others: Counter[str] = Counter()
    loose = FileNames.of(sorted(_pictures(folder, "", others)))
    classes = {name: FileNames.of(sorted(_pictures(folder, name, others))) for name in _class_folders(folder)}
    classes = {name: files for name, files in classes.items() if files}
    if loose and classes:
        raise InputError(
            f"{folder}: found {loose[0]} and {next(iter(classes.values()))[0]}: pictures beside sub-folders with "
            "pictures; keep them all in sub-folders (one per class) or all in the folder itself (no labels)"
        )
    passed = _counted(others)
    if not loose and not classes:
        raise InputError(
            f"{folder}: expected pictures ({', '.join(SUFFIXES)}) there or in sub-folders named by class, found none"
            f"{passed and f' ({passed})'}"
        )
    names = loose or FileNames(b"".join(files.to_bytes() for files in classes.values()))
    return ImageSet(
        FolderImages(folder, names, image_size, crop),
        None if loose else np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()]),
        None if loose else tuple(classes),
        f"folder:{folder.resolve().name}",
        names,
        prepared=prepared(crop),
        notes=(passed,) if passed else (),
    )


def open_picture(file: Path, image_size: tuple[int, int], crop: float | None = None) -> ImageSet:
    """Return one picture as a set; raises MissingExtraError where Pillow is not installed."""
    crop, names = _checked(crop), FileNames.of([file.name])
    images = FolderImages(file.parent, names, image_size, crop)
    return ImageSet(images, None, None, f"file:{file.name}", names, prepared=prepared(crop))


def _checked(crop: float | None) -> float | None:
    """Return the crop; raises InputError where it is none, MissingExtraError where Pillow is not installed."""
    pillow()
    return None if crop is None else finite_number("crop", crop, 0.01, 1)


def _class_folders(folder: Path) -> list[str]:
    """Return the names of the sub-folders, in order; those that are numbers in the order of the numbers."""
    own = _identity(folder)
    names = sorted(
        entry.name for entry in _entries(folder) if _is(entry, "dir") and _identity(folder / entry.name) != own
    )
    return sorted(names, key=int) if all(name.isdecimal() and len(name) < 20 for name in names) else names


def _pictures(root: Path, name: str, others: Counter[str]) -> Iterator[str]:
    """Yield the pictures of the folder itself (no name), or of one of its sub-folders and all that lie in it.

    A folder that was there already is passed over: links may lead in a circle.
    """
    open_folders, seen = [name], {_identity(root), _identity(root / name)}
    while open_folders:
        inner = open_folders.pop()
        for entry in _entries(root / inner):
            path = f"{inner}/{entry.name}" if inner else entry.name
            if _is(entry, "dir"):
                if name and (found := _identity(root / path)) not in seen:
                    seen.add(found)
                    open_folders.append(path)
            elif not _is(entry, "file"):
                others["links to nothing" if entry.is_symlink() else "pipes or devices"] += 1
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield path
            else:
                others[os.path.splitext(entry.name)[1].lower() or "without a suffix"] += 1


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what lies in a folder and is neither hidden nor left behind by a system."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.casefold() not in _JUNK:
                    yield entry
    except OSError as error:
        raise InputError(
            f"cannot read the folder {folder}: {error.strerror}; mend its permissions or take it out"
        ) from None


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _counted(others: Counter[str]) -> str:
    """Return what is said of files that are no pictures: ``12 files passed over: 10 .heic, 2 .txt``."""
    if not others:
        return ""
    kinds = [f"{count} {printable(kind)[:20]}" for kind, count in others.most_common(_KINDS)]
    count = others.total()
    more = ["..."] if len(others) > _KINDS else []
    return f"{count} file{'s' * (count > 1)} passed over: {', '.join(kinds + more)}"
