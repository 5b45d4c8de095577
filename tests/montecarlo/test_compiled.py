"""Compiled kernels that are kept are those of the sources that are there."""

import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT

PROBE = """
from fastuq.montecarlo.kernels.compiled import kernel
from fastuq.montecarlo.kernels.elementwise import sigmoid32

@kernel
def probe(x):
    return sigmoid32(x)
"""
USE = "import numpy; from fastuq.montecarlo.kernels.probe import probe; print(round(float(probe(numpy.float32(1))), 3))"
FORMULA = "return builder.fdiv(one, builder.fadd(one, exp_ir(builder, x, -1)))"


@pytest.fixture
def package(tmp_path):
    shutil.copytree(ROOT / "fastuq", tmp_path / "fastuq", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fastuq/montecarlo/kernels/probe.py").write_text(PROBE)
    return tmp_path


def used(package):
    environment = {name: text for name, text in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run([sys.executable, "-c", USE], cwd=package, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_change_of_what_a_kernel_is_made_of_compiles_it_again(package):
    """Numba looks at the file of the kernel alone, and would run the old code for ever."""
    assert used(package) == "0.731"
    kept = set(package.rglob("probe.probe-*.nbc"))
    assert used(package) == "0.731"
    assert set(package.rglob("probe.probe-*.nbc")) == kept  # found, not made again
    source = package / "fastuq/montecarlo/kernels/elementwise.py"
    text = source.read_text()
    assert FORMULA in text
    source.write_text(text.replace(FORMULA, FORMULA.replace("-1", "1")))
    assert used(package) == "0.269"
    assert len(set(package.rglob("probe.probe-*.nbc"))) == 1  # what the old sources made is gone
