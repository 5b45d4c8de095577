"""Pickles of plain data, read without trust: unpickled by a process under limits, and checked when they come back."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastuq.datasets import unpickle
from fastuq.errors import InputError, short

MAX_BYTES = 2**30
"""Largest file that is read: CIFAR-100's largest has 155 MB."""
_DTYPE = re.compile("[<>=|]([iu][1248]|f[248]|b1|[SU][1-9][0-9]{0,3})")


def read_pickles(path: Path, count: int = 1) -> list[Any]:
    """Return the values of the `count` pickles that a file begins with, and the bytes after them.

    Raises
    ------
    ValueError
        The file is no such pickle, over 1 GiB, asks for more memory or time than its size warrants, or holds anything
        but plain data: the message says which.
    OSError
        The file cannot be read.
    InputError
        No process can be started.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes, more than {MAX_BYTES}")
        with _answer(file, size, count) as stream:
            try:
                return _received(stream, size, count)
            except (TypeError, LookupError, RecursionError) as error:
                raise ValueError(type(error).__name__) from None


@contextmanager
def _answer(file: Any, size: int, count: int) -> Iterator[BinaryIO]:
    """Yield what the process answers that unpickles `file`."""
    frozen = getattr(sys, "frozen", False)  # then sys.executable is the program itself, and no Python
    python = "python3" if frozen or not sys.executable else sys.executable
    command = [python, "-I", "-S", unpickle.__file__, str(size), str(count)]
    try:
        child = subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise _no_process(file, python, f"that it does not start ({error.strerror})") from error
    with child:
        try:
            said = child.stdout.readline(200)  # type: ignore[union-attr]
            if said != unpickle.READY:
                raise _no_process(file, python, short(said.decode(errors="replace")) if said else "no answer")
            yield child.stdout  # type: ignore[misc]
        finally:
            child.kill()


def _no_process(file: Any, python: str, found: str) -> InputError:
    return InputError(
        f"{file.name}: expected {python} to read it as Python, in a process of its own under limits, found {found}; "
        "allow more processes and memory (ulimit -u, ulimit -v), see that /proc is there, and that this is Python "
        "(of a frozen program: python3 on the PATH)"
    )


def _received(stream: BinaryIO, size: int, count: int) -> list[Any]:
    """Check and return an answer, which is no larger than the file warrants whatever the other process does."""
    line = stream.readline(2**20 + size // 4)
    if not line.endswith(b"\n"):
        raise ValueError("reading it takes more memory or time than a file of its size warrants")
    found = json.loads(line)
    if "value" not in found:
        raise ValueError(f"refused: it holds {found['refused']}" if "refused" in found else found["damaged"])
    lengths = found["blobs"]
    if sum(lengths) > size or min(lengths, default=0) < 0:
        raise ValueError("more data than bytes")
    blobs = [stream.read(length) for length in lengths]
    if [len(blob) for blob in blobs] != lengths:
        raise ValueError("reading it ended early")
    values = _value(found["value"], blobs)
    if not isinstance(values, list) or len(values) != count + 1:
        raise ValueError("reading it gave something else")
    return values


def _value(item: Any, blobs: list[bytes]) -> Any:
    """Return the value that `unpickle` wrote as JSON."""
    if not isinstance(item, list):
        return item
    kind, parts = item[0], [_value(part, blobs) for part in item[1:]]
    if kind == "bytes":
        return blobs[parts[0]]
    if kind == "array":
        return _array(*parts)
    if kind == "dict":
        return dict(zip(parts[: len(parts) // 2], parts[len(parts) // 2 :], strict=True))
    return tuple(parts) if kind == "tuple" else parts


def _array(dtype: str, shape: Any, fortran: bool, data: bytes) -> Any:
    if not _DTYPE.fullmatch(dtype):
        raise ValueError(f"refused: it holds an array of dtype {dtype[:40]}")
    if type(shape) is not tuple or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("refused: it holds an array of impossible shape")
    if math.prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise ValueError(f"refused: it holds an array whose shape {shape} does not fit its {len(data)} bytes")
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")[()]


def read_pickle(path: str | Path, again: str = "fetch it with `fastuq download cifar100`") -> dict[str, Any]:
    """Return the dictionary that a CIFAR pickle holds, with str keys, nothing of the file having been executed.

    Parameters
    ----------
    path : path-like
        File in the python layout of CIFAR-10 or CIFAR-100, in any pickle protocol.
    again : str
        The way out where it is damaged.

    Returns
    -------
    dict
        Values are ndarrays, bytes, str, numbers, lists, tuples and dicts.

    Raises
    ------
    InputError
        The file is missing, truncated, no pickle, over 1 GiB, asks for more memory or time than its size warrants, or
        holds anything but plain data.
    """
    try:
        value = read_pickles(Path(path))[0]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(
            f"{path}: expected a CIFAR pickle of plain data, found a truncated, altered or foreign file ({error}); "
            f"{again}"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a dictionary as in CIFAR's python layout, found {type(value).__name__}")
    return {key.decode("utf-8", "replace") if isinstance(key, bytes) else key: item for key, item in value.items()}
