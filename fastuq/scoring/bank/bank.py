"""The bank: what it holds, how it is compared with features, and how rows come and go."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import CacheError, InputError
from fastuq.model.description import HeadPair
from fastuq.model.head import Head
from fastuq.model.int8_head import QuantizedHead
from fastuq.model.model import Model
from fastuq.montecarlo.nearest import Nearest
from fastuq.scoring.bank.fitting import Weights
from fastuq.scoring.bank.projection import Projection
from fastuq.util.checks import array_of
from fastuq.util.labels import checked_labels


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
    fitted : ndarray, (F,), uint64
        Digests of the features of the held-out samples that a and b were fitted on.
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
    fitted: np.ndarray
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
    def load(cls, path: str | Path | None = None, model: Model | None = None) -> "Bank":
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
        self._check_features(features)
        return self._nearest(features, threads) * np.float32(self.projection.step**-2)

    def fuse(self, logits: np.ndarray, similarities: np.ndarray) -> np.ndarray:
        """Return q = a z + b s (N, C) float32 of logits z and similarities s; softmax(q) are its probabilities."""
        return np.float32(self.weights.logit) * logits + np.float32(self.weights.similarity) * similarities

    def fused(self, model: Model) -> Model:
        """Return the model with softmax(a z) as its last activation: what is left to add before it is `addend`."""
        others = [self._fused(*pair) for pair in model.others]
        head, head_int8 = self._fused(model.head, model.head_int8)
        return replace(model, head=head, head_int8=head_int8, others=tuple(others))

    def _fused(self, head: Head, head_int8: QuantizedHead) -> HeadPair:
        factor = np.float32(self.weights.logit)
        *first, last = head.blocks
        scaled = replace(last, weights=last.weights * factor, bias=last.bias * factor, activation="softmax")
        *first_int8, last_int8 = head_int8.blocks
        scaled_int8 = replace(
            last_int8, scale=last_int8.scale * factor, bias=last_int8.bias * factor, activation="softmax"
        )
        return (
            replace(head, blocks=(*first, scaled)),
            replace(head_int8, blocks=(*first_int8, scaled_int8)),
        )

    def addend(self, similarities: np.ndarray) -> np.ndarray:
        """Return b s (N, C) float32 of similarities s: what `fuse` adds to a z."""
        return np.float32(self.weights.similarity) * similarities

    def check(self, model: Model, fingerprint: str | None) -> None:
        """Raise where the bank is of another model, or of the very data (their fingerprint) that are to be scored."""
        if model.sha256 != self.origin.model_sha256:
            raise CacheError(
                f"bank: expected one of model {model.sha256[:12]}, found one of {self.origin.model_sha256[:12]} "
                f"({self.origin.network}), whose features are others; make one with `fastuq bank` and this model"
            )
        if fingerprint == self.origin.training_fingerprint:
            raise InputError(
                f"bank: expected other samples than those of the bank, found {self.origin.training} itself; what is "
                "as similar as can be to itself says nothing: score other data"
            )

    def summary(self) -> dict[str, Any]:
        """Return what the bank says of itself, ready for JSON."""
        return {
            "rows": len(self.rows),
            "components": self.rows.shape[1],
            "logit": self.weights.logit,
            "similarity": self.weights.similarity,
            **{name: value for name, value in asdict(self.origin).items() if name != "class_names"},
        }

    def with_rows(self, features: np.ndarray, labels: Any) -> "Bank":
        """Return a bank that has these features (N, D) int8 of the labelled classes too; nothing is fitted again.

        Raises
        ------
        InputError
            The features are no int8 (N, D), or the labels are none of them.
        """
        self._check_features(features)
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
    def codes(self) -> frozenset[bytes]:
        """The codes of all rows, as bytes."""
        return frozenset(row.tobytes() for row in self.rows)

    @cached_property
    def _nearest(self) -> Nearest:
        of = self.projection
        return Nearest(of.weights, of.offset, of.step, self.rows, self.counts)

    def _check_features(self, features: Any) -> None:
        width = len(self.projection.weights)
        if getattr(features, "dtype", None) != np.int8 or features.ndim != 2 or features.shape[1] != width:
            other = f"{getattr(features, 'dtype', type(features).__name__)} {getattr(features, 'shape', '')}".strip()
            raise InputError(f"features: expected int8 (N, {width}), found {other}; use those of the bank's model")

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
