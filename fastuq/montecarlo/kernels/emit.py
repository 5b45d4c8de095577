"""Functions written as LLVM IR, made callable from kernels: the only place where an array becomes an address.

Kernels hold arrays, never addresses. A function in IR is given the array itself, and its address exists within the call
alone, for which the caller keeps the array: an address that outlives its array cannot be written.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.types.containers import BaseNamedTuple, BaseTuple
from numba.core.types.misc import NoneType, unliteral
from numba.extending import intrinsic

from fastuq.montecarlo.kernels.ir import I64


def in_ir(returns: Any = types.void) -> Callable[[Callable], Any]:
    """Make a function that kernels call out of ``emit(builder, *values)``, which writes its LLVM IR.

    `emit` gets a contiguous array as the address of its first element (int64), a whole number as int64, the argument
    None as None (so that the caller's types choose between instructions), a tuple as a tuple of such values, named
    where it is named, anything else as numba has it.
    """

    def decorate(emit: Callable) -> Any:
        names = list(inspect.signature(emit).parameters)[1:]

        def define(typingctx, *given):
            if not all(map(_is_contiguous, given)):
                return None  # numba says that the types do not fit

            def codegen(context, builder, signature, args):
                values = [_value(context, builder, *each) for each in zip(signature.args, args, strict=True)]
                found = emit(builder, *values)
                return context.get_dummy_value() if found is None else found

            return returns(*map(_widened, given)), codegen

        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kinds) for name in ("typingctx", *names)]
        define.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        define.__name__, define.__doc__ = emit.__name__, emit.__doc__
        return intrinsic(define)

    return decorate


def _is_contiguous(kind: Any) -> bool:
    if isinstance(kind, BaseTuple):
        return all(map(_is_contiguous, kind.types))
    return not isinstance(kind, types.Array) or kind.layout == "C"


def _widened(kind: Any) -> Any:
    kind = unliteral(kind)
    return types.int64 if isinstance(kind, types.Integer) else kind


def _value(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        return builder.ptrtoint(context.make_array(kind)(context, builder, value).data, I64)
    if isinstance(kind, BaseTuple):
        parts = zip(kind.types, cgutils.unpack_tuple(builder, value, len(kind.types)), strict=True)
        values = [_value(context, builder, *part) for part in parts]
        return kind.instance_class(*values) if isinstance(kind, BaseNamedTuple) else tuple(values)
    return None if isinstance(kind, NoneType) else value


def outlined(emit: Callable) -> Callable:
    """Let what ``emit(builder, *values)`` writes be a function of the module, written once and called.

    A tile has all registers to itself then, and is compiled once however often it is used. Values that are no LLVM
    values are constants: each choice of them is a function of its own.
    """

    @wraps(emit)
    def called(builder: Any, *values: Any) -> None:
        flat: list[Any] = []
        shape = _flattened(values, flat)
        name = f"fastuq.{emit.__module__}.{emit.__name__}({shape})"
        function = builder.module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in flat])
            function = ir.Function(builder.module, kind, name)
            function.linkage = "internal"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            emit(inside, *_rebuilt(values, iter(function.args)))
            inside.ret_void()
        builder.call(function, flat)

    return called


def _flattened(value: Any, flat: list[Any]) -> str:
    if isinstance(value, ir.Value):
        flat.append(value)
        return str(value.type).replace('"', "")
    if isinstance(value, tuple):
        return f"{type(value).__name__}[{', '.join([_flattened(part, flat) for part in value])}]"
    return repr(value)


def _rebuilt(value: Any, flat: Any) -> Any:
    if isinstance(value, ir.Value):
        return next(flat)
    if isinstance(value, tuple):
        parts = [_rebuilt(part, flat) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
