"""Scores of the outputs and the logits of one pass."""

import numpy as np
from scipy.special import entr, logsumexp

from fastuq.scoring.scores.chunk import Chunk, two_largest

GEN_CLASSES = 100
"""GEN adds up so many classes, the largest."""


def largest_output(chunk: Chunk, _: None) -> np.ndarray:
    """max_c p_c."""
    return chunk.outputs.max(axis=1)


def margin(chunk: Chunk, _: None) -> np.ndarray:
    """p1 - p2, of the two largest outputs."""
    first, second = two_largest(chunk.outputs)
    return first - second


def top_alone(chunk: Chunk, _: None) -> np.ndarray:
    """p1 (1 - p2): the largest is there, and no other."""
    first, second = two_largest(chunk.outputs)
    return first * (1 - second)


def largest_probability(chunk: Chunk, temperature: float) -> np.ndarray:
    """max_c softmax(z / T)_c."""
    return (chunk.probabilities if temperature == 1 else chunk.softened(temperature)).max(axis=1)


def entropy(chunk: Chunk, _: None) -> np.ndarray:
    """sum_c p ln p, p = softmax(z)."""
    return -entr(chunk.probabilities).sum(axis=1)


def max_logit(chunk: Chunk, _: None) -> np.ndarray:
    """max_c z_c."""
    return chunk.logits.max(axis=1)


def energy(chunk: Chunk, temperature: float) -> np.ndarray:
    """T logsumexp(z / T)."""
    return temperature * logsumexp(chunk.logits.astype(np.float64) / temperature, axis=1)


def joint_energy(chunk: Chunk, _: None) -> np.ndarray:
    """sum_c ln(1 + exp z_c)."""
    return np.logaddexp(0, chunk.logits.astype(np.float64)).sum(axis=1)


def gen(chunk: Chunk, gamma: float) -> np.ndarray:
    """-sum over the largest p = softmax(z)_c of (p (1 - p))^gamma."""
    return _generalized_entropy(chunk.probabilities, gamma)


def gen_outputs(chunk: Chunk, gamma: float) -> np.ndarray:
    """The same of the outputs as they are."""
    return _generalized_entropy(chunk.outputs, gamma)


def _generalized_entropy(p: np.ndarray, gamma: float) -> np.ndarray:
    if p.shape[1] > GEN_CLASSES:
        p = np.partition(p, -GEN_CLASSES, axis=1)[:, -GEN_CLASSES:]
    return -(np.maximum(p * (1 - p), 0) ** gamma).sum(axis=1)


def grad_norm(chunk: Chunk, _: None) -> np.ndarray:
    """|h|_1 sum_c |1 - C softmax(z)_c|."""
    classes = chunk.probabilities.shape[1]
    return np.abs(chunk.hidden).sum(axis=1, dtype=np.float64) * np.abs(1 - classes * chunk.probabilities).sum(axis=1)
