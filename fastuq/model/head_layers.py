"""A head of layers: BatchNorm, dropout, dense layers and activations in any order that folds into blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastuq.errors import InputError, short
from fastuq.model.activations import activation_of
from fastuq.model.head import Block, Head
from fastuq.model.layer_steps import Affine, Dropout, Linear, Step, steps_of
from fastuq.util.checks import finite_number

_FINAL = ("softmax", "sigmoid")
_SCALES_THROUGH = ("relu", "linear", "leaky_relu")
"""Activations with f(a x) = a f(x) for a >= 0, so that dropout before is dropout after."""


def head_from_layers(layers: Any, *, dropout: Sequence[float] | None = None, activation: str | None = None) -> Head:
    """Return the head that the layers of a PyTorch or Keras network are.

    Neither library is imported: layers are read by the names of their classes and attributes. A BatchNorm after a dense
    layer is folded into it, two dropouts in a row are one.

    Parameters
    ----------
    layers : torch.nn.Sequential, keras.Sequential or sequence of their layers
        Linear or Dense, BatchNorm1d or BatchNormalization, Dropout, activations; those that follow the embeddings.
    dropout : sequence of float, optional
        Rates before the dense layers in place of those of the layers, one each.
    activation : {'softmax', 'sigmoid'}, optional
        What follows logits, for layers that end in them.

    Returns
    -------
    Head
        A single sigmoid unit becomes two classes, of which the second is it.

    Raises
    ------
    InputError
        A layer cannot be part of a head, there is no dropout, or the outputs are logits.
    ModelError
        The layers do not fit each other.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> class Dropout:
    ...     p = 0.2
    >>> class Linear:
    ...     weight, bias = np.ones((3, 8)), np.zeros(3)
    >>> fastuq.head_from_layers([Dropout(), Linear()], activation="softmax")
    Head(8 -> 3)
    """
    folding = _Folding()
    for step, label in steps_of(layers):
        folding.take(step, label)
    blocks = folding.finished()
    if dropout is not None:
        if len(dropout) != len(blocks):
            raise InputError(
                f"head: expected {len(blocks)} dropout rates, one for each dense layer, found {len(dropout)}"
            )
        blocks = [
            replace(block, rate=finite_number("dropout rate", rate, 0, 0.9))
            for block, rate in zip(blocks, dropout, strict=True)
        ]
    if not any(block.rate for block in blocks):
        raise InputError("head: found no dropout, and without it all iterations are alike; give dropout=[0.2, ...]")
    scale, shift = folding.first or (np.ones(len(blocks[0].weights)), np.zeros(len(blocks[0].weights)))
    return Head((*blocks[:-1], _ended(blocks[-1], activation)), scale.astype(np.float32), shift.astype(np.float32))


@dataclass
class _Folding:
    """What was read so far: blocks, and what waits for the next dense layer.

    Attributes
    ----------
    first : (ndarray, ndarray) or None
        The affine before the first dropout.
    before, after : (ndarray, ndarray) or None
        Affines since the last block, before and after the dropout that waits.
    keep : float
        The product of the keep rates that wait.
    """

    blocks: list[tuple[float, np.ndarray, np.ndarray, str | None]] = field(default_factory=list)
    first: tuple[np.ndarray, np.ndarray] | None = None
    before: tuple[np.ndarray, np.ndarray] | None = None
    after: tuple[np.ndarray, np.ndarray] | None = None
    keep: float = 1.0
    label: str = ""

    def take(self, step: Step, label: str) -> None:
        """Take the next step of the head."""
        self.label = label
        try:
            if isinstance(step, Affine):
                self._affine(step)
            elif isinstance(step, Dropout):
                self._dropout(step.rate)
            elif isinstance(step, Linear):
                self._linear(step)
            else:
                self._activate(step.name)
        except ValueError as error:
            raise InputError(f"head: {label} does not fit the layers before it ({short(error)})") from None

    def finished(self) -> list[Block]:
        """Return the blocks; raises InputError where something follows the last dense layer that cannot."""
        if not self.blocks:
            raise InputError("head: found no Linear or Dense layer; give the layers that follow the embeddings")
        if self.keep < 1 or self.before is not None or self.after is not None:
            raise InputError(
                f"head: {self.label} follows the last dense layer, where only an activation can; leave it out"
            )
        return [
            Block(rate, weights.astype(np.float32), bias.astype(np.float32), name or "linear")
            for rate, weights, bias, name in self.blocks
        ]

    def _affine(self, step: Affine) -> None:
        if self.blocks and self.blocks[-1][3] is None and self.keep == 1:  # after a dense layer: part of it
            rate, weights, bias, name = self.blocks[-1]
            self.blocks[-1] = (rate, weights * step.scale, bias * step.scale + step.shift, name)
        elif self.keep < 1:
            self.after = _joined(self.after, step)
        elif self.blocks:
            self.before = _joined(self.before, step)
        else:
            self.first = _joined(self.first, step)

    def _dropout(self, rate: float) -> None:
        finite_number(f"{self.label}: dropout rate", rate, 0, 0.9)
        if rate == 0:
            return
        if self.before is not None or self.after is not None:
            raise InputError(
                f"head: {self.label} drops what a BatchNorm made of an activation or of another dropout, which a head "
                "has before its first dense layer alone; put the dropout before the BatchNorm"
            )
        self.keep *= 1 - rate

    def _linear(self, step: Linear) -> None:
        weights, bias = step.weights, step.bias
        affine = self.after or self.before
        if affine is not None:
            weights, bias = affine[0][:, None] * weights, bias + affine[1] @ weights
        self.blocks.append((round(1 - self.keep, 12), weights, bias, None))
        self.before = self.after = None
        self.keep = 1.0

    def _activate(self, name: str) -> None:
        if name == "linear":
            return
        activation_of(name)
        if not self.blocks or self.before is not None or self.after is not None:
            raise InputError(f"head: {self.label} does not follow a dense layer; run it with what makes the embeddings")
        rate, weights, bias, already = self.blocks[-1]
        if already is not None:
            raise InputError(f"head: {self.label} is a second activation of one dense layer, which a head cannot have")
        if self.keep < 1 and name.partition("(")[0] not in _SCALES_THROUGH:
            raise InputError(f"head: {self.label} follows a dropout without a dense layer between; put it before")
        self.blocks[-1] = (rate, weights, bias, name)


def _joined(first: tuple[np.ndarray, np.ndarray] | None, then: Affine) -> tuple[np.ndarray, np.ndarray]:
    if first is None:
        return then.scale, then.shift
    return first[0] * then.scale, first[1] * then.scale + then.shift


def _ended(last: Block, activation: str | None) -> Block:
    """Return the last block with outputs that can be judged, of two classes at least."""
    if last.activation not in _FINAL:
        if activation not in _FINAL:
            raise InputError(
                f"head: ends in {last.activation} outputs, logits that no threshold fits; say what they are for with "
                'activation="softmax" (one class of several) or "sigmoid" (each class by itself)'
            )
        if last.activation != "linear":
            raise InputError(f"head: ends in {last.activation}, after which no {activation} can follow; leave one out")
        last = replace(last, activation=activation)
    elif activation not in (None, last.activation):
        raise InputError(f"head: ends in {last.activation}, not in logits that {activation} could follow")
    if last.weights.shape[1] == 1:
        if last.activation == "softmax":
            raise InputError("head: the softmax of one output is always 1; it is sigmoid that is meant")
        weights, bias = (np.concatenate([-each, each], axis=-1) for each in (last.weights, last.bias))
        last = replace(last, weights=weights, bias=bias)
    return last
