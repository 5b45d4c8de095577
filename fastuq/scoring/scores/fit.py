"""From labelled training features to a reference, in one pass over them."""

from typing import Any

import numpy as np
from scipy import sparse

from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.scoring.reading import checked_truth, chunks
from fastuq.scoring.scores.chunk import Chunk
from fastuq.scoring.scores.reference import KINDS, Reference, Statistics
from fastuq.util.checks import whole_number
from fastuq.util.defaults import REFERENCE_ROWS
from fastuq.util.progress import progress_bar

SMALLEST = 1e-7
"""Share of the largest variance below which a direction is left out."""


def fit_reference(
    model: Model, features: FeatureCache | np.ndarray, *, labels: Any = None, rows: int = REFERENCE_ROWS
) -> Reference:
    """Take the statistics of labelled training features that scores need.

    Features are read once, by chunks: memory depends on their width, not on their number.

    Parameters
    ----------
    model : Model
    features : FeatureCache or ndarray, (N, D), int8
    labels : array-like, (N,) of int, optional
        True classes; those of the cache by default.
    rows : int
        How many samples are kept by themselves, evenly spread, as neighbours to look for.

    Raises
    ------
    InputError
        There are no labels, or no sample of a class, or all samples are the same.
    CacheError
        The cache is damaged or was made with another model.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> from dataclasses import replace
    >>> head = fastuq.load_model().head
    >>> head = replace(head, blocks=head.blocks[1:], scale=np.ones(300, "f"), shift=np.zeros(300, "f"))
    >>> embeddings = np.random.default_rng(0).random((400, 300), np.float32)
    >>> features = fastuq.Features.from_arrays(embeddings, labels=np.arange(400) % 100)
    >>> model = fastuq.embedding_model("embeddings", head, features)
    >>> with fastuq.cache_embeddings(features, model, "train.h5") as cache:
    ...     reference = fastuq.fit_reference(model, cache, rows=50)
    >>> reference.num_samples, reference.rows.shape
    (400, (50, 300))
    """
    model.check_one_head("reference")
    truth = checked_truth(model, features, labels)
    _check_classes(model, truth)
    assert truth is not None
    kept = np.unique(np.linspace(0, len(features) - 1, whole_number("rows", rows, 1)).astype(np.int64))
    sums = {kind: _Sums(model.head.num_classes) for kind in KINDS}
    right, parts, differ = _Sums(model.head.num_classes, squares=False), [], False
    first: np.ndarray | None = None
    with progress_bar(len(features), "reference", "sample") as bar:
        for start, some in chunks(features):
            first = some[0] if first is None else first
            differ = differ or bool((some != first).any())
            chunk, of = Chunk(model, some, np.arange(len(some))), truth[start : start + len(some)]
            for kind in KINDS:
                sums[kind].add(getattr(chunk, kind), of)
            hits = chunk.logits.argmax(axis=1) == of
            right.add(chunk.hidden[hits], of[hits])
            parts.append(some[kept[(kept >= start) & (kept < start + len(some))] - start])
            bar.update(len(some))
    if not differ:
        raise InputError(
            "fit-reference: expected training features that differ, found the same for every sample; check the cache"
        )
    last = model.head.blocks[-1]
    hidden_origin = -np.linalg.pinv(last.weights.T.astype(np.float64)) @ last.bias
    hidden = sums["hidden"].statistics(hidden_origin)
    means = np.where(right.counts[:, None] > 0, right.means(), hidden.means)
    origin = "", "arrays"
    if isinstance(features, FeatureCache):
        origin = features.data_fingerprint, features.provenance["images"]
    return Reference(
        hidden=hidden,
        features=sums["features"].statistics(),
        right_means=means.astype(np.float32),
        rows=np.concatenate(parts),
        num_samples=len(features),
        model_sha256=model.sha256,
        data_fingerprint=origin[0],
        images=origin[1],
    )


def _check_classes(model: Model, truth: np.ndarray | None) -> None:
    if truth is None:
        raise InputError(
            "fit-reference: expected features with labels, found none; cache images that have labels, such as a folder "
            "with one folder per class"
        )
    missing = np.flatnonzero(np.bincount(truth, minlength=model.head.num_classes) == 0)
    if len(missing):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"fit-reference: expected samples of every class, found none of {model.class_names[missing[0]]}{more}; "
            "give the training data of the model"
        )


class _Sums:
    """Counts, sums and products of vectors, as float64 about the mean of the first ones."""

    def __init__(self, classes: int, *, squares: bool = True) -> None:
        self.counts = np.zeros(classes)
        self._squares, self._sums, self._products, self._shift = squares, None, None, None  # type: Any, Any, Any, Any

    def add(self, rows: np.ndarray, classes: np.ndarray) -> None:
        if self._shift is None:
            width = rows.shape[1]
            self._shift = rows.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(width)
            self._sums, self._products = np.zeros((len(self.counts), width)), np.zeros((width, width))
        x = rows - self._shift
        of = sparse.csr_matrix((np.ones(len(x)), (classes, np.arange(len(x)))), (len(self.counts), len(x)))
        self.counts += np.bincount(classes, minlength=len(self.counts))
        self._sums += of @ x
        if self._squares:
            self._products += x.T @ x

    def means(self) -> np.ndarray:
        return self._shift + self._sums / np.maximum(self.counts, 1)[:, None]

    def statistics(self, origin: np.ndarray | None = None) -> Statistics:
        n = self.counts.sum()
        mean = self._sums.sum(axis=0) / n
        class_means = self._sums / self.counts[:, None]
        moments = self._products / n
        total = moments - np.outer(mean, mean)
        within = moments - (class_means.T * (self.counts / n)) @ class_means
        values, vectors = np.linalg.eigh(total)
        arrays = {
            "mean": self._shift + mean,
            "means": self._shift + class_means,
            "whitener": _whitener(*np.linalg.eigh(within)),
            "whitener_all": _whitener(values, vectors),
            "origin": self._shift + mean,
            "basis": vectors[:, ::-1],
        }
        if origin is not None:
            step = self._shift + mean - origin
            arrays |= {"origin": origin, "basis": np.linalg.eigh(total + np.outer(step, step))[1][:, ::-1]}
        return Statistics(**{name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()})


def _whitener(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return W with W W' the inverse, or the pseudoinverse, of the matrix with these eigenvalues and eigenvectors."""
    wide = values > SMALLEST * max(values[-1], 0)
    return vectors * np.where(wide, 1 / np.sqrt(np.where(wide, values, 1)), 0)
