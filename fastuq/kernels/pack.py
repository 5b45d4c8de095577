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
    words = packed.view(np.int32)
    totals, chosen = np.empty(np.max(plan.widths), np.int32), np.empty(np.max(plan.widths) + TILE, np.int64)
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            inputs, count = units[t, plan.unit_at[block] :], counts[t, block]
            out_count = output_count(plan, counts[t], block)
            _choose(plan, units[t], block, out_count, chosen)
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
def _choose(plan, units, block, out_count, chosen):
    """List the outputs that are computed; what fills up the last tile is the number of outputs, past them all."""
    for number in range(out_count):
        chosen[number] = output_unit(plan, units, block, number)
    chosen[out_count : out_count + TILE] = plan.widths[block + 1]


@kernel
def _pack_words(plan, block, inputs, count, chosen, out_count, words):
    """Write words[tile][quad][6]: the weights of four listed inputs to one chosen output; the rest gets 0."""
    outputs, weights = plan.widths[block + 1], plan.weights[plan.weight_at[block] :]
    sign = np.int32(-1 if block == 0 and plan.complement == 1 else 1)
    quads = (np.int64(count) + 3) // 4
    joined = np.zeros(outputs + 1, np.int32)  # the last stays 0: it fills up the last tile
    for quad in range(quads):
        joined[:outputs] = 0
        for i in range(min(4, count - 4 * quad)):
            row = weights[inputs[4 * quad + i] * outputs : (inputs[4 * quad + i] + 1) * outputs]
            for h in range(outputs):
                joined[h] |= ((sign * np.int32(row[h])) & np.int32(255)) << np.int32(8 * i)
        for first in range(0, out_count, TILE):
            place = first * quads + quad * TILE
            for number in range(TILE):
                words[place + number] = joined[chosen[first + number]]


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
    chosen, row = np.empty(np.max(plan.widths) + TILE, np.int64), np.empty(np.max(plan.widths) + 1, np.float32)
    for t in range(start, stop):
        for block in range(len(plan.activations)):
            sign = np.float32(-1 if block == 0 and plan.complement == 1 else 1)
            inputs, outputs = units[t, plan.unit_at[block] :], plan.widths[block + 1]
            count, out_count = np.int64(counts[t, block]), output_count(plan, counts[t], block)
            weights, out = plan.weights[plan.weight_at[block] :], packed[weights_at[t, block] :]
            _choose(plan, units[t], block, out_count, chosen)
            for i in range(count):
                row[:outputs] = weights[inputs[i] * outputs : (inputs[i] + 1) * outputs]
                row[outputs] = 0
                for first in range(0, out_count, TILE):
                    place = first * count + i * TILE
                    for number in range(TILE):
                        out[place + number] = sign * row[chosen[first + number]]
