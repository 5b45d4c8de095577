"""Reading, writing and locking files by descriptor, past all buffers: what is written is seen, whole, by everybody."""

import errno
import os
import stat
import time
from pathlib import Path

import numpy as np

from fastuq.errors import CacheError
from fastuq.util.files import try_lock

LOCK_SECONDS = 5.0
"""How long a second writer waits for the first."""


def open_file(path: Path, mode: int) -> int:
    """Return a descriptor of the regular file `path`.

    Raises
    ------
    CacheError
        It is missing, no regular file, or may not be opened.
    """
    try:
        descriptor = os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise CacheError(f"{path}: no such file; make it with `fastuq cache-features`, or check the path") from None
    except OSError as error:
        raise CacheError(f"{path}: cannot be opened ({error.strerror}); check its path and permissions") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CacheError(f"{path}: expected a file, found a folder or device; check the path")
    return descriptor


def write_all(descriptor: int, array: np.ndarray, offset: int) -> None:
    """Write the bytes of a contiguous array at `offset`."""
    view = array.data.cast("B")
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def reserve(descriptor: int, size: int) -> None:
    """Take `size` bytes of disk now, so that a full disk is known before the work, where the file system can."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def take_lock(descriptor: int, path: Path) -> None:
    """Take the lock of writers, which closing the descriptor or the end of the process gives back.

    Raises
    ------
    CacheError
        Another process holds it for longer than `LOCK_SECONDS`.
    InputError
        The file system has no locks.
    """
    until = time.monotonic() + LOCK_SECONDS
    while not try_lock(descriptor, path):
        if time.monotonic() > until:
            raise CacheError(
                f"{path}: another process is writing this cache; wait for it to end and run again, "
                "or stop it: what it wrote is kept"
            )
        time.sleep(0.05)


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether `path` still names the file that the descriptor is open on."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def cannot_write(path: Path, error: OSError) -> CacheError:
    """Return the error of a file that cannot be written."""
    return CacheError(
        f"cannot write {path}: {error.strerror or error}; make room or choose another output; "
        "what was written before is kept, and the same command goes on from there"
    )
