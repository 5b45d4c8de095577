"""What the workers of a cluster do in tests."""

import os
import signal

from fastuq.errors import CacheError


def square(number, *, threads):
    return number**2, threads, os.getpid()


def refused(number, *, threads):
    raise CacheError("no such shard")


def lost(number, *, threads):
    raise PermissionError(13, "Permission denied", "bucket")


def killed(number, *, threads):
    os.kill(os.getpid(), signal.SIGKILL)
