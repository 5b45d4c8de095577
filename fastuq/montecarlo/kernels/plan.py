"""The head as flat arrays that every kernel reads, and the units that a mask selects."""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.compiled import kernel
from fastuq.montecarlo.kernels.tiles import TILE


class Plan(NamedTuple):
    """A head of L blocks, flattened: one compiled kernel serves any number of blocks.

    Attributes
    ----------
    widths : int64 (L + 1,)
        Inputs of each block, then the number of classes.
    activations, thresholds, zero_points : int64 (L,)
        Code of each activation; 16-bit keep threshold of each dropout; what is added to a block's input codes to make
        them unsigned (int8).
    rounded, tops : int64, float32 (L,)
        Whether a block's output codes are min(rint(z), top) above minus the next zero point, and that top; otherwise
        they are the codes of a sigmoid. Zeros for the last block and in float32.
    exclusive : bool
        The outputs are probabilities of classes that exclude each other.
    complement : int64
        1 where the first block is computed as X W - X[:, dropped] W[dropped], 0 where the kept inputs are summed.
    weights : int8 or float32, flat
        Weights (inputs, outputs) of all blocks, then a row of zeros and 64 more; float32 ones include the 1 / (1 - p)
        of dropout.
    weight_at, output_at, unit_at : int64 (L,)
        Where each block's weights, outputs (in scale and bias) and input units (in an iteration's selection) begin.
    room : int64
        Length of an iteration's selection: int32 units of all blocks.
    scale, bias : float32, flat
        As in `fastuq.model.int8_head`, then a vector of zeros; float32 heads do not read `scale`.
    input_scale, input_shift : float32 (D,)
    column_sums : int32 (outputs of the first block,)
        Sums of the first block's int8 weights over the inputs.
    """

    widths: np.ndarray
    activations: np.ndarray
    thresholds: np.ndarray
    zero_points: np.ndarray
    rounded: np.ndarray
    tops: np.ndarray
    exclusive: bool
    complement: int
    weights: np.ndarray
    weight_at: np.ndarray
    output_at: np.ndarray
    unit_at: np.ndarray
    room: int
    scale: np.ndarray
    bias: np.ndarray
    input_scale: np.ndarray
    input_shift: np.ndarray
    column_sums: np.ndarray


def packed_layout(plan: Plan, counts: np.ndarray, multiple: int) -> tuple[tuple[np.ndarray, np.ndarray], int, int]:
    """Lay out packed heads: where each (iteration, block) begins in the weights and in the vectors, and both sizes.

    `counts` is (T, L); inputs are filled up to a `multiple`, outputs to whole tiles.
    """
    outputs = np.concatenate([counts[:, 1:], np.full((len(counts), 1), plan.widths[-1])], axis=1).astype(np.int64)
    outputs = -(-outputs // TILE) * TILE
    sizes = outputs * (-(-counts.astype(np.int64) // multiple) * multiple)
    weights_at, vectors_at = (np.cumsum(s.ravel()).reshape(s.shape) - s for s in (sizes, outputs))
    return (
        (memory.filled(weights_at, np.int64), memory.filled(vectors_at, np.int64)),
        int(sizes.sum()),
        int(outputs.sum()),
    )


@kernel
def rounding_of(plan, block):
    """Return how the output codes of a block that is not the last are made; see `elementwise.encode`."""
    return plan.rounded[block] == 1, plan.tops[block], plan.zero_points[block + 1]
