"""Progress of work that lasts past two seconds: a bar on a terminal, and lines in a log where they are asked for."""

import os
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm
from tqdm.std import TqdmDefaultWriteLock

DELAY, LOG_SECONDS = 2.0, 30.0
"""How long nothing is shown, and the time between two lines of a log."""


def progress_bar(total: int, description: str, unit: str = "image", initial: int = 0) -> "tqdm[Any]":
    """Return a tqdm bar that stays silent when the work ends within 2 s, or stderr is no terminal.

    With ``FASTUQ_PROGRESS=log`` in the environment it prints a line every 30 s instead, whatever stderr is.

    Parameters
    ----------
    total : int
        Number of units of the whole work.
    description, unit : str
        Words shown beside the bar.
    initial : int
        Units already done (a resumed run).
    """
    about: dict[str, Any] = {"total": total, "initial": initial, "desc": description, "unit": unit}
    if sys.stderr is not None and os.environ.get("FASTUQ_PROGRESS") == "log":
        return _Lines(**about, delay=DELAY, mininterval=LOG_SECONDS, maxinterval=LOG_SECONDS, ncols=0)
    hidden = sys.stderr is None or not sys.stderr.isatty()
    return _Bar(**about, delay=DELAY, disable=hidden, dynamic_ncols=True, leave=None)  # a bar below another one goes


class _Bar(tqdm):
    """A bar whose lock is its process's own.

    That of tqdm is shared with forked children: one that ends while it holds the lock would stop all others for good.
    """

    _lock = TqdmDefaultWriteLock.th_lock  # the part of tqdm's own that threads share


class _Lines(_Bar):
    """A bar that ends each of its states with a line feed."""

    disable: bool

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """Return what prints a state."""
        return lambda text: print(text, file=file, flush=True) if text else None

    def close(self) -> None:
        """Print the last state, as the lines before it."""
        if not self.disable:
            if self._time() - self.start_t >= self.delay:
                self.refresh()
            self.disable = True
            self._decr_instances(self)
