"""A loop of int8 dot products that touches nothing but registers: what `fastuq bench` compares the kernels with."""

from numba.core import cgutils

from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.dots import dot_of
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import I32, all_lanes, counting, splat, store, words
from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.kernels.targets import current_target


@in_ir()
def _loop(builder, turns, seed, out):
    target = current_target()
    kind, dot = words(target.lanes), dot_of(target.dot)
    codes = splat(builder, builder.trunc(seed, I32), target.lanes)
    slots = []
    for number in range(TILE * max(target.vectors)):
        slot = cgutils.alloca_once(builder, kind)
        builder.store(all_lanes(number, kind), slot)  # each its own, else LLVM makes one of them
        slots.append(slot)
    with counting(builder, turns):
        for slot in slots:
            builder.store(dot(builder, builder.load(slot), codes, codes), slot)
    total = all_lanes(0, kind)
    for slot in slots:
        total = builder.add(total, builder.load(slot))
    store(builder, total, out)


@kernel
def turn(frame):
    """Add up dot products of what does not change, `turns` times in as many sums as a tile has."""
    job = record_of(frame)
    _loop(job.turns, job.seed, job.out)
