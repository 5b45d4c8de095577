"""Embeddings from .npy and .npz files."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.arrays import MAX_NPZ_BYTES, open_npy
from fastuq.errors import InputError
from fastuq.util.checks import checked_path
from fastuq.util.npy import open_regular, read_npz


def open_embeddings(path: str | Path, labels: str | Path | None = None) -> tuple[Any, np.ndarray | None]:
    """Return embeddings (N, D) and labels (N,) of files.

    Parameters
    ----------
    path : str or Path
        A .npy, read when it is sliced; or an .npz with ``features``, and ``labels`` where there are some. An archive
        with one array alone is taken as the features, whatever its name.
    labels : str or Path, optional
        A .npy of labels.

    Raises
    ------
    InputError
        A file is missing, truncated, of another kind, or holds Python objects.
    """
    source = checked_path(path)
    values: Any
    if source.suffix == ".npz":
        values, own = _from_npz(source)
    elif source.suffix == ".npy" or not source.exists():
        values, own = open_npy(source), None
    else:
        raise InputError(f"embeddings {path}: expected a .npy or .npz file; save the array with numpy.save")
    return values, own if labels is None else np.asarray(open_npy(checked_path(labels)))


def _from_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    def of_features(names: Collection[str]) -> Iterable[str]:
        if "features" in names:
            return [name for name in ("features", "labels") if name in names]
        if len(names) == 1:
            return names
        raise InputError(f"{path}: expected an array named features, found {', '.join(sorted(names)[:5]) or 'nothing'}")

    try:
        with open(open_regular(path), "rb") as file:
            arrays = read_npz(file, MAX_NPZ_BYTES, of_features)
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: expected an .npz of numbers ({reason}); save it anew, large ones as .npy") from None
    return (arrays["features"], arrays.get("labels")) if "features" in arrays else (arrays.popitem()[1], None)
