"""Files that appear whole or not at all; JSON read without trust."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastuq.errors import InputError

MAX_JSON_BYTES = 4 * 2**20
"""Largest JSON file that is read."""
MAX_JSON_LISTS = 100_000
"""Lists and objects in it, each of which takes thirty times the memory of its two characters."""
_REPORTS = {".csv", ".json", ".md", ".h5"}


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` and rename it there when the block ends without an error.

    The data is flushed to the disk before the rename, so after a crash `target` is the old file or the new one. A
    device or a pipe is never replaced: it gets the data once they are whole, as standard output does for ``-``.

    Raises
    ------
    InputError
        The folder of `target` cannot be written, or `target` is a folder.
    OSError
        The data cannot be written; it names `target`.
    """
    if is_stream(target):
        with tempfile.TemporaryDirectory() as folder:
            partial = Path(folder, "output")
            partial.touch()
            yield partial
            _pour(partial, target)
        return
    target = Path(os.path.realpath(target))  # a link stays, and what it points to is replaced
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder; choose another output path")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; choose another output path") from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(target)
    except OSError as error:
        if error.filename in (None, name):  # a write that fails names no file, and the temporary one says nothing
            error.filename = str(target)
        raise
    finally:
        partial.unlink(missing_ok=True)


def is_stream(path: str | Path) -> bool:
    """Return whether a path is ``-`` (standard output), a device or a pipe: what takes data but is no file."""
    return str(path) == "-" or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path))


def _pour(source: Path, stream: str | Path) -> None:
    screen = str(stream) == "-"
    try:
        with source.open("rb") as data, nullcontext(sys.stdout.buffer) if screen else open(stream, "wb") as file:
            sys.stdout.flush()
            shutil.copyfileobj(data, file)
            file.flush()
    except OSError as error:
        error.filename = "standard output" if screen else str(stream)
        raise


def check_outputs(outputs: Mapping[str, str | Path | None], inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse outputs that would replace an input or each other, or cannot be written, before any work is done.

    Parameters
    ----------
    outputs : mapping of str to path or None
        What each option (``--csv``) writes; None is nothing, ``-`` the screen.
    inputs : iterable of path or None
        What is read. Of a folder, every file counts that is no table or report; names that are no path do not count.

    Raises
    ------
    InputError
        Two paths are the same file, or a path is a folder or cannot be written.
    """
    read = [os.path.realpath(path) for path in inputs if path is not None and os.path.exists(path)]
    taken: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        real = "-" if str(path) == "-" else os.path.realpath(path)
        if real in taken and (real == "-" or not is_stream(path)):
            raise InputError(f"{option} {path}: {taken[real]} goes there too; give each output a place of its own")
        taken[real] = option
        if is_stream(path):
            continue
        if any(real == each or _holds(each, real) for each in read):
            raise InputError(f"{option} {path}: expected a new file, found an input, which it would replace; rename it")
        _check_writable(option, Path(real))


def _holds(folder: str, file: str) -> bool:
    """Return whether a file is one that a folder of images or of a model is read for."""
    inside = os.path.isfile(file) and file.startswith(os.path.join(folder, ""))
    return inside and (Path(file).suffix not in _REPORTS or Path(file).name == "model.json")


def _check_writable(option: str, target: Path) -> None:
    if target.is_dir():
        raise InputError(f"{option} {target}: expected a file to write, found a folder; add a file name")
    folder = next(parent for parent in target.parents if os.path.lexists(parent))
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{target.name}.", suffix=".partial", dir=folder):
            pass
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{option}: cannot write {target}: {why}; choose another output path") from None


def write_text(target: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `target`, whole or not at all."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `target`, whole or not at all; ``-`` is standard output."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Return what a JSON file says, read without trust: at most 4 MiB and 100,000 lists, each key once, no NaN.

    Raises
    ------
    ValueError
        The file is too large, not UTF-8, no such JSON, or nested too deeply.
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES} bytes")
    if data.count(b"[") + data.count(b"{") > MAX_JSON_LISTS:
        raise ValueError(f"more than {MAX_JSON_LISTS} lists and objects")
    try:
        return json.loads(data.decode(), object_pairs_hook=_each_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
