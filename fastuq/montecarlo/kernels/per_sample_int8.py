"""int8 head one sample at a time: for masks that differ by sample, and for few samples under shared masks.

Outputs lie across the vector lanes. The first block adds up the rows of the dropped (or kept) inputs alone, four rows
interleaved at a time; the later ones run dense on codes whose dropped units hold the code of zero.
"""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import inlined, kernel
from fastuq.montecarlo.kernels.elementwise import SOFTMAX, activate_numbers, encode, round_to_int, softmax_of_one
from fastuq.montecarlo.kernels.lanes import TURNED
from fastuq.montecarlo.kernels.plan import Plan, rounding_of
from fastuq.montecarlo.kernels.rows import dense_sums, fill_up, mask_codes, real_of_sums, row_sums, sum_of_bytes
from fastuq.montecarlo.kernels.running_sums import SCORES, Sums, accumulate, add_scores, add_to_rows, finish
from fastuq.montecarlo.kernels.selection import words_for
from fastuq.montecarlo.kernels.threefry import keep_words, list_units

ONE = np.zeros(1, np.int64)
"""Place of the one sample among the lanes."""


class Scratch(NamedTuple):
    """What `run_per_sample_int8` needs; R is the number of units of the widest layer, filled up.

    Attributes
    ----------
    codes : int8 (R,)
        Input codes, zeros behind them.
    hidden : uint8 (R,)
        Codes of a block that is not the last.
    units, values : int32, int8 (R + 64,)
        The inputs that are added up.
    everything : uint64 (R / 64,)
        Bits that are all set.
    words : uint64
        Keep bits of the widest layer.
    base, totals : int32 (R,)
    z : float32 (R,)
    pivot, sum1, sum2 : float32, float64, float64 (C,)
        Running sums.
    scores : float64 (SCORES,)
        Those of the iterations, zeros between samples.
    """

    codes: np.ndarray
    hidden: np.ndarray
    units: np.ndarray
    values: np.ndarray
    everything: np.ndarray
    words: np.ndarray
    base: np.ndarray
    totals: np.ndarray
    z: np.ndarray
    pivot: np.ndarray
    sum1: np.ndarray
    sum2: np.ndarray
    scores: np.ndarray


def per_sample_int8_scratch(plan: Plan) -> Scratch:
    """Make the scratch memory of `run_per_sample_int8`."""
    widest, classes = (int(plan.widths.max()) + 63) // 64 * 64, plan.widths[-1]
    return Scratch(
        memory.zeros(widest, np.int8),
        memory.empty(widest, np.uint8),
        memory.empty(widest + 64, np.int32),
        memory.empty(widest + 64, np.int8),
        memory.filled(np.full(widest // 64, ~np.uint64(0)), np.uint64),
        words_for(widest),
        memory.empty(widest, np.int32),
        memory.empty(widest, np.int32),
        memory.empty(widest, np.float32),
        memory.empty(classes, np.float32),
        memory.empty(classes, np.float64),
        memory.empty(classes, np.float64),
        memory.zeros(SCORES, np.float64),
    )


@kernel
def pack_rows_int8(plan, first_rows, dense, dense_at, dense_sums):
    """Lay out the whole int8 head for `run_per_sample_int8`.

    `first_rows` (uint8) gets the first block as [group of 64 outputs][input][64], negated where it is complemented, and
    128 added. `dense` (int8) gets block l > 0 at ``dense_at[l]`` as [group of 64 outputs][quad of inputs][64][4];
    `dense_sums` (int32, (L, 64 groups)) what its inputs' zero points add to the sums, 0 for the first block.
    """
    sign = np.int64(-1 if plan.complement == 1 else 1)
    for block in range(len(plan.activations)):
        inputs, outputs = plan.widths[block], plan.widths[block + 1]
        quads = (inputs + 3) // 4
        for column in range((outputs + 63) // 64 * 64):
            group, lane = column // 64, column % 64
            total = np.int64(0)
            for d in range(inputs):
                w = np.int64(0)
                if column < outputs:
                    w = np.int64(plan.weights[plan.weight_at[block] + d * outputs + column])
                total += w
                if block == 0:
                    first_rows[(group * inputs + d) * 64 + TURNED[lane]] = sign * w + 128
                else:
                    dense[dense_at[block] + ((group * quads + d // 4) * 64 + lane) * 4 + d % 4] = w
            dense_sums[block, column] = total * plan.zero_points[block] if block > 0 else np.int64(0)


@inlined
def _add_rows(vnni, plan, rows, count, scratch, totals):
    """Set totals[outputs] to base plus the sum of value times row over the listed inputs; return how much too much.

    The lists are filled up with zeros.
    """
    fill_up(scratch, count)
    quads = np.int64(count + 3) // 4
    for group in range((plan.widths[1] + 63) // 64):
        row_sums(vnni, rows, group * plan.widths[0] * 64, scratch, quads, totals, group * 64)
    return 128 * sum_of_bytes(vnni, scratch.values, (count + 63) // 64)


@inlined
def _later_blocks(vnni, plan, packed, seed, iteration, sample, excess, scratch):
    """Take totals (int32, too much by `excess`) of the first block to the activated outputs `z` of the last."""
    # No names for the arrays: each would be counted up and down in every iteration.
    for block in range(len(plan.activations)):
        outputs, activation = plan.widths[block + 1], plan.activations[block]
        vectors, offsets_at = (outputs + 15) // 16, block * packed[3].shape[1]
        real_of_sums(scratch, excess, packed[3], offsets_at, plan, plan.output_at[block], vectors)
        if block == len(plan.activations) - 1:
            if activation == SOFTMAX:
                softmax_of_one(scratch.z, 0, outputs)
            activate_numbers(scratch.z, 0, activation, vectors)
            return
        excess = np.int64(0)
        encode(scratch.z, 0, rounding_of(plan, block), outputs, scratch.hidden, 0)
        keep_words(seed, block + 1, iteration, sample, plan.thresholds[block + 1], outputs, scratch.words)
        mask_codes(scratch.hidden, scratch.words, (outputs + 63) // 64, plan.zero_points[block + 1])
        quads = (outputs + 3) // 4
        for group in range((plan.widths[block + 2] + 63) // 64):
            at = packed[2][block + 1] + group * quads * 256
            dense_sums(vnni, scratch.hidden, packed[1], at, quads, scratch.totals, group * 64)


@inlined
def _first_base(vnni, plan, rows, features, n, scratch):
    """Set the input codes of a sample, and `base` to what they come to where nothing is dropped, or to zeros."""
    codes, base, width = scratch.codes, scratch.base, plan.widths[0]
    row = features[n]
    for d in range(width):
        y = np.float32(row[d]) * plan.input_scale[d] + plan.input_shift[d]
        codes[d] = round_to_int(min(max(y, np.float32(-127)), np.float32(127)))
    for i in range(len(base)):
        base[i] = 0
    if plan.complement == 1:
        count = list_units(scratch.everything, width, False, scratch.units, 0, codes, scratch.values)
        excess = _add_rows(vnni, plan, rows, count, scratch, base)
        for i in range(len(base)):
            base[i] = np.int32(excess) - base[i]  # the rows are negated


@kernel
def run_per_sample_int8(vnni, plan, features, sample_ids, packed, seed, num_iter, start, stop, out, scratch):
    """Run all iterations for samples `start` to `stop`.

    Parameters
    ----------
    vnni : True or None
        The VNNI instruction, or instructions that every processor has.
    features : int8 (N, D)
    sample_ids : int64 (N,)
        What goes into the masks: zeros for shared ones.
    packed : (first_rows, dense, dense_at, dense_sums)
        What `pack_rows_int8` filled.
    out : Out
    scratch : Scratch
    """
    scores, mean, std = out
    classes, width = plan.widths[-1], plan.widths[0]
    complement = plan.complement == 1
    z, state = scratch.z, Sums(scratch.pivot, scratch.sum1, scratch.sum2)
    for n in range(start, stop):
        sample = sample_ids[n]
        _first_base(vnni, plan, packed[0], features, n, scratch)
        for t in range(num_iter):
            keep_words(seed, 0, t, sample, plan.thresholds[0], width, scratch.words)
            count = list_units(scratch.words, width, complement, scratch.units, 0, scratch.codes, scratch.values)
            excess = _add_rows(vnni, plan, packed[0], count, scratch, scratch.totals)
            _later_blocks(vnni, plan, packed, seed, t, sample, excess, scratch)
            accumulate(z, 0, state, t == 0, classes)
            if scores.shape[1] > 0:
                add_scores(z, 0, plan.exclusive, classes, 1, scratch.scores)
        add_to_rows(scratch.scores, ONE, num_iter, scores, n, 1)
        finish(state, 0, num_iter, classes, ONE, mean, std, n, 1)
