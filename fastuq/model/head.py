"""The head: what follows the backbone, as frozen arrays, and its plain NumPy forward pass."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import activation_of


@dataclass(frozen=True)
class Block:
    """One block of the head: dropout, then dense, then activation.

    Attributes
    ----------
    rate : float
        Probability p in [0, 0.9] that an input unit is dropped; kept inputs are scaled by 1 / (1 - p).
    weights : ndarray, (inputs, outputs), float32
    bias : ndarray, (outputs,), float32
    activation : str
        A name in `fastuq.model.activations.ACTIVATIONS`.
    """

    rate: float
    weights: np.ndarray
    bias: np.ndarray
    activation: str

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 0.9:
            raise ModelError(f"dropout rate: expected 0 to 0.9, found {self.rate}")
        activation_of(self.activation)
        if self.weights.ndim != 2 or 0 in self.weights.shape or self.bias.shape != self.weights.shape[1:]:
            raise ModelError(
                f"dense block: expected weights (inputs, outputs) and bias (outputs,), "
                f"found {self.weights.shape} and {self.bias.shape}"
            )


@dataclass(frozen=True)
class Head:
    """An optional affine (a folded BatchNorm), then blocks of dropout + dense + activation.

    Attributes
    ----------
    blocks : tuple of Block
    scale, shift : ndarray, (D,), float32
        The affine y = scale * x + shift on the features; ones and zeros where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> import fastuq
    >>> head = fastuq.load_model().head
    >>> head.num_features, head.widths, head.rates, head.num_classes
    (1280, (1280, 300), (0.2, 0.4), 100)
    >>> head.forward(np.zeros((2, 1280), np.float32)).shape
    (2, 100)
    """

    blocks: tuple[Block, ...]
    scale: np.ndarray
    shift: np.ndarray

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ModelError("head: expected at least one block of dropout + dense + activation, found none")
        if self.scale.ndim != 1 or self.shift.shape != self.scale.shape:
            raise ModelError(
                f"head affine: expected scale and shift of shape (D,), found {self.scale.shape} and {self.shift.shape}"
            )
        width = self.scale.shape[0]
        for number, block in enumerate(self.blocks):
            if block.weights.shape[0] != width:
                raise ModelError(f"head block {number}: expected {width} inputs, found {block.weights.shape[0]}")
            width = block.weights.shape[1]
            last = number == len(self.blocks) - 1
            if activation_of(block.activation).codes is None and not last:
                raise ModelError(f"head block {number}: {block.activation} is allowed in the last block alone")
        for array in (self.scale, self.shift, *(a for b in self.blocks for a in (b.weights, b.bias))):
            if not within_range(array):
                raise ModelError("head: expected finite weights, found NaN, infinity or huge; the model is damaged")

    @property
    def num_features(self) -> int:
        """Width D of the features."""
        return self.scale.shape[0]

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return self.blocks[-1].weights.shape[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.widths))} -> {self.num_classes})"

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of inputs of each block, which is the number of mask units of its dropout layer."""
        return tuple(block.weights.shape[0] for block in self.blocks)

    @property
    def rates(self) -> tuple[float, ...]:
        """Dropout rate of each block."""
        return tuple(block.rate for block in self.blocks)

    def forward(self, features: np.ndarray, masks: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Run one iteration of the head in float32.

        The products are NumPy's: their last bits depend on its BLAS and on the number of samples.

        Parameters
        ----------
        features : ndarray, (N, D), float32
            Dequantized features.
        masks : sequence of ndarray of bool, one per block, (inputs,) or (N, inputs), optional
            Keep bits; None runs the plain pass without dropout.

        Returns
        -------
        ndarray, (N, C), float32
            Output of the last activation.
        """
        x = np.asarray(features, np.float32) * self.scale
        x += self.shift  # in place here and below: fresh pages for every chunk cost as much as the products
        for number, block in enumerate(self.blocks):
            if masks is not None:
                x = np.where(masks[number], x / np.float32(1 - block.rate), np.float32(0))
            x = x @ block.weights
            x += block.bias
            x = activation_of(block.activation).forward(x)
        return x

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the head as named arrays (`layout` is its JSON description), ready for ``np.savez``."""
        layout = [{"rate": b.rate, "activation": b.activation} for b in self.blocks]
        arrays = {"layout": np.array(json.dumps(layout)), "scale": self.scale, "shift": self.shift}
        for number, block in enumerate(self.blocks):
            arrays[f"weights_{number}"] = block.weights
            arrays[f"bias_{number}"] = block.bias
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Any) -> "Head":
        """Build a head from what `to_arrays` returned.

        Raises
        ------
        ModelError
            An array is missing or does not fit.
        """
        try:
            blocks = tuple(
                Block(
                    float(entry["rate"]),
                    exact_array(arrays, f"weights_{number}", np.float32),
                    exact_array(arrays, f"bias_{number}", np.float32),
                    str(entry["activation"]),
                )
                for number, entry in enumerate(read_layout(arrays))
            )
            scale, shift = (exact_array(arrays, key, np.float32) for key in ("scale", "shift"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"head arrays: not a fastuq head ({short(error)}); build the model again") from error
        return cls(blocks, scale, shift)


def read_layout(arrays: Any) -> list[dict[str, Any]]:
    """Return the blocks that the array ``layout`` lists as JSON; raises KeyError, TypeError or ValueError."""
    try:
        layout = json.loads(str(arrays["layout"]))
    except RecursionError:
        raise ValueError("layout is nested too deeply") from None
    if not isinstance(layout, list) or not all(isinstance(entry, dict) for entry in layout):
        raise ValueError("layout is no list of blocks")
    return layout


def exact_array(arrays: Any, name: str, dtype: type) -> np.ndarray:
    """Return an array of exactly `dtype`, contiguous: a conversion could round or overflow unseen."""
    array = arrays[name]
    if array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype}, not {np.dtype(dtype)}")
    return np.ascontiguousarray(array)


def within_range(array: np.ndarray) -> bool:
    """Tell whether all values are finite and far enough from the largest float32 to be scaled by a dropout rate."""
    return bool((np.abs(array) <= 1e30).all())


def short(error: object) -> str:
    """Return an error as one line of at most 80 characters."""
    return " ".join(str(error).split())[:80]
