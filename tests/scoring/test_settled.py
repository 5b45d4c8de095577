"""`num_iter="auto"`: what scoring, tables and the command line make of it, and what it is refused with."""

import csv
import json

import numpy as np
import pytest
from banks import WIDTH, bank, cached, embeddings, parts
from commands import refusal
from heads import random_features

from fastuq import cli
from fastuq.bench.score_run import Plan, benchmark_scores
from fastuq.errors import InputError
from fastuq.montecarlo.doubt import stages
from fastuq.report.moments_file import load_moments, save_moments
from fastuq.scoring.decisions import Reason
from fastuq.scoring.options import Options
from fastuq.scoring.scores import scores
from fastuq.scoring.scoring import Scorer, score

AUTO = {"num_iter": "auto", "max_iter": 300, "settle_error": 1e-5}


@pytest.fixture(scope="module")
def some():
    return random_features(120, WIDTH)


@pytest.mark.parametrize(
    "options",
    [{}, {"mixed": "keep", "threshold": 0.3}, {"doubt_floor": 0.45}, {"masks": "per_sample", "conf_factor": 0.9}],
)
@pytest.mark.parametrize("banked", [False, True])
def test_a_sample_is_scored_as_with_its_iterations(some, options, banked):
    of, known = parts(), {"bank": bank()} if banked else {}
    found = score(of.model, some, **AUTO, **options, **known)
    for count in np.unique(found.iterations):
        took = found.iterations == count
        whole = score(of.model, some, num_iter=int(count), **options, **known)
        for name in ("keep", "reason", "prediction", "mean", "std", "lower", "plain", "entropy", "positive_bits"):
            assert np.array_equal(getattr(found, name)[took], getattr(whole, name)[took]), name
    assert set(found.iterations) <= set(stages(300))
    assert ((found.flips >= 0) & (found.flips <= 1)).all()
    assert (found.flips[found.iterations < 300] < 0.2).all()


def test_a_floor_of_the_doubt_is_a_border_too(some):
    of = parts()
    plain, floored = (score(of.model, some, **AUTO, doubt_floor=floor) for floor in (None, 0.45))
    assert (plain.flips != floored.flips).any()
    near = np.abs(floored.predicted_mean - 0.45) < 0.004
    doubtful = near & (plain.reason == Reason.BENEFIT_OF_THE_DOUBT) & (plain.flips < 0.01)
    assert (floored.flips[doubtful] >= plain.flips[doubtful]).all()


def test_what_the_summary_says(some):
    of = parts()
    found = score(of.model, some, **AUTO)
    summary = json.loads(json.dumps(found.summary()))
    assert (summary["num_iter"], summary["max_iter"], summary["settle_error"]) == ("auto", 300, 1e-5)
    assert summary["iterations"] == pytest.approx(found.iterations.mean())
    assert summary["at_max_iter"] == (found.iterations == 300).sum()
    assert summary["flips"] == pytest.approx(found.flips.mean())
    fixed = score(of.model, some).summary()
    assert (fixed["iterations"], fixed["at_max_iter"], fixed["flips"]) == (None, None, None)


def test_table_moments_and_screen(tmp_path, capsys):
    of, x = parts(), embeddings(70, 3)
    cached(of.model, tmp_path / "x.h5", *x).close()
    source = ["--cache", str(tmp_path / "x.h5"), "--model", str(of.model.path)]
    assert cli.main(["score", *source, "--num-iter", "auto", "--max-iter", "99", "--csv", f"{tmp_path}/a.csv"]) == 0
    said = capsys.readouterr().out
    assert "T = auto to 99" in said
    assert "Another seed would change" in said
    found = score(of.model, of.other, num_iter="auto", max_iter=99)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iterations"]) for row in rows] == found.iterations.tolist()
    assert [row["flip"] for row in rows] == [f"{flip:.6g}" for flip in found.flips]
    save_moments(tmp_path / "m.h5", found)
    assert np.array_equal(load_moments(tmp_path / "m.h5")["flips"], found.flips)


def test_frames_have_the_iterations_where_there_are_any(some):
    pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    model = parts().model
    found = score(model, some, num_iter="auto", max_iter=99)
    assert found.to_frame()["iterations"].tolist() == found.iterations.tolist()
    assert "iterations" not in score(model, some).to_frame()


def test_a_gate_knows_no_seed(some):
    of, how = parts(), {**AUTO, "threshold": 0.05, "conf_factor": 0.99}
    found, open_ = Scorer(of.model, bank=bank(), gate=0.5, **how)(some), score(of.model, some, bank=bank(), **how)
    closed = found.reason == Reason.FOREIGN
    assert (open_.flips[closed] > 0.001).any()
    assert (found.flips[closed] == 0).all()
    assert np.array_equal(found.flips[~closed], open_.flips[~closed])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_iter": "many"}, "num_iter: expected a whole number from 2"),
        ({"num_iter": "auto", "interval": "sem"}, "num_iter auto: expected interval std, found interval sem"),
        ({"num_iter": "auto", "method": "analytic"}, "num_iter auto: expected method sampling, found method analytic"),
        (
            {"num_iter": "auto", "rule": "score", "coverage": 0.5},
            "num_iter auto: expected rule interval, found rule score",
        ),
        ({"max_iter": 100}, "max_iter: expected num_iter auto, found num_iter 50"),
        ({"settle_error": 0.1, "num_iter": 20}, "settle_error: expected num_iter auto, found num_iter 20"),
        ({"num_iter": "auto", "max_iter": 1}, "max_iter: expected a whole number from 2"),
        ({"num_iter": "auto", "settle_error": 0}, "settle_error: expected a number from 1e-06 to 0.25"),
        ({"num_iter": "auto", "settle_error": 0.5}, "settle_error: expected a number from 1e-06 to 0.25"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        Options(**options)


def test_it_is_refused_with_what_needs_the_same_iterations_of_all(some):
    of, alone = parts(), "num_iter auto: expected decisions by one view and one head alone"
    with pytest.raises(InputError, match=f"{alone}, found mutual information too"):
        score(of.model, some, num_iter="auto", mutual_information=True)
    with pytest.raises(InputError, match=f"{alone}, found other views too"):
        score(of.model, some, num_iter="auto", views=[some[::-1].copy()])
    with pytest.raises(InputError, match="num_iter: expected a number of iterations here, found auto"):
        scores(of.model, some, ["mutual_information"], num_iter="auto")
    plan = Plan(options=Options(num_iter="auto"))
    with pytest.raises(InputError, match=alone):
        benchmark_scores(of.model, of.other, foreign={}, shifted=[], reference=None, bank=None, plan=plan)


@pytest.mark.parametrize(
    "argv",
    [
        ["score", "--mutual-information"],
        ["score", "--views", "mirror"],
        ["score", "--interval", "sem"],
        ["score", "--rule", "score", "--coverage", "0.8"],
        ["calibrate"],
        ["benchmark-scores"],
    ],
)
def test_commands_refuse_it_before_the_work(argv, tmp_path, capsys):
    of = parts()
    x, labels = embeddings(70, 3)
    cached(of.model, tmp_path / "x.h5", x, labels).close()
    model = ["--model", str(of.model.path)]
    said = refusal(capsys, [*argv, "--cache", str(tmp_path / "x.h5"), *model, "--num-iter", "auto"], tmp_path)
    assert said.startswith("fastuq: num_iter auto: expected ")


@pytest.mark.parametrize("command", ["demo", "reproduce"])
def test_whole_runs_refuse_it(command, capsys):
    if command == "reproduce":
        pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'fastuq[plot]'")
        pytest.importorskip("skimage", reason="needs the corruptions: pip install 'fastuq[corrupt]'")
    assert "num_iter" in refusal(capsys, [command, "--num-iter", "auto"])


@pytest.mark.parametrize("command", ["score", "calibrate", "demo", "reproduce", "benchmark-scores"])
def test_it_is_offered_where_it_goes(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert ("auto: of each image" in " ".join(capsys.readouterr().out.split())) == (command == "score")
