"""int8 head under shared masks: the thinned head of each iteration, packed once, is run over all samples.

64 samples lie across the vector lanes, so gathering a dropped feature is one row load. The first block is
X W - X[:, dropped] W[dropped] (a fifth of the work at p = 0.2, exact in integers); units that the next mask drops
are not computed at all.
"""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import inlined, kernel
from fastuq.montecarlo.kernels.elementwise import encode
from fastuq.montecarlo.kernels.lanes import TURNED, TransposeScratch, code_rows, transpose, transpose_scratch
from fastuq.montecarlo.kernels.plan import Plan, rounding_of
from fastuq.montecarlo.kernels.running_sums import SCORES, add_to_rows, finish, take_moments
from fastuq.montecarlo.kernels.selection import output_count, output_unit
from fastuq.montecarlo.kernels.tiles import LANES, STORE_CODES, STORE_REAL, STORE_SUMS, TILE, gather_quads, int8_tile

TOGETHER = 8
"""Iterations whose outputs are kept until their moments are taken, all at once."""


class Scratch(NamedTuple):
    """What `run_shared_int8` needs; R is the number of units of the widest layer, filled up.

    Attributes
    ----------
    codes : uint8, 64 D and up to three rows more
        Input codes, feature-major; `rows` is the same memory as int32.
    hidden : uint8 (64 R,)
        Codes of a block that is not the last.
    quads : uint8 (64 R,)
        A block's inputs, interleaved by fours.
    every : int32 (R,)
        All units, in order.
    base : int32
        The first block's whole product, rows of 64, then a row of zeros.
    starts : int64 (6,)
    nothing : int32 (6,)
        Zeros.
    z : float32
        Pre-activations of the last block, [iteration][class][64].
    encoded : uint8 (64,)
    totals : float64
        Scores of the iterations, [score][64], zeros between samples.
    """

    codes: np.ndarray
    rows: np.ndarray
    hidden: np.ndarray
    quads: np.ndarray
    every: np.ndarray
    base: np.ndarray
    starts: np.ndarray
    nothing: np.ndarray
    z: np.ndarray
    encoded: np.ndarray
    totals: np.ndarray
    turning: TransposeScratch


def shared_int8_scratch(plan: Plan) -> Scratch:
    """Make the scratch memory of `run_shared_int8`."""
    widest = (int(plan.widths.max()) + TILE + 3) // 4 * 4
    codes = memory.empty((int(plan.widths[0]) + 3) // 4 * 4 * LANES, np.uint8)
    return Scratch(
        codes,
        codes.view(np.int32),
        memory.empty(widest * LANES, np.uint8),
        memory.empty(widest * LANES, np.uint8),
        memory.filled(np.arange(widest), np.int32),
        memory.zeros((int(plan.widths[1]) + TILE + 1) * LANES, np.int32),
        memory.empty(TILE, np.int64),
        memory.zeros(TILE, np.int32),
        memory.empty(TOGETHER * (int(plan.widths[-1]) + TILE) * LANES, np.float32),
        memory.empty(LANES, np.uint8),
        memory.zeros(SCORES * LANES, np.float64),
        transpose_scratch(),
    )


@inlined
def _run_block(vnni, plan, selection, packed, t, block, scratch, z_at):
    """Run one block for 64 samples: quads[quads][64][4] to z[z_at:] in the last block, else to hidden[outputs][64]."""
    units, counts = selection
    weights_at, vectors_at, vectors = packed
    starts = scratch.starts
    last = block == len(plan.activations) - 1
    rounding, stored = (False, np.float32(0), np.int64(0)), STORE_REAL
    if not last:
        rounding = rounding_of(plan, block)
        stored = STORE_CODES if rounding[0] else STORE_REAL
    quads, out_count = np.int64(counts[t, block] + 3) // 4, output_count(plan, counts, t, block)
    for row in range(TILE):
        starts[row] = plan.widths[1] * LANES * 4  # the row of zeros
    for first in range(0, out_count, TILE):
        if block == 0 and plan.complement == 1:
            for row in range(min(TILE, out_count - first)):
                starts[row] = output_unit(plan, units, t, block, first + row) * LANES * 4
        at = z_at + (first * LANES if last else 0)
        int8_tile(
            vnni, stored, scratch, quads, vectors, weights_at[t, block] + first * quads * 4,
            vectors_at[t, block] + first, rounding, 4 * at, first * LANES,
        )  # fmt: skip
        if stored == STORE_REAL and not last:
            _encode_rows(scratch.z, at, rounding, scratch.hidden, first * LANES, scratch.encoded)


@kernel
def _encode_rows(z, z_at, rounding, codes, codes_at, encoded):
    """Encode a tile of pre-activations, whose lanes are turned, to codes in the order of the samples."""
    for row in range(0, TILE * LANES, LANES):
        encode(z, z_at + row, rounding, LANES, encoded, 0)
        turned = codes[codes_at + row : codes_at + row + LANES]
        for s in range(LANES):
            turned[s] = encoded[TURNED[s]]


@inlined
def _full_product(vnni, plan, full, scratch):
    """Compute base[outputs][64] = codes x weights of the whole first block, from its packed weights `full`."""
    starts, vectors = scratch.starts, (full, scratch.nothing, plan.scale, plan.bias)
    outputs, quads, rounding = plan.widths[1], (plan.widths[0] + 3) // 4, (False, np.float32(0), np.int64(0))
    gather_quads(scratch.codes, 0, LANES, scratch.every, 0, quads, scratch.quads)
    for row in range(TILE):
        starts[row] = outputs * LANES * 4
    for first in range(0, outputs, TILE):
        int8_tile(
            vnni, STORE_SUMS, scratch, quads, vectors, first * quads * 4, 0, rounding, first * LANES * 4, 0,
        )  # fmt: skip


@inlined
def _run_iteration(vnni, plan, selection, packed, t, scratch, z_at):
    """Run all blocks of one iteration for 64 samples, from input codes to the pre-activations z[classes][64]."""
    units, counts = selection
    for block in range(len(plan.activations)):
        quads = np.int64(counts[t, block] + 3) // 4
        if block == 0:
            gather_quads(scratch.codes, 0, LANES, units, t * plan.room, quads, scratch.quads)
        else:
            gather_quads(scratch.hidden, 0, LANES, scratch.every, 0, quads, scratch.quads)
        _run_block(vnni, plan, selection, packed, t, block, scratch, z_at)


@kernel
def run_shared_int8(vnni, plan, features, selection, packed, full, start, stop, part, state, out, scratch):
    """Run the packed iterations over blocks `start` to `stop` of 64 samples, adding to the running sums.

    Parameters
    ----------
    vnni : True or None
        The VNNI instruction, or instructions that every processor has.
    features : int8 (N, D)
    selection : Selection
    packed : (weights_at, vectors_at, vectors)
        Of `pack_int8`.
    full : int8
        The packed first block of a head that drops nothing.
    part : Part
        Mean and std are written at the end.
    state : Sums
        Of all blocks or, where one call runs all iterations, of one.
    out : Out
    scratch : Scratch
    """
    begins, ends, iterations = part
    scores, mean, std = out
    classes, count = plan.widths[-1], len(selection[1])
    outputs = (classes + TILE) * LANES
    for number in range(start, stop):
        first, at = number * LANES, number * classes * LANES % len(state[0])
        samples = min(LANES, len(features) - first)
        transpose(features, first, scratch.rows, scratch.turning)
        code_rows(scratch.codes, plan.input_scale, plan.input_shift, plan.widths[0], scratch.codes)
        if plan.complement == 1:
            _full_product(vnni, plan, full, scratch)
        for t in range(count):
            place = t % TOGETHER
            _run_iteration(vnni, plan, selection, packed, t, scratch, place * outputs)
            if place == TOGETHER - 1 or t == count - 1:
                is_first = begins and t == place
                take_moments(scratch.z, outputs, place + 1, plan, state, at, is_first, scores, scratch.totals)
        add_to_rows(scratch.totals, TURNED, iterations, scores, first, samples)
        if ends:
            finish(state, at, iterations, classes, TURNED, mean, std, first, samples)
