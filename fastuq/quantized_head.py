"""The int8 head: integer arrays made from a float head and calibration features.

Every number that decides a result is an integer or one float32 multiply and add, so the outcome is the same for any
order of summation. With q the int8 feature code:

- input codes v = clip(rint(q * input_scale + input_shift), -127, 127); a dropped unit is 0;
- each block: acc = sum_d v_d W_d (int32, exact), z = float32(acc) * scale + bias, the 1/(1-p) of dropout in `scale`;
- between blocks, codes of 8 bits: relu clip(rint(z), 0, 255), linear clip(rint(z), -128, 127), sigmoid
  rint(255 sigmoid(z)), found by comparing z with steps (`fastuq.activations`); for relu and linear the step of the code
  is folded in `scale` and `bias`;
- the last block's activation is computed from z in float32.

The weights are rounded one input at a time, each rounding error being spread over the inputs that are still to be
rounded (Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323), with the second moments of the masked inputs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.activations import ACTIVATIONS, PERCENTILES, Codes, activation_of
from fastuq.checks import checked_seed
from fastuq.errors import InputError, ModelError
from fastuq.head import Block, Head, exact_array, read_layout, short, within_range

CALIBRATION_SAMPLES = 4096
MAX_INPUTS = 65536


@dataclass(frozen=True)
class QuantizedBlock:
    """One block of the int8 head.

    Attributes
    ----------
    rate : float
    weights : ndarray, (inputs, outputs), int8, from -127 to 127
    scale, bias : ndarray, (outputs,), float32
    activation : str
        A name in `fastuq.activations.ACTIVATIONS`.
    """

    rate: float
    weights: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    activation: str


@dataclass(frozen=True)
class QuantizedHead:
    """The int8 head.

    Attributes
    ----------
    blocks : tuple of QuantizedBlock
    input_scale, input_shift : ndarray, (D,), float32
    """

    blocks: tuple[QuantizedBlock, ...]
    input_scale: np.ndarray
    input_shift: np.ndarray

    def __post_init__(self) -> None:
        if not self.blocks or self.input_scale.ndim != 1 or self.input_shift.shape != self.input_scale.shape:
            raise ModelError("int8 head: arrays do not fit together; build the model again")
        width = self.input_scale.shape[0]
        for number, block in enumerate(self.blocks):
            outputs = block.scale.size
            if block.weights.shape != (width, outputs) or not block.scale.shape == block.bias.shape == (outputs,):
                raise ModelError(f"int8 head block {number}: arrays do not fit together; build the model again")
            if width > MAX_INPUTS:
                raise ModelError(f"int8 head block {number}: at most {MAX_INPUTS} inputs, found {width}")
            if not 0 <= block.rate <= 0.9 or block.activation not in ACTIVATIONS or block.weights.dtype != np.int8:
                raise ModelError(f"int8 head block {number}: not a fastuq int8 block; build the model again")
            if not all(within_range(a) for a in (block.scale, block.bias)) or (block.weights == -128).any():
                raise ModelError(f"int8 head block {number}: values out of range; the model is damaged")
            width = outputs
        if not all(within_range(a) for a in (self.input_scale, self.input_shift)):
            raise ModelError("int8 head: input scale or shift is not finite; the model is damaged")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.widths))} -> {self.blocks[-1].bias.size})"

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of inputs of each block, which is the number of mask units of its dropout layer."""
        return tuple(block.weights.shape[0] for block in self.blocks)

    @property
    def rates(self) -> tuple[float, ...]:
        """Dropout rate of each block."""
        return tuple(block.rate for block in self.blocks)

    def forward(self, features: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Run one iteration in plain NumPy.

        Parameters
        ----------
        features : ndarray, (N, D), int8
        masks : sequence of ndarray of bool, one per block, (inputs,) or (N, inputs)

        Returns
        -------
        ndarray, (N, C), float32
            Output of the last activation.
        """
        codes = input_codes(features, self.input_scale, self.input_shift)
        for number, block in enumerate(self.blocks):
            # float64 holds these integer sums exactly (below 2^53) and has a BLAS, which integers have not.
            total = (codes * masks[number]).astype(np.float64) @ block.weights.astype(np.float64)
            z = total.astype(np.float32) * block.scale + block.bias
            if number == len(self.blocks) - 1:
                return activation_of(block.activation).forward(z)
            codes = _codes_of(block.activation).of(z)
        raise AssertionError("a head has at least one block")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the head as named arrays, ready for ``np.savez``."""
        layout = [{"rate": b.rate, "activation": b.activation} for b in self.blocks]
        arrays = {
            "layout": np.array(json.dumps(layout)),
            "input_scale": self.input_scale,
            "input_shift": self.input_shift,
        }
        for number, block in enumerate(self.blocks):
            arrays[f"weights_{number}"] = block.weights
            arrays[f"scale_{number}"] = block.scale
            arrays[f"bias_{number}"] = block.bias
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Any) -> "QuantizedHead":
        """Build an int8 head from what `to_arrays` returned; raises ModelError where an array is missing or wrong."""
        try:
            blocks = tuple(
                QuantizedBlock(
                    float(entry["rate"]),
                    exact_array(arrays, f"weights_{number}", np.int8),
                    exact_array(arrays, f"scale_{number}", np.float32),
                    exact_array(arrays, f"bias_{number}", np.float32),
                    str(entry["activation"]),
                )
                for number, entry in enumerate(read_layout(arrays))
            )
            scale, shift = (exact_array(arrays, key, np.float32) for key in ("input_scale", "input_shift"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"int8 head arrays: not a fastuq int8 head ({short(error)}); build the model again"
            ) from error
        return cls(blocks, scale, shift)


def input_codes(features: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the input codes of int8 features (N, D): float32 whole numbers from -127 to 127."""
    y = features.astype(np.float32) * scale + shift
    return np.rint(np.clip(y, np.float32(-127), np.float32(127)))


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
    codes_of = _codes_of(block.activation)
    out_unit = codes_of.step(target)
    if out_unit is None:
        out_unit = np.full(target.shape[1], 1 / 255, np.float32)
    else:
        scale, bias, z = scale / out_unit, bias / out_unit, z / out_unit
    made = QuantizedBlock(block.rate, weights, scale, bias, block.activation)
    return made, codes_of.of(z), activation_of(block.activation).forward(target), out_unit


def _codes_of(activation: str) -> Codes:
    codes = activation_of(activation).codes
    if codes is None:
        raise ModelError(f"int8 head: {activation} is allowed in the last block alone")
    return codes


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
