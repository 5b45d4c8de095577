"""SIGTERM ends a run as an exception, wherever it arrives."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_STATUS = 128 + signal.SIGTERM
_AGAIN, _GRACE = 0.01, 30.0
"""Seconds until a signal that was dropped comes again, and until a process that does not end is ended."""
_heard: list[int] = []
_dropped: list[int] = []
"""Signals that came, and those that Python dropped: handlers share nothing else with what they interrupt."""


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM end the block with SystemExit(143), so that partial files are removed and locks released.

    What it interrupts may make another exception of it, or drop it; it ends the block all the same. A process that has
    not ended 30 s later, because the exception came between a lock and its release, is ended as by SIGKILL.
    """
    _heard.clear()
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _terminated)}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _alarmed)
    hook = sys.unraisablehook

    def unraisable(what: "sys.UnraisableHookArgs") -> None:
        if not (_heard and isinstance(what.exc_value, SystemExit)):
            hook(what)
            return
        _dropped.append(signal.SIGTERM)  # it came in a destructor, or in a callback of C: again, after that
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)

    sys.unraisablehook = unraisable
    try:
        yield
    except Exception:
        if not _heard:
            raise
        raise SystemExit(_STATUS) from None
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            if not (_heard and number == signal.SIGALRM):  # threads that hang would do so after the block, too
                signal.signal(number, handler)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    _heard.append(number)
    signal.setitimer(signal.ITIMER_REAL, _GRACE)
    raise SystemExit(_STATUS)


def _alarmed(number: int, frame: FrameType | None) -> None:
    if not _dropped:
        os._exit(_STATUS)
    _dropped.clear()
    _terminated(signal.SIGTERM, frame)
