"""The head: what follows the backbone, as frozen arrays, and its plain NumPy forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import activation_of
from fastuq.model.blocks import Blocks, Dense


@dataclass(frozen=True)
class Block(Dense):
    """One block of the head: an optional affine, dropout, dense, activation, in this order.

    Attributes
    ----------
    rate : float
        Probability p in [0, 0.9] that an input unit is dropped; kept inputs are scaled by 1 / (1 - p).
    weights : ndarray, (inputs, outputs), float32
    bias : ndarray, (outputs,), float32
    activation : str
        A name that `fastuq.model.activations.activation_of` knows.
    scale, shift : ndarray, (inputs,), float32, or None
        The affine y = scale * x + shift on the inputs (a BatchNorm after the activation before); both None where there
        is none. The first block has none: the affine on the features is the head's.
    """

    PER_INPUT = ("scale", "shift")

    rate: float
    weights: np.ndarray
    bias: np.ndarray
    activation: str
    scale: np.ndarray | None = None
    shift: np.ndarray | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.scale is None) != (self.shift is None):
            raise ModelError("dense block: expected scale and shift of its inputs, or neither, found one of them")


@dataclass(frozen=True, repr=False)
class Head(Blocks):
    """An optional affine (a folded BatchNorm), then blocks of dropout + dense + activation, with affines between them.

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
        super().__post_init__()
        if self.blocks[0].scale is not None:
            raise ModelError("head block 0: expected no affine of its own, which is the head's scale and shift")

    def after(self, scale: np.ndarray, offset: np.ndarray) -> Self:
        """Return the head that takes x (N, D) where this one takes scale * x + offset, both (D,).

        Raises
        ------
        ModelError
            The numbers overflow.
        """
        wide, shift = self.scale.astype(np.float64), self.shift.astype(np.float64)
        return replace(self, scale=(wide * scale).astype(np.float32), shift=(wide * offset + shift).astype(np.float32))

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
            if block.scale is not None:
                x = x * block.scale + block.shift
            if masks is not None:
                x = np.where(masks[number], x / np.float32(1 - block.rate), np.float32(0))
            x = x @ block.weights
            x += block.bias
            x = activation_of(block.activation).forward(x)
        return x

    def hidden(self, features: np.ndarray) -> np.ndarray:
        """Return what the last dense layer takes in one pass without dropout.

        Parameters
        ----------
        features : ndarray, (N, D), float32
            Dequantized features.

        Returns
        -------
        ndarray, (N, inputs of the last block), float32
        """
        *before, last = self.blocks
        x = replace(self, blocks=tuple(before)).forward(features) if before else features * self.scale + self.shift
        return x if last.scale is None else x * last.scale + last.shift
