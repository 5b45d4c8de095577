"""float32 head under shared masks: as `shared_int8`, on float32 rows of 64 samples."""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import inlined, kernel
from fastuq.montecarlo.kernels.elementwise import activate_numbers
from fastuq.montecarlo.kernels.lanes import IN_ORDER, TransposeScratch, real_rows, transpose, transpose_scratch
from fastuq.montecarlo.kernels.plan import Plan
from fastuq.montecarlo.kernels.running_sums import SCORES, add_to_rows, finish, take_moments
from fastuq.montecarlo.kernels.selection import output_count, output_unit
from fastuq.montecarlo.kernels.tiles import LANES, TILE, float_tile

TOGETHER = 8
"""Iterations whose outputs are kept until their moments are taken, all at once."""


class Scratch(NamedTuple):
    """What `run_shared_float32` needs; R is the number of units of the widest layer, filled up.

    Attributes
    ----------
    codes : int8 (64 D,)
        Features, feature-major; `rows` is the same memory as int32.
    inputs : float32 (64 D,)
        The head's inputs.
    every : int32 (R,)
        All units, in order.
    base : float32
        The first block's whole product, rows of 64.
    hidden : float32 (128 R,)
        Outputs of two blocks that are not the last.
    z : float32
        Pre-activations of the last block, [iteration][class][64].
    totals : float64
        Scores of the iterations, [score][64], zeros between samples.
    """

    codes: np.ndarray
    rows: np.ndarray
    inputs: np.ndarray
    every: np.ndarray
    base: np.ndarray
    hidden: np.ndarray
    z: np.ndarray
    totals: np.ndarray
    turning: TransposeScratch


def shared_float32_scratch(plan: Plan) -> Scratch:
    """Make the scratch memory of `run_shared_float32`."""
    widest, width = int(plan.widths.max()) + TILE, int(plan.widths[0])
    codes = memory.empty(width * LANES, np.int8)
    return Scratch(
        codes,
        codes.view(np.int32),
        memory.empty(width * LANES, np.float32),
        memory.filled(np.arange(widest), np.int32),
        memory.empty((int(plan.widths[1]) + TILE) * LANES, np.float32),
        memory.empty(2 * widest * LANES, np.float32),
        memory.empty(TOGETHER * (int(plan.widths[-1]) + TILE) * LANES, np.float32),
        memory.zeros(SCORES * LANES, np.float64),
        transpose_scratch(),
    )


@inlined
def _full_product(plan, full, scratch):
    """Compute base[outputs][64] = inputs x weights of the whole first block, from its packed weights `full`."""
    width, outputs, base = plan.widths[0], plan.widths[1], scratch.base
    for i in range(len(base)):
        base[i] = np.float32(0)
    for first in range(0, outputs, TILE):
        float_tile(
            (scratch.inputs, 0), (scratch.every, 0), full, first * width * 4, (base, 0), first, width,
        )  # fmt: skip


@inlined
def _start_rows(plan, units, t, block, first, rows, base, out, out_at):
    """Set rows of 64 of `out` to the first block's whole product, where it is complemented, plus the bias."""
    biases = plan.output_at[block]
    for row in range(first, first + rows):
        unit, at = output_unit(plan, units, t, block, row), out_at + row * LANES
        target, bias = out[at : at + LANES], plan.bias[biases + unit]
        if block == 0 and plan.complement == 1:
            start = base[unit * LANES : (unit + 1) * LANES]
            for s in range(LANES):
                target[s] = start[s] + bias
        else:
            for s in range(LANES):
                target[s] = bias


@inlined
def _run_block(plan, selection, packed, t, block, rows, listed, out, base):
    """Run one block for 64 samples, from the listed rows to the pre-activations `out` [outputs][64].

    All three are arrays with the place where they begin.
    """
    units, counts = selection
    weights_at, weights = packed
    count, out_count = np.int64(counts[t, block]), output_count(plan, counts, t, block)
    for first in range(0, out_count, TILE):
        _start_rows(plan, units, t, block, first, min(TILE, out_count - first), base, *out)
        float_tile(
            rows, listed, weights, 4 * (weights_at[t, block] + first * count), out, first, count,
        )  # fmt: skip


@inlined
def _run_iteration(plan, selection, packed, t, scratch, z_at):
    """Run all blocks of one iteration for 64 samples, from the inputs to the pre-activations z[classes][64]."""
    rows, listed = (scratch.inputs, 0), (selection[0], t * plan.room)
    last = len(plan.activations) - 1
    for block in range(last + 1):
        out = (scratch.hidden, block % 2 * (len(scratch.hidden) // 2))
        if block == last:
            out = (scratch.z, z_at)
        _run_block(plan, selection, packed, t, block, rows, listed, out, scratch.base)
        if block < last:
            activate_numbers(*out, plan.activations[block], output_count(plan, selection[1], t, block) * (LANES // 16))
        rows, listed = out, (scratch.every, 0)


@kernel
def run_shared_float32(plan, features, selection, packed, full, start, stop, part, state, out, scratch):
    """Run the packed iterations over blocks `start` to `stop` of 64 samples; arguments as in `run_shared_int8`.

    `packed` is weights_at and the weights of `pack_float32`, `full` the packed first block, float32 both.
    """
    begins, ends, iterations = part
    scores, mean, std = out
    classes, count = plan.widths[-1], len(selection[1])
    outputs = (classes + TILE) * LANES
    for number in range(start, stop):
        first, at = number * LANES, number * classes * LANES % len(state[0])
        samples = min(LANES, len(features) - first)
        transpose(features, first, scratch.rows, scratch.turning)
        real_rows(scratch.codes, plan.input_scale, plan.input_shift, plan.widths[0], scratch.inputs)
        if plan.complement == 1:
            _full_product(plan, full, scratch)
        for t in range(count):
            place = t % TOGETHER
            _run_iteration(plan, selection, packed, t, scratch, place * outputs)
            if place == TOGETHER - 1 or t == count - 1:
                is_first = begins and t == place
                take_moments(scratch.z, outputs, place + 1, plan, state, at, is_first, scores, scratch.totals)
        add_to_rows(scratch.totals, IN_ORDER, iterations, scores, first, samples)
        if ends:
            finish(state, at, iterations, classes, IN_ORDER, mean, std, first, samples)
