"""A folder of pictures, decoded when they are asked for; sub-folders are classes."""

import os
from collections import Counter
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from fastuq.datasets.imageset import ImageSet
from fastuq.datasets.picture import SUFFIXES, prepared
from fastuq.datasets.pictures import LocalPictures, PictureImages, Pictures, RemotePictures, checked_crop, passed_over
from fastuq.datasets.tar_index import JUNK
from fastuq.errors import InputError
from fastuq.util.file_names import FileNames
from fastuq.util.remote import base_name, entries, joined


class _Tree(Protocol):
    """A folder with all that lies below; paths are relative to it, and it is the empty one itself."""

    name: str

    def entries(self, inner: str) -> Iterator[tuple[str, str]]:
        """Yield the name of what lies in a folder, and ``folder``, ``file`` or what else it is."""

    def identity(self, inner: str) -> Hashable:
        """Return what is the same for all paths that lead to one folder."""

    def pictures(self, names: FileNames) -> Pictures:
        """Return some of its files."""


def open_folder(folder: Path | str, image_size: tuple[int, int], crop: float | None = None) -> ImageSet:
    """Return the pictures of a folder, sorted by name; its sub-folders that hold some, however deep, are the classes.

    Hidden files and what systems leave behind are passed over; other files are counted in the notes of the set. The
    folder is a path, or the address of one on another machine.

    Raises
    ------
    InputError
        No picture is there, pictures lie both beside and inside of sub-folders, or a folder cannot be read.
    MissingExtraError
        Pillow is not installed.
    """
    crop = checked_crop(crop)
    tree: _Tree = _Local(folder) if isinstance(folder, Path) else _Remote(folder)
    others, folders, root = Counter[str](), list[str](), {tree.identity("")}
    loose = FileNames.in_order(_files(tree, "", others, folders, root))
    folders = sorted(folders, key=int) if all(n.isdecimal() and len(n) < 20 for n in folders) else sorted(folders)
    classes = {name: FileNames.in_order(_all_files(tree, name, others)) for name in folders}
    classes = {name: files for name, files in classes.items() if files}
    if loose and classes:
        raise InputError(
            f"{folder}: found {loose[0]} and {next(iter(classes.values()))[0]}: pictures beside sub-folders with "
            "pictures; keep them all in sub-folders (one per class) or all in the folder itself (no labels)"
        )
    passed = passed_over(others)
    if not loose and not classes:
        raise InputError(
            f"{folder}: expected pictures ({', '.join(SUFFIXES)}) there or in sub-folders named by class, found none"
            f"{passed and f' ({passed})'}"
        )
    names = loose or FileNames(b"".join(files.to_bytes() for files in classes.values()))
    return ImageSet(
        PictureImages(tree.pictures(names), image_size, crop),
        None if loose else np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()]),
        None if loose else tuple(classes),
        f"folder:{tree.name}",
        names,
        prepared=prepared(crop),
        notes=(passed,) if passed else (),
    )


def open_picture(file: Path | str, image_size: tuple[int, int], crop: float | None = None) -> ImageSet:
    """Return one picture as a set; raises MissingExtraError where Pillow is not installed."""
    crop, name = checked_crop(crop), base_name(str(file))
    names = FileNames.of([name])
    if isinstance(file, Path):
        pictures: Pictures = LocalPictures(file.parent, names)
    else:
        pictures = RemotePictures(file.rpartition("/")[0], names)
    return ImageSet(
        PictureImages(pictures, image_size, crop), None, None, f"file:{name}", names, prepared=prepared(crop)
    )


def _all_files(tree: _Tree, name: str, others: Counter[str]) -> Iterator[str]:
    """Yield the pictures of a sub-folder and of all that lie in it."""
    open_folders, seen = [name], {tree.identity(""), tree.identity(name)}
    while open_folders:
        yield from _files(tree, open_folders.pop(), others, open_folders, seen)


def _files(tree: _Tree, inner: str, others: Counter[str], folders: list[str], seen: set[Hashable]) -> Iterator[str]:
    """Yield the pictures that lie in a folder, count its other files and add its sub-folders to `folders`.

    A folder that was there already is passed over: links may lead in a circle.
    """
    for name, kind in tree.entries(inner):
        path = f"{inner}/{name}" if inner else name
        if name.startswith(".") or name.casefold() in JUNK:
            continue
        suffix = os.path.splitext(name)[1].lower()
        if kind == "folder":
            if (found := tree.identity(path)) not in seen:
                folders.append(path)
                if inner:
                    seen.add(found)
        elif kind != "file":
            others[kind] += 1
        elif suffix in SUFFIXES:
            yield path
        else:
            others[suffix or "without a suffix"] += 1


class _Local:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.name = folder, folder.resolve().name

    def entries(self, inner: str) -> Iterator[tuple[str, str]]:
        folder = self._folder / inner
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    yield entry.name, _kind(entry)
        except OSError as error:
            raise InputError(
                f"cannot read the folder {folder}: {error.strerror}; mend its permissions or take it out"
            ) from None

    def identity(self, inner: str) -> Hashable:
        found = os.stat(self._folder / inner)
        return found.st_dev, found.st_ino

    def pictures(self, names: FileNames) -> LocalPictures:
        return LocalPictures(self._folder, names)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself
        pass
    return "links to nothing" if entry.is_symlink() else "pipes or devices"


class _Remote:
    """A folder of another machine."""

    def __init__(self, address: str) -> None:
        self._address, self.name = address, base_name(address)

    def entries(self, inner: str) -> Iterator[tuple[str, str]]:
        for name, is_folder in entries(joined(self._address, inner) if inner else self._address):
            yield name, "folder" if is_folder else "file"

    def identity(self, inner: str) -> Hashable:
        return inner

    def pictures(self, names: FileNames) -> RemotePictures:
        return RemotePictures(self._address, names)
