"""A small CIFAR-100-C, scored whole: every row against scoring that split alone."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refusal
from places import TINY
from sklearn.metrics import roc_auc_score

from fastuq import cli
from fastuq.datasets import corruptions, open_images
from fastuq.datasets.published import CIFAR100C
from fastuq.errors import CacheError, InputError
from fastuq.model import backbone
from fastuq.model.backbone import Backbone
from fastuq.paper.cifar100c import cache_path, score_cifar100c
from fastuq.paper.cifar100c_tables import cifar100c_markdown, mean_row
from fastuq.paper.run import reproduce
from fastuq.report.tables import markdown_table
from fastuq.scoring.scoring import score

NAMES, COUNT = ("fog", "snow", "zoom_blur"), 60
# The tiny model's outputs are all high; with these, some samples are kept and some are not.
OPTIONS = {"threshold": 0.95, "mixed": "keep", "num_iter": 12, "seed": 3}


@pytest.fixture
def caches(workplace, model, monkeypatch):
    """A data folder with three corruptions of 60 images; where to put the caches."""
    rng = np.random.default_rng(0)
    folder = workplace / "data" / "CIFAR-100-C"
    folder.mkdir(parents=True)
    for name in NAMES:
        np.save(folder / f"{name}.npy", rng.integers(0, 256, (5 * COUNT, 32, 32, 3), np.uint8))
    clean = rng.integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
    likely = model.head.forward(model.dequantize(Backbone(model.backbone_path)(clean))).argmax(axis=1)
    np.save(folder / "labels.npy", np.tile(likely.astype(np.uint8), 5))
    monkeypatch.setenv("FASTUQ_DATA", str(workplace / "data"))
    return workplace / "caches"


def test_every_row_is_that_split_scored_alone(model, caches):
    found = score_cifar100c(model, caches, corruptions=NAMES, **OPTIONS)
    assert [(row["corruption"], row["severity"]) for row in found["rows"]] == [
        (n, s) for n in NAMES for s in range(1, 6)
    ]
    network = Backbone(model.backbone_path)
    for row in found["rows"]:
        images = open_images(f"cifar100c/{row['corruption']}/{row['severity']}")
        result = score(model, network(np.asarray(images.images)), labels=images.labels, **OPTIONS)
        whole = open_images(f"cifar100c/{row['corruption']}").fingerprint()
        expected = {**result.summary(), "seconds": row["seconds"], "data_fingerprint": whole}
        right = result.top == images.labels
        assert {key: row[key] for key in expected} == expected
        assert row["auroc"] == (pytest.approx(roc_auc_score(right, result.max_mean)) if right.any() else None)
        assert row["n"] == COUNT
    assert len({row["accuracy_plain"] for row in found["rows"]}) > 3, "the splits must differ"
    assert len({row["kept"] for row in found["rows"]}) > 3


def test_visit_sees_details_and_mutual_information(model, caches):
    seen = []
    score_cifar100c(
        model,
        caches,
        corruptions=["fog"],
        severities=[2, 4],
        mutual_information=True,
        visit=lambda *args: seen.append(args),
        **OPTIONS,
    )
    assert [args[:2] for args in seen] == [("fog", 2), ("fog", 4)]
    for _, _, result in seen:
        assert result.mean.shape == (COUNT, len(model.class_names))
        assert result.mutual_information.shape == (COUNT,)


def test_caches_are_made_once_and_serve_without_images(model, caches, monkeypatch):
    first = score_cifar100c(model, caches, corruptions=NAMES[:1], **OPTIONS)
    monkeypatch.setattr(backbone, "Backbone", None)  # from here on nothing can run the backbone
    again = score_cifar100c(model, caches, corruptions=NAMES[:1], **OPTIONS)
    Path("data/CIFAR-100-C/fog.npy").unlink()
    without = score_cifar100c(model, caches, corruptions=NAMES[:1], **OPTIONS)
    rows = [[{**row, "seconds": 0} for row in found["rows"]] for found in (first, again, without)]
    assert rows[0] == rows[1] == rows[2]


def test_a_renamed_cache_is_noticed_without_images(model, caches, monkeypatch):
    score_cifar100c(model, caches, corruptions=["fog"], severities=[1], num_iter=2)
    cache_path(caches, "fog", model).rename(cache_path(caches, "snow", model))
    monkeypatch.setenv("FASTUQ_DATA", str(caches))
    with pytest.raises(CacheError, match="expected features of cifar100c/snow, found those of cifar100c/fog"):
        score_cifar100c(model, caches, corruptions=["snow"], severities=[1], num_iter=2)


def test_changed_images_are_noticed(model, caches):
    score_cifar100c(model, caches, corruptions=["snow"], **OPTIONS)
    file = Path("data/CIFAR-100-C/snow.npy")
    pixels = np.load(file)
    pixels[7, 0, 0, 0] ^= 1
    np.save(file, pixels)
    with pytest.raises(CacheError):
        score_cifar100c(model, caches, corruptions=["snow"], **OPTIONS)


def test_missing_files_are_named(model, caches):
    with pytest.raises(InputError, match=r"16 of 19 files are missing: brightness, .*fastuq corrupt.*--corruptions"):
        score_cifar100c(model, caches, **OPTIONS)
    assert not caches.exists()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"corruptions": ["rain"]}, "no corruption 'rain'"),
        ({"corruptions": []}, "no corruption given"),
        ({"severities": [0]}, "no severity 0"),
        ({"severities": []}, "no severity given"),
    ],
)
def test_what_does_not_exist_is_refused(model, caches, wanted, words):
    with pytest.raises(InputError, match=words):
        score_cifar100c(model, caches, **wanted)


def test_another_layout_is_refused(model, caches):
    labels = np.load("data/CIFAR-100-C/labels.npy")
    labels[-1] = (labels[-1] + 1) % 100
    np.save("data/CIFAR-100-C/labels.npy", labels)
    with pytest.raises(InputError, match="not the layout"):
        score_cifar100c(model, caches, corruptions=["fog"])


def test_the_command(model, caches, capsys):
    argv = ["score-cifar100c", "--model", str(TINY), "--caches", str(caches), "--corruptions", "snow,fog"]
    argv += ["--severities", "5,1", "--threshold", "0.95", "--mixed", "keep", "--num-iter", "12", "--seed", "3"]
    assert cli.main([*argv, "--csv", "a.csv", "--json", "a.json", "--markdown", "a.md", "--details", "each"]) == 0
    assert "4 splits" in capsys.readouterr().out
    found = json.loads(Path("a.json").read_text())
    expected = score_cifar100c(model, caches, corruptions=["snow", "fog"], severities=[5, 1], **OPTIONS)
    rows = [[{**row, "seconds": 0} for row in each["rows"]] for each in (found, expected)]
    assert rows[0] == rows[1]
    assert 0 < found["seconds_features"] < found["seconds_total"]
    with open("a.csv", newline="") as file:
        table = list(csv.DictReader(file))
    for line, row in zip(table, found["rows"], strict=True):
        flat = {**row, **{f"seconds_{key}": value for key, value in row["seconds"].items()}}
        del flat["seconds"]
        assert line == {key: "" if value is None else str(value) for key, value in flat.items()}
    assert sorted(path.name for path in Path("each").iterdir()) == [
        "fog-1.csv",
        "fog-5.csv",
        "snow-1.csv",
        "snow-5.csv",
    ]
    assert len(Path("each/fog-5.csv").read_text().splitlines()) == COUNT + 1
    assert Path("a.md").read_text() == cifar100c_markdown(found["rows"])


@pytest.fixture
def twentieth(monkeypatch):
    """A corruption more than the published ones, as an entry in the table would make it."""
    before = corruptions.CORRUPTIONS
    monkeypatch.setitem(corruptions.DETERMINISTIC, "mirror", lambda images, severity: images[:, :, ::-1])
    for module in list(sys.modules.values()):
        if vars(module).get("CORRUPTIONS") is before:
            monkeypatch.setattr(module, "CORRUPTIONS", (*before, "mirror"))


def test_a_corruption_more_changes_nothing_of_the_published_set(model, twentieth, tmp_path, monkeypatch):
    pytest.importorskip("cv2", reason="needs the corruptions: pip install 'fastuq[corrupt]'")
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make = ["corrupt", "--images", "bundled", "--jobs", "1", "--json", "a.json"]
    assert cli.main(make) == 0
    assert json.loads(Path("a.json").read_text())["made"] == [f"{name}.npy" for name in CIFAR100C]
    assert cli.main([*make, "--corruptions", "mirror"]) == 0
    assert json.loads(Path("a.json").read_text())["made"] == ["mirror.npy"]
    np.testing.assert_array_equal(
        open_images("cifar100c/mirror/2").images, np.asarray(open_images("bundled").images)[:, :, ::-1]
    )
    assert cli.main(["corrupt", "--verify", "--json", "a.json"]) == 0
    assert list(json.loads(Path("a.json").read_text())["files"]) == [*CIFAR100C, "labels"]
    argv = ["score-cifar100c", "--model", str(TINY), "--num-iter", "2", "--severities", "1", "--json", "a.json"]
    assert cli.main(argv) == 0
    assert [row["corruption"] for row in json.loads(Path("a.json").read_text())["rows"]] == list(CIFAR100C)
    found = reproduce({"tiny": model}, caches=tmp_path, num_iter=2).figures["networks"]["tiny"]
    assert [list(rows) for rows in found["small"]["corrupted"].values()] == [list(CIFAR100C)] * 2


def test_mistakes_are_one_line(caches, capsys):
    argv = ["score-cifar100c", "--model", str(TINY), "--caches", str(caches)]
    wrong = [["--corruptions", value] for value in ("rain", "fog,fog", "")]
    wrong += [["--severities", value] for value in ("one", "6", "5,5", "²")]
    for options in (*wrong, ["--num-iter", "1"], []):
        assert refusal(capsys, [*argv, *options])


def test_means_leave_out_what_does_not_exist():
    row = {"n": 10, "accuracy_plain": 0.5, "f1_plain": 0.5, "f1_uq": None, "accuracy_kept": None, "kept": 0}
    row |= {"ignored": 10, "misclassified_ignored": 0.5, "aurc": 0.25, "auroc": None}
    other = {**row, "accuracy_plain": 0.7, "f1_uq": 0.9, "kept": 4, "ignored": 6}
    means = mean_row([row, other])
    assert means["accuracy_plain"] == pytest.approx(0.6)
    assert means["f1_uq"] == 0.9
    assert means["kept"] == pytest.approx(0.2)
    assert means["ignored"] == pytest.approx(0.8)
    assert means["accuracy_kept"] is None


def test_markdown_escapes_what_would_end_a_cell():
    assert markdown_table(["a", "b"], [["x|y", None]]) == "| a | b |\n| --- | ---: |\n| x\\|y | – |"
