"""The activations that a head can have: one record each, in one table.

Names and meanings are Keras's; `leaky_relu(0.01)` is leaky_relu with another slope than Keras's default. The functions
take float32 and float64 and return what they took. `kernels/elementwise.py` holds what the compiled kernels do for the
same names; a name that one of the two lacks is refused there.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from scipy.special import erf

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
        None where the int8 head looks its codes up in a table of `forward` (`fastuq.model.int8_head`).
    exclusive : bool
        Its outputs are the probabilities of classes that exclude each other; else of one event a class. Such a one is
        allowed in the last block alone.
    slope : float
        Of leaky_relu below 0.
    """

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    codes: Codes | None = None
    exclusive: bool = False
    slope: float = 0.0


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, x.dtype.type(0))


def _relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, x.dtype.type(0), x.dtype.type(6))


def _leaky_relu(x: np.ndarray, slope: float) -> np.ndarray:
    """Return x above 0, slope x below."""
    return np.where(x > 0, x, x.dtype.type(slope) * x)


def _elu(x: np.ndarray) -> np.ndarray:
    """Return x above 0, exp(x) - 1 below."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _selu(x: np.ndarray) -> np.ndarray:
    """1.0507 x above 0, 1.0507 1.6733 (exp(x) - 1) below (Klambauer et al., 2017, arXiv:1706.02515)."""
    kind = x.dtype.type
    return np.where(x > 0, kind(_SELU_SCALE) * x, kind(_SELU_SCALE * _SELU_ALPHA) * np.expm1(np.minimum(x, 0)))


def _gelu(x: np.ndarray) -> np.ndarray:
    """Return x (1 + erf(x / sqrt 2)) / 2."""
    kind = x.dtype.type
    return x * (kind(0.5) * (kind(1) + erf(x * kind(math.sqrt(0.5)))))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    """Return x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    kind = x.dtype.type
    inner = kind(math.sqrt(2 / math.pi)) * (x + kind(0.044715) * x * x * x)
    return x * (kind(0.5) * (kind(1) + np.tanh(inner)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    z = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + z), z / (1 + z)).astype(x.dtype)


def _silu(x: np.ndarray) -> np.ndarray:
    """Return x / (1 + exp(-x))."""
    return x * _sigmoid(x)


def _hard_silu(x: np.ndarray) -> np.ndarray:
    """Return x relu6(x + 3) / 6."""
    kind = x.dtype.type
    return x * (_relu6(x + kind(3)) * kind(1 / 6))


def _softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x))."""
    return _relu(x) + np.log1p(np.exp(-np.abs(x)))


def _softmax(x: np.ndarray) -> np.ndarray:
    """exp(x_c - max x) / sum_k exp(x_k - max x)."""
    z = np.exp(x - x.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


_MIDDLES = (np.arange(255) + 0.5) / 255
SIGMOID_STEPS = np.log(_MIDDLES / (1 - _MIDDLES)).astype(np.float32)
"""Where 255 sigmoid(z) goes from rounding to k to rounding to k + 1."""
_LEAKY_SLOPE = 0.2

_TABLE = (
    Activation("relu", _relu, RoundedCodes(0, 255)),
    Activation("linear", lambda x: x, RoundedCodes(-128, 127)),
    Activation("sigmoid", _sigmoid, SteppedCodes(SIGMOID_STEPS)),
    Activation("softmax", _softmax, exclusive=True),
    Activation("relu6", _relu6),
    Activation("leaky_relu", partial(_leaky_relu, slope=_LEAKY_SLOPE), slope=_LEAKY_SLOPE),
    Activation("elu", _elu),
    Activation("selu", _selu),
    Activation("gelu", _gelu),
    Activation("gelu_tanh", _gelu_tanh),
    Activation("silu", _silu),
    Activation("hard_silu", _hard_silu),
    Activation("tanh", np.tanh),
    Activation("softplus", _softplus),
)
ACTIVATIONS = {entry.name: entry for entry in _TABLE}


def activation_of(name: str) -> Activation:
    """Return the activation of that name, `leaky_relu(SLOPE)` among them; raises ModelError where there is none."""
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    sloped = re.fullmatch(r"leaky_relu\((0(?:\.\d{1,9})?|1(?:\.0)?)\)", name)
    if sloped is None:
        raise ModelError(f"activation: expected one of {', '.join(ACTIVATIONS)}, found {name!r}")
    slope = float(sloped[1])
    return replace(ACTIVATIONS["leaky_relu"], forward=partial(_leaky_relu, slope=slope), slope=slope)


def leaky_relu_of(slope: float) -> str:
    """Return the name of a leaky_relu with a slope from 0 to 1, to nine decimals."""
    return f"leaky_relu({np.format_float_positional(round(slope, 9), trim='0')})"
