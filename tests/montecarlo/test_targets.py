"""Every target's tile, compiled for a processor of its class: the instruction is there, and all sums stay in registers.

What this machine can run is run in test_montecarlo.py; what it cannot is compiled here all the same.
"""

import re

import pytest
from llvmlite import binding, ir

from fastuq.montecarlo.kernels import rows, targets, tiles
from fastuq.montecarlo.kernels.ir import F32, I1, I32, I64
from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.kernels.targets import TARGETS, compiling_for

LINUX, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
PROCESSORS = [
    ("AVX512-VNNI", LINUX, "cascadelake", "vpdpbusd", "zmm"),
    ("AVX512", LINUX, "skylake-avx512", "vpmaddwd", "zmm"),
    ("AVX-VNNI", LINUX, "alderlake", "vpdpbusd", "ymm"),
    ("AVX2", LINUX, "haswell", "vpmaddwd", "ymm"),
    ("AVX2", LINUX, "znver2", "vpmaddwd", "ymm"),
    ("SSE2", LINUX, "x86-64", "pmaddwd", "xmm"),
    ("NEON-DOT", ARM, "neoverse-n1", "sdot", "v"),
    ("NEON", ARM, "cortex-a72", "mla", "v"),
]
ON_STACK = re.compile(r"\(%[re]sp\).*%[xyz]mm|%[xyz]mm.*\(%[re]sp\)|\b(ldr|str|ldp|stp)\s+q.*\[sp")


def assembly(target, triple, cpu, emit):
    """Return the assembly of what emit(builder) writes for a target, compiled for a processor."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 20), "entry")
    builder = ir.IRBuilder(function.append_basic_block())
    with compiling_for(target):
        emit(builder, function.args)
    builder.ret_void()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    parsed = binding.parse_assembly(str(module))
    tuning = binding.create_pipeline_tuning_options(speed_level=3)
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


def inner_loop(text, instruction):
    """Return the lines of the loop that has the most of an instruction: from a label to the jump back to it."""
    lines, best = text.splitlines(), []
    labels = {line.split(":")[0]: number for number, line in enumerate(lines) if re.match(r"^\.?L\w+:", line)}
    for number, line in enumerate(lines):
        jump = re.match(r"^\s+(j\w+|b\.\w+|b|cb\w+\s.*,|tb\w+\s.*,)\s+(\.?L\w+)$", line)
        start = labels.get(jump.group(2), number) if jump else number
        if start < number:
            loop = lines[start:number]
            if sum(instruction in one for one in loop) > sum(instruction in one for one in best):
                best = loop
    return best


def check(text, instruction, register, least):
    loop = inner_loop(text, instruction)
    used = [line for line in loop if re.search(rf"\b{instruction}\b", line)]
    assert len(used) >= least, f"{len(used)} {instruction} in\n" + "\n".join(loop)
    assert all(register in line for line in used)
    assert not [line for line in loop if ON_STACK.search(line)], "\n".join(loop)


def target_named(name):
    return next(target for target in TARGETS if target.name == name)


@pytest.mark.parametrize(("name", "triple", "cpu", "instruction", "register"), PROCESSORS)
def test_int8_tiles_stay_in_registers(name, triple, cpu, instruction, register):
    target = target_named(name)

    def emit(builder, args):
        rounding = (builder.bitcast(builder.trunc(args[7], I32), F32), builder.trunc(args[8], I32))
        tiles._int8_tile(
            builder, max(target.vectors), args[0], args[1], args[2], args[3], args[4], tuple(args[9:13]), rounding,
            args[13], args[14], args[15],
        )  # fmt: skip

    check(assembly(target, triple, cpu, emit), instruction, register, TILE * max(target.vectors))


@pytest.mark.parametrize(("name", "triple", "cpu", "instruction", "register"), PROCESSORS)
def test_float_tiles_stay_in_registers(name, triple, cpu, instruction, register):
    target = target_named(name)

    def emit(builder, args):
        factor = builder.bitcast(builder.trunc(args[8], I32), F32)
        tiles._float_tile(
            builder, max(target.vectors), args[0], builder.trunc(args[1], I1), args[2], args[3], args[4], args[5],
            args[6], tuple(args[9:11]), factor, tuple(args[11:14]), tuple(args[14:17]),
        )  # fmt: skip

    fused = "fmla" if triple == ARM else "vfmadd" if target.fused else "mulps"
    text = assembly(target, triple, cpu, emit).replace("vfmadd231ps", "vfmadd").replace("vfmadd213ps", "vfmadd")
    check(text, fused, register, TILE * max(target.vectors))


@pytest.mark.parametrize(("name", "triple", "cpu", "instruction", "register"), PROCESSORS)
def test_sums_of_one_sample_stay_in_registers(name, triple, cpu, instruction, register):
    target = target_named(name)

    def emit(builder, args):
        if target.dot.group == 4:
            rows._add_fours(builder, *args[:5])
        else:
            rows._add_pairs(builder, rows._ACCUMULATORS, tuple(args[5:13]), *args[:4])

    least = min(64 // target.lanes, rows._ACCUMULATORS)
    check(assembly(target, triple, cpu, emit), instruction, register, least)


def test_the_best_target_that_runs_here_is_taken(monkeypatch):
    assert targets.host_target().runs_here
    assert TARGETS[-1].runs_here, "one runs everywhere"
    first = next(target for target in TARGETS if target.runs_here)
    assert targets.host_target() is first
