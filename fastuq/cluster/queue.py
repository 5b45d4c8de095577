"""The items that are still to do, in order; one that another process holds goes to the end."""

import time
from heapq import heappop, heappush

from fastuq.errors import BusyError

HELD = 600.0
"""Seconds for which an item may be held while there is nothing else to do; a worker that hangs holds its for ever."""
LONGEST = 30.0
"""Most seconds between two tries of an item that is held."""


class Queue:
    """The places of items, 0 to `count` - 1.

    Attributes
    ----------
    left : int
        Items that are not settled.
    """

    def __init__(self, count: int) -> None:
        self.left = count
        self._waiting = [(0.0, place) for place in range(count)]  # with the time before which it is not tried
        self._held: dict[int, float] = {}  # since when
        self._settled = time.monotonic()  # the last

    @property
    def due(self) -> float:
        """When the next item may be taken, as `time.monotonic` counts; infinity where none waits."""
        return self._waiting[0][0] if self._waiting else float("inf")

    def take(self, most: int) -> list[int]:
        """Take items whose time has come."""
        taken: list[int] = []
        while len(taken) < most and self.due <= time.monotonic():
            taken.append(heappop(self._waiting)[1])
        return taken

    def settle(self, place: int) -> None:
        """Count an item as done."""
        self.left -= 1
        self._held.pop(place, None)
        self._settled = time.monotonic()

    def put_back(self, place: int, error: BusyError) -> None:
        """Put an item that is held at the end, for a time that grows with each try.

        Raises
        ------
        BusyError
            It and all others that are left have been held for too long.
        """
        now = time.monotonic()
        since = self._held.setdefault(place, now)
        if len(self._held) == self.left and now - max(since, self._settled) >= HELD:
            raise BusyError(
                f"{error}; nothing else was left to do for {HELD:.0f} s: a worker that hangs, or that an earlier run "
                "left at work, may hold it"
            )
        heappush(self._waiting, (now + min(max(now - since, 1.0), LONGEST), place))
