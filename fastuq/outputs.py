"""Where a command may write: over none of its inputs, and each output to a place of its own."""

import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fastuq.bundled import bundled_path
from fastuq.errors import InputError
from fastuq.files import is_stream, partial_prefix

Place = tuple[int | str, ...]
"""What a path leads to, however it is linked or mounted: device, inode, and the names that are not there yet."""
_TABLES = (".csv", ".json", ".md")
_REPORTS = (*_TABLES, ".h5")
_MODEL = "model.json"
_PARTS = (_MODEL, "README.md", "fastuq-corrupt.json", "run.json")
"""What has the suffix of a report and is none: of a model folder, a data set, a folder of work."""
_OURS = (Path(__file__).parent, bundled_path("model"), bundled_path("images"))


def check_outputs(
    outputs: Mapping[str, str | Path | None],
    inputs: Iterable[str | Path | None] = (),
    made: Iterable[str | Path | None] = (),
) -> None:
    """Refuse outputs that would replace an input or each other, or cannot be written, before any work is done.

    Files are compared by device and inode, so that links and mounts lead nowhere else than names do.

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

    Raises
    ------
    InputError
        Two paths are the same file, or a path is a folder or cannot be written.
    """
    read = [path for path in (*_OURS, *inputs) if path is not None and os.path.exists(path)]
    own = [_place("", path) for path in made if path is not None]
    taken: dict[Place, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        place = ("-",) if str(path) == "-" else _place(option, path)
        stream = is_stream(path)
        for other, first in taken.items():
            if (place[: len(other)] == other or other[: len(place)] == place) and (place == ("-",) or not stream):
                raise InputError(f"{option} {path}: {first} goes there too; give each output a place of its own")
        taken[place] = option
        if stream:
            continue
        real = Path(os.path.realpath(path))
        if _replaces(real, place, read):
            raise InputError(f"{option} {path}: expected a new file, found an input, which it would replace; rename it")
        if not _is_report(real, _TABLES) and _is_inside(real, own):
            raise InputError(f"{option} {path}: lies among the files that this command makes; choose another folder")
        _check_writable(option, real)


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


def _replaces(file: Path, place: Place, read: Sequence[str | Path]) -> bool:
    """Return whether writing a file replaces one that is read: itself, or as part of a folder."""
    if any(place == _place("", path) for path in read):
        return True
    if not file.is_file():
        return False
    folders = [Path(path) for path in read if os.path.isdir(path)]
    if _is_inside(file, [_place("", folder) for folder in folders]) and not _is_report(file, _REPORTS):
        return True
    # A folder of images is read two levels deep; what it links to, and what has another name elsewhere, counts too.
    members = (path for folder in folders for pattern in ("*", "*/*") for path in folder.glob(pattern))
    found = file.stat()
    return any(_is_same(found, path) and not _is_report(path, _REPORTS) for path in members)


def _is_same(found: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(found, path.stat())
    except OSError:  # a link to nothing
        return False


def _is_inside(file: Path, places: Sequence[Place]) -> bool:
    return bool(places) and any(_place("", path) in places for path in (file, *file.parents))


def _is_report(file: Path, suffixes: Collection[str]) -> bool:
    """Return whether a file is a table or report as fastuq writes them, and no part of a model or a data set."""
    return file.suffix in suffixes and file.name not in _PARTS and not (file.parent / _MODEL).is_file()


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
