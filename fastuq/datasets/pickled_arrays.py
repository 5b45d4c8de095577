"""What a pickle says about a NumPy array, collected without NumPy's help and made into one from checked parts."""

from typing import Any

import numpy as np

_DTYPES = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)) | {"f4", "f8", "b1"}


class Refused(Exception):
    """What the pickle asks for is none of a data file's business."""


class _ArrayType:
    """Stands for numpy.ndarray, which a pickle names but never calls."""

    def __new__(cls, *_: Any) -> "_ArrayType":
        raise Refused("a call of numpy.ndarray")


class Dtype:
    """Stands for numpy.dtype: remembers the type's name and byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = _text(name), "="

    def set_state(self, state: Any) -> None:
        """Take (version, byte order, subarray, names, fields, ...)."""
        if not isinstance(state, tuple) or len(state) < 2 or any(part is not None for part in state[2:5]):
            raise Refused("a structured dtype")
        self.order = _text(state[1])

    def numpy(self) -> np.dtype:
        """Return the real dtype, if it is one of numbers."""
        if self.name not in _DTYPES or self.order not in ("<", ">", "=", "|"):
            raise Refused(f"an array of dtype {self.order}{self.name}"[:80])
        return np.dtype(f"{self.order}{self.name}")


class Array:
    """Stands for an array under construction."""

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Take (version, shape, dtype, Fortran order, data)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused("an array in an unknown form")
        _, shape, dtype, fortran, data = state
        self.value = _make_array(data, dtype, shape, "F" if fortran else "C")


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any = "C") -> Array:
    array = Array()
    array.value = _make_array(data, dtype, shape, _text(order))
    return array


def _make_array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, Dtype) or order not in ("C", "F"):
        raise Refused("an array without plain bytes behind it")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise Refused("an array of impossible shape")
    flat = np.frombuffer(data, dtype.numpy())
    size = 1
    for length in shape:
        size *= length
    if size != flat.size:
        raise Refused(f"an array whose shape {shape} does not fit its {flat.size} values")
    return np.ndarray(shape, flat.dtype, flat, order="C" if order == "C" else "F")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Stand for _codecs.encode, by which Python 3 writes bytes into old pickles."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("a call of _codecs.encode")
    return text.encode("latin-1")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    if not isinstance(value, str):
        raise Refused("a dtype without a name")
    return value


def _empty_bytes() -> bytes:
    """Stand for bytes, by which Python 3 writes b"" into old pickles."""
    return b""


NAMES: dict[tuple[str, str], Any] = {
    ("__builtin__", "bytes"): _empty_bytes,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    NAMES[f"{_core}.multiarray", "_reconstruct"] = Array
    NAMES[f"{_core}.numeric", "_frombuffer"] = _frombuffer
