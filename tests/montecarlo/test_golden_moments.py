"""Results of a fixed head on fixed features, kept in a file: a release of a dependency that changes them is seen."""

import re
import tomllib

import numpy as np
import pytest
from golden_moments import FILE, RUNS, bits, decisions_of, moments_of, sums, tiny_features
from heads import PATHS
from places import ROOT


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as arrays:
        return dict(arrays)


def test_keep_bits(golden):
    assert bits() == str(golden["bits"])


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("target", PATHS)
def test_integer_sums(golden, masks, target):
    assert np.array_equal(sums(golden, masks, target), golden[f"sums.{masks}"])


@pytest.mark.parametrize(("precision", "masks"), RUNS)
def test_moments_and_decisions(golden, precision, masks):
    mean, std = moments_of(golden, precision, masks)
    assert np.abs(mean - golden[f"mean.{precision}.{masks}"]).max() <= 1e-5
    assert np.abs(std - golden[f"std.{precision}.{masks}"]).max() <= 1e-5
    assert np.array_equal(decisions_of(mean, std), golden[f"decisions.{precision}.{masks}"])


def test_features(golden):
    """Not wrong if it fails: this LiteRT computes other features, which a cache says of itself (its runtime)."""
    found = tiny_features()
    assert found.shape == golden["tiny_features"].shape
    steps = np.abs(found.astype(int) - golden["tiny_features"])
    assert steps.max() <= 1
    assert (steps > 0).mean() <= 0.01


def test_oldest_versions_are_the_lower_bounds():
    """`make test-oldest` tests what pyproject.toml promises."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["images"]]
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / ".ci" / "oldest.txt").read_text(), re.MULTILINE))
    assert pinned.keys() == {line.split(">=")[0] for line in wanted}
    for name, bound in (line.split(">=") for line in wanted):
        assert pinned[name].removesuffix(".0") == bound.removesuffix(".0"), name
