"""Bank files: sealed HDF5, every array under its SHA-256."""

import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.cache.sealed_arrays import read_arrays, write_arrays
from fastuq.errors import CacheError
from fastuq.model.model import Model
from fastuq.scoring.bank.bank import Bank, Origin
from fastuq.scoring.bank.fitting import Weights
from fastuq.scoring.bank.projection import Projection
from fastuq.util.bundled import bundled_path

TITLE = "bank 1"
MADE_BY = "fastuq bank"


def save(path: str | Path, bank: Bank) -> None:
    """Write a bank to a sealed HDF5 file, whole or not at all.

    Raises
    ------
    InputError, CacheError
        The file cannot be written.
    """
    arrays = {
        "rows": bank.rows,
        "samples": bank.samples.astype(np.uint32),
        "counts": bank.counts,
        "projection": bank.projection.weights,
        "offset": bank.projection.offset,
        "gates": bank.weights.gates,
        "fitted": bank.fitted.view(np.int64),
    }
    about = {
        "origin": {**asdict(bank.origin), "class_names": list(bank.origin.class_names)},
        "logit": bank.weights.logit,
        "similarity": bank.weights.similarity,
        "step": bank.projection.step,
        "fastuq_version": __version__,
    }
    write_arrays(path, TITLE, arrays, about)


def load(path: str | Path | None = None, model: Model | None = None) -> Bank:
    """Read a bank and verify every array.

    Parameters
    ----------
    path : str or Path, optional
        None is the bank of the model that comes with fastuq.
    model : Model, optional
        Refuse the bank unless it was made with this model.

    Raises
    ------
    CacheError
        The file is missing, foreign, truncated, damaged, or of another model.
    """
    path = bundled_path("bank") / "bank.h5" if path is None else path
    arrays, about = read_arrays(path, TITLE, MADE_BY)
    try:
        bank = _bank(arrays, about)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CacheError(
            f"{path}: expected a bank, found something else ({type(error).__name__}: {str(error)[:100]}); the program "
            f"that wrote it does not keep to the format; make it again with `{MADE_BY}`"
        ) from None
    if model is not None:
        bank.check(model, None)
    return bank


def _bank(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> Bank:
    """Make the bank that a file describes; raises where what it says does not fit together."""
    origin = _origin(about["origin"])
    _check_arrays(arrays, len(origin.class_names), origin.held_out_samples)
    numbers = [float(about[name]) for name in ("logit", "similarity", "step")]
    if not all(math.isfinite(number) and number >= 0 for number in numbers) or numbers[2] == 0:
        raise ValueError("impossible weights")
    return Bank(
        rows=arrays["rows"],
        counts=arrays["counts"],
        samples=arrays["samples"].astype(np.int64),
        projection=Projection(arrays["projection"], arrays["offset"], numbers[2]),
        weights=Weights(numbers[0], numbers[1], arrays["gates"]),
        fitted=arrays["fitted"].view(np.uint64),
        origin=origin,
    )


def _origin(given: dict[str, Any]) -> Origin:
    values = {**given, "class_names": tuple(given["class_names"])}
    for field in fields(Origin):
        wanted = {"class_names": tuple, "held_out_samples": int}.get(field.name, str)
        if type(values[field.name]) is not wanted:
            raise TypeError(f"{field.name} is no {wanted.__name__}")
    return Origin(**values)


def _check_arrays(arrays: dict[str, np.ndarray], classes: int, fitted: int) -> None:
    rows, components = arrays["rows"].shape
    expected = {
        "rows": ("|i1", (rows, components)),
        "samples": ("<u4", (rows,)),
        "counts": ("<i8", (classes,)),
        "projection": ("|i1", (len(arrays["projection"]), components)),
        "offset": ("<i8", (components,)),
        "gates": ("<f4", (101,)),
        "fitted": ("<i8", (fitted,)),
    }
    found = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    if found != expected:
        raise ValueError(f"arrays {found}")
    counts = arrays["counts"]
    if counts.min() < 1 or counts.sum() != rows or (arrays["rows"] == -128).any():
        raise ValueError("counts that are not those of the rows, or codes of -128")
