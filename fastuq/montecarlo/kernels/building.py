"""How kernels are compiled: by Numba to optimized LLVM IR, and by LLVM to the object code that `compiled` keeps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.core.types.containers import BaseTuple
from numba.extending import intrinsic, models, register_model
from numba.np import arrayobj

from fastuq.montecarlo.kernels.compiled import ENTRY, Frame, target_machine
from fastuq.montecarlo.kernels.targets import Target, compiling_for

_OPTIONS = {"error_model": "numpy", "_nrt": False}
I64 = ir.IntType(64)

kernel = numba.njit(inline="always", boundscheck=False, **_OPTIONS)
"""A function that kernels are made of: put into its callers as Numba IR, since what is compiled by itself takes time.

Without Numba's run-time library none of them can allocate. No fastmath: a multiply and an add stay two IEEE
operations, so every processor gives the same bits.
"""


class FrameType(types.Opaque):
    """A record laid flat (`compiled.Frame`), as its address."""

    def __init__(self, kind: Any) -> None:
        super().__init__(f"Frame({kind})")
        self.kind = kind


register_model(FrameType)(models.OpaqueModel)


@intrinsic
def record_of(typingctx, frame):
    """Return the record that a kernel is given: the first line of each."""
    if not isinstance(frame, FrameType):
        return None  # numba says that the types do not fit

    def codegen(context, builder, signature, args):
        words = builder.bitcast(args[0], I64.as_pointer())
        return _Reader(context, builder, words).read(frame.kind)

    return frame.kind(frame), codegen


def object_code(function: Callable, record: Any, target: Target) -> bytes:
    """Compile a kernel for records like this one."""
    signature = types.void(FrameType(_typed(record)))
    with compiling_for(target), _as_written():
        made = numba.cfunc(signature, **_OPTIONS)(function.py_func)  # type: ignore[attr-defined]
    text = made.inspect_llvm().replace(made.native_name, ENTRY)
    return target_machine().emit_object(binding.parse_assembly(text))


@contextmanager
def _as_written() -> Iterator[None]:
    """Keep LLVM from looking for vectors: what pays is written as vectors already."""
    given = config.LOOP_VECTORIZE, config.SLP_VECTORIZE
    config.LOOP_VECTORIZE = config.SLP_VECTORIZE = 0
    try:
        yield
    finally:
        config.LOOP_VECTORIZE, config.SLP_VECTORIZE = given


def _typed(value: Any) -> Any:
    """Return Numba's type of a record."""
    if isinstance(value, Frame):
        value = value.record
    if isinstance(value, tuple):
        kinds = tuple(map(_typed, value))
        return BaseTuple.from_types(kinds, None if type(value) is tuple else type(value))
    if isinstance(value, np.ndarray):
        return types.Array(numba.from_dtype(value.dtype), value.ndim, "C")
    return types.boolean if isinstance(value, bool) else types.int64 if isinstance(value, int) else numba.typeof(value)


class _Reader:
    """Makes Numba's values of the words of a frame."""

    def __init__(self, context: Any, builder: Any, frame: Any) -> None:
        self.context, self.builder, self.frame, self.at = context, builder, frame, 0

    def word(self) -> Any:
        loaded = self.builder.load(self.builder.gep(self.frame, [I64(self.at)]))
        self.at += 1
        return loaded

    def read(self, kind: Any) -> Any:
        if isinstance(kind, types.Array):
            return self._array(kind)
        if isinstance(kind, BaseTuple):
            return self.context.make_tuple(self.builder, kind, [self.read(part) for part in kind.types])
        word = self.word()
        if kind == types.float32:
            return self.builder.bitcast(self.builder.trunc(word, ir.IntType(32)), ir.FloatType())
        return self.builder.trunc(word, ir.IntType(1)) if kind == types.boolean else word

    def _array(self, kind: Any) -> Any:
        context, builder = self.context, self.builder
        made, item = context.make_array(kind)(context, builder), context.get_data_type(kind.dtype)
        data = builder.inttoptr(self.word(), item.as_pointer())
        shape = [self.word() for _ in range(kind.ndim)]
        strides: list[Any] = []
        step = size = I64(context.get_abi_sizeof(item))
        for length in reversed(shape):
            strides.insert(0, step)
            step = builder.mul(step, length)
        arrayobj.populate_array(made, data, shape, strides, size, None)
        return made._getvalue()
