"""What the workers of a cluster do in tests."""

import os
import signal
import time

from fastuq.errors import BusyError, CacheError, InputError, RemoteError


def square(number, *, threads):
    return number**2, threads, os.getpid()


def refused(number, *, threads):
    raise CacheError("no such shard")


def lost(number, *, threads):
    raise PermissionError(13, "Permission denied", "bucket")


def killed(number, *, threads):
    os.kill(os.getpid(), signal.SIGKILL)


def held(item, *, threads):
    """Be refused until a file is gone; write into the log what was done."""
    log, lock = item
    time.sleep(0.05)
    if lock is not None and lock.exists():
        raise BusyError(f"{lock}: another process is writing this cache")
    with log.open("a") as file:
        file.write("held\n" if lock else "free\n")


def counted(item, *, threads):
    """Fail, and leave a line for each try."""
    log, kind = item
    with log.open("a") as file:
        file.write("x")
    raise {"mistake": InputError, "connection": RemoteError}[kind](f"{kind} of somebody")
