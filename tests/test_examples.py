"""The examples of the docstrings and of the README, run in an empty folder."""

import doctest
import re

import numpy as np
import pytest
from places import ROOT
from torch_likes import BatchNorm1d, Dropout, Linear, ReLU, Sequential

import fastuq
from fastuq.errors import FastUQError
from fastuq.montecarlo.masks import keep_bits
from fastuq.scoring.decisions import decide, interval, ternary_vector, z_value

README, EMBEDDINGS = ROOT / "README.md", ROOT / "docs" / "embeddings.md"


def is_error(thing):
    return isinstance(thing, type) and issubclass(thing, FastUQError)


PUBLIC = [getattr(fastuq, name) for name in fastuq.__all__ if name != "__version__"]
EXAMPLES = [thing for thing in PUBLIC if not is_error(thing)] + [decide, interval, keep_bits, ternary_vector, z_value]


@pytest.mark.parametrize("thing", EXAMPLES, ids=lambda thing: thing.__name__)
def test_the_example_of_a_public_name_runs(thing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ">>>" in thing.__doc__
    runner, said = doctest.DocTestRunner(), []
    for test in doctest.DocTestFinder(recurse=False).find(thing, thing.__name__):
        runner.run(test, out=said.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(said)


def test_the_readmes_program_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    np.save("images.npy", fastuq.open_images("bundled").images)
    names = {}
    exec(compile(program, README.name, "exec"), names)
    assert names["result"].keep.shape == (20,)
    assert names["result"].options.num_iter == 1000


def test_the_program_with_embeddings_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", EMBEDDINGS.read_text(), re.DOTALL)
    rng = np.random.default_rng(0)
    layers = [BatchNorm1d(64, rng), Dropout(0.1), Linear(64, 32, rng), ReLU(), Dropout(0.5), Linear(32, 3, rng)]
    x = rng.standard_normal((300, 64)) * np.geomspace(0.1, 10, 64)
    np.save("train.npy", x.astype(np.float16))
    np.save("test.npy", x[:50].astype(np.float32))
    np.save("labels.npy", np.arange(50) % 3)
    names = {"classifier": Sequential(*layers)}
    exec(compile(program, EMBEDDINGS.name, "exec"), names)
    expected = names["classifier"](x[:50])
    assert np.corrcoef(names["logits"].ravel(), expected.ravel())[0, 1] > 0.999
    assert names["result"].std.max() > 0.01
    assert fastuq.load_head("head.npz").rates == (0.1, 0.5)
