"""The reference: what is taken once from labelled training features, kept as a sealed file."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache.sealed_arrays import read_arrays, write_arrays
from fastuq.errors import CacheError
from fastuq.model.model import Model

TITLE = "reference 1"
MADE_BY = "fastuq fit-reference"
KINDS = ("hidden", "features")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of the vectors (N, W) of training samples, all float32.

    Attributes
    ----------
    mean : ndarray, (W,)
    means : ndarray, (C, W)
        Of each class.
    whitener, whitener_all : ndarray, (W, W)
        |x @ whitener|^2 is x' S^-1 x, S the covariance within classes, and of all samples together. Directions with
        less than 1e-7 of the largest variance are left out.
    origin : ndarray, (W,)
        Where residuals are measured from.
    basis : ndarray, (W, W)
        Eigenvectors of the second moments about `origin`, as columns, the largest first.
    """

    mean: np.ndarray
    means: np.ndarray
    whitener: np.ndarray
    whitener_all: np.ndarray
    origin: np.ndarray
    basis: np.ndarray


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of labelled training features, which scores of single samples are held against.

    Made by `fit_reference`.

    Attributes
    ----------
    hidden, features : Statistics
        Of what the last dense layer takes, and of the features.
    right_means : ndarray, (C, H), float32
        Means of the hidden units of samples that the plain pass gets right; of all samples of a class where there is
        none.
    rows : ndarray, (R, D), int8
        Features of some samples, evenly spread.
    num_samples : int
        How many all of it was taken of.
    model_sha256, data_fingerprint, images : str
        Of the model, and of the data with their name.

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
    ...     fastuq.fit_reference(model, cache).save("reference.h5")
    >>> fastuq.load_reference("reference.h5").hidden.means.shape
    (100, 300)
    """

    hidden: Statistics
    features: Statistics
    right_means: np.ndarray
    rows: np.ndarray
    num_samples: int
    model_sha256: str
    data_fingerprint: str
    images: str

    def __repr__(self) -> str:
        return (
            f"Reference({self.num_samples} samples of {self.images!r}, {len(self.rows)} rows, "
            f"model {self.model_sha256[:12]!r})"
        )

    def save(self, path: str | Path) -> None:
        """Write a sealed file, whole or not at all."""
        arrays = {
            f"{kind}_{part.name}": getattr(getattr(self, kind), part.name)
            for kind in KINDS
            for part in fields(Statistics)
        }
        arrays |= {"right_means": self.right_means, "rows": self.rows}
        about = {name: getattr(self, name) for name in _ABOUT}
        write_arrays(path, TITLE, arrays, about)

    def check_model(self, model: Model) -> None:
        """Raise CacheError unless it was taken with this model."""
        if self.model_sha256 != model.sha256:
            raise CacheError(
                f"reference: expected one of model {model.sha256[:12]}, found that of model {self.model_sha256[:12]}; "
                f"the model was made again or another one is meant: make the reference again with `{MADE_BY}`"
            )


_ABOUT = {"num_samples": int, "model_sha256": str, "data_fingerprint": str, "images": str}


def load_reference(path: str | Path) -> Reference:
    """Read a reference that `Reference.save` wrote, and verify every array.

    Raises
    ------
    CacheError
        The file is missing, foreign, truncated or damaged.

    Examples
    --------
    >>> import fastuq
    >>> fastuq.load_reference("reference.h5")
    Traceback (most recent call last):
    fastuq.errors.CacheError: reference.h5: no such file; make it with `fastuq fit-reference`, or check the path
    """
    arrays, about = read_arrays(path, TITLE, MADE_BY)
    try:
        found: dict[str, Any] = {name: about[name] for name in _ABOUT}
        if not all(type(found[name]) is kind for name, kind in _ABOUT.items()):
            raise TypeError("its description has other types")
        for kind in KINDS:
            of = {part.name: arrays[f"{kind}_{part.name}"] for part in fields(Statistics)}
            found[kind] = Statistics(**of)
        reference = Reference(right_means=arrays["right_means"], rows=arrays["rows"], **found)
        _check_shapes(reference)
    except (KeyError, TypeError, ValueError) as error:
        raise CacheError(
            f"{path}: expected the statistics of a reference, found something else ({type(error).__name__}: "
            f"{str(error)[:100]}); make it again with `{MADE_BY}`"
        ) from None
    return reference


def _check_shapes(reference: Reference) -> None:
    """Raise ValueError where arrays do not fit each other."""
    classes = len(reference.right_means)
    for of in (reference.hidden, reference.features):
        width = of.mean.shape[-1]
        square = (width, width)
        shapes = {"mean": (width,), "means": (classes, width), "origin": (width,)}
        shapes |= {"whitener": square, "whitener_all": square, "basis": square}
        for name, shape in shapes.items():
            array = getattr(of, name)
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name}: expected finite float32 {shape}, found {array.dtype} {array.shape}")
    if reference.right_means.shape != reference.hidden.means.shape or reference.right_means.dtype != np.float32:
        raise ValueError("right_means: another shape than the means")
    if reference.rows.dtype != np.int8 or reference.rows.shape[1:] != reference.features.mean.shape:
        raise ValueError("rows: no int8 features")
