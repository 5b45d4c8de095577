"""Read the arrays of a PyTorch ``state_dict`` file (the format before 1.6) without PyTorch and without trusting it."""

import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastuq.datasets.pickles import read_pickles
from fastuq.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES: dict[str, Any] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor(NamedTuple):
    """What the file says of a tensor: where it lies in which storage."""

    storage: Any
    offset: Any
    size: Any
    stride: Any

    def check(self) -> None:
        numbers = (self.offset, *self.size, *self.stride)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(self.size) > 8:
            raise ValueError("a tensor of impossible shape")
        kind, name, key = self.storage[:3]
        if kind != "storage" or name not in _DTYPES or not isinstance(key, str):
            raise ValueError("a tensor of other numbers than float32 and int64")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a PyTorch state_dict file by name.

    Raises
    ------
    InputError
        The file is missing, truncated, over 1 GiB, or holds anything but float32 and int64 tensors.
    """
    try:
        return _arrays(*read_pickles(Path(path), 5))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read weights {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can raise nearly anything
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"weights {path}: expected a PyTorch state_dict file (the format before 1.6), found something else "
            f"({reason}); it may be truncated, get it again"
        ) from None


def _arrays(magic: Any, version: Any, sizes_of_types: Any, given: Any, keys: Any, rest: bytes) -> dict[str, np.ndarray]:
    if magic != _MAGIC:
        raise ValueError("wrong magic number")
    tensors = {name: _Tensor(*parts) for name, parts in given.items()}
    for tensor in tensors.values():
        tensor.check()
    storages = _read_storages(keys, rest, {tensor.storage[2]: tensor.storage[1] for tensor in tensors.values()})
    if sum(math.prod(tensor.size) for tensor in tensors.values()) > sum(len(values) for values in storages.values()):
        raise ValueError("tensors that hold more values than the file")
    return {str(name): _as_array(storages[tensor.storage[2]], tensor) for name, tensor in tensors.items()}


def _read_storages(keys: Any, rest: bytes, kinds: dict[str, str]) -> dict[str, np.ndarray]:
    """Read the raw blocks that follow the pickles: per key an int64 length, then that many values."""
    storages, stream = {}, io.BytesIO(rest)
    for key in keys:
        length, dtype = int.from_bytes(stream.read(8), "little"), _DTYPES[kinds[key]]
        storages[key] = np.frombuffer(stream.read(length * dtype.itemsize), dtype, count=length)
    return storages


def _as_array(values: np.ndarray, tensor: _Tensor) -> np.ndarray:
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.size, tensor.stride, strict=True))
    if min((*tensor.size, *tensor.stride, 1)) < 1 or last >= len(values):
        raise ValueError("a tensor reaches past its storage")
    steps = [s * values.itemsize for s in tensor.stride]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.size, steps))
