"""From a float head to the int8 head: scales from calibration features, weights rounded to integers.

The weights are rounded one input at a time, each rounding error being spread over the inputs that are still to be
rounded (Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323), with the second moments of the masked inputs. Of many
inputs, errors stay within groups of them: the second moments of all would not fit into memory.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastuq.errors import InputError
from fastuq.model.activations import PERCENTILES, activation_of
from fastuq.model.head import Block, Head
from fastuq.model.int8_head import POINTS, QuantizedBlock, QuantizedHead, input_codes
from fastuq.util.checks import checked_seed

CALIBRATION_SAMPLES = 4096
FEW_ROWS = 32
"""Fewer rows of calibration features say too little of how far others reach: all int8 codes are taken to occur."""
_MOST_VALUES = 2**25
"""Most calibration features that are held as numbers; of very wide heads fewer samples are taken."""
_GROUP = 2048
"""Most inputs that share second moments."""


def quantize_head(
    head: Head, features: np.ndarray, feature_scale: float, feature_zero_point: int, *, seed: int = 0
) -> QuantizedHead:
    """Quantize a head to int8.

    Parameters
    ----------
    head : Head
    features : ndarray, (N, D), int8
        Calibration features: of training images; at most 4,096 rows of them are used, drawn by `seed`. Fewer are used
        several times, under other masks.
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
    rows = calibration_rows(rng, len(features), head.num_features)
    q = features[rows].astype(np.float64)
    step = head.scale.astype(np.float64) * feature_scale
    origin = head.shift - step * feature_zero_point
    y = q * step + origin
    ends = np.array([[min(-127, features.min())], [127]]) if len(features) < FEW_ROWS else None
    low, high = np.percentile(y, PERCENTILES, axis=0) if ends is None else ends * step + origin
    unit = np.maximum(np.abs(step), np.maximum(np.maximum(np.abs(low), np.abs(high)) / 127, 1e-12))
    input_scale, input_shift = (step / unit).astype(np.float32), (origin / unit).astype(np.float32)
    codes = input_codes(q, input_scale, input_shift)
    blocks, exact, unit = [], y.astype(np.float32), unit.astype(np.float32)
    for block, following in zip(head.blocks, [*head.blocks[1:], None], strict=True):
        made, codes, exact, unit = _quantize_block(block, following, codes, exact, unit, rng)
        blocks.append(made)
    return QuantizedHead(tuple(blocks), input_scale, input_shift)


def calibration_rows(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Return which of `count` rows of features to calibrate on: 4,096, of very wide heads fewer.

    Where there are not so many they come again, so that enough masks are seen.
    """
    most = min(CALIBRATION_SAMPLES, _MOST_VALUES // width)
    return np.resize(np.sort(rng.permutation(count)[:most]), most)


def _quantize_block(
    block: Block,
    following: Block | None,
    codes: np.ndarray,
    exact: np.ndarray,
    unit: np.ndarray,
    rng: np.random.Generator,
) -> tuple[QuantizedBlock, np.ndarray, np.ndarray, np.ndarray]:
    """Quantize one block; return it with the codes, exact values and code steps that the next block reads.

    `codes` and `exact` hold the same inputs, as integer codes (of step `unit`) and as float; masks are drawn fresh
    for each row, so that the statistics are those of Monte-Carlo iterations.
    """
    keep = 1 - block.rate
    weights, step = _round_weights(block.weights * unit[:, None], codes, keep)
    scale = (step / keep).astype(np.float32)
    masks = rng.random(codes.shape, np.float32) < keep
    target = (exact * masks) @ block.weights / np.float32(keep) + block.bias
    z = (codes * masks) @ weights.astype(np.float32) * scale
    bias = (target - z).mean(axis=0, dtype=np.float64).astype(np.float32)
    z += bias
    made = QuantizedBlock(block.rate, weights, scale, bias, block.activation)
    if following is None:
        return made, z, target, unit
    activation = activation_of(block.activation)
    outputs = activation.forward(target)
    if following.scale is not None:
        outputs = outputs * following.scale + following.shift
    if activation.codes is None or following.scale is not None:
        return _looked_up(made, following, z, target, outputs)
    out_unit = activation.codes.step(outputs)
    if out_unit is None:
        out_unit = np.full(target.shape[1], 1 / 255, np.float32)
    else:
        made, z = replace(made, scale=scale / out_unit, bias=bias / out_unit), z / out_unit
    return made, activation.codes.of(z), outputs, out_unit


def _looked_up(
    made: QuantizedBlock, following: Block, z: np.ndarray, target: np.ndarray, outputs: np.ndarray
) -> tuple[QuantizedBlock, np.ndarray, np.ndarray, np.ndarray]:
    """Give a block a table for its codes; `outputs` are `target` after activation and affine."""
    forward = activation_of(made.activation).forward
    first, step = _argument_range(forward, float(target.min()), float(target.max()))
    table = forward(first + step * np.arange(POINTS)).astype(np.float32)
    zero_point, unit = _code_steps(outputs, np.square(following.weights).sum(axis=1))
    one = np.ones_like(unit)
    scale, shift = (one, 0 * one) if following.scale is None else (following.scale, following.shift)
    made = replace(
        made,
        scale=(made.scale / step).astype(np.float32),
        bias=((made.bias - first) / step).astype(np.float32),
        table=table,
        code_scale=(scale / unit).astype(np.float32),
        code_shift=(shift / unit).astype(np.float32),
        zero_point=zero_point,
    )
    return made, made.codes(((z - first) / step).astype(np.float32)), outputs, unit


def _argument_range(forward: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> tuple[float, float]:
    """Return where a table of `forward` from low to high begins and its step; flat ends of the function are cut off."""
    margin = max(0.05 * (high - low), 1e-6)
    x = np.linspace(low - margin, high + margin, 1 << 16)
    y = forward(x)
    least = np.ptp(y) / (1 << 14)
    flat = int(np.argmax(np.abs(y - y[0]) > least)), int(np.argmax(np.abs(y[::-1] - y[-1]) > least))
    first, last = max(flat[0] - 1, 0), min(len(x) - flat[1], len(x) - 1)
    return float(x[first]), float(x[last] - x[first]) / (POINTS - 1)


def _code_steps(outputs: np.ndarray, power: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the zero point, of all units, and the step of each unit (outputs,) that give the least rounding error.

    `power` (outputs,) says what the squared error of a unit counts. The largest and least values are cut off.
    """
    low, high = np.percentile(outputs, PERCENTILES, axis=0)
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    zero_points = np.arange(256)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(low == 0, 0, -low / zero_points)
        above = np.where(high == 0, 0, high / (255 - zero_points))
    steps = np.maximum(below, above)
    best = int(np.argmin(np.square(steps) @ power))
    step = steps[best]
    return best, np.maximum(step, max(float(step.max()) * 1e-3, 1e-12)).astype(np.float32)


def _second_moment(codes: np.ndarray, keep: float) -> np.ndarray:
    """Return E[(v m)(v m)^T] over samples and masks, from codes (N, inputs): float64 (inputs, inputs)."""
    gram = (codes.T @ codes).astype(np.float64) / len(codes)
    diagonal = np.diag(gram).copy()
    return keep * keep * gram + np.diag(keep * (1 - keep) * diagonal)


def _round_weights(weights: np.ndarray, codes: np.ndarray, keep: float) -> tuple[np.ndarray, np.ndarray]:
    """Round weights (inputs, outputs) to int8 for inputs (N, inputs) that are kept with probability `keep`.

    Returns
    -------
    rounded : ndarray, (inputs, outputs), int8
    steps : ndarray, (outputs,), float64
    """
    w = weights.astype(np.float64)
    groups = [slice(start, start + _GROUP) for start in range(0, len(w), _GROUP)]
    if len(groups) == 1:
        second = _second_moment(codes, keep)
        steps = _weight_steps(w, np.diag(second))
        return _round_group(w, steps, second), steps
    power = np.concatenate([np.square(codes[:, g], dtype=np.float64).mean(axis=0) for g in groups])
    steps = _weight_steps(w, keep * power)
    return np.concatenate([_round_group(w[g], steps, _second_moment(codes[:, g], keep)) for g in groups]), steps


def _round_group(w: np.ndarray, steps: np.ndarray, second: np.ndarray, block: int = 128) -> np.ndarray:
    """Return the rounded weights (inputs, outputs) int8 of one group of inputs; `w` is used up."""
    damp = max(np.diag(second).mean() * 1e-3, 1e-9)
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
    return rounded


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
