"""A reader for CIFAR's pickles that executes nothing: arrays, bytes, strings, numbers and containers only.

A pickle is a program. Two fences stand before it: only opcodes that build plain values may occur (and no memo index may
exceed the opcode count, for the interpreter allocates that much), and the only names that may be called are the four
that NumPy arrays are made of. Even those never reach NumPy: stand-ins collect what the pickle says about an array, and
the array is then made from checked parts.
"""

import codecs
import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError

MAX_BYTES = 2**30
"""Largest pickle that is read: CIFAR-100's largest has 155 MB."""

_PLAIN_OPCODES = """
PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 BINUNICODE SHORT_BINUNICODE BINUNICODE8
EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS
BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_DTYPES = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)) | {"f4", "f8", "b1"}


class _Refused(Exception):
    """What the pickle asks for is none of a data file's business."""


class _ArrayType:
    """Stands for numpy.ndarray, which a pickle names but never calls."""

    def __new__(cls, *_: Any) -> "_ArrayType":
        raise _Refused("a call of numpy.ndarray")


class _Dtype:
    """Stands for numpy.dtype: remembers the type's name and byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = _text(name), "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or any(part is not None for part in state[2:5]):
            raise _Refused("a structured dtype")
        self.order = _text(state[1])

    def numpy(self) -> np.dtype:
        if self.name not in _DTYPES or self.order not in ("<", ">", "=", "|"):
            raise _Refused(f"an array of dtype {self.order}{self.name}"[:80])
        return np.dtype(f"{self.order}{self.name}")


class _Array:
    """Stands for an array under construction."""

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("an array in an unknown form")
        _, shape, dtype, fortran, data = state
        self.value = _make_array(data, dtype, shape, "F" if fortran else "C")


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any = "C") -> _Array:
    array = _Array()
    array.value = _make_array(data, dtype, shape, _text(order))
    return array


def _make_array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise _Refused("an array without plain bytes behind it")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused("an array of impossible shape")
    flat = np.frombuffer(data, dtype.numpy())
    size = 1
    for length in shape:
        size *= length
    if size != flat.size:
        raise _Refused(f"an array whose shape {shape} does not fit its {flat.size} values")
    return np.ndarray(shape, flat.dtype, flat, order="C" if order == "C" else "F")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Stand for _codecs.encode, by which Python 3 writes bytes into old pickles."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("a call of _codecs.encode")
    return codecs.latin_1_encode(text)[0]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    if not isinstance(value, str):
        raise _Refused("a dtype without a name")
    return value


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Array
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise _Refused(f"the name {module}.{name}") from None


def _check_opcodes(stream: io.BytesIO) -> None:
    plain = frozenset(_PLAIN_OPCODES.split())
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name not in plain:
            raise _Refused(f"the pickle opcode {opcode.name}")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > count:
            raise _Refused("a memo index out of range")
    stream.seek(0)


def read_pickle(path: str | Path) -> dict[str, Any]:
    """Return the dictionary that a CIFAR pickle holds, with str keys, nothing of the file having been executed.

    Parameters
    ----------
    path : path-like
        File in the python layout of CIFAR-10 or CIFAR-100.

    Returns
    -------
    dict
        Values are ndarrays, bytes, str, numbers, lists, tuples and dicts.

    Raises
    ------
    InputError
        The file is missing, truncated, no pickle, over 1 GiB, or holds anything but plain data.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes is too large for a CIFAR file (at most {MAX_BYTES})")
        stream = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        _check_opcodes(stream)
        value = _Unpickler(stream, encoding="bytes").load()
    except _Refused as error:
        raise InputError(
            f"{path}: refused: it holds {error}, but a CIFAR file holds plain data only; "
            "it is no CIFAR file or was tampered with, fetch it anew with `fastuq download cifar100`"
        ) from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(
            f"{path}: expected a CIFAR pickle, found a truncated or foreign file ({type(error).__name__}); "
            "fetch it anew with `fastuq download cifar100`"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a dictionary as in CIFAR's python layout, found {type(value).__name__}")
    return {_key(key): item.value if isinstance(item, _Array) else item for key, item in value.items()}


def _key(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
