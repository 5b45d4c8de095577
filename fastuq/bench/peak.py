"""What the processor could do at best: an int8 dot loop that touches nothing but registers."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from llvmlite import ir
from numba.core import cgutils, types

from fastuq.bench.timing import seconds_of
from fastuq.montecarlo.kernels.compiled import has_vnni, kernel
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import I64, WORDS, portable_dot, splat, vnni_dot

_SUMS = 24
"""Independent running sums, as many as a tile of the kernels has."""
_OPERATIONS = _SUMS * 128
"""Multiplications and additions of one turn of the loop: 64 of each per dot instruction."""


@in_ir(types.int64)
def _loop(builder, vnni, turns, seed):
    dot, codes = portable_dot if vnni is None else vnni_dot, splat(builder, builder.trunc(seed, ir.IntType(32)))
    slots = [cgutils.alloca_once_value(builder, codes) for _ in range(_SUMS)]
    with cgutils.for_range(builder, turns, intp=I64):
        for slot in slots:
            builder.store(dot(builder, builder.load(slot), codes, codes), slot)
    total = ir.Constant(WORDS, [0] * 16)
    for slot in slots:
        total = builder.add(total, builder.load(slot))
    return builder.sext(builder.extract_element(total, ir.Constant(ir.IntType(32), 0)), I64)


@kernel
def _turn(vnni, turns, seed):
    return _loop(vnni, turns, seed)


def int8_peak(threads: int, *, seconds: float = 0.2) -> float:
    """Return the int8 operations per second (a multiply-add counts as two) of `threads` threads.

    Parameters
    ----------
    threads : int
    seconds : float
        About how long to measure.
    """
    vnni = True if has_vnni() else None
    _turn(vnni, 1, 3)
    turns, elapsed = 1 << 12, 0.0
    with ThreadPoolExecutor(threads) as pool:
        while elapsed < seconds:
            turns *= 4
            elapsed = seconds_of(lambda: list(pool.map(partial(_turn, vnni, turns), range(threads))))  # noqa: B023
    return threads * turns * _OPERATIONS / elapsed
