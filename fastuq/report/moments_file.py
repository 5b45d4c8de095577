"""Moments files: what scoring found for every class, as sealed HDF5 or, by suffix, for other programs."""

import hashlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastuq.cache.sealed import DTYPES, cannot_write, create, open_file, read_seal
from fastuq.errors import CacheError
from fastuq.report.moments_tables import WRITERS
from fastuq.util.checks import checked_path
from fastuq.util.files import atomic_path
from fastuq.util.rawio import read_into, write_all

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
    arrays = {name: _plain(array) for name, array in given.items() if array is not None and array.size}
    made = {
        "options": asdict(result.options),
        "model_sha256": result.model_sha256,
        "data_fingerprint": result.data_fingerprint,
    }
    if (write := WRITERS.get(Path(path).suffix)) is not None:
        write(path, arrays, made)
        return
    about = {
        **made,
        "sha256": {name: hashlib.sha256(array.data).hexdigest() for name, array in arrays.items()},
    }
    shapes = {name: (array.shape, array.dtype.str) for name, array in arrays.items()}
    with atomic_path(path) as partial:
        try:
            with partial.open("r+b") as file:
                seal = create(file.fileno(), partial, TITLE, about, shapes, {})
                for name, array in arrays.items():
                    write_all(file.fileno(), array, seal.datasets[name].offset)
        except OSError as error:
            raise cannot_write(Path(path), error) from None


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
    path = checked_path(path)
    descriptor = open_file(path, os.O_RDONLY)
    try:
        seal = read_seal(descriptor, path, TITLE)
        found: dict[str, Any] = {key: seal.about.get(key) for key in ("options", "model_sha256", "data_fingerprint")}
        digests = seal.about.get("sha256")
        for name, extent in seal.datasets.items():
            array = np.empty(extent.shape, extent.dtype)
            read_into(descriptor, array, extent.offset)
            if not isinstance(digests, dict) or hashlib.sha256(array.data).hexdigest() != digests.get(name):
                raise CacheError(f"{path}: array {name!r} does not match its SHA-256; it was altered; score again")
            found[name] = array
    except (EOFError, OSError):
        raise CacheError(f"{path}: cannot be read to its end; check the disk, or score again") from None
    finally:
        os.close(descriptor)
    return found


def _plain(array: np.ndarray) -> np.ndarray:
    """Return the array in a dtype that the file knows, little-endian and contiguous."""
    kind = {np.dtype(np.float64): "<f4", np.dtype(np.int32): "<i8"}.get(array.dtype, array.dtype.newbyteorder("<").str)
    assert kind in DTYPES
    return np.ascontiguousarray(array, kind)
