"""Rules by one score or by two: what is kept, why, and what the command says of it."""

import csv
import json
from pathlib import Path
from unittest.mock import patch

import banks
import caches
import numpy as np
import pytest
from commands import refusal
from hypothesis import given
from hypothesis import strategies as st
from places import TINY

import fastuq
from fastuq import cli
from fastuq.errors import InputError
from fastuq.scoring.options import Options
from fastuq.scoring.score_rule import threshold_at
from fastuq.scoring.scores import fit_reference, scores
from fastuq.scoring.scoring import score

WRONG, STRANGE = fastuq.Reason.PROBABLY_WRONG, fastuq.Reason.FOREIGN


@pytest.fixture(scope="module")
def features():
    return caches.features()


@pytest.fixture(scope="module")
def reference(model, features):
    return fit_reference(model, np.repeat(features, 3, axis=0), labels=np.arange(150) % 100)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5]), min_size=1, max_size=30), st.floats(0.01, 1), st.integers(0, 5))
def test_a_threshold_keeps_the_share_and_no_larger_one_does(values, coverage, more):
    given_scores, count = np.array(values), len(values) + more
    least = threshold_at(given_scores, coverage, count)
    wanted = coverage * count * (1 - 1e-9)
    assert (given_scores >= least).sum() >= min(wanted, len(values))
    assert (given_scores > least).sum() < wanted


@pytest.mark.parametrize("details", [True, False])
def test_the_largest_scores_are_kept(model, features, details):
    result = score(model, features, rule="score", score="energy", coverage=0.4, num_iter=9, details=details)
    values = scores(model, features, ["energy"])["energy"]
    assert np.array_equal(result.score, values)
    assert np.array_equal(np.flatnonzero(result.keep), np.sort(np.argsort(-values)[:20]))
    assert result.score_threshold == np.sort(values)[-20]
    assert np.array_equal(result.prediction, result.plain_prediction)
    assert np.array_equal(result.positive.argmax(axis=1)[result.keep], result.prediction[result.keep])
    assert np.array_equal(result.positive.sum(axis=1), result.keep)
    assert set(result.reason.tolist()) == {fastuq.Reason.TRUSTED, WRONG}
    assert np.array_equal(result.reason == WRONG, ~result.keep)
    whole = score(model, features, num_iter=9)
    at = np.arange(50), result.prediction
    for found, expected in ((result.predicted_mean, whole.mean), (result.predicted_lower, whole.lower)):
        assert np.array_equal(found, expected[at])
    again = score(model, features, rule="score", score="energy", threshold=result.score_threshold, num_iter=9)
    assert np.array_equal(again.keep, result.keep)


def test_two_scores_tell_wrong_from_strange(model, features, reference):
    options = Options(rule="score", score="top_alone", coverage=0.5, foreign="knn(1)", foreign_coverage=0.7, num_iter=5)
    result = score(model, features[::-1], options, reference=reference)
    found = scores(model, features[::-1], ["top_alone", "knn(1)"], reference=reference)
    strange = found["knn(1)"] < np.sort(found["knn(1)"])[-35]
    assert np.array_equal(result.reason == STRANGE, strange)
    assert result.keep.sum() == 25
    kept, doubted = found["top_alone"][result.keep], found["top_alone"][result.reason == WRONG]
    assert kept.min() >= result.score_threshold > doubted.max()
    assert result.summary()["ignored_as_foreign"] == strange.sum()
    fixed = score(
        model,
        features[::-1],
        options,
        reference=reference,
        foreign_threshold=result.foreign_threshold,
        foreign_coverage=0.95,
        coverage=1.0,
    )
    assert np.array_equal(fixed.keep, ~strange), "where all are to be kept, the strange ones still are not"
    assert fixed.foreign_threshold == result.foreign_threshold


def test_the_summary_ranks_by_the_score(model, features):
    labels = score(model, features, num_iter=5).plain_prediction.copy()
    labels[::2] = (labels[::2] + 1) % 100
    result = score(model, features, labels=labels, rule="score", coverage=0.5, num_iter=5)
    summary = result.summary()
    right = (labels == result.plain_prediction)[result.keep]
    assert summary["accuracy_kept"] == summary["f1_uq"] == pytest.approx(right.mean())
    assert (summary["threshold"], summary["score_threshold"]) == (None, result.score_threshold)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_interval_rule_knows_no_score(model, features):
    result = score(model, features, num_iter=5)
    assert (result.score, result.foreign_score, result.score_threshold) == (None, None, None)
    assert Options().threshold == Options(rule="score", coverage=0.5).presence == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "score"}, "found neither; give one of them"),
        ({"rule": "scores"}, "rule: expected one of interval, score"),
        ({"rule": "score", "coverage": 0}, "coverage: expected a number"),
        ({"rule": "score", "coverage": 1.5}, "coverage: expected a number"),
        ({"rule": "score", "score": "no", "coverage": 0.5}, "score: expected one of max"),
        ({"rule": "score", "score": "knn", "coverage": 0.5}, "score knn: expected a reference"),
        ({"rule": "score", "coverage": 0.5, "foreign": "knn"}, "score knn: expected a reference"),
        ({"rule": "score", "coverage": 0.5, "foreign": "max", "foreign_coverage": 2}, "foreign_coverage"),
        ({"doubt_floor": float("nan")}, "doubt_floor"),
        ({"coverage": 0.3, "score": "energy"}, "score: expected rule score, found rule interval"),
        ({"coverage": 0.9}, "coverage: expected rule score, found rule interval, which knows no coverage; leave it"),
        ({"foreign": "knn"}, "foreign: expected rule score"),
        ({"foreign_coverage": 0.9}, "foreign_coverage: expected rule score"),
        ({"foreign_threshold": 0.1}, "foreign_threshold: expected rule score"),
        ({"rule": "score", "coverage": 0.5, "mixed": "keep"}, "mixed: expected rule interval, found rule score"),
        ({"rule": "score", "coverage": 0.5, "doubt_floor": 0.5}, "doubt_floor: expected rule interval"),
        ({"rule": "score", "coverage": 0.5, "threshold": 0.9}, "coverage and threshold: expected one of them"),
        ({"rule": "score", "coverage": 0.5, "foreign_threshold": 0.5}, "foreign_threshold: expected a second score"),
        ({"rule": "score", "coverage": 0.5, "foreign_coverage": 0.5}, "foreign_coverage: expected a second score"),
        (
            {"rule": "score", "coverage": 0.5, "foreign": "max", "foreign_coverage": 0.5, "foreign_threshold": 0.5},
            "foreign_coverage and foreign_threshold: expected one of them",
        ),
    ],
)
def test_what_is_refused(model, features, options, words):
    with pytest.raises(InputError, match=words):
        score(model, features, **options)


def test_a_reference_that_nothing_asks_for_is_refused(model, features, reference):
    with pytest.raises(InputError, match="reference: expected rule score, found rule interval"):
        score(model, features, reference=reference)


def test_the_command(workplace, capsys, model):
    caches.write("test.h5")
    caches.write("train.h5", 300)
    with fastuq.FeatureCache.open("train.h5") as cache:
        assert len(set(cache.labels)) < 100
    given_options = ["--model", str(TINY)]
    assert "found none of" in refusal(capsys, ["fit-reference", "train.h5", "--output", "reference.h5", *given_options])
    images = fastuq.ImageSet(caches.images(200).images, np.arange(200) % 100, model.class_names, "all classes")
    fastuq.cache_features(images, model, "all.h5").close()
    made = ["fit-reference", "all.h5", "--output", "reference.h5", "--rows", "40", *given_options]
    assert cli.main([*made, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 40
    argv = ["score", "--cache", "test.h5", "--num-iter", "5", "--rule", "score", *given_options]
    two = ["--score", "margin", "--coverage", "0.6", "--foreign", "knn(5)", "--reference", "reference.h5"]
    assert cli.main([*argv, *two, "--csv", "t.csv", "--json", "s.json"]) == 0
    said = capsys.readouterr().out
    assert "margin from " in said
    assert "foreign" in said
    rows = list(csv.DictReader(Path("t.csv").read_text().splitlines()))
    least = json.loads(Path("s.json").read_text())["score_threshold"]
    for row in rows:
        if row["decision"] == "keep":
            assert float(row["score"]) >= least * (1 - 1e-5)
        assert row["prediction"] == row["plain_prediction"]
    assert {row["reason"] for row in rows} == {"trusted", "probably wrong", "foreign"}
    assert "found neither" in refusal(capsys, argv)
    both = [*argv, "--coverage", "0.5", "--threshold", "0.2"]
    assert "expected one of them, found both" in refusal(capsys, both)
    plain = ["score", "--cache", "test.h5", *given_options]
    for option, value in (("--coverage", "0.9"), ("--score", "max"), ("--foreign-coverage", "0.95")):
        words = refusal(capsys, [*plain, option, value])
        assert f"{option[2:].replace('-', '_')}: expected rule score, found rule interval" in words
    assert "mixed: expected rule interval" in refusal(capsys, [*argv, "--coverage", "0.5", "--mixed", "ignore"])
    assert cli.main([*argv, "--coverage", "0.5", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == "max"
    assert "no such file; make it with `fastuq fit-reference`" in refusal(capsys, [*argv, *two[:-1], "none.h5"])
    assert "expected a fastuq reference" in refusal(capsys, [*argv, *two[:-1], "test.h5"])
    assert "cannot be" not in refusal(capsys, ["fit-reference", "all.h5", "--output", "all.h5", *given_options])


def test_with_a_bank_its_score_decides(tmp_path):
    of, bank = banks.parts(), banks.bank()
    many = banks.cached(of.model, tmp_path / "many.h5", *banks.embeddings(400, 4))
    with patch.object(fastuq.Bank, "similarities", autospec=True, side_effect=fastuq.Bank.similarities) as compared:
        found = score(of.model, of.other, bank=bank, rule="score", coverage=0.5, num_iter=5)
    assert compared.call_count == 1, "the rows are gone through once, for iterations and score"
    assert found.options.score == "bank"
    assert np.array_equal(found.score, scores(of.model, of.other, ["bank"], bank=bank)["bank"])
    assert fastuq.calibrate(of.model, many, bank=bank, risk=0.3).options.score == "bank"
    assert score(of.model, of.other, rule="score", coverage=0.5, num_iter=5).options.score == "max"
    for take in (
        lambda: score(of.model, of.other, bank=bank, rule="score", score="max", coverage=0.5),
        lambda: fastuq.calibrate(of.model, many, bank=bank, score="max"),
    ):
        with pytest.raises(InputError, match=r"score max: expected a score of the bank .* use --score bank, or leave"):
            take()
