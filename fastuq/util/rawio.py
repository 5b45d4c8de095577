"""Reading and writing by descriptor, past all buffers: what is written is seen, whole, by everybody."""

import errno
import os

import numpy as np


def read_into(descriptor: int, array: np.ndarray, offset: int) -> None:
    """Fill a contiguous array with the bytes at `offset`.

    Raises
    ------
    EOFError
        The file ends before.
    """
    view = array.reshape(-1).view(np.uint8).data
    while view:
        count = os.preadv(descriptor, [view], offset)
        if count == 0:
            raise EOFError
        view, offset = view[count:], offset + count


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
