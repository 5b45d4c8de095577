"""What `import fastuq` offers: the names, lazily, and their types for checkers and editors."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from places import ROOT

import fastuq

PROGRAM = """
import numpy as np

import fastuq

model = fastuq.load_model()
images = fastuq.open_images("bundled")
with fastuq.cache_features(images, model, "features.h5") as cache:
    result = fastuq.score(model, cache, num_iter=100)
fastuq.save_moments("moments.h5", result)
reveal_type(model)
reveal_type(cache)
reveal_type(fastuq.Scorer(model)(np.zeros((1, 2), np.int8)))
reveal_type(result.keep)
reveal_type(fastuq.Options().num_iter)
fastuq.load_modle()
fastuq.load_model(3)
"""


def test_type_checkers_see_the_names_that_are_there():
    tree = ast.parse(Path(fastuq.__file__).read_text())
    seen = {
        alias.asname: node.module
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        for alias in node.names
        if alias.name == alias.asname  # `X as X` exports the name from a package with py.typed
    }
    assert seen == fastuq._PUBLIC
    assert set(fastuq.__all__) == {"__version__", *seen}
    assert dir(fastuq) == sorted(fastuq.__all__)
    assert all(getattr(fastuq, name).__name__ == name for name in seen)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        fastuq.load_modle  # noqa: B018


def test_importing_loads_nothing_heavy():
    heavy = ["numpy", "numba", "h5py", "scipy", "tensorflow", "ai_edge_litert", "tqdm"]
    code = f"import sys, fastuq; dir(fastuq); print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_types_that_mypy_finds(tmp_path):
    pytest.importorskip("mypy", reason="needs mypy: pip install 'fastuq[dev]'")
    assert (files("fastuq") / "py.typed").is_file()
    (tmp_path / "program.py").write_text(PROGRAM)
    options = [
        "--strict",
        "--follow-imports=silent",
        "--config-file=",
        f"--cache-dir={ROOT / '.mypy_cache' / 'strict'}",
    ]
    command = [sys.executable, "-m", "mypy", *options, "program.py"]
    paths = {**os.environ, "MYPYPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=paths)
    revealed = re.findall(r'Revealed type is "([^"]*)"', ended.stdout)
    kinds = [re.sub(r"\[.*\]", "", kind).rpartition(".")[2] for kind in revealed]
    assert kinds == ["Model", "FeatureCache", "Result", "ndarray", "int | str"], ended.stdout + ended.stderr
    errors = re.findall(r"program.py:(\d+): error: .*\[(.*)\]", ended.stdout)
    assert [kind for _, kind in errors] == ["attr-defined", "arg-type"], ended.stdout


def test_the_reference_has_every_public_name():
    named = re.findall(r"^::: fastuq\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert set(fastuq._PUBLIC) <= set(named)


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert (project["project"]["dynamic"], project["tool"]["hatch"]["version"]["path"]) == (
        ["version"],
        "fastuq/__init__.py",
    )
    cited = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == [fastuq.__version__]
