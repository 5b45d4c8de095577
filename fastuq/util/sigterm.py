"""SIGTERM ends a run as an exception, wherever it arrives."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STATUS = 128 + signal.SIGTERM
_TICK, _GRACE = 0.1, 30.0
"""Seconds until a signal that came to nothing comes again, and until a process that does not end is ended."""
_heard: list[float] = []
_over: list[bool] = []
_former: list[Any] = []
"""When SIGTERM came, whether the block is over, what SIGALRM did: handlers share no more with what they interrupt."""


class _Terminated(BaseException):
    """What SIGTERM raises: C that prints a SystemExit ends the process there and then, with nothing cleaned up."""


@contextmanager
def sigterm_unwinds(*, program: bool = False) -> Iterator[None]:
    """Let SIGTERM end the block with SystemExit(143), so that partial files are removed and locks released.

    What it interrupts may make another exception of it, or drop it (destructors, callbacks of C, a bare ``except``): it
    comes again until the block unwinds. Where it came between a lock and its release, what waits for the lock waits
    for good: 30 s later the process is ended as by SIGKILL. Where this process is a `program` of its own that holds
    after the block, too; else SIGALRM and its timer are the caller's again.
    """
    for each in (_heard, _over, _former):
        each.clear()
    hook, printed = sys.unraisablehook, sys.excepthook

    def unraisable(what: "sys.UnraisableHookArgs") -> None:
        if isinstance(what.exc_value, KeyboardInterrupt):  # not from here, where it would be dropped as well
            threading.Timer(_TICK, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
        elif not _heard:  # a run that ends says nothing
            hook(what)

    before = signal.signal(signal.SIGTERM, _terminated)
    sys.unraisablehook = unraisable
    sys.excepthook = lambda kind, *about: None if kind is _Terminated else printed(kind, *about)  # which C may call
    try:
        yield
        _over.append(True)
        if _heard:
            raise SystemExit(_STATUS)
    except (Exception, _Terminated):
        if not _heard:
            raise
        raise SystemExit(_STATUS) from None
    finally:
        _over.append(True)
        sys.excepthook = printed
        if _heard and program:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, _heard[0] + _GRACE - time.monotonic()))
        else:
            sys.unraisablehook = hook
            _give_back()
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _give_back() -> None:
    if _former:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _former[0] or signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> None:
    if _over and not _heard:  # as a moment later
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    if not _heard:
        _heard.append(time.monotonic())
        _former.append(signal.signal(signal.SIGALRM, _alarmed))
        signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
        raise _Terminated


def _alarmed(number: int, frame: FrameType | None) -> None:
    if time.monotonic() - _heard[0] >= _GRACE:
        os._exit(_STATUS)
    if not _over and not _unwinding():
        raise _Terminated


def _unwinding() -> bool:
    """Return whether what was interrupted cleans up after the exception of SIGTERM."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, _Terminated):
            return True
        error = error.__context__
    return False
