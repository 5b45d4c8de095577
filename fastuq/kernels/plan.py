"""The head as flat arrays that every kernel reads, and the units that a mask selects."""

from typing import NamedTuple

import numpy as np

from fastuq.kernels.compiled import aligned_bytes, kernel
from fastuq.kernels.threefry import keep_words, list_units
from fastuq.kernels.tiles import TILE


class Plan(NamedTuple):
    """A head of L blocks, flattened: one compiled kernel serves any number of blocks.

    Attributes
    ----------
    widths : int64 (L + 1,)
        Inputs of each block, then the number of classes.
    activations, thresholds, zero_points : int64 (L,)
        Code of each activation; 16-bit keep threshold of each dropout; what is added to a block's input codes to make
        them unsigned (int8).
    complement : int64
        1 where the first block is computed as X W - X[:, dropped] W[dropped], 0 where the kept inputs are summed.
    weights : int8 or float32, flat
        Weights (inputs, outputs) of all blocks, then 64 zeros; float32 ones include the 1 / (1 - p) of dropout.
    weight_at, output_at, unit_at : int64 (L,)
        Where each block's weights, outputs (in scale and bias) and input units (in a row of selected units) begin.
    scale, bias : float32, flat
        As in `fastuq.quantized_head`, then a vector of zeros; float32 heads do not read `scale`.
    input_scale, input_shift : float32 (D,)
    column_sums : int32 (outputs of the first block,)
        Sums of the first block's int8 weights over the inputs.
    """

    widths: np.ndarray
    activations: np.ndarray
    thresholds: np.ndarray
    zero_points: np.ndarray
    complement: int
    weights: np.ndarray
    weight_at: np.ndarray
    output_at: np.ndarray
    unit_at: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    input_scale: np.ndarray
    input_shift: np.ndarray
    column_sums: np.ndarray


def aligned(count: int, dtype: type) -> np.ndarray:
    """Return `count` uninitialised numbers that start on a cache line, with 64 spare bytes behind."""
    return aligned_bytes(int(count) * np.dtype(dtype).itemsize + 64).view(dtype)[: int(count)]


def reused(array: np.ndarray | None, count: int, dtype: type) -> np.ndarray:
    """Return `array` where it holds `count` numbers, else a new one with an eighth to spare: fresh memory is slow."""
    if array is not None and len(array) >= count:
        return array
    return aligned(count + count // 8, dtype)


def packed_layout(plan: Plan, counts: np.ndarray, multiple: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Lay out packed heads: where each (iteration, block) begins in the weights and in the vectors, and both sizes.

    `counts` is (T, L); inputs are filled up to a `multiple`, outputs to whole tiles.
    """
    outputs = np.concatenate([counts[:, 1:], np.full((len(counts), 1), plan.widths[-1])], axis=1).astype(np.int64)
    outputs = -(-outputs // TILE) * TILE
    sizes = outputs * (-(-counts.astype(np.int64) // multiple) * multiple)
    weights_at, vectors_at = (np.cumsum(s.ravel()).reshape(s.shape) - s for s in (sizes, outputs))
    return weights_at, vectors_at, int(sizes.sum()), int(outputs.sum())


def whole_selection(plan: Plan) -> tuple[Plan, np.ndarray, np.ndarray]:
    """Return the plan of the first block alone, not complemented, and a selection that drops nothing."""
    whole = plan._replace(widths=plan.widths[:2], activations=plan.activations[:1], complement=0)
    units = np.zeros((1, plan.unit_at[-1] + selection_width(plan.widths[-2])), np.int32)
    units[0, : plan.widths[0]] = np.arange(plan.widths[0])
    return whole, units, plan.widths[None, :1].astype(np.int32)


def selection_width(units: int) -> int:
    """Return the room for a list of selected units: whole vectors are written past its end."""
    return (int(units) + 31) // 16 * 16


@kernel
def select_units(plan, seed, iteration, sample, words, units, counts):
    """List, for one iteration, the units that the kernels visit in each block.

    Those are the kept inputs; in a complemented first block the dropped ones. `words` is scratch (uint64); `units`
    (int32) gets block l's list at ``plan.unit_at[l]``, filled up with unit 0 to a multiple of four; `counts`
    (int32, (L,)) gets the lengths.
    """
    for block in range(len(plan.activations)):
        width = plan.widths[block]
        keep_words(seed, block, iteration, sample, plan.thresholds[block], width, words)
        invert = block == 0 and plan.complement == 1
        listed = units[plan.unit_at[block] :]
        count = list_units(words, width, invert, listed)
        counts[block] = count
        for i in range(count, (count + 3) // 4 * 4):
            listed[i] = 0


@kernel
def select_iterations(plan, seed, first_iteration, start, stop, units, counts):
    """List the shared selection of iterations ``first_iteration + t`` into row t, for t from start to stop."""
    words = np.empty((np.max(plan.widths) + 255) // 256 * 4, np.uint64)
    for t in range(start, stop):
        select_units(plan, seed, first_iteration + t, 0, words, units[t], counts[t])


@kernel
def output_unit(plan, units, block, number):
    """Return which output unit of `block` is computed as its `number`-th: only those that the next mask keeps."""
    if block == len(plan.activations) - 1:
        return np.int64(number)
    return np.int64(units[plan.unit_at[block + 1] + number])


@kernel
def output_count(plan, counts, block):
    """Return how many outputs of `block` are computed."""
    if block == len(plan.activations) - 1:
        return np.int64(plan.widths[block + 1])
    return np.int64(counts[block + 1])
