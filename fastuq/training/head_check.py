"""The int8 head beside the float32 head, under the same masks: what rounding costs the moments."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastuq.model.description import HeadPair
from fastuq.model.head import Head
from fastuq.model.int8_head import QuantizedHead
from fastuq.montecarlo.sampling import Sampling
from fastuq.training.head_rounding import quantize_head

ROWS, ITERATIONS = 64, 64
_MOST_VALUES = 2**23
_LEAST_BOUND = 0.01


def rounded_heads(
    heads: Sequence[Head], features: np.ndarray, feature_scale: float, feature_zero_point: int
) -> tuple[list[HeadPair], dict[str, Any]]:
    """Return heads with their int8 forms, and what `check_head` finds of the one that rounding costs most."""
    scale, zero_point = feature_scale, feature_zero_point
    pairs = [(head, quantize_head(head, features, scale, zero_point)) for head in heads]
    found = [check_head(*pair, features, scale, zero_point) for pair in pairs]
    return pairs, max(found, key=lambda each: max(each["mean_difference"], each["std_difference"]) / each["bound"])


def check_head(
    head: Head, head_int8: QuantizedHead, features: np.ndarray, feature_scale: float, feature_zero_point: int
) -> dict[str, Any]:
    """Compare the moments of both heads on features.

    The masks of both are the same, so that what they differ by is rounding and cutting off, hardly chance.

    Parameters
    ----------
    features : ndarray, (N, D), int8
        Calibration features; up to 64 rows of them are taken, evenly spread.

    Returns
    -------
    dict
        ``mean_difference`` and ``std_difference``, the largest of any row and class; ``bound``, the largest Monte-Carlo
        error of a mean of 50 iterations (std / sqrt(50)), at least 0.01; ``rows`` and ``iterations``.
    """
    most = max(1, min(ROWS, _MOST_VALUES // (head.num_features * ITERATIONS)))
    rows = np.unique(np.linspace(0, len(features) - 1, most).astype(np.int64))
    some = np.repeat(features[rows], ITERATIONS, axis=0)
    masks = drawn_masks(np.random.default_rng(0), head, len(some))
    real = np.float32(feature_scale) * (some.astype(np.float32) - np.float32(feature_zero_point))
    outputs = head.forward(real, masks), head_int8.forward(some, masks)
    exact, rounded = (each.reshape(len(rows), ITERATIONS, -1).astype(np.float64) for each in outputs)
    spread = exact.std(axis=1)
    return {
        "mean_difference": _largest(exact.mean(axis=1) - rounded.mean(axis=1)),
        "std_difference": _largest(spread - rounded.std(axis=1)),
        "bound": max(_LEAST_BOUND, _largest(spread / Sampling().num_iter ** 0.5)),
        "rows": len(rows),
        "iterations": ITERATIONS,
    }


def drawn_masks(rng: np.random.Generator, head: Head, count: int) -> list[np.ndarray]:
    """Return masks of bool, (count, inputs) for each block: other ones for each row."""
    pairs = zip(head.widths, head.rates, strict=True)
    return [rng.random((count, width), np.float32) < 1 - rate for width, rate in pairs]


def _largest(values: np.ndarray) -> float:
    """Return the largest size, rounded: the last bits of float32 products are the machine's own."""
    return round(float(np.abs(values).max()), 4)


def head_lines(found: dict[str, Any]) -> list[str]:
    """Return what `check_head` found as lines to read."""
    lines = [
        f"int8 head   against float32 under the same masks: means within {found['mean_difference']:.3f}, deviations "
        f"within {found['std_difference']:.3f} ({found['rows']} rows, {found['iterations']} iterations)"
    ]
    if max(found["mean_difference"], found["std_difference"]) > found["bound"]:
        lines.append(
            f"warning     that is more than the Monte-Carlo error of 50 iterations ({found['bound']:.3f}): score with "
            "--precision float32, or import again with more calibration data"
        )
    return lines
