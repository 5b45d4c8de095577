"""`fastuq bank`, and `fastuq score --bank`."""

import json
from pathlib import Path

import pytest
from banks import cached, embeddings, parts
from commands import refusal
from places import TINY

from fastuq import cli
from fastuq.scoring.bank import Bank

pytestmark = pytest.mark.usefixtures("workplace")


def paths():
    of = parts()
    return {name: getattr(of, name).provenance["files"][0] for name in ("training", "held_out", "other")}


def made(*more):
    of, model = paths(), str(parts().model.path)
    fit = ["--fit", of["held_out"], "--components", "16", "--output", "bank.h5"]
    return cli.main(["bank", of["training"], *fit, "--model", model, *more])


def scored(*more):
    return ["score", "--cache", paths()["other"], "--model", str(parts().model.path), *more]


def test_a_bank_is_made_and_scored_with(capsys):
    assert made("--fit-samples", "120") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("bank.h5: 300 rows of 16 bytes")
    assert lines[2] == "score with it: fastuq score --bank bank.h5"
    assert cli.main(scored("--bank", "bank.h5", "--gate", "0.1", "--csv", "rows.csv")) == 0
    said = capsys.readouterr().out
    assert "  bank      300 rows of" in said
    assert "fitted on the first 120 of" in said
    assert "are among them" not in said
    same = ["score", "--cache", paths()["held_out"], "--model", str(parts().model.path), "--bank", "bank.h5"]
    assert cli.main(same) == 0
    assert "; 120 of these images are among them" in capsys.readouterr().out
    assert "foreign" in Path("rows.csv").read_text()
    assert cli.main(scored("--bank", "bank.h5", "--json", "-")) == 0
    said = json.loads(capsys.readouterr().out)["bank"]
    assert (said["rows"], said["components"], said["held_out_samples"]) == (300, 16, 120)


def test_the_report_is_what_the_bank_says(capsys):
    assert made("--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert {**Bank.load("bank.h5").summary(), "output": "bank.h5", "seconds": report["seconds"]} == report


def test_views_of_images_and_of_caches(capsys):
    model = ["--model", str(TINY), "--num-iter", "5"]
    assert cli.main(["cache-features", "bundled", "--output", "a.h5", *model[:2]]) == 0
    assert cli.main(["cache-features", "bundled", "--mirror", "--output", "b.h5", *model[:2]]) == 0
    assert "20 x 32 features of bundled, mirrored" in capsys.readouterr().out
    for name, views in (("both", ["bundled", "--views", "mirror"]), ("files", ["--cache", "a.h5", "--views", "b.h5"])):
        assert cli.main(["score", *views, "--json", f"{name}.json", "--csv", f"{name}.csv", *model]) == 0
    summary = json.loads(Path("both.json").read_text())
    assert (summary["views"], summary["n"]) == (2, 20)
    assert Path("both.csv").read_text() == Path("files.csv").read_text()
    assert cli.main(["score", "bundled", "--csv", "one.csv", *model]) == 0
    assert Path("one.csv").read_text() != Path("both.csv").read_text()
    assert "expected the images too" in refusal(capsys, ["score", "--cache", "a.h5", "--views", "mirror", *model])
    assert "other images" in refusal(capsys, ["score", "--cache", "a.h5", "--views", "a.h5", *model])


def test_refusals(capsys, tmp_path):
    of = paths()
    few = cached(parts().model, tmp_path / "few.h5", *embeddings(50, 5))
    model = ["--model", str(parts().model.path)]
    wrong = ["bank", of["training"], "--fit", *few.provenance["files"], *model, "--components", "4"]
    assert "at least 100 held-out samples" in refusal(capsys, wrong)
    over = ["bank", of["training"], "--fit", of["held_out"], *model, "--output", of["training"]]
    assert "which it would replace" in refusal(capsys, over)
    assert "held-out" in refusal(capsys, ["bank", of["training"], "--fit", of["training"], *model])
    assert "no such file" in refusal(capsys, scored("--bank", "none.h5"))
    assert "expected a fastuq bank" in refusal(capsys, scored("--bank", of["other"]))
    assert made() == 0
    capsys.readouterr()
    assert "bank: expected one of model" in refusal(capsys, ["score", "--bank", "bank.h5"])
