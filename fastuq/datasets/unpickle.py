"""Unpickles plain data in a process of its own: ``python -I -S unpickle.py SIZE COUNT``, the file as standard input.

Nothing of a file is executed: the names that a pickle may use stand for functions of this file, which collect what it
says. What it makes the unpickler do is bounded by limits on this process, in proportion to the size of the file. The
answer is a line that says that the limits hold, a line of JSON, then the bytes it refers to. Nothing of fastuq or NumPy
is imported: it starts in 0.03 s.
"""

import json
import pickle
import resource
import signal
import sys
from typing import Any, BinaryIO

MEMORY, MEMORY_FACTOR = 48 * 2**20, 6
"""Bytes that may be used beside what the process has at its start, and as many times the size of the file more."""
SECONDS, BYTES_PER_SECOND = 2, 2**24
"""Processor time that may be used, and for how many bytes a second more; on the clock thirty times that may pass."""


READY = b"ready\n"


class Refused(Exception):
    """What the pickle holds is none of a data file's business."""


class _Dict(dict):
    """Stands for an OrderedDict; what else it carries (PyTorch notes versions of modules) is dropped."""

    def __setstate__(self, _: Any) -> None:
        pass


class _Dtype:
    """Stands for numpy.dtype: remembers the type's name and byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = _text(name), "="

    def __setstate__(self, state: Any) -> None:
        """Take (version, byte order, subarray, names, fields, ...)."""
        if any(part is not None for part in state[2:5]):
            raise Refused("a structured dtype")
        self.order = _text(state[1])


class _Array:
    """Stands for an array: collects dtype, shape, Fortran order and bytes, which the other side checks."""

    def __init__(self, *_: Any) -> None:
        self.parts: tuple = ()

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, dtype, Fortran order, data)."""
        _, shape, dtype, fortran, data = state
        if type(dtype) is not _Dtype or type(data) not in (bytes, bytearray):
            raise Refused("an array without plain bytes behind it")
        self.parts = (dtype.order + dtype.name, shape, bool(fortran), data)


def _filled(*state: Any) -> _Array:
    array = _Array()
    array.__setstate__((None, *state))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Stand for _codecs.encode, by which Python 3 writes bytes into old pickles."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused("a call of _codecs.encode")
    return text.encode("latin-1")


def _text(value: Any) -> str:
    return value.decode("ascii") if type(value) is bytes else "" + value


NAMES: dict[tuple[str, str], Any] = {
    ("__builtin__", "bytes"): lambda: b"",  # Python 3 writes b"" so into old pickles
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _Dict,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    ("torch", "FloatStorage"): "FloatStorage",
    ("torch", "LongStorage"): "LongStorage",
    ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: parts[:4],  # storage, offset, size, stride
}
for _core in ("numpy.core", "numpy._core"):
    NAMES[f"{_core}.multiarray", "_reconstruct"] = _Array
    NAMES[f"{_core}.multiarray", "scalar"] = lambda dtype, data: _filled((), dtype, False, data)
    NAMES[f"{_core}.numeric", "_frombuffer"] = lambda data, dtype, shape, order: _filled(
        shape, dtype, order == "F", data
    )


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise Refused(f"the name {module}.{name}"[:80])
        return NAMES[module, name]

    def persistent_load(self, identity: Any) -> Any:
        """Keep the tuple by which PyTorch names a storage as it is."""
        if type(identity) is not tuple:
            raise Refused("a reference to another file")
        return identity


class _Plain:
    """Values as JSON: a list is ``[kind, *parts]``, whose bytes lie in `blobs`.

    Parameters
    ----------
    size : int
        Of the file, of which each value takes a byte: one that is used many times over soon has no more.
    """

    def __init__(self, size: int) -> None:
        self.left = 2**16 + size
        self.blobs: list[bytes] = []
        self.places: dict[int, int] = {}

    def __call__(self, value: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Refused("more values than bytes")
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind in (bytes, bytearray):
            return ["bytes", self._place(value)]
        if kind in (list, tuple):
            return [kind.__name__, *map(self, value)]
        if kind in (dict, _Dict):
            if not all(type(key) in (bytes, str) for key in value):
                raise Refused("a dictionary with keys other than text")
            return ["dict", *map(self, value), *map(self, value.values())]
        if kind is _Array and value.parts:
            return ["array", *map(self, value.parts)]
        raise Refused(f"an object of type {kind.__name__}")

    def _place(self, data: bytes) -> int:
        if id(data) not in self.places:
            self.places[id(data)] = len(self.blobs)
            self.blobs.append(data)
        return self.places[id(data)]


def answer(stream: BinaryIO, size: int, count: int) -> tuple[bytes, list[bytes]]:
    """Return `count` values and what follows them, as a line of JSON and the bytes it refers to; or why there are none.

    Parameters
    ----------
    stream : binary file
        At the start of the first pickle.
    size : int
        Of the whole file in bytes.
    count : int
        How many pickles to read.
    """
    plain = _Plain(size)
    try:
        values = [_Unpickler(stream, encoding="bytes").load() for _ in range(count)]
        value = plain([*values, stream.read()])
        found = {"value": value, "blobs": [len(data) for data in plain.blobs]}
        return json.dumps(found, separators=(",", ":")).encode() + b"\n", plain.blobs
    except Refused as error:
        return json.dumps({"refused": str(error)}).encode() + b"\n", []
    except MemoryError:
        return b'{"damaged": "it asks for more memory than a file of its size warrants"}\n', []
    except Exception as error:  # a damaged pickle can raise nearly anything
        return json.dumps({"damaged": type(error).__name__}).encode() + b"\n", []


def memory_limit(size: int) -> int:
    """Return how many bytes of address space this process may have while it reads a file of `size` bytes."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    return used + MEMORY + MEMORY_FACTOR * size


def limit(size: int) -> None:
    """Bound memory, processor time and time on the clock of this process, and let it write no file."""
    seconds = SECONDS + size // BYTES_PER_SECOND
    for what, most in (
        (resource.RLIMIT_AS, memory_limit(size)),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(30 * seconds)


if __name__ == "__main__":
    given, out = int(sys.argv[1]), sys.stdout.buffer
    try:
        limit(given)
    except (OSError, ValueError) as error:
        out.write(f"no limits ({error})\n".encode())
        sys.exit(1)
    out.write(READY)
    out.flush()
    line, data = answer(sys.stdin.buffer, given, int(sys.argv[2]))
    out.writelines([line, *data])
    out.flush()
