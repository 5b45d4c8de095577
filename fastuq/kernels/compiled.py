"""How every kernel is compiled, and what the processor offers."""

import functools

import numba
from llvmlite import binding

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
kernel = numba.njit(**_OPTIONS)
"""Compile without bounds checks, releasing the GIL: threads are Python's own, so their number is an argument.

No fastmath: a multiply and an add stay two IEEE operations, so every processor gives the same bits.
"""

inlined = numba.njit(**_OPTIONS, forceinline=True)
"""The same, put into its callers: a call that passes a plan copies a hundred numbers."""


@functools.cache
def has_vnni() -> bool:
    """Tell whether this processor has the AVX512-VNNI instruction that `simd.dot_tile` emits."""
    features = binding.get_host_cpu_features()
    return all(features.get(name, False) for name in ("avx512f", "avx512bw", "avx512vl", "avx512vnni"))
