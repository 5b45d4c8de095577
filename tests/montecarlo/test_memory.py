"""The kernels touch no memory but the arrays that they were given, while they have them."""

import importlib
import os
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from heads import model_of, random_features, random_head
from numba.core import ir
from numba.core.compiler import run_frontend
from numba.core.dispatcher import Dispatcher
from places import SUPPORT

import fastuq.montecarlo.kernels
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels.targets import TARGETS

ADDRESSES = {"ctypes", "data", "__array_interface__"}
"""Attributes of an array that give its address, as a number that keeps nothing alive."""
ALLOCATING = {"empty", "zeros", "ones", "full", "arange", "copy", "array", "empty_like", "zeros_like", "concatenate"}


def kernels():
    found = {}
    for module in pkgutil.iter_modules(fastuq.montecarlo.kernels.__path__):
        for name, value in vars(importlib.import_module(f"fastuq.montecarlo.kernels.{module.name}")).items():
            if isinstance(value, Dispatcher):
                found[value.py_func] = f"{value.py_func.__module__}.{name}"
    return found


def forbidden(function):
    """Return where Numba's IR of a function takes the address of an array or makes one of its own."""
    found = []
    for block in run_frontend(function).blocks.values():
        for statement in block.find_insts(ir.Assign):
            value = statement.value
            attribute = getattr(value, "attr", None) if isinstance(value, ir.Expr) and value.op == "getattr" else None
            if attribute in ADDRESSES | ALLOCATING:
                found.append(f"line {statement.loc.line}: .{attribute}")
    return found


def freed_too_early(codes, quads):
    everything = np.zeros(64, np.int32)
    reads_an_address(codes.ctypes.data, everything.ctypes.data, quads.ctypes.data)


def reads_an_address(*addresses):
    pass


def test_no_kernel_takes_an_address_or_makes_an_array():
    """An address keeps no array alive: with none taken, and none made in kernels, none can outlive its array.

    Kernels are compiled without Numba's run-time library too, so that one that allocates does not compile.
    """
    wrong = {name: found for function, name in kernels().items() if (found := forbidden(function))}
    assert not wrong
    assert len(kernels()) > 10


def test_the_old_mistake_is_seen():
    assert [text.split(".")[1] for text in forbidden(freed_too_early)] == ["zeros", *["ctypes", "data"] * 3]


@pytest.mark.parametrize("side", ["before", "behind"])
def test_no_kernel_reads_beyond_a_buffer(side):
    """Every buffer lies beside a page that nobody may read; results are those of ordinary memory."""
    run = subprocess.run([sys.executable, SUPPORT / "guarded.py", side], capture_output=True, text=True, cwd=SUPPORT)
    assert run.stdout.endswith("done\n"), f"{run.stdout[-200:]}\n{run.stderr[-2000:]}"


SCORE = """
import numpy as np
from heads import model_of, random_features, random_head
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels.targets import TARGETS
features = random_features(128, 100)
model = model_of(random_head([(100, 70, 0.2, "relu"), (70, 9, 0.4, "sigmoid")]), features)
for options in ({"target": TARGETS[-1]}, {"target": None}, {"precision": "float32"}):
    for masks in ("shared", "per_sample"):
        found = MonteCarlo(model, num_iter=9, masks=masks, **options)(features)
        print(found.mean.tobytes().hex(), found.std.tobytes().hex())
"""


@pytest.mark.parametrize(
    "settings",
    [{"PYTHONMALLOC": "debug", "MALLOC_PERTURB_": "85", "MALLOC_ARENA_MAX": "1"}, {"MALLOC_PERTURB_": "170"}],
    ids=["debug", "perturbed"],
)
def test_freed_memory_is_never_read(settings):
    """These settings overwrite memory as it is freed: what reads it gives other results, or crashes."""
    plain, strict = (
        subprocess.run(
            [sys.executable, "-c", SCORE], capture_output=True, text=True, cwd=SUPPORT, env=os.environ | more
        )
        for more in ({}, settings)
    )
    assert strict.returncode == 0, strict.stderr[-2000:]
    assert strict.stdout == plain.stdout
    assert strict.stdout.count("\n") == 6


@pytest.mark.parametrize("target", [None, TARGETS[-1]])
@pytest.mark.parametrize("masks", ["shared", "per_sample"])
def test_many_more_threads_than_cores_give_the_same_bits(masks, target):
    features = random_features(2048, 130)
    model = model_of(random_head([(130, 70, 0.2, "relu"), (70, 11, 0.4, "sigmoid")]), features)
    alone = MonteCarlo(model, num_iter=2, masks=masks, target=target, threads=1)(features)
    run = MonteCarlo(model, num_iter=2, masks=masks, target=target, threads=64)
    for _ in range(20):
        found = run(features)
        assert np.array_equal(found.mean, alone.mean)
        assert np.array_equal(found.std, alone.std)
