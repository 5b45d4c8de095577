"""A preload of `dask worker`: the worker is killed when it has written the second batch of a shard."""

import os
import signal

from fastuq.cache.file import CacheFile

write = CacheFile.write


def write_and_die(file, batch, features):
    write(file, batch, features)
    if batch == 1:
        os.kill(os.getpid(), signal.SIGKILL)


CacheFile.write = write_and_die
