"""Run every kernel on buffers that touch a page which nobody may read: `python tests/support/guarded.py before|behind`.

Run by test_memory.py in a process of its own, which a read or write beyond a buffer ends at once.
"""

import ctypes
import faulthandler
import mmap
import sys
from itertools import product

import numpy as np
from heads import LAYOUTS, model_of, random_features, random_head

from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.targets import TARGETS
from fastuq.montecarlo.nearest import Nearest

PAGE = mmap.PAGESIZE
NARROW = [target for target in TARGETS if target.name in ("AVX2", "128-bit") and target.runs_here]
PROTECT = ctypes.CDLL(None, use_errno=True).mprotect
FORBIDDEN = 0


def guarded(shape, dtype, side):
    """Make an array like `memory.empty` whose first or last byte lies beside a forbidden page."""
    sizes = tuple(np.atleast_1d(shape).tolist())
    count = int(np.prod(sizes)) * np.dtype(dtype).itemsize
    pages = max(1, -(-count // PAGE))
    room = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    for page in (0, pages + 1):
        if PROTECT(ctypes.c_void_p(start + page * PAGE), PAGE, FORBIDDEN):
            raise OSError(ctypes.get_errno(), "mprotect")
    at = PAGE if side == "before" else (pages + 1) * PAGE - count
    inside = np.frombuffer(room, np.uint8, count, at)
    inside[:] = 0xA5
    return inside.view(dtype).reshape(sizes)


def copied(array, side):
    made = guarded(array.shape, array.dtype, side)
    made[...] = array
    return made


def run(model, samples, target, **options):
    features, ids = random_features(samples, model.head.num_features), np.arange(samples) * 7
    addend = np.random.default_rng(0).standard_normal((samples, model.head.num_classes)).astype(np.float32)
    plain = MonteCarlo(model, target=target, **options)(features, ids, addend)
    empty, reused = memory.empty, memory.reused
    memory.empty = lambda shape, dtype: guarded(shape, dtype, SIDE)
    memory.reused = lambda array, count, dtype: memory.empty(count, dtype)
    try:
        found = MonteCarlo(model, target=target, **options)(*(copied(array, SIDE) for array in (features, ids, addend)))
    finally:
        memory.empty, memory.reused = empty, reused
    assert np.array_equal(found.mean, plain.mean)
    assert np.array_equal(found.std, plain.std)


def run_nearest(samples, width, components, counts, target):
    rng = np.random.default_rng(samples)
    shapes = (width, components), (sum(counts), components), (samples, width)
    weights, rows, features = (rng.integers(-127, 128, shape, np.int8) for shape in shapes)
    given, empty = (weights, np.arange(components), 150.0, rows, np.array(counts)), memory.empty
    plain = Nearest(*given, target=target)(features, 1)
    memory.empty = lambda shape, dtype: guarded(shape, dtype, SIDE)
    try:
        found = Nearest(*given, target=target)(copied(features, SIDE), 1)
    finally:
        memory.empty = empty
    assert np.array_equal(found, plain)


if __name__ == "__main__":
    SIDE = sys.argv[1]
    faulthandler.enable()
    paths = [("int8", target) for target in (None, *NARROW)] + [("float32", target) for target in (None, NARROW[0])]
    for name, layout in LAYOUTS.items():
        head = random_head(layout)
        model = model_of(head, random_features(70, head.num_features))
        for (precision, target), masks, samples in product(paths, ("shared", "per_sample"), (1, 20, 70)):
            print(name, precision, target and target.name, masks, samples, flush=True)
            run(model, samples, target, precision=precision, masks=masks, num_iter=9, seed=2, entropy=True, threads=1)
    for target, samples, width, components in product((None, *NARROW), (1, 20, 70), (3, 64, 130), (2, 64, 70)):
        print("nearest", target and target.name, samples, width, components, flush=True)
        run_nearest(samples, width, components, [5, 6, 13], target)
    print("done")
