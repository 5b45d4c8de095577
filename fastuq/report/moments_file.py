"""Moments files: what scoring found for every class, as sealed HDF5 or, by suffix, for other programs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastuq.cache.sealed_arrays import plain_array, read_arrays, write_arrays
from fastuq.report.moments_tables import WRITERS

if TYPE_CHECKING:
    from fastuq.scoring.result import Result

TITLE = "moments 1"
_ARRAYS = (
    "mean",
    "std",
    "lower",
    "upper",
    "ternary",
    "plain",
    "keep",
    "reason",
    "prediction",
    "entropy",
    "mutual_information",
    "iterations",
    "flips",
    "labels",
)


def save_moments(path: str | Path, result: "Result", *, logits: np.ndarray | None = None) -> None:
    """Write mean, std, interval and decision of every sample to a file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        By its suffix: .npz, .parquet (needs pyarrow) or .csv; else sealed HDF5, which `load_moments` reads.
    result : Result
        Scored with ``details=True``.
    logits : ndarray, (N, C), float32, optional
        Those of the plain pass (`fastuq.plain_logits`), to be written too.

    Raises
    ------
    InputError, CacheError
        The file cannot be written.
    MissingExtraError
        Parquet without pyarrow.

    Examples
    --------
    >>> import fastuq
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     fastuq.save_moments("moments.h5", fastuq.score(model, cache))
    """
    given = {**{name: getattr(result, name) for name in _ARRAYS}, "logits": logits}
    arrays = {name: plain_array(array) for name, array in given.items() if array is not None and array.size}
    made = {
        "options": asdict(result.options),
        "model_sha256": result.model_sha256,
        "data_fingerprint": result.data_fingerprint,
    }
    if (write := WRITERS.get(Path(path).suffix)) is not None:
        write(path, arrays, made)
    else:
        write_arrays(path, TITLE, arrays, made)


def load_moments(path: str | Path) -> dict[str, Any]:
    """Read a moments file and verify every array.

    Returns
    -------
    dict
        The arrays by name, and ``options``, ``model_sha256`` and ``data_fingerprint``.

    Raises
    ------
    CacheError
        The file is missing, foreign, truncated or damaged.

    Examples
    --------
    >>> import fastuq
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     fastuq.save_moments("moments.h5", fastuq.score(model, cache))
    >>> found = fastuq.load_moments("moments.h5")
    >>> found["mean"].shape, found["options"]["num_iter"]
    ((20, 100), 50)
    """
    found, about = read_arrays(path, TITLE, "fastuq score --moments")
    return {**{key: about.get(key) for key in ("options", "model_sha256", "data_fingerprint")}, **found}
