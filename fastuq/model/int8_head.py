"""The int8 head: integer arrays, which `fastuq.training.head_rounding` makes from a float head.

Every number that decides a result is an integer or one float32 multiply and add, so the outcome is the same for any
order of summation. With q the int8 feature code:

- input codes v = clip(rint(q * input_scale + input_shift), -127, 127); a dropped unit is 0;
- each block: acc = sum_d v_d W_d (int32, exact), z = float32(acc) * scale + bias, the 1/(1-p) of dropout in `scale`;
- between blocks, codes of 8 bits: relu clip(rint(z), 0, 255), linear clip(rint(z), -128, 127), sigmoid
  rint(255 sigmoid(z)), found by comparing z with steps (`activations`); for relu and linear the step of the code is
  folded in `scale` and `bias`;
- all other activations, and any before an affine of its units, look up: i = clip(rint(z), 0, 4095), where the step of
  the table's argument and its beginning are folded in `scale` and `bias`, f = table[i] (float32, the activation's own
  values), code = clip(rint(f * code_scale + code_shift), -zero_point, 255 - zero_point), again one float32 multiply and
  add; the affine and the step of the code are in `code_scale` and `code_shift`, and code 0 stands for 0;
- the last block's activation is computed from z in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import activation_of
from fastuq.model.blocks import Blocks, Dense

MAX_INPUTS = 65536
POINTS = 4096
"""Length of a table that codes are looked up in."""


@dataclass(frozen=True)
class QuantizedBlock(Dense):
    """One block of the int8 head.

    Attributes
    ----------
    rate : float
    weights : ndarray, (inputs, outputs), int8, from -127 to 127
    scale, bias : ndarray, (outputs,), float32
    activation : str
        A name that `fastuq.model.activations.activation_of` knows.
    table : ndarray, (POINTS,), float32, or None
        Values of the activation, of a block that looks its codes up; None, as the next three, for one that does not.
    code_scale, code_shift : ndarray, (outputs,), float32, or None
    zero_point : int or None
        Codes go from -zero_point to 255 - zero_point.
    """

    rate: float
    weights: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    activation: str
    table: np.ndarray | None = None
    code_scale: np.ndarray | None = None
    code_shift: np.ndarray | None = None
    zero_point: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        looked_up = self.table, self.code_scale, self.code_shift, self.zero_point
        if self.table is None or self.code_scale is None or self.code_shift is None or self.zero_point is None:
            if any(each is not None for each in looked_up):
                raise ModelError("int8 dense block: expected table, code_scale, code_shift and zero_point, or none")
        elif self.table.shape != (POINTS,) or not 0 <= self.zero_point <= 255:
            raise ModelError(
                f"int8 dense block: expected a table ({POINTS},) and a zero point from 0 to 255, "
                f"found {self.table.shape} and {self.zero_point}"
            )
        if self.weights.dtype != np.int8 or (self.weights == -128).any() or len(self.weights) > MAX_INPUTS:
            raise ModelError(
                f"int8 dense block: expected int8 weights from -127 to 127 of at most {MAX_INPUTS} inputs, found "
                f"{self.weights.dtype} {self.weights.shape} or -128; build the model again"
            )

    def codes(self, z: np.ndarray) -> np.ndarray:
        """Return the codes of pre-activations (N, outputs) float32 that the next block reads: float32 whole numbers."""
        if self.table is None or self.zero_point is None:
            own = activation_of(self.activation).codes
            assert own is not None  # the head was checked
            return own.of(z)
        index = np.rint(np.clip(z, np.float32(0), np.float32(POINTS - 1))).astype(np.intp)
        y = self.table[index] * self.code_scale + self.code_shift
        return np.rint(np.clip(y, np.float32(-self.zero_point), np.float32(255 - self.zero_point)))


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

    def __post_init__(self) -> None:
        super().__post_init__()
        *hidden, last = self.blocks
        if last.table is not None:
            raise ModelError("int8 head: expected a last block without codes, found a table of them")
        for number, block in enumerate(hidden):
            if block.table is None and activation_of(block.activation).codes is None:
                raise ModelError(f"int8 head block {number}: expected a table for {block.activation}, found none")

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
            codes = block.codes(z)
        raise AssertionError("a head has at least one block")


def input_codes(features: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the input codes of int8 features (N, D): float32 whole numbers from -127 to 127."""
    y = features.astype(np.float32) * scale + shift
    return np.rint(np.clip(y, np.float32(-127), np.float32(127)))
