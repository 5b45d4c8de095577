"""Files that appear whole or not at all; JSON read without trust."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastuq.errors import InputError

MAX_JSON_BYTES = 4 * 2**20
"""Largest JSON file that is read."""


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` and rename it there when the block ends without an error.

    The data is flushed to the disk before the rename, so after a crash `target` is the old file or the new one.

    Raises
    ------
    InputError
        The folder of `target` cannot be written, or `target` is there and is no file (a folder, a device).
    """
    target = Path(os.path.realpath(target))  # a link stays, and what it points to is replaced
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write {target}: it is there and is no file; choose another output path")
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
    finally:
        partial.unlink(missing_ok=True)


def write_text(target: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `target`, whole or not at all."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `target`, whole or not at all; ``-`` is standard output."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if str(target) == "-":
        print(text, end="")
    else:
        write_text(target, text)


def read_json(path: str | Path) -> Any:
    """Return what a JSON file says, read without trust: at most 4 MiB, every key once, no NaN or infinity.

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
