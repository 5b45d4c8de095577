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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import Codes, activation_of
from fastuq.model.blocks import Blocks, Dense

MAX_INPUTS = 65536


@dataclass(frozen=True)
class QuantizedBlock(Dense):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights.dtype != np.int8 or (self.weights == -128).any() or len(self.weights) > MAX_INPUTS:
            raise ModelError(
                f"int8 dense block: expected int8 weights from -127 to 127 of at most {MAX_INPUTS} inputs, found "
                f"{self.weights.dtype} {self.weights.shape} or -128; build the model again"
            )


@dataclass(frozen=True, repr=False)
class QuantizedHead(Blocks):
    """The int8 head.

    Attributes
    ----------
    blocks : tuple of QuantizedBlock
    input_scale, input_shift : ndarray, (D,), float32
    """

    NAME = "int8 head"
    BLOCK = QuantizedBlock
    WEIGHTS = np.int8

    blocks: tuple[QuantizedBlock, ...]
    input_scale: np.ndarray
    input_shift: np.ndarray

    def forward(self, features: np.ndarray, masks: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Run one iteration in plain NumPy.

        Parameters
        ----------
        features : ndarray, (N, D), int8
        masks : sequence of ndarray of bool, one per block, (inputs,) or (N, inputs), optional
            Keep bits; None runs the plain pass without dropout.

        Returns
        -------
        ndarray, (N, C), float32
            Output of the last activation.
        """
        codes = input_codes(features, self.input_scale, self.input_shift)
        for number, block in enumerate(self.blocks):
            # float64 holds these integer sums exactly (below 2^53) and has a BLAS, which integers have not.
            kept = codes if masks is None else codes * masks[number]
            total = kept.astype(np.float64) @ block.weights.astype(np.float64)
            scale = block.scale if masks is not None else block.scale * np.float32(1 - block.rate)
            z = total.astype(np.float32) * scale + block.bias
            if number == len(self.blocks) - 1:
                return activation_of(block.activation).forward(z)
            codes = codes_of(block.activation).of(z)
        raise AssertionError("a head has at least one block")


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
