"""Scores of Monte-Carlo iterations."""

import numpy as np

from fastuq.scoring.found import predictive_entropy
from fastuq.scoring.scores.chunk import Chunk, two_largest


def mean_max(chunk: Chunk, _: None) -> np.ndarray:
    """max_c m_c, m the mean over the iterations."""
    return chunk.iterations.mean.max(axis=1)


def mean_top_alone(chunk: Chunk, _: None) -> np.ndarray:
    """m1 (1 - m2)."""
    first, second = two_largest(chunk.iterations.mean.astype(np.float64))
    return first * (1 - second)


def mutual_information(chunk: Chunk, _: None) -> np.ndarray:
    """-(H(mean) - mean of H(iteration))."""
    moments = chunk.iterations
    assert moments.mean_entropy is not None
    return moments.mean_entropy - predictive_entropy(moments.mean, chunk.model.head.blocks[-1].activation)


def vote_share(chunk: Chunk, _: None) -> np.ndarray:
    """Share of the iterations whose largest output is of the class that most of them name."""
    votes = chunk.iterations.votes
    assert votes is not None
    return votes.max(axis=1) / votes.sum(axis=1)


def gap(chunk: Chunk, deviations: float) -> np.ndarray:
    """m1 - m2 - z d, d = sqrt(s1^2 + s2^2): the lower end of an interval of the gap."""
    distance, deviation = _gap(chunk)
    return distance - deviations * deviation


def gap_deviations(chunk: Chunk, _: None) -> np.ndarray:
    """(m1 - m2) / d: the gap in its standard deviations."""
    distance, deviation = _gap(chunk)
    return distance / np.maximum(deviation, 1e-12)


def _gap(chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
    """Return the gap of the two largest means, and its deviation were the two independent."""
    mean, std = chunk.iterations.mean.astype(np.float64), chunk.iterations.std.astype(np.float64)
    first, second = two_largest(mean)
    order = np.argpartition(mean, -2, axis=1)[:, -2:]
    return first - second, np.sqrt((np.take_along_axis(std, order, axis=1) ** 2).sum(axis=1))
