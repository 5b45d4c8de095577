"""Which part of the benchmark runs: a bar on a terminal, elsewhere a line for each part as it begins."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from fastuq.util.progress import progress_bar


class Progress:
    """Tells on stderr, part by part, how far the benchmark is.

    Parameters
    ----------
    parts : int
        How many parts there are.
    clock : callable
        Seconds.
    """

    def __init__(self, parts: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bar = progress_bar(parts, "benchmark", unit="part")
        self._in_lines = self._bar.disable and sys.stderr is not None
        self._parts, self._clock, self._began, self._number = parts, clock, clock(), 0

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """Name a part as it begins, and count it as it ends; a line has the time that the benchmark has run so far."""
        self._number += 1
        self._bar.set_description(title)
        self._line(title)
        yield
        self._bar.update()

    def advance(self) -> None:
        """Show the time that has passed."""
        self._bar.refresh()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while the block prints to standard output."""
        with tqdm.external_write_mode():
            yield

    def __enter__(self) -> "Progress":
        """Return this progress."""
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Take the bar away; say how long all took, unless the block ends with an error."""
        self._bar.close()
        if error is None:
            self._line("done")

    def _line(self, text: str) -> None:
        if self._in_lines:
            passed = tqdm.format_interval(self._clock() - self._began)
            print(f"[{self._number}/{self._parts}] {text}: {passed}", file=sys.stderr, flush=True)
