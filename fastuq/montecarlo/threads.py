"""Work in threads that wait between calls, and what it took to compile what they run."""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from fastuq.montecarlo.kernels.compiled import cache_folder

MOST = 8192
"""Units of work that one call takes at most: Ctrl-C is heard between calls only."""
_COMPILED: set[tuple] = set()
"""Kernels that this process has compiled or loaded."""


class Threads:
    """So many threads for the kernels of one `kind`; `seconds_compiling` is what their first calls took, in all."""

    def __init__(self, count: int, kind: tuple) -> None:
        self.count, self._kind = count, kind
        self.seconds_compiling = 0.0
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def run(
        self,
        name: str,
        work: Callable[[int, int], None],
        count: int,
        least: int = 1,
        most: int = MOST,
        first: int = 0,
    ) -> None:
        """Call work(start, stop) over ranges that cover `first` to count, a few per thread so that none waits long.

        No range but the last is shorter than `least`, since a task takes time to start, or longer than `most`. Work
        that comes under this `name` for the first time in this process is called on nothing before, which compiles its
        kernels.
        """
        key = (*self._kind, name)
        if key not in _COMPILED:
            began = time.perf_counter()
            with announced_compile():
                work(first, first)
            self.seconds_compiling += time.perf_counter() - began
            _COMPILED.add(key)
        size = max(1, min(most, max(least, -(-(count - first) // (self.count * 8)))))
        run = map if self.count == 1 or size >= count - first else self._threads().map
        for _ in run(lambda start: work(start, min(start + size, count)), range(first, count, size)):
            pass

    def _threads(self) -> ThreadPoolExecutor:
        """Return threads that wait for work between calls: to start them takes longer than one image does.

        A forked child has none of its parent's threads.
        """
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(self.count)
        return self._pool[1]


@contextmanager
def announced_compile() -> Iterator[None]:
    """Say on stderr what takes so long when the block takes longer than a second."""
    timer = threading.Timer(1.0, _announce)
    try:
        timer.start()
        yield
    finally:
        timer.cancel()


@functools.cache
def _announce() -> None:
    if sys.stderr is not None:
        print(f"fastuq: compiling or loading the kernels ({_price()})", file=sys.stderr, flush=True)


def _price() -> str:
    if cache_folder():
        return "slow the first time only"
    return "slow every time: there is no folder to keep them in; name one that can be written with NUMBA_CACHE_DIR"
