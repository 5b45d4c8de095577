"""The benchmark of scores: its figures by hand, nothing chosen on what is reported, and what it refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from commands import refusal
from heads import model_of, random_features, random_head
from places import TINY
from sklearn.metrics import roc_auc_score, roc_curve

import fastuq
from fastuq import cli
from fastuq.bench.score_data import Scored, halves, judge, plain_scorer, scored, variants_of
from fastuq.bench.score_figures import (
    chosen_variants,
    clean_figures,
    foreign_figures,
    group_figures,
    over_splits,
    paired_differences,
)
from fastuq.bench.score_rules import rule_figures
from fastuq.bench.score_run import SLOW
from fastuq.datasets import ImageSet
from fastuq.scoring.metrics import aurc
from fastuq.scoring.options import Options
from fastuq.scoring.scores.compute import ScoreSet
from fastuq.scoring.scoring import score

FAMILIES = {"max": ["max"], "react": ["react", "react(95)"], "mean_max": ["mean_max"]}
N = 300


def made(count=N, seed=0, labelled=True):
    """Make a data set whose scores tell right from wrong a little, the variants of one score differently well."""
    rng = np.random.default_rng(seed)
    labels, right = rng.integers(0, 5, count), rng.random(count) < 0.7
    plain = np.where(right, labels, (labels + 1) % 5)
    noise = {"max": 1.0, "react": 2.0, "react(95)": 0.2, "mean_max": 0.5}
    scores = {name: right + size * rng.standard_normal(count) for name, size in noise.items()}
    predictions = {"plain": plain, "mean": np.where(rng.random(count) < 0.9, plain, labels)}
    return Scored("made", scores, predictions, labels if labelled else None)


class Held(np.ndarray):
    """Features in memory, read like a cache."""

    def read(self, start, stop):
        return np.asarray(self[start:stop])


def test_figures_are_those_of_the_second_halves():
    clean, pairs = made(), halves(np.arange(20, N), 4, seed=1)
    assert all(len(choosing) == len(reporting) == 140 for choosing, reporting in pairs)
    assert all(not set(choosing) & set(reporting) and min(*choosing, *reporting) >= 20 for choosing, reporting in pairs)
    chosen = chosen_variants(clean, pairs, FAMILIES)
    assert chosen["react"] == ["react(95)"] * 4
    found = clean_figures(clean, pairs, chosen, coverage=0.8)
    for name, variant, predictions in (("react", "react(95)", "plain"), ("mean_max", "mean_max", "mean")):
        areas, kept, accuracy = [], [], []
        for choosing, reporting in pairs:
            right = clean.predictions[predictions][reporting] == clean.labels[reporting]
            areas.append(aurc(clean.scores[variant][reporting], right))
            least = np.sort(clean.scores[variant][choosing])[-112]  # 0.8 of 140
            over = clean.scores[variant][reporting] >= least
            kept.append(over.mean())
            accuracy.append(right[over].mean())
        assert found[name]["aurc"] == pytest.approx(np.mean(areas))
        assert found[name]["coverage"] == pytest.approx(np.mean(kept))
        assert found[name]["accuracy_kept"] == pytest.approx(np.mean(accuracy))


def test_what_is_chosen_does_not_depend_on_what_is_reported():
    clean, pairs = made(), halves(np.arange(N), 1, seed=1)
    before = chosen_variants(clean, pairs, FAMILIES)
    (_, reporting), labels = pairs[0], clean.labels.copy()
    labels[reporting] = (labels[reporting] + 2) % 5
    assert chosen_variants(Scored("made", clean.scores, clean.predictions, labels), pairs, FAMILIES) == before


def test_foreign_samples_by_the_convention_of_openood():
    clean, foreign, pairs = made(), made(80, seed=5, labelled=False), halves(np.arange(N), 2, seed=1)
    chosen = {"max": ["max"] * 2}
    found = foreign_figures(clean, foreign, pairs, chosen, coverage=0.8)["max"]
    areas, rates = [], []
    for _, reporting in pairs:
        confidence = np.concatenate([clean.scores["max"][reporting], foreign.scores["max"]])
        is_foreign = np.r_[np.zeros(len(reporting)), np.ones(80)]
        areas.append(roc_auc_score(is_foreign, -confidence))
        false, true, _ = roc_curve(is_foreign, -confidence, drop_intermediate=False)
        rates.append(false[np.argmax(true >= 0.95)])
    assert found["auroc"] == pytest.approx(np.mean(areas))
    assert found["fpr95"] == pytest.approx(np.mean(rates))


def test_intervals_hold_the_difference_and_the_baseline_is_none():
    clean, pairs = made(), halves(np.arange(N), 5, seed=1)
    chosen = chosen_variants(clean, pairs, FAMILIES)
    found = paired_differences(clean, pairs, chosen, 0.8, resamples=100, seed=0)
    assert found["max"] == {"aurc": [0, 0], "accuracy_at_coverage": [0, 0]}
    figures = clean_figures(clean, pairs, chosen, 0.8)
    low, high = found["react"]["aurc"]
    assert low < figures["react"]["aurc"] - figures["max"]["aurc"] < high < 0


def test_rules_beside_the_baseline_at_the_same_coverage():
    clean, foreign, pairs = made(), made(80, seed=5, labelled=False), halves(np.arange(N), 3, seed=1)
    keep = clean.scores["max"] >= np.sort(clean.scores["max"])[60]
    decided = {"interval": (keep, clean.predictions["plain"])}
    strange = {"noise": (foreign, {"interval": (np.arange(80) < 20, np.zeros(80))})}
    found = rule_figures(clean, decided, strange, pairs, ["react(95)"] * 3, coverage=0.8)
    assert found["interval"]["gain"] == pytest.approx(0, abs=1e-12), "it is the baseline"
    assert found["interval"]["foreign_kept"] == {"noise": 0.25}
    assert found["score, the best"]["gain"] > 0.02
    assert found["score max"]["coverage"] == pytest.approx(0.8, abs=0.06)


def test_figures_over_groups_and_splits():
    sets = [{"auroc": 0.8, "fpr95": 0.5, "kept": 1}, {"auroc": 0.9, "fpr95": 0.1, "kept": 0}]
    assert group_figures(sets) == {"auroc": pytest.approx(0.85), "fpr95": pytest.approx(0.3)}
    splits = [{"max": {"aurc": base}, "bank": {"aurc": of}} for base, of in ((0.1, 0.08), (0.3, 0.31), (0.2, 0.2))]
    found = over_splits(splits, "bank")
    assert found == {"aurc": pytest.approx(0.59 / 3), "relative": pytest.approx(-1 / 60), "worse": 1, "splits": 3}


def test_views_are_taken_together(model):
    rng = np.random.default_rng(0)
    one, other = (rng.integers(-128, 128, (30, model.head.num_features), np.int8) for _ in range(2))
    outputs = [score(model, rows, precision="float32", details=True).plain for rows in (one, other)]
    plain = plain_scorer(model, Options(precision="float32"), None)
    found = scored("views", ScoreSet(model, ["max"]), plain, one, None, [other.view(Held)])
    mean = np.mean(outputs, axis=0)
    np.testing.assert_allclose(found.scores["max"], mean.max(axis=1), atol=1e-5)
    np.testing.assert_array_equal(found.predictions["plain"], mean.argmax(axis=1))


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_what_is_right_is_the_plain_pass_in_the_precision_of_the_options(precision):
    features = random_features(400, 40)
    model = model_of(random_head([(40, 30, 0.2, "relu"), (30, 12, 0.3, "sigmoid")]), features)
    model.sha256, model.class_names = "0" * 64, tuple("abcdefghijkl")
    options = Options(precision=precision, num_iter=5)
    scorer, plain = ScoreSet(model, ["max"], options=options), plain_scorer(model, options, None)
    found = scored("x", scorer, plain, features, None).predictions["plain"]
    head = model.head_int8 if precision == "int8" else model.head
    given = features if precision == "int8" else model.dequantize(features)
    np.testing.assert_array_equal(found, head.forward(given).argmax(axis=1))


def test_variants_and_judges():
    assert variants_of("max") == ["max"]
    assert variants_of("gen(0.3)") == ["gen(0.3)"]
    assert variants_of("gen") == ["gen", "gen(0.01)", "gen(0.5)", "gen(1)"]
    names = ("gen(0.5)", "vote_share", "bank_logit", "bank, 2 views")
    assert [judge(name) for name in names] == ["plain", "mean", "bank", "bank, 2 views"]


def images(model, count, seed, labels):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return ImageSet(pixels, labels, model.class_names, f"images {seed}")


def test_the_command(workplace, capsys, model):
    rng, labels = np.random.default_rng(0), np.arange(200) % 100
    made_of = {
        "train": images(model, 200, 1, labels),
        "test": images(model, 220, 2, rng.integers(0, 100, 220)),
        "few": images(model, 20, 3, labels[:20]),
        "foreign": images(model, 30, 4, None),
        "near": images(model, 30, 6, None),
        "shifted": images(model, 1100, 5, None),
    }
    truth = made_of["test"].labels
    made_of["shifted"] = ImageSet(made_of["shifted"].images, np.tile(truth, 5), model.class_names, "shifted")
    made_of["other"] = made_of["test"].mirrored()
    for name, each in made_of.items():
        fastuq.cache_features(each, model, f"{name}.h5").close()
    fastuq.cache_features(made_of["train"], model, "shards", shard_size=90).close()
    given = ["--model", str(TINY)]
    assert cli.main(["fit-reference", "train.h5", "--output", "reference.h5", *given]) == 0
    begin = ["benchmark-scores", *given, "--reference", "reference.h5", "--num-iter", "3", "--cache"]
    small = ["--splits", "2", "--resamples", "4", "--scores", "max,knn,react,mean_max,vim_features"]
    other = [
        "--near",
        "static=near.h5",
        "--far",
        "noise=foreign.h5",
        "--views",
        "other.h5",
        "--shifted",
        "shifted.h5",
        "--output",
        "out/scores",
    ]
    capsys.readouterr()
    assert "give a --coverage" in refusal(capsys, [*begin, "test.h5", *small])
    assert cli.main([*begin, "test.h5", *small, *other, "--coverage", "0.8"]) == 0
    said = capsys.readouterr().out
    found = json.loads(Path("out/scores.json").read_text())
    assert Path("out/scores.md").read_text() == said
    rows = list(csv.DictReader(Path("out/scores.csv").read_text().splitlines()))
    assert [row["score"] for row in rows] == list(found["scores"]) == small[-1].split(",")
    for row in rows:
        figures = found["scores"][row["score"]]
        assert float(row["aurc"]) == figures["aurc"]
        assert float(row["foreign_noise_auroc"]) == figures["foreign"]["noise"]["auroc"]
        assert float(row["near_fpr95"]) == figures["groups"]["near"]["fpr95"] == figures["foreign"]["static"]["fpr95"]
        assert set(figures["shifted"]) == {"1", "2", "3", "4", "5"}
        assert figures["ms"] > 0
    assert found["about"]["reported"] == 110
    assert set(found["views"]["2"]) == {"max", "mean_max"}
    assert found["views"]["2"]["max"]["aurc"] != found["scores"]["max"]["aurc"]
    assert found["scores"]["max"]["over_splits"]["splits"] == 5
    assert "interval, mixed kept" in found["rules"]
    named = ["--splits", "1", "--resamples", "1", "--coverage", "0.8", "--scores", "energy(3)", "--json", "-"]
    assert cli.main([*begin, "test.h5", *named]) == 0
    assert list(json.loads(capsys.readouterr().out)["scores"]) == ["max", "energy(3)"]
    every = ["--splits", "1", "--resamples", "1", "--coverage", "0.8", "--shifted", "shifted.h5"]
    assert cli.main([*begin, "test.h5", *every, "--json", "every.json"]) == 0
    found = json.loads(Path("every.json").read_text())["scores"]
    left_out = {name for name, figures in found.items() if not figures["shifted"]}
    assert left_out == set(SLOW)
    assert "Not taken here, since they are slow: knn" in capsys.readouterr().out

    fastuq.cache_features(ImageSet(made_of["test"].images, None, model.class_names, "x"), model, "bare.h5").close()
    for argv, words in (
        ([*begin, "bare.h5"], "expected a cache with labels"),
        ([*begin, "few.h5"], "expected at least 200 samples"),
        ([*begin, "train.h5"], "expected other data than the reference was made of, found 200 of its rows"),
        ([*begin, "shards"], "expected other data than the reference was made of, found 200 of its rows"),
        ([*begin, "test.h5", "--far", "foreign.h5"], "--far foreign.h5: expected NAME=FILE"),
        ([*begin, "test.h5", "--near", "a=foreign.h5", "--far", "a=few.h5"], "expected another name"),
        (
            [*begin, "test.h5", *small, "--coverage", "0.8", "--shifted", "few.h5"],
            "expected shifted data of the 220 samples",
        ),
        ([*begin, "test.h5", "--scores", "maxx"], "score: expected one of max"),
        ([*begin, "test.h5", "--splits", "0"], "splits"),
        ([*begin, "test.h5", "--coverage", "1"], "coverage"),
        ([*begin, "test.h5", "--scores", "bank"], "expected a bank"),
    ):
        assert words in refusal(capsys, argv, workplace)
