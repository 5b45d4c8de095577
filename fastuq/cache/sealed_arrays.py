"""A few named arrays in one sealed file: written whole or not at all, and every array verified when it is read."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache.sealed import DTYPES, cannot_write, create, open_file, read_seal
from fastuq.errors import CacheError
from fastuq.util.files import atomic_path
from fastuq.util.places import place_of
from fastuq.util.rawio import read_into, write_all


def write_arrays(path: str | Path, title: str, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays and what they were made with (JSON values) to a sealed file of that title, whole or not at all.

    Raises
    ------
    CacheError
        The file cannot be written.
    """
    plain = {name: plain_array(array) for name, array in arrays.items()}
    sealed = {**about, "sha256": {name: hashlib.sha256(array.data).hexdigest() for name, array in plain.items()}}
    shapes = {name: (array.shape, array.dtype.str) for name, array in plain.items()}
    with atomic_path(path) as partial:
        try:
            with partial.open("r+b") as file:
                seal = create(file.fileno(), partial, title, sealed, shapes, {})
                for name, array in plain.items():
                    write_all(file.fileno(), array, seal.datasets[name].offset)
        except OSError as error:
            raise cannot_write(Path(path), error) from None


def read_arrays(path: str | Path, title: str, made_by: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_arrays` wrote: the arrays by name, and what they were made with.

    Parameters
    ----------
    path : str or Path
    title : str
    made_by : str
        The command that makes such a file.

    Raises
    ------
    CacheError
        The file is missing, foreign, truncated or damaged.
    """
    path = place_of(path)
    descriptor = open_file(path, os.O_RDONLY, made_by)
    try:
        seal = read_seal(descriptor, path, title)
        about, found = dict(seal.about), {}
        digests = about.pop("sha256", None)
        for name, extent in seal.datasets.items():
            array = np.empty(extent.shape, extent.dtype)
            read_into(descriptor, array, extent.offset)
            if not isinstance(digests, dict) or hashlib.sha256(array.data).hexdigest() != digests.get(name):
                raise CacheError(
                    f"{path}: array {name!r} does not match its SHA-256; it was altered; make it again with `{made_by}`"
                )
            found[name] = array
    except (EOFError, OSError):
        raise CacheError(
            f"{path}: cannot be read to its end; check the disk, or make it again with `{made_by}`"
        ) from None
    finally:
        os.close(descriptor)
    return found, about


def plain_array(array: np.ndarray) -> np.ndarray:
    """Return the array in a dtype that the file knows, little-endian and contiguous."""
    kind = {np.dtype(np.float64): "<f4", np.dtype(np.int32): "<i8"}.get(array.dtype, array.dtype.newbyteorder("<").str)
    assert kind in DTYPES
    return np.ascontiguousarray(array, kind)
