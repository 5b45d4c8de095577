"""The examples of the docstrings and of the README, run in an empty folder."""

import doctest
import re

import numpy as np
import pytest
from places import ROOT

import fastuq
from fastuq.errors import FastUQError
from fastuq.montecarlo.masks import keep_bits
from fastuq.scoring.decisions import decide, interval, ternary_vector, z_value

README = ROOT / "README.md"


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
