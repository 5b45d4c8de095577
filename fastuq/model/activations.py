"""The activations that a head can have: one record each, in one table.

`kernels/elementwise.py` holds what the compiled kernels do for the same names; a name that one of the two lacks is
refused there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastuq.errors import ModelError

PERCENTILES = (0.01, 99.99)
"""Of what is coded in 8 bits, the range that the codes span."""


class Codes(Protocol):
    """How a block of the int8 head hands 8-bit codes to the next one."""

    @property
    def zero_point(self) -> int:
        """What the kernels add to the codes to make them unsigned."""

    def of(self, z: np.ndarray) -> np.ndarray:
        """Return the codes of pre-activations (N, outputs) float32: float32 whole numbers."""

    def step(self, outputs: np.ndarray) -> np.ndarray | None:
        """Return what one code stands for, from float outputs (N, outputs); None: `of` takes pre-activations as is."""


@dataclass(frozen=True)
class RoundedCodes:
    """Codes clip(rint(z), low, high) of pre-activations that were divided by the step before.

    So an activation may have them that clips its argument and does nothing else.
    """

    low: int
    high: int

    @property
    def zero_point(self) -> int:
        """What the kernels add to the codes to make them unsigned."""
        return -self.low

    def of(self, z: np.ndarray) -> np.ndarray:
        """Return the codes of pre-activations (N, outputs) float32."""
        return np.rint(np.clip(z, np.float32(self.low), np.float32(self.high)))

    def step(self, outputs: np.ndarray) -> np.ndarray:
        """Return the step of each output, of which the largest values are cut off."""
        low, high = np.percentile(outputs, PERCENTILES, axis=0)
        reach = high if self.low == 0 else np.maximum(np.abs(low), np.abs(high))
        top = reach / self.high
        return np.maximum(top, max(float(top.max()) * 1e-3, 1e-12)).astype(np.float32)


@dataclass(frozen=True)
class SteppedCodes:
    """Codes that count how many of 255 rising `steps` are at most z: comparisons are exact, an exponential is not.

    A code stands for 1/255.
    """

    steps: np.ndarray

    zero_point = 0

    def of(self, z: np.ndarray) -> np.ndarray:
        """Return the codes of pre-activations (N, outputs) float32."""
        return np.searchsorted(self.steps, z, side="right").astype(np.float32)

    def step(self, outputs: np.ndarray) -> None:
        """Return None: `of` takes the pre-activations as they are."""


@dataclass(frozen=True)
class Activation:
    """One activation.

    Attributes
    ----------
    name : str
    forward : callable
        (N, outputs) float32 -> (N, outputs) float32.
    codes : Codes or None
        None where it is allowed in the last block alone.
    exclusive : bool
        Its outputs are the probabilities of classes that exclude each other; else of one event a class.
    """

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    codes: Codes | None
    exclusive: bool = False


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.float32(0))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    z = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + z), z / (1 + z)).astype(np.float32)


def _softmax(x: np.ndarray) -> np.ndarray:
    """exp(x_c - max x) / sum_k exp(x_k - max x)."""
    z = np.exp(x - x.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


_MIDDLES = (np.arange(255) + 0.5) / 255
SIGMOID_STEPS = np.log(_MIDDLES / (1 - _MIDDLES)).astype(np.float32)
"""Where 255 sigmoid(z) goes from rounding to k to rounding to k + 1."""

_TABLE = (
    Activation("relu", _relu, RoundedCodes(0, 255)),
    Activation("linear", lambda x: x, RoundedCodes(-128, 127)),
    Activation("sigmoid", _sigmoid, SteppedCodes(SIGMOID_STEPS)),
    Activation("softmax", _softmax, None, exclusive=True),
)
ACTIVATIONS = {entry.name: entry for entry in _TABLE}


def activation_of(name: str) -> Activation:
    """Return the activation of that name; raises ModelError where there is none."""
    if name not in ACTIVATIONS:
        raise ModelError(f"activation: expected one of {', '.join(ACTIVATIONS)}, found {name!r}")
    return ACTIVATIONS[name]
