"""Seeded damage to files, for the tests of reliability: flipped bits, cuts, and edits as fuzzers make them."""

import ctypes
import io
import resource
import tracemalloc
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fastuq.datasets import pickles, unpickle
from fastuq.errors import LONGEST, FastUQError

MEMORY = 64 * 2**20
_TELLING = [b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\x00" * 8, b"\x80", b"\x01\x00\x00\x00", b"\n", b"-1"]


def flipped(data, bit):
    """Return `data` with one bit the other way."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damage(path, offset=-1):
    """Flip a bit of the byte at `offset` in a file; return what it holds then."""
    data = bytearray(Path(path).read_bytes())
    data[offset] ^= 4
    Path(path).write_bytes(data)
    return data


def drawn_bits(rng, data, count):
    """Return `count` different bits of `data`, or all there are."""
    return rng.choice(8 * len(data), min(count, 8 * len(data)), replace=False).tolist()


def edited(rng, data):
    """Return `data` after one to four edits: bits, telling values, cuts, repeats, pieces moved."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(changed) + 1))
        size = int(rng.integers(1, 2 ** rng.integers(1, 8)))
        match rng.integers(0, 7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                value = _TELLING[rng.integers(0, len(_TELLING))]
                changed[at : at + len(value)] = value
            case 2:
                changed[at : at + size] = rng.bytes(size)
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at:at] = changed[at : at + size]
            case 5:
                there = int(rng.integers(0, len(changed) + 1))
                changed[at : at + size] = changed[there : there + size]
            case _:
                del changed[at:]
    return bytes(changed)


def outcome(use, memory=MEMORY):
    """Return what `use` gives, or the FastUQError it raises: one short line, no warning, little memory either way."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = use()
    except FastUQError as error:
        found = error.with_traceback(None)  # which holds this frame, and all that it has read
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if refused(found):
        assert "\n" not in str(found)
        assert len(str(found)) <= LONGEST
    assert peak < memory, f"{peak} bytes"
    return found


def refused(found):
    """Tell whether `outcome` was a refusal."""
    return isinstance(found, FastUQError)


def generator(seed):
    """Return the generator of a test, whose seed makes its failures repeatable."""
    return np.random.default_rng(seed)


_release = partial(getattr(ctypes.CDLL(None), "malloc_trim", int), 0)
getattr(ctypes.CDLL(None), "mallopt", max)(-3, 2**20)  # M_MMAP_THRESHOLD: what is large goes back when it is freed


@contextmanager
def unpickled_here():
    """Unpickle in this process, which takes no start, under the memory limit of the one that does it otherwise."""

    @contextmanager
    def answer(file, size, count):
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        _release()  # what earlier files have left free would be used beside the limit
        resource.setrlimit(resource.RLIMIT_AS, (unpickle.memory_limit(size), hard))
        try:
            with open(file.fileno(), "rb", closefd=False) as stream:  # buffered as standard input is
                line, blobs = unpickle.answer(stream, size, count)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        yield io.BytesIO(line + b"".join(blobs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickles, "_answer", answer)
        yield
