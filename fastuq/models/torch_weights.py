"""Read the arrays of a PyTorch ``state_dict`` file (the format before 1.6) without PyTorch and without trusting it."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.pickled_arrays import Refused
from fastuq.datasets.pickles import MAX_BYTES, Machine
from fastuq.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES: dict[str, Any] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Tensor:
    """What the file says of a tensor: where it lies in which storage."""

    storage: Any
    offset: Any
    size: Any
    stride: Any

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.size, *self.stride)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(self.size) > 8:
            raise Refused("a tensor of impossible shape")
        kind, name, key = self.storage[:3]
        if kind != "storage" or name not in _DTYPES or not isinstance(key, str):
            raise Refused("a tensor of other numbers than float32 and int64")


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


def _ordered_dict() -> dict[str, Any]:
    return {}


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): "FloatStorage",
    ("torch", "LongStorage"): "LongStorage",
}


class _StateDictMachine(Machine):
    """The pickle machine with the two opcodes more that a state_dict needs."""

    calls = Machine.calls | {"binpersid"}

    def binpersid(self, _: Any) -> None:
        """A storage is named by a tuple, which stays what it is."""
        if type(self.stack[-1]) is not tuple:
            raise Refused("a storage without a name")

    def build(self, _: Any) -> None:
        """Drop what PyTorch notes of the versions of modules."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise Refused("a state for what is no dictionary")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a PyTorch state_dict file by name.

    Raises
    ------
    InputError
        The file is missing, truncated, over 1 GiB, or holds anything but float32 and int64 tensors.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"weights {path}: more than {MAX_BYTES} bytes, too large for a state_dict of one network")
        stream = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read weights {path}: {error.strerror or error}") from error
    try:
        return _read(stream)
    except Exception as error:  # a damaged file can raise nearly anything
        reason = " ".join(f"{'refused: it holds ' if isinstance(error, Refused) else ''}{error}".split())[:120]
        raise InputError(
            f"weights {path}: expected a PyTorch state_dict file (the format before 1.6), found something else "
            f"({reason}); it may be truncated, get it again"
        ) from None


def _read(stream: io.BytesIO) -> dict[str, np.ndarray]:
    magic, _, _, tensors = (_StateDictMachine(_NAMES).run(stream) for _ in range(4))  # version, sizes of types: unused
    if magic != _MAGIC:
        raise ValueError("wrong magic number")
    if type(tensors) is not dict or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise Refused("something else than tensors by name")
    storages = _read_storages(stream, {tensor.storage[2]: tensor.storage[1] for tensor in tensors.values()})
    if sum(math.prod(tensor.size) for tensor in tensors.values()) > sum(len(values) for values in storages.values()):
        raise ValueError("tensors that hold more values than the file")
    return {str(name): _as_array(storages[tensor.storage[2]], tensor) for name, tensor in tensors.items()}


def _read_storages(stream: io.BytesIO, kinds: dict[str, str]) -> dict[str, np.ndarray]:
    """Read the raw blocks that follow the pickles: per key an int64 length, then that many values."""
    storages = {}
    for key in _StateDictMachine(_NAMES).run(stream):
        length, dtype = int.from_bytes(stream.read(8), "little"), _DTYPES[kinds[key]]
        storages[key] = np.frombuffer(stream.read(length * dtype.itemsize), dtype, count=length)
    return storages


def _as_array(values: np.ndarray, tensor: _Tensor) -> np.ndarray:
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.size, tensor.stride, strict=True))
    if min((*tensor.size, *tensor.stride, 1)) < 1 or last >= len(values):
        raise ValueError("a tensor reaches past its storage")
    steps = [s * values.itemsize for s in tensor.stride]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.size, steps))
