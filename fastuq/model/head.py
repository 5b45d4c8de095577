"""The head: what follows the backbone, as frozen arrays, and its plain NumPy forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import activation_of
from fastuq.model.blocks import Blocks, within_range


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


@dataclass(frozen=True, repr=False)
class Head(Blocks):
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

    NAME = "head"
    BLOCK = Block

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
