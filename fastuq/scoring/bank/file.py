"""Bank files: sealed HDF5, every array under its SHA-256."""

import hashlib
import math
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.cache.sealed import Seal, cannot_write, create, open_file, read_seal
from fastuq.errors import CacheError
from fastuq.model.model import Model
from fastuq.scoring.bank.bank import Bank, Origin
from fastuq.scoring.bank.fitting import Weights
from fastuq.scoring.bank.projection import Projection
from fastuq.util.bundled import bundled_path
from fastuq.util.checks import checked_path
from fastuq.util.files import atomic_path
from fastuq.util.rawio import read_into, write_all

TITLE = "bank 1"
_KINDS = {"rows": "|i1", "samples": "<u4", "counts": "<i8", "projection": "|i1", "offset": "<i8", "gates": "<f4"}
_AGAIN = "make it again with `fastuq bank`"


def save(path: str | Path, bank: Bank) -> None:
    """Write a bank to a sealed HDF5 file, whole or not at all.

    Raises
    ------
    InputError, CacheError
        The file cannot be written.
    """
    given = {
        "rows": bank.rows,
        "samples": bank.samples,
        "counts": bank.counts,
        "projection": bank.projection.weights,
        "offset": bank.projection.offset,
        "gates": bank.weights.gates,
    }
    arrays = {name: np.ascontiguousarray(given[name], kind) for name, kind in _KINDS.items()}
    about = {
        "origin": {**asdict(bank.origin), "class_names": list(bank.origin.class_names)},
        "logit": bank.weights.logit,
        "similarity": bank.weights.similarity,
        "step": bank.projection.step,
        "sha256": {name: hashlib.sha256(array.data).hexdigest() for name, array in arrays.items()},
        "fastuq_version": __version__,
    }
    shapes = {name: (array.shape, _KINDS[name]) for name, array in arrays.items()}
    with atomic_path(path) as partial:
        try:
            with partial.open("r+b") as file:
                seal = create(file.fileno(), partial, TITLE, about, shapes, {"rows": {"step": bank.projection.step}})
                for name, array in arrays.items():
                    write_all(file.fileno(), array, seal.datasets[name].offset)
        except OSError as error:
            raise cannot_write(Path(path), error) from None


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
    path = bundled_path("bank") / "bank.h5" if path is None else checked_path(path)
    descriptor = open_file(path, os.O_RDONLY, "fastuq bank")
    try:
        seal = read_seal(descriptor, path, TITLE)
        bank = _bank(path, seal, {name: _array(descriptor, path, seal, name) for name in seal.datasets})
    except (EOFError, OSError):
        raise CacheError(f"{path}: cannot be read to its end; check the disk, or {_AGAIN}") from None
    finally:
        os.close(descriptor)
    if model is not None:
        bank.check(model, None)
    return bank


def _array(descriptor: int, path: Path, seal: Seal, name: str) -> np.ndarray:
    extent, digests = seal.datasets[name], seal.about.get("sha256")
    array = np.empty(extent.shape, extent.dtype)
    read_into(descriptor, array, extent.offset)
    if not isinstance(digests, dict) or hashlib.sha256(array.data).hexdigest() != digests.get(name):
        raise CacheError(f"{path}: array {name!r} does not match its SHA-256; it was altered; {_AGAIN}")
    return array


def _bank(path: Path, seal: Seal, arrays: dict[str, np.ndarray]) -> Bank:
    """Make the bank that a seal describes; what keeps to the seal but not to itself is refused."""
    try:
        origin = _origin(seal.about["origin"])
        _check_arrays(seal, arrays, len(origin.class_names))
        numbers = [float(seal.about[name]) for name in ("logit", "similarity", "step")]
        if not all(math.isfinite(number) and number >= 0 for number in numbers) or numbers[2] == 0:
            raise ValueError("impossible weights")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CacheError(
            f"{path}: expected a bank, found something else ({type(error).__name__}: {str(error)[:100]}); the program "
            f"that wrote it does not keep to the format; {_AGAIN}"
        ) from None
    return Bank(
        rows=arrays["rows"],
        counts=arrays["counts"],
        samples=arrays["samples"].astype(np.int64),
        projection=Projection(arrays["projection"], arrays["offset"], numbers[2]),
        weights=Weights(numbers[0], numbers[1], arrays["gates"]),
        origin=origin,
    )


def _origin(given: dict[str, Any]) -> Origin:
    values = {**given, "class_names": tuple(given["class_names"])}
    for field in fields(Origin):
        wanted = {"class_names": tuple, "held_out_samples": int}.get(field.name, str)
        if type(values[field.name]) is not wanted:
            raise TypeError(f"{field.name} is no {wanted.__name__}")
    return Origin(**values)


def _check_arrays(seal: Seal, arrays: dict[str, np.ndarray], classes: int) -> None:
    rows, components = arrays["rows"].shape
    shapes = {
        "rows": (rows, components),
        "samples": (rows,),
        "counts": (classes,),
        "projection": (len(arrays["projection"]), components),
        "offset": (components,),
        "gates": (101,),
    }
    found = {name: (one.shape, one.dtype) for name, one in seal.datasets.items()}
    if found != {name: (shape, _KINDS[name]) for name, shape in shapes.items()}:
        raise ValueError(f"arrays {found}")
    counts = arrays["counts"]
    if counts.min() < 1 or counts.sum() != rows or (arrays["rows"] == -128).any():
        raise ValueError("counts that are not those of the rows, or codes of -128")
