"""Files that appear whole or not at all; files and locks of fastuq's own; JSON read without trust."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastuq.errors import InputError
from fastuq.util.checks import checked_path

MAX_JSON_BYTES = 4 * 2**20
"""Largest JSON file that is read."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a lock fails with on a file system that has none (some of NFS, Lustre, FUSE)."""
MAX_JSON_LISTS = 100_000
"""Lists and objects in it, each of which takes thirty times the memory of its two characters."""


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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=partial_prefix(target.name), suffix=".partial", dir=target.parent)
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


def partial_prefix(name: str) -> str:
    """Return how the temporary names of a file called `name` begin: short, however long the name is."""
    return f".fastuq-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}."


def open_own(path: Path) -> int:
    """Return a descriptor, for reading and writing, of a file that nobody but fastuq names; made where it is not there.

    Raises
    ------
    InputError
        There is a link, a folder, a device, a pipe or a file with another name beside: writing would change that.
    OSError
        It cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO) or not os.path.lexists(path):
            raise
        raise _not_ours(path) from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise _not_ours(path)
    return descriptor


def _not_ours(path: Path) -> InputError:
    return InputError(f"{path}: expected a temporary file of fastuq, found a link, a folder or a pipe; remove it")


def try_lock(descriptor: int, path: Path) -> bool:
    """Take the lock of writers, which closing the descriptor or the end of the process gives back; False: it is taken.

    Raises
    ------
    InputError
        The file system has no locks.
    OSError
        The lock cannot be taken.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise InputError(
            f"cannot write {path}: its file system has no locks ({error.strerror}), which keep two writers apart; "
            "write to a local disk and copy the file: reading needs no lock"
        ) from None
    return True


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
