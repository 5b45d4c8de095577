"""What the process has: processors and threads, memory, standard streams that may be closed."""

import _thread
import math
import os
import resource
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path
from typing import Any

from fastuq.errors import InputError
from fastuq.util.checks import whole_number

MAX_THREADS = 256
"""More are refused, unless there are more processors."""
_MEMORY, _MEMORY_PER_PROCESSOR = 1280 * 2**20, 128 * 2**20
"""Address space that compiling all kernels takes, with the stacks, arenas and BLAS buffers of the threads."""
_STACK = 8 * 2**20
"""Address space of a thread where no limit of stacks says another."""
_THREADS, _THREADS_PER_PROCESSOR = 8, 4
"""Threads of a run without the ones asked for: each of two copies of BLAS and the pools start one per processor."""
_MANY = 4096
"""A limit of processes from here on is taken to be enough."""
_redirecting = threading.RLock()
# A child never inherits a redirected descriptor or a lock that no thread of its own can release.
os.register_at_fork(
    before=_redirecting.acquire, after_in_parent=_redirecting.release, after_in_child=_redirecting.release
)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def thread_count(threads: Any = None, name: str = "threads") -> int:
    """Return how many threads (or processes) to run: all processors where None asks for no number.

    Raises
    ------
    InputError
        It is no whole number from 1 to 256, or to the number of processors where that is more.
    """
    return processors() if threads is None else whole_number(name, threads, 1, max(MAX_THREADS, processors()))


def open_standard_streams() -> list[int]:
    """Open the null device wherever descriptor 0, 1 or 2 is closed, and return which of 0, 1 and 2 were.

    The next file to be opened would get that number, and what is written to standard output or error would go into it.
    """
    closed = []
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            closed.append(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
            closed.append(number)
    return sorted(set(closed))


@contextmanager
def muted(*descriptors: int) -> Iterator[None]:
    """Send to nowhere what is written to these descriptors inside the block, by native code too; they may be closed.

    One thread at a time: two that interleave would leave the null device behind.
    """
    with _redirecting:
        null = _null_device()
        kept = {number: _copied(number) for number in descriptors}
        _flush(descriptors)
        try:
            for number in kept:
                os.dup2(null, number)
            yield
        finally:
            _flush(descriptors)
            for number, copy in kept.items():
                if copy is None:
                    os.close(number)
                else:
                    os.dup2(copy, number)
                    os.close(copy)
            os.close(null)


def _flush(descriptors: Iterable[int]) -> None:
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        if number in descriptors and stream is not None:
            with suppress(OSError, ValueError):  # a full disk is told of by the next write; closed
                stream.flush()


def leads_to(path: str | Path, number: int) -> bool:
    """Return whether a path is a name of a descriptor of this process, as /dev/fd/1 is: it leads where that leads."""
    with _redirecting:
        kept, (reader, writer) = _copied(number), os.pipe()
        try:
            os.dup2(writer, number)
            return os.path.samestat(os.stat(path), os.fstat(writer))
        except (OSError, ValueError):  # nothing is there, or can be
            return False
        finally:
            if kept is None:
                os.close(number)
            else:
                os.dup2(kept, number)
                os.close(kept)
            os.close(reader)
            os.close(writer)


def _null_device() -> int:
    opened = os.open(os.devnull, os.O_WRONLY)
    try:
        return fcntl(opened, F_DUPFD_CLOEXEC, 3)  # past the standard descriptors even where one of them is free
    finally:
        os.close(opened)


def _copied(number: int) -> int | None:
    try:
        return fcntl(number, F_DUPFD_CLOEXEC, 3)
    except OSError:  # closed
        return None


def check_limits(threads: int | None = None) -> None:
    """Refuse to begin where the limits of the process leave too little memory or too few threads.

    Numba, BLAS and LiteRT are native code that crashes or hangs there.

    Raises
    ------
    InputError
        The limit is too low.
    """
    cores, allowed = processors(), resource.getrlimit(resource.RLIMIT_AS)[0]
    asked = 0 if threads is None else thread_count(threads)
    # Both pools, of the backbone and of the head, have as many threads; 64 take 11 to 15 MB each, arenas included.
    needed = _MEMORY + _MEMORY_PER_PROCESSOR * cores + 2 * _stack() * max(0, asked - cores)
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise InputError(
            f"memory: expected an address space of {needed >> 20} MiB or more with {cores} processors and "
            f"{max(asked, cores)} threads, found a limit of {allowed >> 20} MiB; raise it (ulimit -v {needed >> 10})"
            + (", or ask for fewer --threads" if asked > cores else "")
        )
    wanted = _THREADS + _THREADS_PER_PROCESSOR * cores + 2 * asked
    if _most_processes() < _MANY and not _can_start(wanted):
        raise InputError(
            f"threads: expected {wanted} to be possible, found that the system starts fewer; raise the limit of "
            "processes (ulimit -u, or that of the container) or of memory (ulimit -v), or ask for fewer --threads"
        )


def _stack() -> int:
    size = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return _STACK if size == resource.RLIM_INFINITY else size


def _most_processes() -> float:
    """Return the least limit of processes and threads that this process knows of."""
    own = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    limits = [math.inf if own == resource.RLIM_INFINITY else float(own)]
    with suppress(OSError, ValueError):  # no such group of processes, or "max"
        limits.append(float(Path("/sys/fs/cgroup/pids.max").read_text(encoding="ascii")))
    return min(limits)


def _can_start(count: int) -> bool:
    """Try in a child, where what the threads leave behind in the allocator goes away with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads; this child takes no lock
            child = os.fork()
    except OSError:
        return False
    if child == 0:
        status = 1
        try:
            waiting = threading.Event()
            for _ in range(count):
                _thread.start_new_thread(waiting.wait, ())
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0
