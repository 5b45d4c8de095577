"""Compiled kernels that are kept are those of the sources that are there."""

import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT

PROBE = """
from typing import NamedTuple
import numpy as np
from fastuq.montecarlo.kernels.activating import activate_numbers
from fastuq.montecarlo.kernels.building import kernel, record_of
class Job(NamedTuple):
    x: np.ndarray
    activation: int
@kernel
def probe(frame):
    job = record_of(frame)
    activate_numbers(job.x, 0, job.activation, np.float32(0), 1)
"""
USE = """
import sys
import numpy as np
from typing import NamedTuple
from fastuq.montecarlo.kernels.compiled import Kernel
from fastuq.montecarlo.kernels.flatten import ACTIVATION_NUMBERS
from fastuq.montecarlo.kernels.targets import host_target
class Job(NamedTuple):
    x: np.ndarray
    activation: int
x = np.ones(16, np.float32)
Kernel("probe", "probe")(host_target(), Job(x, ACTIVATION_NUMBERS["sigmoid"]))
print(round(float(x[3]), 3), "numba" in sys.modules)
"""
FORMULA = "return builder.fdiv(one, builder.fadd(one, exp_ir(builder, x, -1)))"


@pytest.fixture
def package(tmp_path):
    shutil.copytree(ROOT / "fastuq", tmp_path / "fastuq", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fastuq/montecarlo/kernels/probe.py").write_text(PROBE)
    return tmp_path


def used(package, **more):
    environment = {name: text for name, text in os.environ.items() if not name.startswith("NUMBA_")} | more
    done = subprocess.run([sys.executable, "-c", USE], cwd=package, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def kept(package):
    return sorted(package.rglob("probe-*.o"))


def test_a_change_of_what_a_kernel_is_made_of_compiles_it_again(package):
    """A change of the kernel's own file alone would not be enough to look at."""
    assert used(package) == "0.731 True"
    first = [(file, file.stat().st_mtime_ns) for file in kept(package)]
    assert used(package) == "0.731 False", "what is kept is run without Numba"
    assert [(file, file.stat().st_mtime_ns) for file in kept(package)] == first  # found, not made again
    source = package / "fastuq/montecarlo/kernels/elementwise.py"
    text = source.read_text()
    assert FORMULA in text
    source.write_text(text.replace(FORMULA, FORMULA.replace("-1", "1")))
    assert used(package) == "0.269 True"
    assert len(kept(package)) == 1  # what the old sources made is gone


def test_code_of_sources_that_change_meanwhile_is_not_kept(package):
    """What was imported before would be kept as the code of what is there now."""
    source = package / "fastuq/montecarlo/kernels/elementwise.py"
    changed = source.read_text().replace(FORMULA, FORMULA.replace("-1", "1"))
    edit = f"import pathlib; pathlib.Path({str(source)!r}).write_text({changed!r})"
    late = USE.replace("x = np.ones", f"import fastuq.montecarlo.kernels.elementwise; {edit}\nx = np.ones")
    done = subprocess.run([sys.executable, "-c", late], cwd=package, capture_output=True, text=True)
    assert done.stdout.strip() == "0.731 True", done.stderr
    assert kept(package) == []
    assert used(package) == "0.269 True"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "a folder"])
def test_kept_code_that_is_not_as_it_was_written_is_made_again(package, damage):
    """Machine code that was altered would be run."""
    used(package)
    (file,) = kept(package)
    code = file.read_bytes()
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(
            {"cut": code[:-9], "flipped": code[:99] + bytes([code[99] ^ 1]) + code[100:], "empty": b""}[damage]
        )
    assert used(package) == "0.731 True"
    assert used(package) == ("0.731 True" if damage == "a folder" else "0.731 False")


def test_code_belongs_to_the_processor(package):
    """A folder may be shared by machines of two kinds."""
    assert used(package) == "0.731 True"
    assert used(package, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+64bit") == "0.731 True"
    assert len(kept(package)) == 2
    assert used(package) == "0.731 False"


@pytest.mark.parametrize("settings", [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_ENABLE_AVX": "0"}])
def test_settings_of_numba_are_ours(settings, tmp_path):
    """Numba would compile for one processor what was written for another, and LLVM would end the process."""
    code = """
import numpy as np
from heads import model_of, random_features, random_head
from fastuq.montecarlo.engine import MonteCarlo
features = random_features(40, 20)
print(MonteCarlo(model_of(random_head([(20, 3, 0.2, "linear")]), features), num_iter=3)(features).mean.tobytes().hex())
"""
    found = [
        subprocess.run([sys.executable, "-c", code], env=os.environ | more, capture_output=True, text=True)
        for more in ({}, {**settings, "NUMBA_CACHE_DIR": str(tmp_path)})
    ]
    assert found[1].returncode == 0, found[1].stderr
    assert found[0].stdout == found[1].stdout


KINDS = """
import sys
import numpy as np
from heads import model_of, random_features, random_head
from fastuq.montecarlo.engine import MonteCarlo
features = random_features(40, 20)
model = model_of(random_head([(20, 9, 0.2, "relu"), (9, 3, 0.2, "sigmoid")]), features)
for precision in ("int8", "float32"):
    for masks in ("shared", "per_sample"):
        found = MonteCarlo(model, num_iter=3, masks=masks, precision=precision, entropy=True)(features)
        print(found.mean.tobytes().hex(), found.std.tobytes().hex())
print("numba" in sys.modules)
"""


def test_every_kernel_that_is_kept_runs_without_numba():
    """One symbol of Numba's in an object file was enough to end the process."""
    first, later = (subprocess.run([sys.executable, "-c", KINDS], capture_output=True, text=True) for _ in range(2))
    assert later.returncode == 0, later.stderr
    assert later.stdout.splitlines()[:-1] == first.stdout.splitlines()[:-1]
    assert later.stdout.splitlines()[-1] == "False"
