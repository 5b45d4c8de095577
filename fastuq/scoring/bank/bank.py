"""The bank: what it holds, how it is compared with features, and how rows come and go."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.montecarlo.nearest import Nearest
from fastuq.scoring.bank.fitting import Weights
from fastuq.scoring.bank.projection import Projection
from fastuq.util.checks import array_of
from fastuq.util.labels import checked_labels

COMPONENTS = 256
_ROWS = 8192


@dataclass(frozen=True)
class Origin:
    """What a bank was made of.

    Attributes
    ----------
    model_sha256, network, class_names
        Of the model whose backbone made the features.
    training, held_out : str
        Names of the two data sets.
    training_fingerprint, held_out_fingerprint : str
        Their data fingerprints.
    held_out_samples : int
        How many of the held-out samples, from the first on, the weights were fitted on.
    """

    model_sha256: str
    network: str
    class_names: tuple[str, ...]
    training: str
    training_fingerprint: str
    held_out: str
    held_out_fingerprint: str
    held_out_samples: int


@dataclass(frozen=True, repr=False)
class Bank:
    """Training features that scores are made with: q_c = a z_c + b s_c, s_c the largest cosine to a row of class c.

    Attributes
    ----------
    rows : ndarray, (M, K), int8
        Codes of the training features, class by class.
    counts : ndarray, (C,), int64
        How many rows each class has.
    samples : ndarray, (M,), int64
        The number of each row in the training data; rows that were added count on from there.
    projection : Projection
        From features to codes.
    weights : Weights
        a, b, and what is usual of the largest logit.
    origin : Origin

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> rng, labels = np.random.default_rng(0), np.arange(400) % 100
    >>> x = (rng.standard_normal((100, 1280))[labels] + rng.standard_normal((400, 1280))).astype(np.float32)
    >>> training = fastuq.Features.from_arrays(x[:300], labels[:300])
    >>> model = fastuq.embedding_model("model", fastuq.load_model().head, training)
    >>> held_out = fastuq.Features.from_arrays(x[300:], labels[300:], model=model)
    >>> with (
    ...     fastuq.cache_embeddings(training, model, "training.h5") as first,
    ...     fastuq.cache_embeddings(held_out, model, "held-out.h5") as second,
    ... ):
    ...     bank = fastuq.Bank.make(model, first, second, components=64)
    ...     found = bank.similarities(second.read(0, 100))
    >>> found.shape, float((found.argmax(axis=1) == labels[300:]).mean())
    ((100, 100), 1.0)
    >>> bank.save("bank.h5")
    >>> len(fastuq.Bank.load("bank.h5", model))
    300
    """

    rows: np.ndarray
    counts: np.ndarray
    samples: np.ndarray
    projection: Projection
    weights: Weights
    origin: Origin

    def __repr__(self) -> str:
        return (
            f"Bank({len(self.rows)} rows of {self.rows.shape[1]} codes, {len(self.counts)} classes, "
            f"a={self.weights.logit:.4g}, b={self.weights.similarity:.4g})"
        )

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def make(cls, model: Model, training: FeatureCache, held_out: FeatureCache, **options: Any) -> "Bank":
        """Make a bank; see `fastuq.scoring.bank.making.make`."""
        from fastuq.scoring.bank.making import make

        return make(model, training, held_out, **options)

    @classmethod
    def load(cls, path: str | Path, model: Model | None = None) -> "Bank":
        """Read a bank and verify every array; see `fastuq.scoring.bank.file.load`."""
        from fastuq.scoring.bank.file import load

        return load(path, model)

    def save(self, path: str | Path) -> None:
        """Write the bank to a sealed HDF5 file, whole or not at all."""
        from fastuq.scoring.bank.file import save

        save(path, self)

    def similarities(self, features: np.ndarray, *, threads: int | None = None) -> np.ndarray:
        """Return the largest cosine of each sample to a row of each class.

        Parameters
        ----------
        features : ndarray, (N, D), int8
            Of the backbone that made those of the bank.
        threads : int, optional
            Default: the processors this process may use.

        Returns
        -------
        ndarray, (N, C), float32
            To the precision of the codes, so that 1 may be exceeded a little.

        Raises
        ------
        InputError
            The features are no int8 (N, D).
        """
        width = len(self.projection.weights)
        if getattr(features, "dtype", None) != np.int8 or features.ndim != 2 or features.shape[1] != width:
            other = f"{getattr(features, 'dtype', type(features).__name__)} {getattr(features, 'shape', '')}".strip()
            raise InputError(f"features: expected int8 (N, {width}), found {other}; use those of the bank's model")
        found, scale = np.empty((len(features), len(self.counts)), np.float32), np.float32(self.projection.step**-2)
        for start in range(0, len(features), _ROWS):
            codes = self.projection.codes(features[start : start + _ROWS])
            found[start : start + _ROWS] = self._nearest(codes, threads) * scale
        return found

    def fuse(self, logits: np.ndarray, similarities: np.ndarray) -> np.ndarray:
        """Return q = a z + b s (N, C) float32 of logits z and similarities s; softmax(q) are its probabilities."""
        return np.float32(self.weights.logit) * logits + np.float32(self.weights.similarity) * similarities

    def with_rows(self, features: np.ndarray, labels: Any) -> "Bank":
        """Return a bank that has these features (N, D) int8 of the labelled classes too; nothing is fitted again."""
        labels = checked_labels("labels", labels, len(features), len(self.counts), "give the classes of the bank")
        codes, first = self.projection.codes(features), int(self.samples.max()) + 1
        return self._of(
            np.concatenate([self.rows, codes]),
            np.concatenate([self.labels, labels]),
            np.concatenate([self.samples, np.arange(first, first + len(labels))]),
        )

    def without_rows(self, samples: Any) -> "Bank":
        """Return a bank without the rows of these samples; raises InputError where one is not there or a class ends."""
        given = array_of("samples", samples).ravel()
        if given.dtype.kind not in "iu" or not np.isin(given, self.samples).all():
            raise InputError("samples: expected numbers of rows of the bank, found others; `Bank.samples` has them")
        left = ~np.isin(self.samples, given)
        return self._of(self.rows[left], self.labels[left], self.samples[left])

    @property
    def labels(self) -> np.ndarray:
        """The class of each row, (M,) int64."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self.rows, self.counts)

    def _of(self, rows: np.ndarray, labels: np.ndarray, samples: np.ndarray) -> "Bank":
        order = np.argsort(labels, kind="stable")
        counts = counts_of(labels, self.origin.class_names)
        return replace(self, rows=rows[order], samples=samples[order], counts=counts)


def counts_of(labels: np.ndarray, class_names: tuple[str, ...]) -> np.ndarray:
    """Return how many rows each class has; raises InputError where one has none."""
    counts = np.bincount(labels, minlength=len(class_names))
    missing = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"bank: expected at least one row of every class, found none of {', '.join(missing[:3])}{more}; "
            "give training features of all classes of the model"
        )
    return counts
