"""The folder of a training run: what is made once and kept there, so that a run that was cut off goes on."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.files import write_json
from fastuq.util.npy import NpyArray
from fastuq.util.progress import progress_bar

_ROWS = 64
"""Rows of an array that are made and written at once."""


def open_work(folder: Path, run: dict[str, Any]) -> Path:
    """Make the work folder of a run, or take up that of the same run; raises InputError where it is another one's."""
    description = folder / "run.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = json.loads(description.read_text(encoding="utf-8")) if description.exists() else None
    except (OSError, ValueError) as error:
        raise InputError(f"work folder {folder}: cannot be used ({error}); give another with --work") from error
    if found is None:
        write_json(description, run)
    elif found != json.loads(json.dumps(run)):
        there, here = _flat(found), _flat(run)
        changed = [
            f"{key.removeprefix('plan.')} {there.get(key)!s:.40}, now {value!s:.40}"
            for key, value in here.items()
            if there.get(key) != value
        ]
        raise InputError(
            f"work folder {folder}: holds a run with other options, weights or images "
            f"({'; '.join(changed) or 'unknown ones'}); give the same ones, delete it, or give another --work"
        )
    return folder


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries by dotted name."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}".lstrip(".")).items()}


def kept_bytes(file: Path, make: Callable[[], bytes]) -> bytes:
    """Return the bytes of `file`, made first where it is not there: a resumed run must go on with the same backbone."""
    if not file.exists():
        partial = partial_of(file)
        partial.write_bytes(make())
        os.replace(partial, file)
    return file.read_bytes()


def partial_of(file: Path) -> Path:
    """Return the temporary name of a file of work; what a killed run left there is gone, a link not followed."""
    partial = file.with_name(f".partial.{file.name}")
    partial.unlink(missing_ok=True)
    return partial


def kept_array(
    file: Path, shape: tuple[int, ...], dtype: Any, rows: Callable[[int, int], np.ndarray], title: str
) -> NpyArray:
    """Return the array kept in `file`, filled chunk by chunk first where it is not there; it may exceed memory."""
    if not file.exists():
        partial, fields = partial_of(file), {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        # Plain writes: into a memory map on a full disk they would end the process.
        with partial.open("wb") as out, progress_bar(shape[0], title) as bar:
            np.lib.format.write_array_header_1_0(out, fields)
            for start in range(0, shape[0], _ROWS):
                stop = min(start + _ROWS, shape[0])
                out.write(np.ascontiguousarray(rows(start, stop), dtype).tobytes())
                bar.update(stop - start)
        os.replace(partial, file)
    try:
        found = NpyArray(file)
    except Exception as error:  # a damaged header can raise nearly anything
        raise InputError(f"{file}: truncated or altered ({' '.join(str(error).split())[:80]}); delete it") from None
    if found.shape != shape or found.dtype != dtype:
        raise InputError(f"{file}: expected {np.dtype(dtype)} {shape}, found {found.dtype} {found.shape}; delete it")
    return found
