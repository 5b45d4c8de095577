"""Where a command may write: over none of its inputs, and each output to a place of its own."""

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from fastuq.errors import InputError
from fastuq.util.bundled import bundled_path
from fastuq.util.checks import named_path
from fastuq.util.files import is_stream, partial_prefix
from fastuq.util.places import place_of
from fastuq.util.remote import check_writable, is_remote, joined

Place = tuple[int | str, ...]
"""What a path leads to, however it is linked or mounted: device, inode, and the names that are not there yet."""
_TABLES = (".csv", ".html", ".json", ".md", ".parquet")
_REPORTS = (*_TABLES, ".h5")
_MODEL = "model.json"
_SHARDS = "shards.json"
_PARTS = (_MODEL, _SHARDS, "readme.md", "fastuq-corrupt.json", "run.json")
"""What has the suffix of a report and is none, in small letters: of a model folder, a cache in shards, a data set, a
folder of work."""
_NAMES = ("meta", "batches.meta")
"""The class names of CIFAR, which are read with a file that lies beside them; its files have no suffix."""
_OURS = (Path(__file__).parents[1], *map(bundled_path, ("model", "images", "bank")))


def check_outputs(
    outputs: Mapping[str, str | Path | None],
    inputs: Iterable[str | Path | None] = (),
    made: Iterable[str | Path | None] = (),
    replaced: str | Path | None = None,
) -> None:
    """Refuse outputs that would replace an input or each other, or cannot be written, before any work is done.

    Files are compared by device and inode, so that links and mounts lead nowhere else than names do; addresses of other
    machines by their text.

    Parameters
    ----------
    outputs : mapping of str to path or None
        What each option (``--csv``) writes; None is nothing, ``-`` the screen.
    inputs : iterable of path or None
        What is read; names that are no path do not count. Of a model folder every file counts, of another folder every
        file but tables and reports, so that those of an earlier run can be written again. What comes with fastuq is
        always among them.
    made : iterable of path or None
        Files and folders that the command makes by itself, there or not: in such a folder an output may be a table or
        report of another name, and nothing else.
    replaced : path, optional
        A model folder that the command makes, whole, in place of an older one: no output lies in it.

    Raises
    ------
    InputError
        Two paths are the same file, or a path is a folder, lies in a model folder or cannot be written.
    """
    inputs = list(inputs)
    made = list(made)
    far = [str(path).rstrip("/") for path in (*inputs, *made) if is_remote(path)]
    read = [path for path in (*_OURS, *inputs) if path is not None and not is_remote(path) and os.path.exists(path)]
    read += [Path(path).parent for path in read if _has_names_beside(Path(path))]
    folders = [Path(os.path.realpath(path)) for path in made if path is not None and not is_remote(path)]
    model = [] if replaced is None else [Path(os.path.realpath(replaced))]
    own, whole = ([_place("", path) for path in paths] for paths in (folders, model))
    members = cache(lambda: _members(read))  # thousands of files may lie there, and most outputs are new
    taken: dict[Place, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if not is_remote(path):
            named_path(path)
        stream = str(path) == "-" or (not is_remote(path) and is_stream(path))
        place = (str(path),) if is_remote(path) or str(path) == "-" else _place(option, path)
        for other, first in taken.items():
            if (place[: len(other)] == other or other[: len(place)] == place) and (place == ("-",) or not stream):
                raise InputError(f"{option} {path}: {first} goes there too; give each output a place of its own")
        taken[place] = option
        if stream:
            continue
        if is_remote(path):
            _check_remote(option, str(path), far)
            continue
        real = Path(os.path.realpath(path))
        if any(place == _place("", path) for path in read) or (real.is_file() and _is_part(real, read, members)):
            raise InputError(f"{option} {path}: expected a new file, found an input, which it would replace; rename it")
        above = any(each[: len(place)] == place for each in (*own, *whole))
        if above or _is_inside(real, whole) or (not _is_report(real, _TABLES) and _is_inside(real, own)):
            raise InputError(f"{option} {path}: lies among the files that this command makes; choose another folder")
        _check_no_model(f"{option} {path}", real.parents)
        _check_writable(option, real)
    for path in filter(is_remote, made):
        check_writable(joined(str(path), "any"))
    for folder in folders:
        _check_no_model(str(folder), (folder, *folder.parents))
    for folder in model:
        _check_no_model(str(folder), folder.parents)


def _check_remote(option: str, address: str, inputs: Sequence[str]) -> None:
    """Refuse an address that is an input, or lies in one and is no table, or where nothing can be written."""
    inside = any(address.startswith(f"{folder}/") for folder in inputs)
    if (inside and Path(address).suffix not in _TABLES) or (address in inputs and place_of(address).exists()):
        raise InputError(f"{option} {address}: expected a new file, found an input, which it would replace; rename it")
    check_writable(address)


def _has_names_beside(path: Path) -> bool:
    return not path.suffix and path.is_file() and any((path.parent / name).is_file() for name in _NAMES)


def _check_no_model(what: str, folders: Iterable[Path]) -> None:
    """Refuse to write into a model folder: with anything else in it, no later model can replace it."""
    for folder in folders:
        if all(os.path.isfile(folder / part) for part in (_MODEL, "head.npz")):
            raise InputError(f"{what}: expected a place outside of models, found model folder {folder}; choose another")


def _place(option: str, path: str | Path) -> Place:
    """Return what a path leads to, however it is linked or mounted: device, inode, and the names not there yet."""
    real, missing = Path(os.path.realpath(path)), list[str]()
    while True:
        try:
            found = os.stat(real)
            return (found.st_dev, found.st_ino, *missing)
        except (FileNotFoundError, NotADirectoryError):
            real, missing = real.parent, [real.name, *missing]
        except OSError as error:
            raise _unwritable(option, path, error) from None


def _is_part(file: Path, read: Sequence[str | Path], members: Callable[[], set[Place]]) -> bool:
    """Return whether a file that is there belongs to a folder that is read."""
    folders = [_place("", path) for path in read if os.path.isdir(path)]
    return (_is_inside(file, folders) and not _is_report(file, _REPORTS)) or _place("", file) in members()


def _members(read: Sequence[str | Path]) -> set[Place]:
    """Return where the files of folders lie: a folder of images is read two levels deep, and links count as well."""
    places: set[Place] = set()
    for path in (path for folder in read for pattern in ("*", "*/*") for path in Path(folder).glob(pattern)):
        if not _is_report(path, _REPORTS):
            with suppress(OSError):  # a link to nothing
                found = path.stat()
                places.add((found.st_dev, found.st_ino))
    return places


def _is_inside(file: Path, places: Sequence[Place]) -> bool:
    return bool(places) and any(_place("", path) in places for path in (file, *file.parents))


def _is_report(file: Path, suffixes: Collection[str]) -> bool:
    """Return whether a file is a table or report as fastuq writes them, and no part of a model, cache or data set."""
    inside = any((file.parent / name).is_file() for name in (_MODEL, _SHARDS))
    return file.suffix in suffixes and file.name.casefold() not in _PARTS and not inside


def _check_writable(option: str, target: Path) -> None:
    if target.is_dir():
        raise InputError(f"{option} {target}: expected a file to write, found a folder; add a file name")
    folder = next(parent for parent in target.parents if os.path.lexists(parent))
    try:
        for name in target.relative_to(folder).parts:  # a name may be too long for the file system
            with suppress(FileNotFoundError):
                os.lstat(folder / name)
        with tempfile.NamedTemporaryFile(prefix=partial_prefix(target.name), suffix=".partial", dir=folder):
            pass
    except OSError as error:
        raise _unwritable(option, target, error) from None


def _unwritable(option: str, target: str | Path, error: OSError) -> InputError:
    return InputError(f"{option}: cannot write {target}: {error.strerror or error}; choose another output path")
