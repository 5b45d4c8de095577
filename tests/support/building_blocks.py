"""Building blocks of the kernels, called from tests."""

import functools

import numpy as np

from fastuq.montecarlo.kernels import building, compiled
from fastuq.montecarlo.kernels.targets import host_target


class _Same:
    """A record that is equal to every other one: it is its types that a kernel is compiled for."""

    def __init__(self, record):
        self.record = record

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


@functools.cache
def _code(function, kinds, target, same):
    return compiled._loaded(building.object_code(function, same.record, target))


def call(function, record, target=None):
    """Compile a kernel for a record and run it."""
    words = []
    kinds = compiled._flatten(record, words)
    run = _code(function, kinds, target or host_target(), _Same(record))
    frame = np.array([word & 0xFFFFFFFFFFFFFFFF for word in words], np.uint64)
    run(frame.ctypes.data)
