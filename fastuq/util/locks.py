"""One writer at a time: locks that end with their process, and files that nobody but fastuq names."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastuq.errors import FastUQError, InputError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a lock fails with on a file system that has none (some of NFS, Lustre, FUSE)."""


def take_lock(descriptor: int, path: Path, busy: FastUQError, seconds: float = 0.0) -> None:
    """Take the lock of writers, which closing the descriptor or the end of the process gives back.

    Raises
    ------
    FastUQError
        `busy`: another process holds it for longer than `seconds`.
    InputError
        The file system has no locks.
    OSError
        The lock cannot be taken.
    """
    taken = _lock(descriptor, fcntl.LOCK_EX, seconds)
    if not taken:
        raise _no_locks(path) if taken is None else busy


def is_locked(descriptor: int) -> bool | None:
    """Tell whether a living process holds the lock of writers; None where the file system has no locks."""
    taken = _lock(descriptor, fcntl.LOCK_SH)
    if taken:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return None if taken is None else not taken


@contextmanager
def own_file(path: Path, busy: FastUQError, seconds: float = 0.0, *, keep: bool = False) -> Iterator[BinaryIO]:
    """Hold a temporary file of fastuq's own; what a killed process left there is taken over.

    Parameters
    ----------
    path : Path
        Its name; what is still called so at the end is removed.
    busy : FastUQError
        Raised where another process holds it for longer than `seconds`.
    keep : bool
        Remove it only where it is empty.

    Raises
    ------
    InputError
        The file system has no locks, or something else has the name.
    """
    with open(open_own(path), "r+b") as file:
        taken = _lock(file.fileno(), fcntl.LOCK_EX, seconds)
        if taken is False:
            raise busy
        try:
            if taken is None:  # so no other process holds it
                raise _no_locks(path)
            yield file
        finally:
            if is_at(file.fileno(), path) and not (keep and file.seek(0, 2)):
                path.unlink()


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
    refused = InputError(f"{path}: expected a temporary file of fastuq, found a link, a folder or a pipe; remove it")
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO) or not os.path.lexists(path):
            raise
        raise refused from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise refused
    return descriptor


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether `path` still names the file that the descriptor is open on."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(descriptor: int, kind: int, seconds: float = 0.0) -> bool | None:
    """Take a lock; False: another process holds it for longer; None: the file system has no locks."""
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return None


def _no_locks(path: Path) -> InputError:
    return InputError(
        f"cannot write {path}: its file system has no locks, which keep two writers apart; "
        "write to a local disk and copy the file: reading needs no lock"
    )
