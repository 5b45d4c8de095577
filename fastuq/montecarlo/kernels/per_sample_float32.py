"""float32 head one sample at a time: as `per_sample_int8`, adding up the weight rows of the listed inputs.

Each sum is the same fused multiply-adds in the same order as in `shared_float32`, so both give the same bits.
"""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import inlined, kernel
from fastuq.montecarlo.kernels.elementwise import SOFTMAX, activate_numbers, softmax_of_one
from fastuq.montecarlo.kernels.per_sample_int8 import ONE
from fastuq.montecarlo.kernels.plan import Plan
from fastuq.montecarlo.kernels.rows import float_row_sums
from fastuq.montecarlo.kernels.running_sums import SCORES, Sums, accumulate, add_scores, add_to_rows, finish
from fastuq.montecarlo.kernels.selection import words_for
from fastuq.montecarlo.kernels.threefry import keep_words, list_units

_TOGETHER = 16
"""Iterations that share one pass over a group of the first block's rows, so that the rows come from the near cache."""


class Scratch(NamedTuple):
    """What `run_per_sample_float32` needs; R is the number of units of the widest layer, filled up.

    Attributes
    ----------
    inputs : float32 (D,)
    units, picked : int32, float32 (16 (R + 16),)
        Listed inputs of 16 iterations, and their values.
    counts : int64 (16,)
        How many those are.
    everything : int32 (D,)
        All inputs, in order.
    base, sums : float32 (R,)
    z : float32 (16 R,)
        Outputs of 16 iterations.
    words : uint64
        Keep bits of the widest layer.
    pivot, sum1, sum2 : float32, float64, float64 (C,)
        Running sums.
    scores : float64 (SCORES,)
        Those of the iterations, zeros between samples.
    """

    inputs: np.ndarray
    units: np.ndarray
    picked: np.ndarray
    counts: np.ndarray
    everything: np.ndarray
    base: np.ndarray
    sums: np.ndarray
    z: np.ndarray
    words: np.ndarray
    pivot: np.ndarray
    sum1: np.ndarray
    sum2: np.ndarray
    scores: np.ndarray


def per_sample_float32_scratch(plan: Plan) -> Scratch:
    """Make the scratch memory of `run_per_sample_float32`."""
    widest, width, classes = (int(plan.widths.max()) + 63) // 64 * 64, int(plan.widths[0]), plan.widths[-1]
    return Scratch(
        memory.empty(width, np.float32),
        memory.empty(_TOGETHER * (widest + 16), np.int32),
        memory.empty(_TOGETHER * (widest + 16), np.float32),
        memory.empty(_TOGETHER, np.int64),
        memory.filled(np.arange(width), np.int32),
        memory.empty(widest, np.float32),
        memory.empty(widest, np.float32),
        memory.empty(_TOGETHER * widest, np.float32),
        words_for(widest),
        memory.empty(classes, np.float32),
        memory.empty(classes, np.float64),
        memory.empty(classes, np.float64),
        memory.zeros(SCORES, np.float64),
    )


@kernel
def pack_rows_float32(plan, rows, rows_at):
    """Lay out every block as [group of 64 outputs][input][64] float32, block l from ``rows_at[l]``; padding is 0."""
    for block in range(len(plan.activations)):
        inputs, outputs, first = plan.widths[block], plan.widths[block + 1], plan.weight_at[block]
        for column in range((outputs + 63) // 64 * 64):
            at = rows_at[block] + column // 64 * inputs * 64 + column % 64
            for d in range(inputs):
                rows[at + d * 64] = plan.weights[first + d * outputs + column] if column < outputs else np.float32(0)


@kernel
def _pick(values, values_at, sign, units, picked, at, count):
    values, units, picked = values[values_at:], units[at : at + count], picked[at : at + count]
    for i in range(count):
        picked[i] = sign * values[units[i]]


@inlined
def _later_blocks(plan, packed, seed, iteration, sample, scratch, z_at, listed_at):
    """Take the pre-activations z[z_at:] of the first block to the activated outputs of the last, in place."""
    rows, rows_at = packed
    z, sums, units, picked, words = scratch.z, scratch.sums, scratch.units, scratch.picked, scratch.words
    blocks = len(plan.activations)
    for block in range(blocks):
        outputs, activation = plan.widths[block + 1], plan.activations[block]
        if activation == SOFTMAX:
            softmax_of_one(z, z_at, outputs)
        activate_numbers(z, z_at, activation, (outputs + 15) // 16)
        if block == blocks - 1:
            return
        keep_words(seed, block + 1, iteration, sample, plan.thresholds[block + 1], outputs, words)
        count = list_units(words, outputs, False, units, listed_at, None, None)
        _pick(z, z_at, np.float32(1), units, picked, listed_at, count)
        following, biases = plan.widths[block + 2], plan.output_at[block + 1]
        bias = plan.bias[biases : biases + following]
        for i in range(following):
            sums[i] = bias[i]
        for group in range((following + 63) // 64):
            at = rows_at[block + 1] + group * outputs * 64
            float_row_sums(rows, at, units, picked, listed_at, count, sums, group * 64)
        outputs_here = z[z_at : z_at + following]
        for i in range(following):
            outputs_here[i] = sums[i]


@inlined
def _first_base(plan, rows, features, n, scratch):
    """Set the inputs of a sample, and `base` to the bias and, where it is complemented, the whole first product."""
    inputs, base, width = scratch.inputs, scratch.base, plan.widths[0]
    row = features[n]
    for d in range(width):
        inputs[d] = np.float32(row[d]) * plan.input_scale[d] + plan.input_shift[d]
    for i in range(len(base)):
        base[i] = np.float32(0)
    if plan.complement == 1:
        for group in range((plan.widths[1] + 63) // 64):
            float_row_sums(rows, group * width * 64, scratch.everything, inputs, 0, width, base, group * 64)
    for i in range(plan.widths[1]):
        base[i] += plan.bias[i]


@inlined
def _first_block(plan, rows, seed, sample, first, together, scratch):
    """Run the first block of iterations first to first + together, into z[iteration][outputs]."""
    units, picked, counts, z = scratch.units, scratch.picked, scratch.counts, scratch.z
    room, widest, complement = len(units) // _TOGETHER, len(scratch.base), plan.complement == 1
    sign, width, outputs = np.float32(-1 if complement else 1), plan.widths[0], plan.widths[1]
    for t in range(together):
        keep_words(seed, 0, first + t, sample, plan.thresholds[0], width, scratch.words)
        counts[t] = list_units(scratch.words, width, complement, units, t * room, None, None)
        _pick(scratch.inputs, 0, sign, units, picked, t * room, counts[t])
        start = z[t * widest : t * widest + outputs]
        for i in range(outputs):
            start[i] = scratch.base[i]
    for group in range((outputs + 63) // 64):
        for t in range(together):
            at = t * widest + group * 64
            float_row_sums(rows, group * width * 64, units, picked, t * room, counts[t], z, at)


@kernel
def run_per_sample_float32(plan, features, sample_ids, packed, seed, num_iter, start, stop, out, scratch):
    """Run all iterations for samples `start` to `stop`; arguments as in `run_per_sample_int8`.

    `packed` is what `pack_rows_float32` filled, and where each block begins in it.
    """
    scores, mean, std = out
    classes, z = plan.widths[-1], scratch.z
    room, widest, state = (
        len(scratch.units) // _TOGETHER,
        len(scratch.base),
        Sums(scratch.pivot, scratch.sum1, scratch.sum2),
    )
    for n in range(start, stop):
        _first_base(plan, packed[0], features, n, scratch)
        for first in range(0, num_iter, _TOGETHER):
            together = min(_TOGETHER, num_iter - first)
            _first_block(plan, packed[0], seed, sample_ids[n], first, together, scratch)
            for t in range(together):
                at = t * widest
                _later_blocks(plan, packed, seed, first + t, sample_ids[n], scratch, at, t * room)
                accumulate(z, at, state, first + t == 0, classes)
                if scores.shape[1] > 0:
                    add_scores(z, at, plan.exclusive, classes, 1, scratch.scores)
        add_to_rows(scratch.scores, ONE, num_iter, scores, n, 1)
        finish(state, 0, num_iter, classes, ONE, mean, std, n, 1)
