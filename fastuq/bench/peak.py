"""What the processor could do at best: an int8 dot loop that touches nothing but registers."""

from concurrent.futures import ThreadPoolExecutor

from fastuq.bench.timing import seconds_of
from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import Kernel
from fastuq.montecarlo.kernels.jobs import TurnJob
from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.kernels.targets import host_target

_TURN = Kernel("peak", "turn")


def int8_peak(threads: int, *, seconds: float = 0.2) -> float:
    """Return the int8 operations per second (a multiply-add counts as two) of `threads` threads.

    Parameters
    ----------
    threads : int
    seconds : float
        About how long to measure.
    """
    target = host_target()
    operations = 2 * TILE * max(target.vectors) * target.lanes * target.dot.group
    rooms = [memory.zeros(16, "<i4") for _ in range(threads)]
    _TURN(target, TurnJob(1, 3, rooms[0]))
    turns, elapsed = 1 << 12, 0.0
    with ThreadPoolExecutor(threads) as pool:
        while elapsed < seconds:
            turns *= 4
            jobs = [TurnJob(turns, seed + 1, room) for seed, room in enumerate(rooms)]
            elapsed = seconds_of(lambda: list(pool.map(lambda job: _TURN(target, job), jobs)))  # noqa: B023
    return threads * turns * operations / elapsed
