"""A reader for CIFAR's pickles that executes nothing: arrays, bytes, strings, numbers and containers only.

A pickle is a program for a stack machine that can call anything. The machine here knows only the opcodes that build
plain values, and the only names it resolves are the four that NumPy arrays are made of. Even those never reach NumPy:
stand-ins collect what the pickle says about an array, and the array is then made from checked parts. Keys of
dictionaries are text or numbers, for Python hashes nested tuples without bound in time and stack.
"""

import io
import pickletools
from pathlib import Path
from typing import Any, BinaryIO

from fastuq.datasets.pickled_arrays import NAMES, Array, Dtype, Refused
from fastuq.errors import InputError

MAX_BYTES = 2**30
"""Largest pickle that is read: CIFAR-100's largest has 155 MB."""


class Machine:
    """Runs a pickle; each method is the opcode of its name and gets the opcode's argument.

    Parameters
    ----------
    names : dict of (str, str) to object
        The only names (module, name) that the pickle may use, and what stands for them.
    """

    calls: frozenset[str]
    """The opcodes that have a method."""

    def __init__(self, names: dict[tuple[str, str], Any]) -> None:
        self.names = names
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name.lower()
            if name == "stop":
                return self.stack.pop()
            if name in _PLAIN:
                self.stack.append(argument)
            elif name in self.calls:
                getattr(self, name)(argument)
            else:
                raise Refused(f"the pickle opcode {opcode.name}")
        raise ValueError("no end")

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def proto(self, _: Any) -> None:
        """Every protocol is read alike."""

    frame = proto

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def none(self, _: Any) -> None:
        self.stack.append(None)

    def newtrue(self, _: Any) -> None:
        self.stack.append(True)

    def newfalse(self, _: Any) -> None:
        self.stack.append(False)

    def binstring(self, text: str) -> None:
        """A string of Python 2 is bytes; pickletools hands it over as Latin-1."""
        self.stack.append(text.encode("latin-1"))

    short_binstring = binstring

    def empty_list(self, _: Any) -> None:
        self.stack.append([])

    def empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def tuple(self, _: Any) -> None:
        self.stack.append((*self._since_mark(),))

    def _last(self, count: int) -> None:
        self.stack[-count:] = [(*self.stack[-count:],)]

    def tuple1(self, _: Any) -> None:
        self._last(1)

    def tuple2(self, _: Any) -> None:
        self._last(2)

    def tuple3(self, _: Any) -> None:
        self._last(3)

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused("an append to what is no list")
        self.stack[-1].extend(items)

    def append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or not all(isinstance(key, bytes | str | int) for key in items[::2]):
            raise Refused("a dictionary with keys other than text and numbers")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def setitems(self, _: Any) -> None:
        self._update(self._since_mark())

    def binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    long_binput = binput

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    long_binget = binget

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in self.names:
            raise Refused(f"the name {module}.{name}"[:80])
        self.stack.append(self.names[module, name])

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._global(module, name)

    def reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if called not in self.names.values() or type(arguments) is not tuple:
            raise Refused("a call of what is none of its names")
        self.stack.append(called(*arguments))

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Array | Dtype):
            raise Refused("a state for what is no array")
        self.stack[-1].set_state(state)


setattr(Machine, "global", lambda self, names: self._global(*names.split(" ", 1)))  # a reserved word
_PLAIN = frozenset(
    (
        *("binint", "binint1", "binint2", "long1", "binfloat", "binunicode", "short_binunicode", "binunicode8"),
        *("binbytes", "short_binbytes", "binbytes8", "bytearray8"),
    )
)
Machine.calls = frozenset(name for name in vars(Machine) if not name.startswith("_")) - {"run", "calls"}


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
        value = Machine(NAMES).run(stream)
    except Refused as error:
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
    return {_key(key): item.value if isinstance(item, Array) else item for key, item in value.items()}


def _key(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
