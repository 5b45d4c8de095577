"""The scales of embeddings: outliers that would ruin them are left out, and what is cut off is counted."""

import json
from pathlib import Path

import numpy as np
import pytest

from fastuq import cli
from fastuq.cache import Features, cache_embeddings
from fastuq.model.coding import Coding, CutOff
from fastuq.model.head import Block, Head
from fastuq.model.head_file import save_head
from fastuq.training.embedding_model import embedding_model

WIDTH = 16


def normal(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


def head():
    weights = np.random.default_rng(1).standard_normal((WIDTH, 4)).astype(np.float32)
    return Head((Block(0.3, weights, np.zeros(4, "f4"), "softmax"),), np.ones(WIDTH, "f4"), np.zeros(WIDTH, "f4"))


def error(x):
    """Return the mean squared error of coding of each row and dimension."""
    coding = Coding.spanning(x)
    return np.square(coding.scale * coding.codes(x).astype(np.float64) + coding.offset - x)


@pytest.mark.parametrize(("count", "outliers"), [(20, 1), (600, 3), (8192, 30)])
@pytest.mark.parametrize("size", [1e4, -1e20])
def test_outliers_ruin_no_dimension(count, outliers, size):
    x = normal(count)
    x[:outliers, 5] = size
    x[outliers : 2 * outliers, 7] = np.abs(size)
    assert error(x)[2 * outliers :].max() < 0.001
    features = Features.from_arrays(x)
    features.read(0, count, cut_off := CutOff(WIDTH))
    report = cut_off.report()
    assert (cut_off.coded, cut_off.rows, report["values"]) == (count, 2 * outliers, 2 * outliers)
    assert report["most_in"] == {"5": outliers, "7": outliers}


def rare(rng, shape):
    return np.where(rng.random(shape) < 0.01, rng.exponential(20, shape), np.abs(rng.standard_normal(shape)) / 2)


TAILS = {
    "relu": lambda rng, shape: np.maximum(rng.standard_normal(shape), 0),
    "a relu that is rarely active": lambda rng, shape: np.maximum(rng.standard_normal(shape) - 2.5, 0),
    "fifth power": lambda rng, shape: np.maximum(rng.standard_normal(shape), 0) ** 5,
    "rare large ones": rare,
    "rare ones, else zero": lambda rng, shape: np.where(rng.random(shape) < 0.006, rng.standard_normal(shape), 0),
    "one-hot": lambda rng, shape: 1.0 * (rng.random(shape) < 0.003),
    "massive": lambda rng, shape: np.where(rng.random(shape) < 0.002, 100, 0) + rng.standard_normal(shape),
    "student": lambda rng, shape: rng.standard_t(3, shape),
}


@pytest.mark.parametrize("count", [600, 8192])
@pytest.mark.parametrize("draw", TAILS.values(), ids=TAILS)
def test_a_long_tail_is_kept(count, draw):
    x = draw(np.random.default_rng(0), (count, WIDTH)).astype(np.float32)
    coding = Coding.spanning(x)
    whole = x.max(axis=0) - x.min(axis=0)
    assert np.allclose(coding.scale[whole > 0], whole[whole > 0] / 254)


def test_what_lies_beyond_is_counted(tmp_path):
    model = embedding_model(tmp_path / "model", head(), Features.from_arrays(normal(1000)))
    fresh = normal(700, seed=2)
    fresh[10] *= 50
    fresh[20, 3] = 1e6
    features = Features.from_arrays(fresh, model=model)
    expected = np.abs(np.rint((fresh - model.coding.offset) * (1 / model.coding.scale))) > 127
    with cache_embeddings(features, model, tmp_path / "x.h5", batch_size=64) as cache:
        assert np.array_equal(cache.cut_off.by_dimension, expected.sum(axis=0))
        assert (cache.cut_off.coded, cache.cut_off.rows) == (700, expected.any(axis=1).sum())
        assert cache.cut_off.bad_rows == (expected.mean(axis=1) > 0.1).sum() >= 1
        assert cache.cut_off.report()["warn"]
    with cache_embeddings(features, model, tmp_path / "x.h5") as cache:
        assert (cache.reused, cache.cut_off.coded) == (True, 0)


def test_the_command_says_what_it_cut_off(workplace, capsys):
    x = normal(600)
    x[0, 5] = 1e4
    np.save("x.npy", x)
    np.save("far.npy", 5 * normal(40, seed=1))
    np.save("near.npy", normal(600)[300:])
    save_head("head.npz", head())
    assert cli.main(["import-features", "x.npy", "--head", "head.npz", "--model", "m", "--json", "x.json"]) == 0
    said = capsys.readouterr().out
    assert "values beyond the model's scales: 1 (0.01%), in 1 of 600 rows; most in dimension (how many): 5 (1)" in said
    assert "warning" not in said
    assert "int8 head   against float32 under the same masks: means within 0.0" in said
    found = json.loads(Path("x.json").read_text())
    assert (found["cut_off"]["values"], found["cut_off"]["warn"]) == (1, False)
    assert found["head_int8"]["mean_difference"] <= found["head_int8"]["bound"]
    assert cli.main(["import-features", "far.npy", "--model", "m", "--json", "far.json"]) == 0
    assert "warning     more than 1% of all values, or a tenth of a row's (40 such rows)" in capsys.readouterr().out
    assert json.loads(Path("far.json").read_text())["cut_off"]["share"] > 0.3
    assert cli.main(["import-features", "near.npy", "--model", "m"]) == 0
    assert "cut off" not in capsys.readouterr().out
