"""Scores of distances to training samples: neighbours, Gaussians around classes, and the space that features fill."""

from collections.abc import Callable, Hashable

import numpy as np
from scipy.special import logsumexp

from fastuq.errors import InputError
from fastuq.scoring.scores.chunk import Chunk
from fastuq.scoring.scores.neighbours import Neighbours
from fastuq.scoring.scores.outputs import largest_output


def knn(chunk: Chunk, neighbours: float) -> np.ndarray:
    """-|f - f_(k)|^2, f and the training rows scaled to length 1."""
    training = chunk.training
    if neighbours > len(training.reference.rows):
        raise InputError(
            f"neighbour k: expected at most {len(training.reference.rows)}, the rows of the reference, found "
            f"{neighbours:g}; give a smaller one, or a reference of more samples"
        )
    rows = training.once("neighbours", lambda: Neighbours(training.reference, chunk))
    return 2 * rows.cosines(chunk, int(neighbours)) - 2


def mahalanobis(chunk: Chunk, _: None) -> np.ndarray:
    """max_c -(h - m_c)' S^-1 (h - m_c)."""
    return _mahalanobis(chunk.hidden, chunk, "hidden")


def mahalanobis_features(chunk: Chunk, _: None) -> np.ndarray:
    """The same of the features."""
    return _mahalanobis(chunk.features, chunk, "features")


def relative_mahalanobis(chunk: Chunk, _: None) -> np.ndarray:
    """max_c (d_0 - d_c), d_0 the distance under mean and covariance of all classes together."""
    return _mahalanobis(chunk.hidden, chunk, "hidden") + _distance_to_all(chunk.hidden, chunk, "hidden")


def relative_mahalanobis_features(chunk: Chunk, _: None) -> np.ndarray:
    """The same of the features."""
    return _mahalanobis(chunk.features, chunk, "features") + _distance_to_all(chunk.features, chunk, "features")


def residual(chunk: Chunk, dim: float) -> np.ndarray:
    """-|N'(h - u)|, N the eigenvectors past the first ones, u = -pinv(W') b."""
    return -_residual(chunk.hidden, chunk, "hidden", dim)


def residual_features(chunk: Chunk, dim: float) -> np.ndarray:
    """The same of the features, u their mean."""
    return -_residual(chunk.features, chunk, "features", dim)


def vim(chunk: Chunk, dim: float) -> np.ndarray:
    """logsumexp(z) - a |N'(h - u)|, a = mean max z over mean |N'(h - u)| of training samples."""
    return _vim(chunk, "hidden", dim)


def vim_features(chunk: Chunk, dim: float) -> np.ndarray:
    """The same with the residual of the features."""
    return _vim(chunk, "features", dim)


def sirc(chunk: Chunk, _: None) -> np.ndarray:
    """-(1 - p1)(1 + exp(-b (s - a))), s = |h|_1; a = mean - 3 sd, b = 1 / sd of s on training samples."""
    return _sirc(chunk, "sirc", _norm(chunk), _norm)


def sirc_residual(chunk: Chunk, dim: float) -> np.ndarray:
    """The same, s the residual of the features."""
    return _sirc(chunk, ("sirc residual", dim), residual_features(chunk, dim), lambda of: residual_features(of, dim))


def sirc_knn(chunk: Chunk, neighbours: float) -> np.ndarray:
    """The same, s of the k-th neighbour."""
    # A training row is its own nearest one.
    return _sirc(chunk, ("sirc knn", neighbours), knn(chunk, neighbours), lambda of: knn(of, neighbours + 1))


def _norm(chunk: Chunk) -> np.ndarray:
    return np.abs(chunk.hidden).sum(axis=1, dtype=np.float64)


def _sirc(chunk: Chunk, key: Hashable, second: np.ndarray, of: Callable[[Chunk], np.ndarray]) -> np.ndarray:
    training = chunk.training

    def fitted() -> tuple[float, float]:
        values = of(training.sample)
        return float(values.mean() - 3 * values.std()), float(1 / max(values.std(), 1e-12))

    a, b = training.once(key, fitted)
    return -(1 - largest_output(chunk, None)) * (1 + np.exp(np.minimum(-b * (second - a), 700)))


def _mahalanobis(values: np.ndarray, chunk: Chunk, kind: str) -> np.ndarray:
    training = chunk.training
    of = training.statistics(kind)
    means = training.once(("means", kind), lambda: (of.means - of.mean) @ of.whitener)
    white = (values - of.mean) @ of.whitener
    nearest = (2 * (white @ means.T) - (means**2).sum(axis=1)).max(axis=1)
    return nearest.astype(np.float64) - _squares(white)


def _distance_to_all(values: np.ndarray, chunk: Chunk, kind: str) -> np.ndarray:
    of = chunk.training.statistics(kind)
    return _squares((values - of.mean) @ of.whitener_all)


def _residual(values: np.ndarray, chunk: Chunk, kind: str, dim: float) -> np.ndarray:
    of = chunk.training.statistics(kind)
    inside = int(dim) if dim >= 1 else round(dim * values.shape[1])
    if inside >= values.shape[1]:
        raise InputError(
            f"scores: expected fewer than {values.shape[1]} dimensions of {kind}, found {inside}; take fewer"
        )
    centred = values - of.origin
    first = of.basis[:, :inside]
    centred -= (centred @ first) @ first.T  # |x|^2 - |P x|^2 would lose digits where little is left over
    return np.sqrt(_squares(centred))


def _vim(chunk: Chunk, kind: str, dim: float) -> np.ndarray:
    training = chunk.training

    def alpha() -> float:
        norms = _residual(getattr(training.sample, kind), training.sample, kind, dim)
        return float(training.sample.logits.max(axis=1).mean() / max(norms.mean(), 1e-12))

    a = training.once(("vim", kind, dim), alpha)
    energy = logsumexp(chunk.logits.astype(np.float64), axis=1)
    return energy - a * _residual(getattr(chunk, kind), chunk, kind, dim)


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
