"""What comes from outside as a number or a path: NumPy's numbers are taken, all else is refused before any work."""

import json
import math
import os
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import caches
import numpy as np
import pytest

import fastuq
from fastuq.bench.run import scope_of
from fastuq.datasets import open_images
from fastuq.datasets.corruptions import corrupt
from fastuq.datasets.corruptions.generate import generate
from fastuq.errors import FastUQError, InputError, ModelError
from fastuq.model.backbone import Backbone
from fastuq.montecarlo.engine import moments
from fastuq.montecarlo.reference import naive_moments
from fastuq.paper.cifar100c import score_cifar100c
from fastuq.report.moments_file import load_moments, save_moments
from fastuq.scoring.decisions import interval, ternary_vector, z_value
from fastuq.scoring.metrics import accuracy, coverage_at_risk, ece, micro_f1, nll, risk_at_coverage
from fastuq.scoring.metrics.bootstrap import bootstrap_interval
from fastuq.scoring.options import Options
from fastuq.training.fitting import Recipe
from fastuq.training.head_rounding import quantize_head
from fastuq.training.train import DEFAULT, Plan, overridden
from fastuq.util.checks import checked_path, finite_number, whole_number
from fastuq.util.files import write_text
from fastuq.util.outputs import check_outputs

WRONG = (True, np.True_, 3.0, np.float64(3), "3", None, [3], 10**5000, -(10**400), math.nan, math.inf, 3j)
NO_NUMBER = (True, np.True_, "0.5", None, [0.5], 10**400, math.nan, -math.inf, np.float32("inf"), 0.5j, Decimal("0.5"))


@pytest.mark.parametrize("value", WRONG, ids=lambda value: str(value)[:9] if type(value) is not int else "huge")
def test_whole_numbers(value):
    with pytest.raises(InputError, match=r"^seed: expected a whole number from 0 to 9, found .{1,80}$"):
        whole_number("seed", value, 0, 9)


@pytest.mark.parametrize("value", NO_NUMBER, ids=lambda value: str(value)[:9])
def test_finite_numbers(value):
    with pytest.raises(InputError, match=r"^x: expected a finite number, found .{1,80}$"):
        finite_number("x", value)


def test_numbers_of_other_types_become_plain():
    for value in (3, np.int8(3), np.uint64(3), np.array(3)):
        assert type(whole_number("n", value, 3, 3)) is int
    for value in (1, 0.5, np.float32(0.5), np.float16(1), np.int64(0), Fraction(1, 2)):
        assert type(finite_number("x", value, 0, 1)) is float
    for value in (0, 1, np.float32(1)):
        with pytest.raises(InputError, match="between 0 and 1, both excluded"):
            finite_number("x", value, 0, 1, open_ends=True)


def model():
    return caches.tiny_model()


def mean():
    return np.full((2, 3), 0.5, np.float32)


RIGHT = np.array([True, False])
WHOLE = {
    "num_iter": lambda v: fastuq.score(model(), caches.features(), num_iter=v),
    "seed": lambda v: fastuq.score(model(), caches.features(), seed=v),
    "moments": lambda v: moments(model(), caches.features(), num_iter=v),
    "reference": lambda v: naive_moments(model(), None, np.empty((0, 32, 32, 3), np.uint8), num_iter=v),
    "interval": lambda v: interval(mean(), mean(), 0.7, kind="sem", num_iter=v),
    "batch size": lambda v: fastuq.cache_features(caches.images(), model(), "f.h5", batch_size=v),
    "shard size": lambda v: fastuq.cache_features(caches.images(), model(), "f", shard_size=v or 0),
    "subset": lambda v: caches.images().subset(v, 20),
    "jobs": lambda v: generate(caches.images(), Path("out"), corruptions=("fog",), jobs=v or 0),
    "generate": lambda v: generate(caches.images(), Path("out"), corruptions=("fog",), seed=v),
    "levels": lambda v: generate(caches.images(), Path("out"), corruptions=("fog",), severities=(v,)),
    "severity": lambda v: corrupt(caches.images().images, "fog", v),
    "severities": lambda v: score_cifar100c(model(), Path("none"), corruptions=("fog",), severities=[v]),
    "resamples": lambda v: bootstrap_interval(np.mean, [1.0, 2.0], resamples=v),
    "bootstrap": lambda v: bootstrap_interval(np.mean, [1.0, 2.0], seed=v),
    "bins": lambda v: ece([0.5, 0.7], RIGHT, bins=v),
    "plan": lambda v: Plan(seed=v),
    "unfreeze": lambda v: Plan(unfreeze=v),
    "recipe": lambda v: Recipe(v, 0.01, True, 0.0, 8),
    "quantize": lambda v: quantize_head(model().head, caches.features(), 1.0, 0, seed=v),
}
REAL = {
    "conf_factor": lambda v: fastuq.score(model(), caches.features(), conf_factor=v),
    "threshold": lambda v: fastuq.score(model(), caches.features(), threshold="" if v is None else v),
    "z": z_value,
    "ternary": lambda v: ternary_vector(mean(), mean(), v),
    "confidence": lambda v: bootstrap_interval(np.mean, [1.0, 2.0], confidence=v),
    "coverage": lambda v: risk_at_coverage([0.5, 0.7], RIGHT, v),
    "risk": lambda v: coverage_at_risk([0.5, 0.7], RIGHT, v),
    "learning rate": lambda v: Recipe(1, v, True, 0.0, 8),
    "weight decay": lambda v: Recipe(1, 0.01, True, v, 8),
    "mixup": lambda v: Recipe(1, 0.01, True, 0.0, 8, v),
}


CORRUPTING = pytest.mark.skipif(find_spec("cv2") is None, reason="needs the corruptions: pip install 'fastuq[corrupt]'")


@pytest.mark.parametrize(
    ("take", "values"),
    [
        *(
            pytest.param(take, WRONG, marks=[CORRUPTING] * (name in ("jobs", "generate", "levels")))
            for name, take in WHOLE.items()
        ),
        *((take, NO_NUMBER) for take in REAL.values()),
    ],
    ids=[*WHOLE, *REAL],
)
def test_options_are_refused_before_any_work(tmp_path, monkeypatch, take, values):
    monkeypatch.chdir(tmp_path)
    for value in values:
        with pytest.raises(InputError):
            take(value)
    assert list(tmp_path.iterdir()) == []


def test_other_options_that_are_wrong(tmp_path):
    with pytest.raises(InputError, match="expected the folder of the shards, found none"):
        fastuq.cache_features(caches.images(), model(), shard_size=8)
    for words in ({"masks": ["shared"]}, {"precision": 8}, {"interval": None}, {"mixed": np.array(["keep", "keep"])}):
        with pytest.raises(InputError, match="expected one of"):
            Options(**words)
    with pytest.raises(InputError, match="rounds"):
        scope_of(quick=True, networks=None, rounds=1.5, folder=tmp_path)
    cache = fastuq.cache_features(caches.images(), model(), tmp_path / "f.h5")
    with cache, pytest.raises(InputError, match="start: expected a whole number"):
        cache.read(0.5, 3)


@pytest.mark.parametrize("ids", [[0.5, 1], [True, False], [-1, 0], [0], [[0], [1]], ["0", "1"], [0, 2**63], [0, 2**70]])
def test_sample_ids_are_whole_numbers(ids):
    with pytest.raises(InputError, match="sample_ids: expected 2 whole numbers"):
        moments(model(), caches.features()[:2], masks="per_sample", sample_ids=ids)
    images = caches.images().images[:2]
    with pytest.raises(InputError, match="sample_ids: expected 2 whole numbers"):
        naive_moments(model(), None, images, masks="per_sample", sample_ids=ids)


LABELLED = {
    "images": lambda v: open_images(caches.images().images[:3], labels=v),
    "score": lambda v: fastuq.score(model(), caches.features()[:3], labels=v),
    "accuracy": lambda v: accuracy([0, 1, 2], v),
    "micro_f1": lambda v: micro_f1(np.eye(3, dtype=bool), v),
    "nll": lambda v: nll(np.eye(3), v),
}


@pytest.mark.parametrize("take", LABELLED.values(), ids=LABELLED)
def test_labels_are_class_numbers_one_per_sample(take):
    take([0, 1, 2])
    wrong = ([0, 1], [[0], [1]], [[0, 2, 1]], [0.0, 1.0, 2.0], [True, False, True], "012", [], 1, [0, 1, -1])
    for labels in (*wrong, np.array([0, 1, 2**63], np.uint64)):
        with pytest.raises(InputError, match=r"expected (3 whole numbers|class numbers 0 (to|and up))"):
            take(labels)


def test_options_of_numpy_give_what_plain_ones_give(tmp_path):
    rng = np.random.default_rng(0)
    given = {
        "num_iter": np.int64(5),
        "seed": rng.integers(100),
        "threshold": np.float32(0.5),
        "conf_factor": np.half(0.5),
    }
    plain = {name: value.item() for name, value in given.items()}
    results = [fastuq.score(model(), caches.features(), threads=np.int32(2), **options) for options in (given, plain)]
    summaries = []
    for number, result in enumerate(results):
        save_moments(tmp_path / f"{number}.h5", result)
        summaries.append(json.loads(json.dumps({**result.summary(), "seconds": None}, allow_nan=False)))
    assert summaries[0] == summaries[1]
    assert (tmp_path / "0.h5").read_bytes() == (tmp_path / "1.h5").read_bytes()
    assert load_moments(tmp_path / "0.h5")["options"]["seed"] == plain["seed"]
    sizes = {"batch_size": np.int16(8), "shard_size": np.uint8(20)}
    with fastuq.cache_features(caches.images(), model(), tmp_path / "f", **sizes) as cache:
        assert len(cache.provenance["files"]) == 3
    recipe = overridden(DEFAULT, epochs=np.int64(2), learning_rate=np.float32(0.5))
    json.dumps(Plan(seed=np.uint32(7), unfreeze=np.int8(1), mirror=np.True_, recipe=recipe), default=vars)


@pytest.mark.parametrize("path", ["a\0b", Path("a\0b"), "\udc80\ud800", 5, b"a\0b"])
def test_a_path_that_cannot_be(path):
    with pytest.raises(InputError, match="path: expected text without NUL"):
        checked_path(path)


@pytest.mark.parametrize("wrong", ["a\0b", Path("a\0b"), "\ud800.npy", Path("\ud800.npz")])
def test_paths_that_cannot_be_are_refused_everywhere(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    result = fastuq.score(model(), caches.features(), num_iter=5)
    for take in (
        lambda: fastuq.load_model(wrong),
        lambda: open_images(wrong),
        lambda: fastuq.cache_features(caches.images(), model(), wrong),
        lambda: fastuq.FeatureCache.open(wrong),
        lambda: save_moments(wrong, result),
        lambda: load_moments(wrong),
        lambda: write_text(wrong, ""),
        lambda: check_outputs({"--csv": wrong}),
        lambda: Backbone(wrong),
    ):
        with pytest.raises(FastUQError, match="path: expected text without NUL"):
            take()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ragged", [[[1], [1, 2]], [1, [2]], [[], 1, 2]])
def test_ragged_arrays_are_refused(ragged):
    pixels = caches.images(3).images
    for take in (
        lambda: fastuq.score(model(), caches.features(), labels=ragged),
        lambda: open_images(pixels, labels=ragged),
        lambda: open_images(ragged),
        lambda: fastuq.ImageSet(pixels, ragged, None, "images"),
        lambda: fastuq.ImageSet(ragged, None, None, "images"),
        lambda: moments(model(), caches.features(), masks="per_sample", sample_ids=ragged),
        lambda: risk_at_coverage(ragged, RIGHT, 0.5),
        lambda: risk_at_coverage([0.5, 0.7], ragged, 0.5),
    ):
        with pytest.raises(InputError):
            take()


@pytest.mark.parametrize("wrong", [3, None, b"by.h5", bytearray(b"by.h5"), [3], [b"by.h5"]])
def test_a_cache_is_opened_by_paths(wrong):
    with pytest.raises(InputError, match="path: expected text"):
        fastuq.FeatureCache.open(wrong)


@pytest.mark.parametrize("wrong", ["x" * 300, "x/" * 3000, "é" * 200 + ".npy", Path("x" * 300 + ".npz")])
def test_paths_that_are_too_long(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    result = fastuq.score(model(), caches.features(), num_iter=5)
    for take in (
        lambda: fastuq.load_model(wrong),
        lambda: open_images(wrong),
        lambda: fastuq.cache_features(caches.images(), model(), wrong),
        lambda: fastuq.FeatureCache.open(wrong),
        lambda: save_moments(wrong, result),
        lambda: load_moments(wrong),
        lambda: write_text(wrong, ""),
        lambda: check_outputs({"--csv": wrong}),
        lambda: Backbone(wrong),
    ):
        with pytest.raises(FastUQError, match=r"File name too long|cannot write x/x/"):
            take()
    monkeypatch.setenv("FASTUQ_DATA", str(wrong))
    with pytest.raises(FastUQError, match="File name too long"):
        open_images()


def test_a_pipe_in_place_of_a_network_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.tflite")
    with pytest.raises(ModelError, match="no regular file"):
        Backbone(tmp_path / "p.tflite")
