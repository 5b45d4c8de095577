"""A new file of a feature cache: laid out whole, with labels and names, before any batch is written."""

import os
from pathlib import Path

import numpy as np

from fastuq.cache.header import TITLE, Header, shapes_of
from fastuq.cache.sealed import cannot_write, create
from fastuq.errors import BusyError
from fastuq.util.files import partial_prefix
from fastuq.util.locks import is_at, own_file
from fastuq.util.rawio import write_all

LOCK_SECONDS = 5.0
"""How long a second writer waits for the first."""


def create_file(path: Path, header: Header, num_features: int, labels: np.ndarray, files: bytes = b"") -> None:
    """Make an empty cache file at `path`, whole or not at all; where there is one already it stays as it is.

    `files` are the file names of the samples as `FileNames.to_bytes` gives them, if there are any.

    Raises
    ------
    CacheError
        The disk has no room for all of it, the folder cannot be written, or another process is making it.
    InputError
        The file system has no locks, or something else has the temporary name.
    """
    # The name depends on the cache's alone, so that what a killed process left is found and taken over.
    partial = path.with_name(f"{partial_prefix(path.name)}partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with own_file(partial, busy(partial), LOCK_SECONDS) as file:
            if not path.exists():
                _make(file.fileno(), partial, header, num_features, labels, files)
                partial.rename(path)
    except OSError as error:
        raise cannot_write(path, error) from None


def busy(path: Path) -> BusyError:
    """Return the error of a file that another process writes."""
    return BusyError(
        f"{path}: another process is writing this cache; wait for it to end and run again, "
        "or stop it: what it wrote is kept"
    )


def _make(descriptor: int, partial: Path, header: Header, num_features: int, labels: np.ndarray, files: bytes) -> None:
    if not is_at(descriptor, partial):  # the process that held it is done with it
        raise BusyError(f"{partial}: another process made this cache meanwhile; run again")
    os.ftruncate(descriptor, 0)
    attributes = {"features": {"scale": header.scale, "zero_point": header.zero_point}}
    shapes = shapes_of(header, num_features, len(files))
    seal = create(descriptor, partial, TITLE, header.to_json(), shapes, attributes)
    write_all(descriptor, np.ascontiguousarray(labels, "<i8"), seal.datasets["labels"].offset)
    if files:
        write_all(descriptor, np.frombuffer(files, np.int8), seal.datasets["files"].offset)
    os.fsync(descriptor)
