"""Heads flattened to the plans that the kernels read."""

from collections.abc import Sequence

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import SIGMOID_STEPS, RoundedCodes, SteppedCodes, activation_of
from fastuq.model.head import Head
from fastuq.model.int8_head import POINTS, QuantizedBlock, QuantizedHead
from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.plan import BY_ROUNDING, BY_STEPS, BY_TABLE, Plan, selection_width
from fastuq.montecarlo.masks import keep_threshold

_NAMES = (
    "relu", "linear", "sigmoid", "softmax",
    "relu6", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "hard_silu", "tanh", "softplus",
)  # fmt: skip
ACTIVATION_NUMBERS = {name: number for number, name in enumerate(_NAMES)}
"""How kernels call the activations, the rare ones behind softmax; `elementwise` has the code of each."""


def int8_plan(head: QuantizedHead) -> Plan:
    """Flatten an int8 head for the kernels.

    Raises
    ------
    ModelError
        There is no kernel for an activation, or for its codes.
    """
    blocks, hidden = head.blocks, head.blocks[:-1]
    plan = _plan(
        blocks,
        np.concatenate([b.weights.ravel() for b in blocks]),
        np.concatenate([b.scale for b in blocks]),
        head.input_scale,
        head.input_shift,
        [(b.code_scale, b.code_shift) for b in blocks],
    )
    codings, tops, zero_points = zip(*map(_coding, hidden), strict=True) if hidden else ((), (), ())
    tables = [b.table for b in hidden if b.table is not None]
    before = np.cumsum([0, *(b.table is not None for b in hidden)])
    return plan._replace(
        zero_points=memory.filled([128, *zero_points], np.int64),
        codings=memory.filled([*codings, 0], np.int64),
        tops=memory.filled([*tops, 0], np.float32),
        tables=memory.filled(np.concatenate([np.zeros(0), *tables]), np.float32),
        table_at=memory.filled(before * POINTS, np.int64),
    )


def float32_plan(head: Head, feature_scale: float, feature_zero_point: int) -> Plan:
    """Flatten a float32 head for the kernels, with dequantization and dropout's 1 / (1 - p) folded in.

    Raises
    ------
    ModelError
        There is no kernel for an activation.
    """
    step = head.scale.astype(np.float64) * feature_scale
    affines = [*((b.scale, b.shift) for b in head.blocks[1:]), (None, None)]
    plan = _plan(
        head.blocks,
        np.concatenate([(b.weights / np.float32(1 - b.rate)).ravel() for b in head.blocks]),
        np.ones(sum(len(b.bias) for b in head.blocks), np.float32),
        step,
        head.shift - step * feature_zero_point,
        affines,
    )
    return plan._replace(shifted=memory.filled([scale is not None for scale, _ in affines], np.int64))


def _coding(block: QuantizedBlock) -> tuple[int, int, int]:
    """Return how a block that is not the last makes its codes, their top (the last place of a table), zero point."""
    if block.table is not None:
        return BY_TABLE, POINTS - 1, block.zero_point or 0
    codes = activation_of(block.activation).codes
    if isinstance(codes, RoundedCodes):
        return BY_ROUNDING, codes.high, codes.zero_point
    if isinstance(codes, SteppedCodes) and codes.steps is SIGMOID_STEPS:
        return BY_STEPS, 0, codes.zero_point
    raise ModelError(f"activation {block.activation}: there is no int8 kernel for its codes; use the precision float32")


def _of_units(units: Sequence, blocks: Sequence, which: int, otherwise: int) -> np.ndarray:
    """Return the scales or the shifts of all blocks' outputs, `otherwise` where a block has none."""
    parts = [
        np.full(len(b.bias), otherwise) if u[which] is None else u[which] for u, b in zip(units, blocks, strict=True)
    ]
    return _with_zeros(np.concatenate(parts).astype(np.float32), 16)


def _number(activation: str) -> int:
    name = activation_of(activation).name
    if name not in ACTIVATION_NUMBERS:
        raise ModelError(
            f"activation {activation}: there is no kernel for it; there are {', '.join(ACTIVATION_NUMBERS)}"
        )
    return ACTIVATION_NUMBERS[name]


def _plan(blocks: Sequence, weights, scale, input_scale, input_shift, units: Sequence) -> Plan:
    """Make a plan whose blocks hand on no codes: zeros stand for all that the int8 kernels ask of them.

    `units` are scale and shift of the outputs of each block, or None and None.
    """
    widths = np.array([*(b.weights.shape[0] for b in blocks), len(blocks[-1].bias)], np.int64)
    rooms = np.array([selection_width(width) for width in widths[:-1]])
    sizes = np.array([b.weights.size for b in blocks])
    keeps = np.array([1 - b.rate for b in blocks], np.float32)
    filled, count = memory.filled, len(blocks)
    return Plan(
        widths=filled(widths, np.int64),
        activations=filled([_number(b.activation) for b in blocks], np.int64),
        thresholds=filled([keep_threshold(b.rate) for b in blocks], np.int64),
        zero_points=memory.zeros(count, np.int64),
        slopes=filled([activation_of(b.activation).slope for b in blocks], np.float32),
        codings=memory.zeros(count, np.int64),
        tops=memory.zeros(count, np.float32),
        steps=filled([-np.inf, *SIGMOID_STEPS, np.inf], np.float32),
        tables=memory.zeros(0, np.float32),
        table_at=memory.zeros(count, np.int64),
        shifted=memory.zeros(count, np.int64),
        keeps=filled(keeps, np.float32),
        exclusive=activation_of(blocks[-1].activation).exclusive,
        complement=int(blocks[0].rate < 0.5),
        weights=_with_zeros(weights, 64 + int(widths.max())),
        nothing=len(weights),
        weight_at=filled(np.cumsum(sizes) - sizes, np.int64),
        output_at=filled(np.cumsum(widths[1:]) - widths[1:], np.int64),
        unit_at=filled(np.cumsum(rooms) - rooms, np.int64),
        room=int(rooms.sum()),
        scale=_with_zeros(scale, 16),
        plain_scale=_with_zeros(scale * np.repeat(keeps, widths[1:]), 16),
        bias=_with_zeros(np.concatenate([b.bias for b in blocks]), 16),
        unit_scale=_of_units(units, blocks, 0, 1),
        unit_shift=_of_units(units, blocks, 1, 0),
        input_scale=filled(input_scale, np.float32),
        input_shift=filled(input_shift, np.float32),
    )


def _with_zeros(values: np.ndarray, count: int) -> np.ndarray:
    """Return a copy of `values` as kernels take them, with so many zeros behind."""
    made = memory.empty(len(values) + count, values.dtype)
    made[: len(values)], made[len(values) :] = values, 0
    return made


def packed_bytes(plan: Plan) -> int:
    """Return about how many bytes one packed iteration takes."""
    kept = plan.thresholds / 65536
    listed = kept.copy()
    listed[0] = 1 - kept[0] if plan.complement else kept[0]
    outputs = np.append(kept[1:], 1) * plan.widths[1:]
    return int((listed * plan.widths[:-1] * outputs).sum() * plan.weights.itemsize) + 1
