"""Thinned heads packed for the shared-mask kernels: only the weights that an iteration reads, in the order it does."""

import numpy as np

from fastuq.kernels.compiled import kernel
from fastuq.kernels.plan import output_count, output_unit
from fastuq.kernels.tiles import TILE


@kernel
def pack_int8(plan, units, counts, weights_at, vectors_at, start, stop, packed, correction, scale, bias):
    """Pack the thinned int8 head of iterations start to stop.

    Block l of iteration t begins at byte ``weights_at[t, l]`` as [tile][quad of inputs][6 outputs][4 inputs], negated
    where the block is complemented. Its outputs' offset corrections (int32), scales and biases, filled up with zeros
    to whole tiles, begin at ``vectors_at[t, l]``.
    """
    words = packed.view(np.uint32)
    totals, chosen = np.empty(np.max(plan.widths), np.int32), np.empty(np.max(plan.widths) + TILE, np.int64)
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            inputs, count = units[t, plan.unit_at[block] :], counts[t, block]
            out_count = output_count(plan, counts[t], block)
            for number in range(out_count):
                chosen[number] = output_unit(plan, units[t], block, number)
            _pack_words(plan, block, inputs, count, chosen, out_count, words[weights_at[t, block] // 4 :])
            _kept_sums(plan, block, inputs, count, totals)
            at = vectors_at[t, block]
            for number in range((out_count + TILE - 1) // TILE * TILE):
                if number < out_count:
                    unit = chosen[number]
                    correction[at + number] = -plan.zero_points[block] * totals[unit]
                    scale[at + number] = plan.scale[plan.output_at[block] + unit]
                    bias[at + number] = plan.bias[plan.output_at[block] + unit]
                else:
                    correction[at + number], scale[at + number], bias[at + number] = 0, 0, 0


@kernel
def _pack_words(plan, block, inputs, count, chosen, out_count, words):
    """Write words[tile][quad][6]: the weights of four listed inputs to one chosen output; the rest gets 0."""
    outputs, weights = plan.widths[block + 1], plan.weights[plan.weight_at[block] :]
    sign = np.int32(-1 if block == 0 and plan.complement == 1 else 1)
    quads, byte = (count + 3) // 4, np.uint32(255)
    signs, rows = np.empty(4, np.int32), np.empty(4, np.int64)
    for quad in range(quads):
        for i in range(4):
            # The list is filled up with unit 0, which counts nothing.
            rows[i] = inputs[4 * quad + i] * outputs
            signs[i] = sign if 4 * quad + i < count else 0
        s0, s1, s2, s3 = signs
        r0, r1, r2, r3 = rows
        for number in range((out_count + TILE - 1) // TILE * TILE):
            word = np.uint32(0)
            if number < out_count:
                unit = chosen[number]
                a, b = np.uint32(s0 * weights[r0 + unit]) & byte, np.uint32(s1 * weights[r1 + unit]) & byte
                c, d = np.uint32(s2 * weights[r2 + unit]) & byte, np.uint32(s3 * weights[r3 + unit]) & byte
                word = a | b << np.uint32(8) | c << np.uint32(16) | d << np.uint32(24)
            words[(number // TILE * quads + quad) * TILE + number % TILE] = word


@kernel
def _kept_sums(plan, block, inputs, count, totals):
    """Set totals[outputs] to the sums of the weights of the kept inputs."""
    outputs, weights = plan.widths[block + 1], plan.weights[plan.weight_at[block] :]
    complemented = block == 0 and plan.complement == 1
    sign = np.int32(-1 if complemented else 1)
    totals[:outputs] = 0
    if complemented:
        totals[:outputs] = plan.column_sums
    for i in range(count):
        row = weights[inputs[i] * outputs : (inputs[i] + 1) * outputs]
        for h in range(outputs):
            totals[h] += sign * np.int32(row[h])


@kernel
def pack_float32(plan, units, counts, weights_at, start, stop, packed):
    """Pack the thinned float32 head of iterations start to stop.

    Block l of iteration t begins at ``weights_at[t, l]`` as [tile][input][6 outputs], negated where the block is
    complemented.
    """
    chosen = np.empty(np.max(plan.widths) + TILE, np.int64)
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            sign = np.float32(-1 if block == 0 and plan.complement == 1 else 1)
            inputs, outputs = units[t, plan.unit_at[block] :], plan.widths[block + 1]
            count, out_count = np.int64(counts[t, block]), output_count(plan, counts[t], block)
            weights, out = plan.weights[plan.weight_at[block] :], packed[weights_at[t, block] :]
            for number in range(out_count):
                chosen[number] = output_unit(plan, units[t], block, number)
            for i in range(count):
                row = weights[inputs[i] * outputs : (inputs[i] + 1) * outputs]
                for number in range((out_count + TILE - 1) // TILE * TILE):
                    weight = sign * row[chosen[number]] if number < out_count else np.float32(0)
                    out[(number // TILE * count + i) * TILE + number % TILE] = weight
