"""Scoring against a plain reading of its definition, sample by sample."""

import csv
import json
import time
from contextlib import nullcontext
from dataclasses import fields, replace

import numpy as np
import pytest
from commands import refusal
from heads import model_of, random_features, random_head
from places import TINY

from fastuq import cli
from fastuq.cache import cache_features
from fastuq.datasets import open_images
from fastuq.errors import InputError
from fastuq.model.backbone import Backbone
from fastuq.montecarlo.engine import moments
from fastuq.report.samples import readable_rows, write_sample_table
from fastuq.scoring.decisions import Reason
from fastuq.scoring.options import Options
from fastuq.scoring.result import DETAILS, Result
from fastuq.scoring.scoring import Scorer, score

BY_SCORE = {Reason.TRUSTED, Reason.PROBABLY_WRONG, Reason.FOREIGN, Reason.PROMISE_WITHDRAWN}


@pytest.fixture(scope="module")
def decisive(model):
    """A model of ten classes of which none, one or several are present, and features for it."""
    features = random_features(90, 32)
    head = random_head([(32, 24, 0.1, "relu"), (24, 10, 0.1, "sigmoid")])
    last = head.blocks[-1]
    head = replace(head, blocks=(head.blocks[0], replace(last, weights=last.weights * 3, bias=last.bias - 4)))
    known = {field.name for field in fields(model)}
    parts = {name: part for name, part in vars(model_of(head, features)).items() if name in known}
    return replace(model, class_names=model.class_names[:10], **parts), features


@pytest.fixture(scope="module")
def features(model):
    images = np.random.default_rng(0).integers(0, 256, (90, 32, 32, 3)).astype(np.uint8)
    return Backbone(model.backbone_path)(images)


@pytest.fixture(scope="module")
def labels(model):
    return np.random.default_rng(1).integers(0, len(model.class_names), 90)


def plain_decision(lower, upper, threshold):
    ones = [c for c in range(len(lower)) if lower[c] > threshold]
    open_ = [c for c in range(len(lower)) if not lower[c] > threshold and not upper[c] < threshold]
    if ones:
        return (True, ones) if not open_ else (False, [])
    return (True, open_) if len(open_) == 1 else (False, [])


def test_every_sample_by_hand(decisive):
    (model, features), labels = decisive, np.arange(90) % 10
    result = score(model, features, labels=labels, num_iter=20, conf_factor=0.5, threshold=0.6, seed=4)
    found = moments(model, features, num_iter=20, seed=4)
    z = 0.6744897501960817  # norm.ppf(0.75)
    positives, kept = [], []
    for n in range(len(features)):
        half = np.float32(z) * found.std[n]
        keep, positive = plain_decision(found.mean[n] - half, found.mean[n] + half, 0.6)
        assert bool(result.keep[n]) == keep
        assert np.flatnonzero(result.positive[n]).tolist() == positive
        predicted = max(positive or range(len(found.mean[n])), key=lambda c: found.mean[n][c])
        assert result.prediction[n] == predicted
        assert result.predicted_mean[n] == found.mean[n, predicted]
        assert result.predicted_lower[n] == found.mean[n, predicted] - half[predicted]
        positives.append(positive)
        kept.append(keep)
    assert set(result.reason.tolist()) == set(Reason) - BY_SCORE, "the test needs every kind of decision"
    summary = result.summary()
    wrong = result.plain_prediction != labels
    assert summary["kept"] == sum(kept)
    assert summary["ignored"] == 90 - sum(kept)
    assert summary["misclassified_ignored"] == pytest.approx(wrong[~result.keep].mean())
    assert summary["accuracy_plain"] == pytest.approx(1 - wrong.mean())
    hits = sum(labels[n] in positives[n] for n in range(90) if kept[n])
    given = sum(len(positives[n]) for n in range(90) if kept[n])
    assert summary["f1_uq"] == pytest.approx(2 * hits / (given + sum(kept)))


def test_entropy_and_mutual_information(model, features):
    result = score(model, features, num_iter=15, mutual_information=True)
    p = result.mean.astype(float)
    if model.head.blocks[-1].activation == "softmax":
        expected = -(p * np.log(p)).sum(axis=1)
    else:
        expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
    assert result.entropy == pytest.approx(expected, rel=1e-5)
    assert (result.mutual_information > -1e-5).all()
    assert (result.mutual_information < result.entropy).all()
    assert score(model, features, num_iter=15).mutual_information is None


def test_pieces_and_details_do_not_matter(model, features, labels, monkeypatch):
    whole = score(model, features, labels=labels, num_iter=10)
    monkeypatch.setattr("fastuq.scoring.reading.ROWS_AT_ONCE", 60)
    for details in (True, False):
        parts = score(model, features, labels=labels, num_iter=10, details=details)
        for name in {field.name for field in fields(Result)} - {"seconds", *(() if details else DETAILS)}:
            assert np.array_equal(getattr(parts, name), getattr(whole, name)), name
    assert parts.mean.shape == (0, len(model.class_names))


@pytest.mark.parametrize("options", [{"masks": "per_sample"}, {"rule": "score", "score": "max", "coverage": 0.5}])
def test_parts_found_apart_and_in_any_order_are_the_same_whole(model, features, labels, options):
    scorer = Scorer(model, num_iter=10, mutual_information=True, **options)
    known = scorer(features, labels=labels)
    cuts = ((60, 90), (0, 25), (25, 60))
    parts = [part for a, b in cuts for part in scorer.parts(features[a:b], a, labels=labels[a:b])]
    found = scorer.whole(parts, features)
    for field in fields(Result):
        if field.name != "seconds":
            np.testing.assert_array_equal(getattr(found, field.name), getattr(known, field.name), field.name)


def test_compiling_does_not_count_as_the_head(model, features, monkeypatch):
    monkeypatch.setattr("fastuq.montecarlo.threads._COMPILED", set())
    monkeypatch.setattr("fastuq.montecarlo.threads.announced_compile", lambda: nullcontext(time.sleep(0.2)))
    seconds = score(model, features, num_iter=2).seconds
    assert seconds["compile"] >= 0.2
    assert seconds["head"] <= seconds["total"] - seconds["compile"]


def test_compiling_for_one_image_does_not_count_as_the_head_either(model, features, monkeypatch):
    """Its iterations are shared by threads: no first call of that runs nothing and compiles nothing."""
    names = []
    monkeypatch.setattr("fastuq.montecarlo.threads._COMPILED", set())
    monkeypatch.setattr("fastuq.montecarlo.engine.SHARED_FROM", 65)
    run = Scorer(model, num_iter=130, threads=2)
    kernels = run._runs[0]._kernels
    kernel = kernels.run_per_sample
    monkeypatch.setattr(kernels, "run_per_sample", lambda *given: (names.append(given[3:5]), kernel(*given)))
    run(features[:1])
    assert names[0] == (0, 0), "the first call is the one that compiles"
    assert names.count((0, 1)) > 1, "the test needs a sample whose iterations are shared"


def test_without_labels_or_with_nothing_kept(model, features, labels):
    summary = score(model, features).summary()
    assert summary["n"] == 90
    assert [summary[k] for k in ("accuracy_plain", "f1_uq", "misclassified_ignored", "aurc")] == [None] * 4
    ignored = score(model, features, labels=labels, threshold=5.0)
    assert not ignored.keep.any()
    assert (ignored.reason == Reason.NOTHING_PRESENT).all()
    summary = ignored.summary()
    assert summary["accuracy_kept"] is None
    assert summary["f1_uq"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_iter": 1}, "num_iter"),
        ({"num_iter": 2.5}, "num_iter"),
        ({"conf_factor": 1.0}, "conf_factor"),
        ({"conf_factor": float("nan")}, "conf_factor"),
        ({"threshold": float("inf")}, "threshold"),
        ({"masks": "own"}, "masks"),
        ({"precision": "int4"}, "precision"),
        ({"seed": -1}, "seed"),
        ({"interval": "sd"}, "interval"),
        ({"mixed": "drop"}, "mixed"),
        ({"num_iters": 5}, "no option 'num_iters'"),
        ({"threads": 0}, "threads"),
        ({"threads": 1.5}, "threads"),
        ({"labels": [1, 2]}, "expected 90 whole numbers"),
        ({"labels": np.full(90, 1000)}, "expected class numbers 0 to"),
        ({"labels": np.zeros(90)}, "whole numbers"),
    ],
)
def test_wrong_options_are_refused(model, features, options, words):
    with pytest.raises(InputError, match=words):
        score(model, features, **options)


@pytest.mark.parametrize("wrong", [[[1, 2]], np.zeros((3, 32)), np.zeros((3, 31), np.int8), np.zeros((0, 32), np.int8)])
def test_wrong_features_are_refused(model, wrong):
    with pytest.raises(InputError):
        score(model, wrong)


def test_what_looks_like_a_cache_is_none(model, features):
    class Lookalike(list):
        model_sha256, labels, data_fingerprint = model.sha256, None, "0" * 64

        def read(self, start, stop):
            return features[start:stop]

    with pytest.raises(InputError, match="expected a FeatureCache or an int8 array"):
        score(model, Lookalike(features))


def test_options_are_one_object(model, features):
    options = Options(num_iter=7, seed=3, masks="per_sample", precision="float32")
    result = score(model, features, options)
    same = score(model, features, num_iter=7, seed=3, masks="per_sample", precision="float32")
    assert (result.options, result.mean.tobytes()) == (same.options, same.mean.tobytes())
    assert score(model, features, options=options, seed=4).options == replace(options, seed=4)
    with pytest.raises(InputError, match=r"options: expected fastuq.Options\(...\), found"):
        score(model, features, {"num_iter": 7})
    with pytest.raises(InputError, match="no option 'num_iters'"):
        Scorer(model, options, num_iters=7)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_header(model, features, tmp_path, wanted):
    result = score(model, features, num_iter=5, mutual_information=wanted)
    write_sample_table(tmp_path / "t.csv", result, model.class_names)
    header, first = (line.split(",") for line in (tmp_path / "t.csv").read_text().splitlines()[:2])
    known = ["index", "label", "label_name", "prediction", "prediction_name", "decision", "reason", "mean", "lower"]
    known += ["upper", "max_mean", "entropy", *["mutual_information"] * wanted, "plain_prediction"]
    assert header == known
    assert first[:3] == ["0", "", ""]
    assert len(first) == len(header)


def test_the_table(model, features, labels, tmp_path):
    result = score(model, features, labels=labels, mutual_information=True)
    write_sample_table(tmp_path / "t.csv", result, model.class_names)
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == 90
    for n, row in enumerate(rows):
        assert int(row["index"]) == n
        assert int(row["label"]) == labels[n]
        assert row["label_name"] == model.class_names[labels[n]]
        assert row["prediction_name"] == model.class_names[int(row["prediction"])]
        assert (row["decision"] == "keep") == result.keep[n]
        assert row["reason"] == Reason(result.reason[n]).text
        assert float(row["lower"]) <= float(row["mean"]) <= float(row["upper"])
        assert float(row["max_mean"]) == pytest.approx(result.max_mean[n], rel=1e-5)
        assert float(row["mutual_information"]) == pytest.approx(result.mutual_information[n], rel=1e-4, abs=1e-6)
    text = readable_rows(result, model.class_names)
    assert len(text) == 91
    assert sum("(wrong)" in line for line in text) == (result.prediction != labels).sum()


def test_an_array_of_images_is_enough(model, workplace):
    images = np.random.default_rng(5).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    with cache_features(images, model) as cache:
        result = score(model, cache)
    assert np.array_equal(result.mean, score(model, Backbone(model.backbone_path)(images)).mean)
    assert [path.parent.name for path in workplace.rglob("*.h5")] == ["out"]


@pytest.fixture
def pictures(workplace, model):
    images = np.random.default_rng(3).integers(0, 256, (30, 32, 32, 3)).astype(np.uint8)
    names, labels = np.array(model.class_names), np.arange(30) % len(model.class_names)
    np.savez(workplace / "images.npz", images=images, labels=labels, class_names=names)
    return workplace / "images.npz"


def test_the_command_writes_what_the_library_gives(pictures, workplace, model, capsys):
    argv = ["score", str(pictures), "--model", str(TINY), "--num-iter", "30", "--seed", "2"]
    outputs = ["--csv", "t.csv", "--moments", "m.h5", "--json", "s.json", "--mutual-information"]
    assert cli.main([*argv, *outputs]) == 0
    assert "kept" in capsys.readouterr().out
    images = open_images(pictures)
    with cache_features(images, model, workplace / "other.h5") as cache:
        expected = score(model, cache, num_iter=30, seed=2).summary()
    found = json.loads((workplace / "s.json").read_text())
    assert {**found, "seconds": 0} == {**expected, "seconds": 0, "notes": [], "skipped": []}
    assert set(found["seconds"]) == {"features", "compile", "head", "total"}
    assert len((workplace / "t.csv").read_text().splitlines()) == 31
    caches = [path for path in workplace.rglob("*.h5") if path.name not in ("m.h5", "other.h5")]
    assert cli.main(["score", "--cache", str(caches[0]), *argv[2:], "--json", "-"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {**again, "seconds": 0} == {**expected, "seconds": 0, "notes": [], "skipped": []}


@pytest.mark.parametrize(
    "argv",
    [
        ["score", "none.npz"],
        ["score", "--cache", "none.h5"],
        ["score", "--model", "none"],
        ["score", "--num-iter", "1"],
        ["score", "--conf-factor", "1"],
        ["demo", "--num-iter", "0"],
    ],
)
def test_mistakes_are_one_line(workplace, argv, capsys):
    if "--model" not in argv:
        argv = [*argv, "--model", str(TINY)]
    assert refusal(capsys, argv, workplace)
    assert not list(workplace.iterdir())
