"""What kernels are compiled for: the shape of a tile and the dot product, by what the processor offers.

One tile serves all of them (`tiles`); a target is a row of numbers in `TARGETS`. The integers that come out are the
same.
"""

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import binding


@dataclass(frozen=True)
class Dot:
    """A dot product of small integers that is added to 32-bit sums.

    Attributes
    ----------
    name : str
        A function of `fastuq.montecarlo.kernels.dots`.
    group : int
        Neighbouring inputs that one lane takes: 4 of 8 bits or 2 of 16 bits.
    signed : bool
        Input codes go in less 128, as signed bytes.
    """

    name: str
    group: int
    signed: bool = False


@dataclass(frozen=True)
class Target:
    """A class of processors.

    Attributes
    ----------
    name : str
    machine : str
        ``x86`` or ``arm``; empty where any will do.
    features : tuple of tuple of str
        LLVM's names of what must be there: all of one of these sets.
    lanes : int
        32-bit lanes of a vector register.
    vectors : tuple of int
        Registers of samples that a tile may span, most first; with 6 outputs all sums stay in registers.
    dot : Dot
    fused : bool
        Multiply-adds are rounded once. Where they are not, last bits of float32 numbers differ.
    compress : bool
        The processor moves chosen lanes to the front in one instruction.
    """

    name: str
    machine: str
    features: tuple[tuple[str, ...], ...]
    lanes: int
    vectors: tuple[int, ...]
    dot: Dot
    fused: bool = True
    compress: bool = False

    @property
    def runs_here(self) -> bool:
        """Whether this processor can run it."""
        there = processor()[1]
        return self.machine in ("", _machine()) and any(there.issuperset(needed) for needed in self.features)


_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
_QUADS, _PAIRS = Dot("vpdpbusd", 4), Dot("pmaddwd", 2)
TARGETS = (
    Target("AVX512-VNNI", "x86", ((*_AVX512, "avx512vnni"),), 16, (4, 2, 1), _QUADS, compress=True),
    Target("AVX512", "x86", (_AVX512,), 16, (4, 2, 1), _PAIRS, compress=True),
    Target("AVX-VNNI", "x86", (("avx2", "fma", "avxvnni"), ("avx512vl", "avx512vnni")), 8, (2,), _QUADS),
    Target("AVX2", "x86", (("avx2", "fma"),), 8, (2,), _PAIRS),
    Target("SSE2", "x86", (("sse2",),), 4, (2,), _PAIRS, fused=False),
    Target("NEON-DOT", "arm", (("dotprod",),), 4, (2,), Dot("sdot", 4, signed=True)),
    Target("NEON", "arm", ((),), 4, (2,), Dot("multiply_pairs", 2)),
    Target("128-bit", "", ((),), 4, (2,), Dot("multiply_pairs", 2), fused=False),
)
"""From the best to the one that every processor runs. `docs/performance.md` says which of them were measured."""


def features_text() -> str:
    """Return the features of the processor that is compiled for, as LLVM takes them, by Numba's settings."""
    given, name = os.environ.get("NUMBA_CPU_FEATURES"), os.environ.get("NUMBA_CPU_NAME")
    if given is not None or name == "generic":
        return given or ""
    features = binding.get_host_cpu_features()
    if os.environ.get("NUMBA_ENABLE_AVX") == "0":
        features.update({feature: False for feature in features if feature.startswith("avx")})
    return features.flatten()


@functools.cache
def processor() -> tuple[str, frozenset[str]]:
    """Return LLVM's name of the processor that is compiled for, and the names of its features.

    Numba's settings replace the host's: both must compile for the same one.
    """
    name = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    return name, frozenset(feature[1:] for feature in features_text().split(",") if feature.startswith("+"))


def _machine() -> str:
    """Return the family of this processor, as `Target.machine` names it."""
    triple = binding.get_process_triple()
    return "x86" if triple.startswith("x86_64") else "arm" if triple.startswith(("aarch64", "arm64")) else triple


@functools.cache
def host_target() -> Target:
    """Return the best target that this processor runs."""
    return next(target for target in TARGETS if target.runs_here)


_compiling: list[Target] = []
_lock = threading.RLock()


@contextmanager
def compiling_for(target: Target) -> Iterator[None]:
    """Let `current_target` be this one while kernels are compiled, by one thread at a time."""
    with _lock:
        _compiling.append(target)
        try:
            yield
        finally:
            _compiling.pop()


def current_target() -> Target:
    """Return what is being compiled for; without `compiling_for`, the host."""
    return _compiling[-1] if _compiling else host_target()
