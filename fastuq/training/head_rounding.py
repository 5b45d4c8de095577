"""From a float head to the int8 head: scales from calibration features, weights rounded to integers.

The weights are rounded one input at a time, each rounding error being spread over the inputs that are still to be
rounded (Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323), with the second moments of the masked inputs.
"""

import numpy as np

from fastuq.errors import InputError
from fastuq.model.activations import PERCENTILES, activation_of
from fastuq.model.head import Block, Head
from fastuq.model.int8_head import QuantizedBlock, QuantizedHead, codes_of, input_codes
from fastuq.util.checks import checked_seed

CALIBRATION_SAMPLES = 4096


def quantize_head(
    head: Head, features: np.ndarray, feature_scale: float, feature_zero_point: int, *, seed: int = 0
) -> QuantizedHead:
    """Quantize a head to int8.

    Parameters
    ----------
    head : Head
    features : ndarray, (N, D), int8
        Calibration features: of training images; at most 4,096 rows of them are used, drawn by `seed`.
    feature_scale : float
    feature_zero_point : int
        real = feature_scale * (q - feature_zero_point).
    seed : int

    Returns
    -------
    QuantizedHead

    Raises
    ------
    InputError
        The features are not int8 (N, D) of this head's width.
    """
    if features.ndim != 2 or features.dtype != np.int8 or features.shape[1] != head.num_features or not len(features):
        raise InputError(
            f"calibration features: expected int8 (N, {head.num_features}), "
            f"found {features.dtype} {features.shape}; use the features of this model's own backbone"
        )
    rng = np.random.default_rng(checked_seed(seed))
    rows = rng.permutation(len(features))[:CALIBRATION_SAMPLES]
    q = features[np.sort(rows)].astype(np.float64)
    step = head.scale.astype(np.float64) * feature_scale
    origin = head.shift - step * feature_zero_point
    y = q * step + origin
    low, high = np.percentile(y, PERCENTILES, axis=0)
    unit = np.maximum(np.abs(step), np.maximum(np.maximum(np.abs(low), np.abs(high)) / 127, 1e-12))
    input_scale, input_shift = (step / unit).astype(np.float32), (origin / unit).astype(np.float32)
    codes = input_codes(q, input_scale, input_shift)
    blocks, exact, unit = [], y.astype(np.float32), unit.astype(np.float32)
    for layer, block in enumerate(head.blocks):
        last = layer == len(head.blocks) - 1
        made, codes, exact, unit = _quantize_block(block, codes, exact, unit, rng, last)
        blocks.append(made)
    return QuantizedHead(tuple(blocks), input_scale, input_shift)


def _quantize_block(
    block: Block, codes: np.ndarray, exact: np.ndarray, unit: np.ndarray, rng: np.random.Generator, last: bool
) -> tuple[QuantizedBlock, np.ndarray, np.ndarray, np.ndarray]:
    """Quantize one block; return it with the codes, exact values and code steps that the next block reads.

    `codes` and `exact` hold the same inputs, as integer codes (of step `unit`) and as float; masks are drawn fresh
    for each row, so that the statistics are those of Monte-Carlo iterations.
    """
    keep = 1 - block.rate
    second = _second_moment(codes, keep)
    weights, step = _round_weights(block.weights * unit[:, None], second)
    scale = (step / keep).astype(np.float32)
    masks = rng.random(codes.shape, np.float32) < keep
    target = (exact * masks) @ block.weights / np.float32(keep) + block.bias
    z = (codes * masks) @ weights.astype(np.float32) * scale
    bias = (target - z).mean(axis=0, dtype=np.float64).astype(np.float32)
    z += bias
    if last:
        return QuantizedBlock(block.rate, weights, scale, bias, block.activation), z, target, unit
    coding = codes_of(block.activation)
    outputs = activation_of(block.activation).forward(target)
    out_unit = coding.step(outputs)
    if out_unit is None:
        out_unit = np.full(target.shape[1], 1 / 255, np.float32)
    else:
        scale, bias, z = scale / out_unit, bias / out_unit, z / out_unit
    made = QuantizedBlock(block.rate, weights, scale, bias, block.activation)
    return made, coding.of(z), outputs, out_unit


def _second_moment(codes: np.ndarray, keep: float) -> np.ndarray:
    """Return E[(v m)(v m)^T] over samples and masks, from codes (N, inputs): float64 (inputs, inputs)."""
    gram = (codes.T @ codes).astype(np.float64) / len(codes)
    diagonal = np.diag(gram).copy()
    return keep * keep * gram + np.diag(keep * (1 - keep) * diagonal)


def _round_weights(weights: np.ndarray, second: np.ndarray, block: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Round weights (inputs, outputs) to int8; return the integers and the step of each output (outputs,)."""
    w = weights.astype(np.float64)
    importance = np.diag(second)
    steps = _weight_steps(w, importance)
    damp = max(importance.mean() * 1e-3, 1e-9)
    # Upper Cholesky factor of the inverse: row d says how an error at input d is compensated by the later ones.
    factor = np.linalg.cholesky(np.linalg.inv(second + damp * np.eye(len(second)))).T
    rounded = np.empty(w.shape, np.int8)
    for start in range(0, len(w), block):
        stop = min(start + block, len(w))
        errors = np.empty((stop - start, w.shape[1]))
        for d in range(start, stop):
            code = np.clip(np.rint(w[d] / steps), -127, 127)
            rounded[d] = code
            error = (w[d] - code * steps) / factor[d, d]
            w[d + 1 : stop] -= factor[d, d + 1 : stop, None] * error
            errors[d - start] = error
        w[stop:] -= factor[start:stop, stop:].T @ errors
    return rounded, steps


def _weight_steps(w: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Return, per output, the step that gives the least squared rounding error weighted by input power."""
    largest = np.maximum(np.abs(w).max(axis=0), 1e-12) / 127
    best, steps = np.full(w.shape[1], np.inf), largest
    for shrink in np.linspace(1, 0.5, 11):
        trial = largest * shrink
        error = w - np.clip(np.rint(w / trial), -127, 127) * trial
        cost = importance @ (error * error)
        steps = np.where(cost < best, trial, steps)
        best = np.minimum(best, cost)
    return steps
