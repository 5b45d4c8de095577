"""Scores of the hidden units: what the last dense layer takes, changed before it, or held against training means."""

import numpy as np
from scipy.special import logsumexp

from fastuq.errors import InputError
from fastuq.scoring.scores.chunk import Chunk, unit

NNGUIDE_ROWS = 500


def react(chunk: Chunk, percentile: float) -> np.ndarray:
    """logsumexp(W' min(h, c) + b), c a percentile of all hidden units of training samples."""
    training = chunk.training
    top = training.once(("react", percentile), lambda: np.percentile(training.sample.hidden, percentile))
    return _energy(chunk.logits_of(np.minimum(chunk.hidden, np.float32(top))))


def dice(chunk: Chunk, percentile: float) -> np.ndarray:
    """logsumexp((W o M)' h + b), M where W o mean(h) is above its percentile."""
    training = chunk.training

    def sparse() -> np.ndarray:
        weights = chunk.model.head.blocks[-1].weights
        share = training.hidden.mean[:, None] * weights
        return weights * (share > np.percentile(share, percentile))

    return _energy(chunk.logits_of(chunk.hidden, training.once(("dice", percentile), sparse)))


def ash_b(chunk: Chunk, percentile: float) -> np.ndarray:
    """Energy of the largest hidden units, each set to sum(h) / k."""
    hidden, count = _from_zero(chunk), _kept(chunk, percentile)
    shaped = np.zeros_like(hidden)
    places = np.argpartition(hidden, -count, axis=1)[:, -count:]
    np.put_along_axis(shaped, places, hidden.sum(axis=1, keepdims=True) / np.float32(count), axis=1)
    return _energy(chunk.logits_of(shaped))


def ash_s(chunk: Chunk, percentile: float) -> np.ndarray:
    """Energy of the largest hidden units times exp(sum of all / sum of these)."""
    hidden, count = _from_zero(chunk), _kept(chunk, percentile)
    least = np.partition(hidden, -count, axis=1)[:, [-count]]
    shaped = np.where(hidden >= least, hidden, np.float32(0))
    return _energy(chunk.logits_of(shaped * _ratio(hidden, shaped.sum(axis=1))))


def scale(chunk: Chunk, percentile: float) -> np.ndarray:
    """Energy of h exp(sum of all / sum of the largest)."""
    hidden, count = _from_zero(chunk), _kept(chunk, percentile)
    largest = np.partition(hidden, -count, axis=1)[:, -count:]
    return _energy(chunk.logits_of(hidden * _ratio(hidden, largest.sum(axis=1))))


def fdbd(chunk: Chunk, _: None) -> np.ndarray:
    """sum_c |z_y - z_c| / |w_y - w_c|, over |h - mean h|; y the largest logit."""
    training = chunk.training
    weights = chunk.model.head.blocks[-1].weights

    def inverse_distances() -> np.ndarray:
        length = np.sqrt(((weights.T[:, None] - weights.T[None]) ** 2).sum(axis=2))
        return np.divide(1, length, out=np.zeros_like(length), where=length > 0)

    top = chunk.logits.argmax(axis=1)
    gaps = chunk.logits[np.arange(len(top)), top][:, None] - chunk.logits
    total = (gaps * training.once("fdbd", inverse_distances)[top]).sum(axis=1, dtype=np.float64)
    return total / np.maximum(np.linalg.norm(chunk.hidden - training.hidden.mean, axis=1), 1e-12)


def she(chunk: Chunk, _: None) -> np.ndarray:
    """Hidden units times the mean of the training samples of class y that are predicted right, summed."""
    means = chunk.training.reference.right_means
    return np.einsum("nh,nh->n", chunk.hidden, means[chunk.logits.argmax(axis=1)], dtype=np.float64)


def nnguide(chunk: Chunk, neighbours: float) -> np.ndarray:
    """logsumexp(z) times the mean of the k largest cos(h, h_i) logsumexp(z_i), i some training samples."""
    training = chunk.training

    def guides() -> np.ndarray:
        every = np.unique(np.linspace(0, len(training.sample.rows) - 1, NNGUIDE_ROWS).astype(np.int64))
        return (unit(training.sample.hidden) * _energy(training.sample.logits)[:, None].astype(np.float32))[every]

    bank = training.once("nnguide", guides)
    count = min(int(neighbours), len(bank))
    likeness = np.partition(unit(chunk.hidden) @ bank.T, -count, axis=1)[:, -count:]
    return _energy(chunk.logits) * likeness.mean(axis=1)


def _energy(logits: np.ndarray) -> np.ndarray:
    return logsumexp(logits.astype(np.float64), axis=1)


def _kept(chunk: Chunk, percentile: float) -> int:
    """Return how many hidden units are left when a percentile of them is taken away."""
    width = chunk.hidden.shape[1]
    return max(1, width - round(width * percentile / 100))


def _ratio(hidden: np.ndarray, part: np.ndarray) -> np.ndarray:
    return np.exp(hidden.sum(axis=1) / np.maximum(part, np.float32(1e-12)))[:, None]


def _from_zero(chunk: Chunk) -> np.ndarray:
    """Return the hidden units; raises InputError where one is below 0, since these scores divide by their sums."""
    if chunk.hidden.min() < 0:
        raise InputError(
            "scores: ash_b, ash_s and scale expect hidden units from 0 up, as after a ReLU, found negative ones; take "
            "another score for this head"
        )
    return chunk.hidden
