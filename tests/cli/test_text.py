"""What is printed and written as text: each line one line, whatever the names of files and classes hold."""

import argparse
import ast
import csv
import importlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import banks
import caches
import numpy as np
import pytest
from commands import refusal
from damage import damage
from places import TINY

import fastuq
from fastuq import cli
from fastuq.cache import cache_features
from fastuq.cli import download
from fastuq.datasets import ImageSet, open_images
from fastuq.errors import InputError, printable
from fastuq.report.tables import markdown_table, write_csv
from fastuq.scoring.options import Options
from fastuq.scoring.scoring import score

EVIL = os.fsdecode(b"a.h5: every checksum matches\nb\r\t\x1b[2J\xff") + "\u202e\u2028.h5"
MODEL = ["--model", str(TINY)]


pytestmark = pytest.mark.usefixtures("workplace")


def lines(capsys):
    text = capsys.readouterr().out
    assert all(line.isprintable() for line in text.split("\n")), text
    return text.splitlines()


def test_names_of_files_make_no_lines_of_their_own(capsys):
    caches.write(EVIL)
    assert cli.main(["cache", "verify", EVIL]) == 0
    assert len(lines(capsys)) == 1
    damage(EVIL)
    assert cli.main(["cache", "verify", EVIL]) == 1
    (line,) = lines(capsys)
    assert line.startswith(
        "a.h5: every checksum matches\\nb\\r\\t\\x1b[2J\\udcff\\u202e\\u2028.h5: 1 batches are damaged"
    )
    assert refusal(capsys, ["score", "--cache", EVIL, *MODEL])


def test_cache_info_of_a_hostile_file(capsys):
    """Its header may say anything."""
    pixels = caches.images(8).images
    names = tuple(f"{EVIL}{number}" for number in range(100))

    class Named:
        def __getattr__(self, name):
            return {"class_names": names, "network": EVIL}.get(name, getattr(caches.tiny_model(), name))

    with cache_features(ImageSet(pixels, None, None, "images"), Named(), "c.h5"):
        pass
    before = len(json.loads(json.dumps(report(capsys))))
    assert cli.main(["cache", "info", "c.h5"]) == 0
    found = lines(capsys)
    assert len(found) == before
    assert "\\n" in next(line for line in found if line.startswith("network"))


def report(capsys):
    assert cli.main(["cache", "info", "c.h5", "--json", "-"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    return found


def test_scoring_and_caching_name_their_files_on_one_line(capsys):
    np.save("in.npy", caches.images(9).images)
    Path("in.npy").rename("x\n\x1b[31mred.npy")
    assert cli.main(["cache-features", "x\n\x1b[31mred.npy", "--output", EVIL, *MODEL]) == 0
    assert len(lines(capsys)) == 1
    assert cli.main(["score", "--cache", EVIL, "--num-iter", "5", *MODEL]) == 0
    assert "every checksum matches" not in [line[:30] for line in lines(capsys)[1:]]


def test_all_commands_print_through_one_function():
    for file in Path(cli.__file__).parent.glob("*.py"):
        functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
        prints = [
            function.name
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "print"
        ]
        assert prints == (["say", "tell", "_fail"] if file.name == "__init__.py" else []), file


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\tb", "\x1b[2J", "\u202e", "\udcff", "\u2028", "\x00", "\x85"])
def test_printable(text):
    assert printable(text).isprintable()
    assert printable(text).isascii()
    assert markdown_table(["name", "n"], [[text, 1]]).count("\n") == 2
    write_csv("t.csv", ["name"], [[text]])
    assert len(Path("t.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_what_can_be_shown_stays_as_it_is():
    for text in ("Ä Größe", "文件", "a|b, 'c' \"d\"", "  two  spaces ", "cafe\u0301"):
        assert printable(text) == text


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\uff1d1", "'\uff1d1"),
        ("-0.25", "-0.25"),
        ("-1e-05", "-1e-05"),
        ("a=b", "a=b"),
        ('say "a", b', 'say "a", b'),
    ],
)
def test_formulas_in_tables_are_texts(name, cell):
    write_csv("t.csv", ["name", "x"], [[name, -1.5], [None, 0]])
    with open("t.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["name", "x"], [cell, "-1.5"], ["", "0"]]


def test_the_table_of_samples_keeps_its_numbers():
    model = caches.tiny_model()
    result = score(model, caches.features()[:5], num_iter=5)
    from fastuq.report.samples import write_sample_table

    names = ("=x", *model.class_names[1:])
    write_sample_table("t.csv", result, names)
    with open("t.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for n, row in enumerate(rows):
        assert float(row["lower"]) == pytest.approx(result.predicted_lower[n], rel=1e-5)
        assert int(row["prediction"]) == result.prediction[n]


COMMANDS = {
    "bank": [["c.h5", "--fit", "c.h5", "--output", "b.h5", *MODEL]],
    "bench": [["--quick"]],
    "benchmark-scores": [["--cache", "c.h5", *MODEL]],
    "cache": [["info", "c.h5"], ["verify", "c.h5"], ["repair", "c.h5", "--images", "x.npz", *MODEL]],
    "cache-features": [["bundled", *MODEL]],
    "calibrate": [["--cache", "c.h5", *MODEL]],
    "corrupt": [
        ["--images", "bundled", "--output", "o"],
        ["--verify", "--output", "o"],
        ["--contact-sheet", "sheet.png"],
    ],
    "demo": [["--num-iter", "3", *MODEL]],
    "download": [["cifar100"]],
    "fit-reference": [["c.h5", "--output", "r.h5", *MODEL]],
    "import": [["net.tflite", "--dropout", "0.2", "--output", "m"], ["net.keras", "--output", "m", "--data", "x.npz"]],
    "import-features": [["e.npy", "--head", "head.npz", "--model", "me"]],
    "info": [["c.h5"], [str(TINY)]],
    "quantize": [["net.keras", "--output", "m", "--data", "x.npz"]],
    "report": [["bundled", *MODEL]],
    "reproduce": [[]],
    "score": [["bundled", *MODEL], ["--cache", "c.h5", *MODEL, "--csv", "t.csv"]],
    "score-cifar100c": [MODEL],
    "train": [["--data", "x.npz", "--output", "m"], ["--features", "e.npy", "--output", "m"]],
}
"""Every command in the ways that it can be run, on what `inputs` makes."""


@pytest.fixture
def inputs(monkeypatch):
    """Make what commands read, and put a result in the place of work that takes long."""
    caches.write("c.h5")
    images = caches.images()
    np.savez("x.npz", images=images.images, labels=images.labels)
    np.save("e.npy", np.random.default_rng(0).standard_normal((20, caches.tiny_model().head.num_features)))
    fastuq.save_head("head.npz", caches.tiny_model().head)
    shutil.copy(TINY / "full.tflite", "net.tflite")
    report = {"accuracy_int8": 0.5}
    made = replace(caches.tiny_model(), info={"made": {"report": report, "cut": "x", "left_off": []}})
    for place, found in {
        "bench.run.run_bench": {"machine": {}},
        "bench.score_run.benchmark_scores": {"figures": {}},
        "bench.score_tables.score_markdown": "a line",
        "scoring.bank.making.make": banks.bank(),
        "scoring.calibration.calibrate.calibrate": SimpleNamespace(
            **dict.fromkeys(("samples", "kept", "tested", "errors"), 1),
            **dict.fromkeys(("before", "after", "sets", "missing")),
            **{"options": Options(rule="score", threshold=1), "words": "", "save": lambda *_: None},
            summary=lambda: {"risk": 0.05},
        ),
        "scoring.scores.fit_reference": SimpleNamespace(
            save=lambda *_: None, images="x", num_samples=1, rows=[], model_sha256="", data_fingerprint=""
        ),
        "datasets.corruptions.generate.generate": {"made": ["fog.npy"], "kept": []},
        "datasets.corruptions.verify.verify": {
            "files": {"fog.npy": "made here"},
            "source_published": False,
            "ok": True,
        },
        "datasets.corruptions.sheet.contact_sheet": None,
        "datasets.download.download": True,
        "datasets.corruptions.require_extra": None,
        "report.plotting.require_plot": None,
        "report.plotting.disagreement_curve": None,
        "paper.run.reproduce": SimpleNamespace(
            figures={"seconds_total": 1.0}, pictures={}, splits={}, curves=lambda: {}
        ),
        "paper.tables.reproduction_markdown": "",
        "paper.cifar100c.score_cifar100c": {"rows": [], "seconds_total": 1.0, "seconds_features": 1.0},
        "training.train.train": made,
        "training.train_features.train_features": made,
        "training.keras_file.check_file": None,
        "training.quantize_file.quantize_file": made,
        "training.import_report.import_lines": ["a line"],
        "training.finish_model.report_lines": ["a line"],
    }.items():
        module, _, name = place.rpartition(".")
        monkeypatch.setattr(importlib.import_module(f"fastuq.{module}"), name, lambda *_, found=found, **__: found)


@pytest.mark.parametrize("option", ["-", "/dev/stdout"])
@pytest.mark.parametrize("name", COMMANDS)
def test_json_on_the_screen_is_alone_there(inputs, capfd, name, option):
    for argv in COMMANDS[name]:
        capfd.readouterr()
        assert cli.main([name, *argv, "--json", option]) == 0
        assert json.loads(capfd.readouterr().out)
        assert cli.main([name, *argv, "--json", "report.json"]) == 0
        assert capfd.readouterr().out.strip() or name == "bench"  # whose tables come from the work itself
        assert json.loads(Path("report.json").read_text())


def test_every_command_is_among_them_and_every_output_may_be_the_screen():
    assert set(COMMANDS) == set(cli.commands())
    for name in cli.commands():
        parser = argparse.ArgumentParser()
        importlib.import_module(f"fastuq.cli.{cli._module(name)}").add_arguments(parser)
        shown = {action.dest for action in parser._actions if "for the screen" in (action.help or "")}
        assert "json" in shown <= set(cli.SHOWN)


def test_every_command_that_reports_leaves_the_screen_to_its_output(capsys):
    for option in cli.SHOWN:
        cli.say(argparse.Namespace(**{option: Path("-")}), ["a line"])
        assert capsys.readouterr().out == ""
    cli.say(argparse.Namespace(json=None, csv="t.csv"), ["a line", "b\nc"])
    assert capsys.readouterr().out == "a line\nb\\nc\n"
    assert download.say is cli.say


def test_repr_is_one_short_line():
    model = caches.tiny_model()
    images = open_images("bundled")
    result = score(model, caches.features()[:9], num_iter=3)
    for value in (model, model.head, model.head_int8, images, result, fastuq.load_model()):
        assert "\n" not in repr(value)
        assert len(repr(value)) < 350
        assert repr(value).startswith(type(value).__name__)
    assert model.sha256[:12] in repr(model)


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "\u202e"])
def test_class_names_that_no_model_may_have_are_refused_before_any_work(monkeypatch, name):
    from fastuq.model.folding import Activate, Multiply
    from fastuq.training import quantize_file, train

    def work(*_, **__):
        pytest.fail("the work began")

    images = ImageSet(caches.images(4).images, np.array([0, 1, 0, 1]), ("cat", name), "images")
    monkeypatch.setattr(train, "build_backbone", work)
    with pytest.raises(InputError, match="expected a name of printable characters"):
        train.train(train.Plan(), images, None, "model", work="work")
    monkeypatch.setattr(quantize_file, "quantize_backbone", work)
    opened = type("Cut", (), {"steps": [Multiply(np.ones((8, 2)), np.zeros(2), "dense"), Activate("softmax", "dense")]})
    opened.features = np.empty((1, 8))
    monkeypatch.setattr(quantize_file, "check_file", lambda *given: {})
    monkeypatch.setattr(quantize_file, "open_network", lambda *given: None)
    monkeypatch.setattr(quantize_file, "find_cut", lambda *given: opened)
    for names, network in ((images, "net"), (ImageSet(images.images, images.labels, ("a", "b"), "x"), name)):
        ends = [np.empty((1, 32, 32, 3))]
        keras = type("Network", (), {"inputs": ends, "outputs": ends, "name": network, "built": True})
        monkeypatch.setattr(quantize_file, "load_network", lambda path, dropouts, keras=keras: keras)
        with pytest.raises(InputError, match="expected a name of printable characters"):
            quantize_file.quantize_file("net.keras", names, None, "model")
    assert not list(Path().iterdir())
