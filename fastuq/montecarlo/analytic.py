"""Moments without sampling: mean and variance of every unit carried through dropout, dense layers and activations.

Dropout and dense layers are exact for units that do not depend on each other; before an activation a unit is taken as
normal, and its moments are sums over Gauss-Hermite nodes. What is left out: units of a hidden layer share the masks
before them. There is no seed, and nothing to repeat.
"""

import numpy as np

from fastuq.errors import InputError
from fastuq.model.activations import activation_of
from fastuq.model.head import Head

_NODES = 31


def analytic_moments(head: Head, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the outputs under dropout, (N, C) float32 each, without a seed.

    Parameters
    ----------
    head : Head
    features : ndarray, (N, D), float32
        Dequantized features.

    Raises
    ------
    InputError
        An activation takes all units at once (softmax).

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> model = fastuq.load_model()
    >>> mean, std = analytic_moments(model.head, np.zeros((2, 1280), np.float32))
    >>> mean.shape, bool((std > 0).all())
    ((2, 100), True)
    """
    mean = features * head.scale + head.shift
    variance = np.zeros_like(mean)
    for block in head.blocks:
        if activation_of(block.activation).exclusive:
            raise InputError(
                f"method analytic: expected activations of single units, found {block.activation}, which takes all "
                "classes at once; use the method sampling"
            )
        if block.scale is not None:
            mean, variance = mean * block.scale + block.shift, variance * block.scale**2
        variance = (variance + mean**2) / np.float32(1 - block.rate) - mean**2
        mean, variance = mean @ block.weights + block.bias, variance @ block.weights**2
        mean, variance = _activated(mean, np.sqrt(np.maximum(variance, 0)), block.activation)
    return mean, np.sqrt(variance)


def _activated(mean: np.ndarray, std: np.ndarray, activation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of an activation of normal values."""
    forward = activation_of(activation).forward
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    values = [forward(mean + np.float32(node) * std) for node in nodes]
    shares = (weights / weights.sum()).astype(np.float32)
    first = sum(share * value for share, value in zip(shares, values, strict=True))
    second = sum(share * (value - first) ** 2 for share, value in zip(shares, values, strict=True))
    return np.asarray(first), np.asarray(second)
