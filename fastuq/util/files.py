"""Files that appear whole or not at all."""

import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from fastuq.errors import InputError
from fastuq.util.checks import checked_path
from fastuq.util.remote import is_remote, written

_WAITING: ContextVar[ExitStack | None] = ContextVar("waiting", default=None)
"""Outputs that appear when all of a block are whole."""


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` and rename it there when the block ends without an error.

    The data is flushed to the disk before the rename, so after a crash `target` is the old file or the new one. A
    device or a pipe is never replaced: it gets the data once they are whole, as standard output does for ``-``. What
    goes to an address of another machine is made on this one, and put there once it is whole.

    Raises
    ------
    InputError
        The folder of `target` cannot be written, or `target` is a folder.
    OSError
        The data cannot be written; it names `target`.
    """
    if (waiting := _WAITING.get()) is not None:
        yield waiting.enter_context(_partial(target))
        return
    with _partial(target) as partial:
        yield partial


@contextmanager
def all_or_none() -> Iterator[None]:
    """Have what `atomic_path` writes in the block appear at its end, when all of it is whole: all of it, or nothing."""
    with ExitStack() as waiting:
        token = _WAITING.set(waiting)
        try:
            yield
        finally:
            _WAITING.reset(token)


@contextmanager
def _partial(target: str | Path) -> Iterator[Path]:
    if is_remote(target):
        with written(str(target)) as partial:
            yield partial
        return
    if is_stream(checked_path(target)):
        with tempfile.TemporaryDirectory() as folder:
            partial = Path(folder, "output")
            partial.touch()
            yield partial
            _pour(partial, target)
        return
    target = Path(os.path.realpath(target))  # a link stays, and what it points to is replaced
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder; choose another output path")
    partial = target.parent / f"{partial_prefix(target.name)}{secrets.token_hex(6)}.partial"
    try:
        _create(partial, target)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(target)
    except OSError as error:
        # A write that fails names no file, and the temporary one says nothing.
        if error.filename in (None, str(partial)):
            error.filename = str(target)
        raise
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            partial.unlink()


def _create(partial: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; choose another output path") from error


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


def partial_prefix(name: str) -> str:
    """Return how the temporary names of a file called `name` begin: short, however long the name is."""
    return f".fastuq-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}."


def write_text(target: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `target`, whole or not at all."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `target`, whole or not at all; ``-`` is standard output."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False) + "\n")
