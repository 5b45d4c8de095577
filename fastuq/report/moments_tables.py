"""Moments for other programs: as NumPy .npz, as Parquet, as CSV."""

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import MissingExtraError
from fastuq.report.tables import write_csv
from fastuq.util.files import atomic_path

_ROWS = 8192
PARQUET = ".parquet"
GROUP = 2**16
"""Rows of Parquet that are read at once."""


def check_suffix(path: str | Path) -> None:
    """Raise MissingExtraError where a file of that suffix needs pyarrow, and it is not installed."""
    if Path(path).suffix == PARQUET and find_spec("pyarrow") is None:
        raise MissingExtraError("Parquet files need pyarrow: pip install 'fastuq[parquet]'")


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write the arrays by name, and as `about` the JSON text of what they were made with, whole or not at all."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays, about=np.array(json.dumps(about)))  # type: ignore[arg-type]


def write_parquet(path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write a row for each sample, arrays of all classes as lists; `about` is metadata of the schema (``fastuq``).

    Every page lies under a checksum.
    """
    check_suffix(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name, array in arrays.items():
        flat = pa.array(array.reshape(-1))
        columns[name] = flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
    table = pa.table(columns).replace_schema_metadata({"fastuq": json.dumps(about)})
    with atomic_path(path) as partial:
        pq.write_table(table, partial, row_group_size=GROUP, write_page_checksum=True)


def write_rows(path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write a row for each sample, a column ``mean_0`` for each class; float32 with nine digits, which lose nothing."""
    header = []
    for name, array in arrays.items():
        header += [name] if array.ndim == 1 else [f"{name}_{number}" for number in range(array.shape[1])]
    write_csv(path, header, _rows(arrays))


def _rows(arrays: Mapping[str, np.ndarray]) -> Iterator[list[str]]:
    for start in range(0, len(next(iter(arrays.values()))), _ROWS):
        columns: list[list[str]] = []
        for array in arrays.values():
            part = array[start : start + _ROWS].reshape(len(array[start : start + _ROWS]), -1)
            spec = "%.9g" if part.dtype.kind == "f" else "%d"
            columns += [[spec % value for value in column] for column in part.T.tolist()]
        yield from map(list, zip(*columns, strict=True))


WRITERS: dict[str, Callable[[str | Path, Mapping[str, np.ndarray], Mapping[str, Any]], None]] = {
    ".npz": write_npz,
    PARQUET: write_parquet,
    ".csv": write_rows,
}
"""By the suffix of the file."""
