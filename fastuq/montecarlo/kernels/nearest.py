"""The largest dot product of codes with the rows of each class: the tiles of `tiles`, with a running maximum.

64 samples lie across the vector lanes, 6 rows make a tile, and a class is filled up to whole tiles with rows of its
own. The largest sums of a class stay in registers until its last tile is done.
"""

from numba.core import cgutils

from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import I32, I64, LANES, PART, all_lanes, counting, load, plus, store, words
from fastuq.montecarlo.kernels.lanes import code_rows, turn_features
from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.kernels.shared_int8 import groups_of
from fastuq.montecarlo.kernels.targets import current_target
from fastuq.montecarlo.kernels.tiles import for_units, gather_groups, int8_sums, places_of

_LOWEST = -(2**31)


@outlined
def _largest(builder, vectors, unit, inputs, groups, weights, correction, tiles, zeros, out):
    """Store the largest sums over `tiles` tiles to a row of 64 int32; all are addresses but numbers."""
    lanes = current_target().lanes
    kind, places = words(lanes), places_of(builder, vectors, unit, I64(4 * PART))
    data = [builder.add(inputs, at) for at in places_of(builder, vectors, unit, builder.mul(groups, I64(4 * PART)))]
    best = [cgutils.alloca_once(builder, kind) for _ in range(vectors)]
    for slot in best:
        builder.store(all_lanes(_LOWEST, kind), slot)
    starts = [[zeros] * vectors] * TILE
    with counting(builder, tiles) as tile:
        rows = plus(builder, weights, builder.mul(tile, groups), 4 * TILE)
        sums = int8_sums(builder, vectors, data, rows, groups, starts, plus(builder, correction, tile, 4 * TILE))
        for number, value in enumerate(sums):
            slot = best[number % vectors]
            so_far = builder.load(slot)
            builder.store(builder.select(builder.icmp_signed(">", value, so_far), value, so_far), slot)
    for slot, place in zip(best, places, strict=True):
        store(builder, builder.load(slot), builder.add(out, place))


@in_ir()
def _compare(builder, samples, scratch, groups, bank, first, tiles, c):
    """Write the largest sums of class c, `tiles` tiles from tile `first` on, to row c of `best`."""
    weights = plus(builder, bank.weights, builder.mul(first, groups), 4 * TILE)
    correction, out = plus(builder, bank.correction, first, 4 * TILE), plus(builder, scratch.best, c, 4 * LANES)

    def run(vectors, unit):
        _largest(builder, vectors, unit, scratch.inputs, groups, weights, correction, tiles, scratch.zeros, out)

    for_units(builder, samples, run)


@in_ir()
def _write(builder, best, classes, out, first, samples):
    """Write best [classes][64] of `samples` samples to rows of out (N, C) from `first` on."""
    with counting(builder, samples) as s:
        row = plus(builder, out, builder.mul(builder.add(first, s), classes), 4)
        with counting(builder, classes) as c:
            value = load(builder, plus(builder, best, builder.add(builder.mul(c, I64(LANES)), s), 4), I32)
            store(builder, value, plus(builder, row, c, 4))


@kernel
def find_nearest(frame):
    """Find the largest dot products of blocks of samples; see `nearest_rows.NearestJob`."""
    job = record_of(frame)
    bank, scratch, width, classes = job.bank, job.scratch, job.codes.shape[1], len(job.bank.tiles_at) - 1
    groups = groups_of(width)
    for number in range(job.start, job.stop):
        first = number * LANES
        samples = min(LANES, len(job.codes) - first)
        turn_features(job.codes, first, samples, width, False, scratch.lanes, scratch.rows)
        code_rows(scratch.rows, scratch.once, scratch.nothing, width, scratch.rows)
        gather_groups(scratch.rows, LANES, scratch.every, 0, groups, scratch.inputs)
        for c in range(classes):
            begin, end = bank.tiles_at[c], bank.tiles_at[c + 1]
            _compare(samples, scratch, groups, bank, begin, end - begin, c)
        _write(scratch.best, classes, job.out, first, samples)
