"""A head of layers: BatchNorm, dropout, dense layers and activations in any order that folds into blocks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastuq.errors import InputError, short
from fastuq.model.folding import Affine, Multiply, Step, as_classifier, fold
from fastuq.model.head import Head
from fastuq.model.layer_steps import steps_of
from fastuq.util.checks import finite_number


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
    steps = list(steps_of(layers))
    if not any(isinstance(step, Multiply) for step in steps):
        raise InputError(
            "head: expected Linear or Dense layers, found none; give the layers that follow the embeddings"
        )
    try:
        head = as_classifier(fold(steps, _width(steps)), activation)
    except ValueError as error:  # NumPy's, where shapes do not fit
        raise InputError(f"head: its layers do not fit each other ({short(error)}); give them in their order") from None
    if dropout is not None:
        if len(dropout) != len(head.blocks):
            raise InputError(
                f"head: expected {len(head.blocks)} dropout rates, one for each dense layer, found {len(dropout)}"
            )
        rates = [finite_number("dropout rate", rate, 0, 0.9) for rate in dropout]
        blocks = [replace(block, rate=rate) for block, rate in zip(head.blocks, rates, strict=True)]
        head = replace(head, blocks=tuple(blocks))
    if not any(head.rates):
        raise InputError("head: found no dropout, and without it all iterations are alike; give dropout=[0.2, ...]")
    return head


def _width(steps: Sequence[Step]) -> int:
    """Return how many features the first step that says so takes."""
    for step in steps:
        if isinstance(step, Affine):
            return len(step.scale)
        if isinstance(step, Multiply):
            return len(step.weights)
    raise AssertionError("a dense layer is among them")
