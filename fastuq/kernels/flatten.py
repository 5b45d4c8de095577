"""Heads flattened to the plans that the kernels read."""

from typing import Any

import numpy as np

from fastuq.head import ACTIVATIONS, Head
from fastuq.kernels import memory
from fastuq.kernels.plan import Plan, selection_width
from fastuq.masks import keep_threshold
from fastuq.quantized_head import QuantizedHead


def int8_plan(head: QuantizedHead) -> Plan:
    """Flatten an int8 head for the kernels."""
    blocks = head.blocks
    offsets = [128, *(128 if block.activation == "linear" else 0 for block in blocks[:-1])]
    return _plan(
        blocks,
        len(blocks[-1].bias),
        offsets,
        np.concatenate([b.weights.ravel() for b in blocks]),
        np.concatenate([b.scale for b in blocks]),
        head.input_scale,
        head.input_shift,
        blocks[0].weights.sum(axis=0, dtype=np.int32),
    )


def float32_plan(head: Head, feature_scale: float, feature_zero_point: int) -> Plan:
    """Flatten a float32 head for the kernels, with dequantization and dropout's 1 / (1 - p) folded in."""
    step = head.scale.astype(np.float64) * feature_scale
    return _plan(
        head.blocks,
        head.num_classes,
        [0] * len(head.blocks),
        np.concatenate([(b.weights / np.float32(1 - b.rate)).ravel() for b in head.blocks]),
        np.ones(sum(len(b.bias) for b in head.blocks), np.float32),
        step,
        head.shift - step * feature_zero_point,
        np.zeros(head.blocks[0].weights.shape[1], np.int32),
    )


def _plan(blocks: Any, classes: int, offsets: list[int], weights, scale, input_scale, input_shift, column_sums) -> Plan:
    widths = np.array([*(b.weights.shape[0] for b in blocks), classes], np.int64)
    rooms = np.array([selection_width(width) for width in widths[:-1]])
    sizes = np.array([b.weights.size for b in blocks])
    filled = memory.filled
    return Plan(
        filled(widths, np.int64),
        filled([ACTIVATIONS.index(b.activation) for b in blocks], np.int64),
        filled([keep_threshold(b.rate) for b in blocks], np.int64),
        filled(offsets, np.int64),
        int(blocks[0].rate < 0.5),
        filled(np.pad(weights, (0, 64 + int(widths.max()))), weights.dtype),
        filled(np.cumsum(sizes) - sizes, np.int64),
        filled(np.cumsum(widths[1:]) - widths[1:], np.int64),
        filled(np.cumsum(rooms) - rooms, np.int64),
        int(rooms.sum()),
        filled(np.pad(scale, (0, 16)), np.float32),
        filled(np.pad(np.concatenate([b.bias for b in blocks]), (0, 16)), np.float32),
        filled(input_scale, np.float32),
        filled(input_shift, np.float32),
        filled(column_sums, np.int32),
    )


def packed_bytes(plan: Plan) -> int:
    """Return about how many bytes one packed iteration takes."""
    kept = plan.thresholds / 65536
    listed = kept.copy()
    listed[0] = 1 - kept[0] if plan.complement else kept[0]
    outputs = np.append(kept[1:], 1) * plan.widths[1:]
    return int((listed * plan.widths[:-1] * outputs).sum() * plan.weights.itemsize) + 1
