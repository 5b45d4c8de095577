"""Read the arrays of a PyTorch ``state_dict`` file (the format before 1.6) without PyTorch and without trusting it."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastuq.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES: dict[str, Any] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> tuple[Any, ...]:
    return storage, offset, size, stride


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): "FloatStorage",
    ("torch", "LongStorage"): "LongStorage",
}


class _StateDictUnpickler(pickle.Unpickler):
    """Resolve the four names a state_dict needs, to harmless stand-ins, and refuse every other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"refused {module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a PyTorch state_dict file by name.

    Raises
    ------
    InputError
        The file is missing, truncated, or holds anything but float32 and int64 tensors.
    """
    try:
        with open(path, "rb") as file:
            if _load(file) != _MAGIC:
                raise ValueError("wrong magic number")
            _load(file), _load(file)  # protocol version, sizes of the writer's types
            tensors = _load(file)
            storages = _read_storages(file, tensors)
            return {name: _as_array(storages, *entry) for name, entry in tensors.items()}
    except OSError as error:
        raise InputError(f"cannot read weights {path}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InputError(
            f"weights {path}: expected a PyTorch state_dict file (the format before 1.6), found something else "
            f"({error}); it may be truncated, get it again"
        ) from error


def _load(file: BinaryIO) -> Any:
    return _StateDictUnpickler(file).load()


def _read_storages(file: BinaryIO, tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read the raw blocks that follow the pickles: per key an int64 length, then that many values."""
    dtypes = {storage[2]: _DTYPES[storage[1]] for storage, *_ in tensors.values()}
    storages = {}
    for key in _load(file):
        length = int(np.frombuffer(file.read(8), "<i8")[0])
        storages[key] = np.frombuffer(file.read(length * dtypes[key].itemsize), dtypes[key], count=length)
    return storages


def _as_array(storages: dict[str, np.ndarray], storage: Any, offset: int, size: Any, stride: Any) -> np.ndarray:
    values = storages[storage[2]][offset:]
    last = sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min((*size, *stride, 1)) < 1 or last >= len(values):
        raise ValueError("a tensor reaches past its storage")
    steps = [s * values.itemsize for s in stride]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, size, steps))
