"""The int8 head: integer arrays, which `fastuq.training.head_rounding` makes from a float head.

Every number that decides a result is an integer or one float32 multiply and add, so the outcome is the same for any
order of summation. With q the int8 feature code:

- input codes v = clip(rint(q * input_scale + input_shift), -127, 127); a dropped unit is 0;
- each block: acc = sum_d v_d W_d (int32, exact), z = float32(acc) * scale + bias, the 1/(1-p) of dropout in `scale`;
- between blocks, codes of 8 bits: relu clip(rint(z), 0, 255), linear clip(rint(z), -128, 127), sigmoid
  rint(255 sigmoid(z)), found by comparing z with steps (`activations`); for relu and linear the step of the code is
  folded in `scale` and `bias`;
- the last block's activation is computed from z in float32.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import ACTIVATIONS, Codes, activation_of
from fastuq.model.head import exact_array, read_layout, short, within_range

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
        A name in `fastuq.model.activations.ACTIVATIONS`.
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
            codes = codes_of(block.activation).of(z)
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


def codes_of(activation: str) -> Codes:
    """Return how a block that is not the last codes its outputs; raises ModelError where it cannot."""
    codes = activation_of(activation).codes
    if codes is None:
        raise ModelError(f"int8 head: {activation} is allowed in the last block alone")
    return codes
