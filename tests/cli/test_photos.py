"""`fastuq score photos/` as people have them: which file to trust, and what a broken one costs."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from commands import refusal
from models import tiny_model
from PIL import Image
from places import TINY

from fastuq import cli
from fastuq.cache import FeatureCache, build, cache_features
from fastuq.datasets import open_images
from fastuq.model.backbone import Backbone
from fastuq.model.model import load_model, save_model

MODEL = ("--model", str(TINY))
RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("workplace")


def picture(path, size=(40, 50), **options):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)).save(path, **options)


@pytest.fixture
def photos(capsys):
    """Photos of two classes, one turned, some broken, and what lies beside them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture("photos/whale/IMG_0001.jpg", exif=exif)
    picture("photos/whale/2023/IMG_0002.webp")
    picture("photos/apple/a.png")
    for name in ("photos/._IMG_0001.jpg", "photos/.DS_Store", "photos/apple/live.heic", "photos/whale/IMG_0000.jpg"):
        Path(name).write_bytes(b"")
    Path("photos/apple/cut.png").write_bytes(Path("photos/apple/a.png").read_bytes()[:500])
    return "photos"


def report(capsys, *args):
    capsys.readouterr()
    status = cli.main([*args, "--json", "-"])
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if "the kernels (slow" not in line]  # where none are kept yet
    return status, json.loads(said.out) if said.out else None, lines


def rows(path="t.csv"):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def test_broken_files_stop_the_run_before_the_work(photos, capsys, monkeypatch):
    monkeypatch.setattr(build, "_backbone", None)
    for command in (["score", photos], ["cache-features", photos, "--output", "f.h5"]):
        said = refusal(capsys, [*command, *MODEL])
        assert "photos/apple/cut.png: expected a picture" in said
        assert "; 2 of 5 pictures cannot be read; --on-error skip leaves them out" in said
    assert not Path("out").exists()
    assert not Path("f.h5").exists()


def test_broken_files_cost_those_files(photos, capsys):
    status, found, said = report(capsys, "score", photos, *MODEL, "--on-error", "skip", "--csv", "t.csv")
    assert status == 0
    assert (found["n"], found["notes"]) == (3, ["1 file passed over: 1 .heic"])
    assert [each["file"] for each in found["skipped"]] == ["apple/cut.png", "whale/IMG_0000.jpg"]
    assert "an empty file" in found["skipped"][1]["reason"]
    assert [line.split(":")[1].strip() for line in said] == ["1 file passed over", "left out", "left out"]
    assert [row["file"] for row in rows()] == ["apple/a.png", "whale/2023/IMG_0002.webp", "whale/IMG_0001.jpg"]
    assert [row["label_name"] for row in rows()] == ["apple", "whale", "whale"]


def test_the_screen_names_ten(capsys):
    picture("photos/good.png")
    for number in range(25):
        Path(f"photos/bad{number:02}.png").write_bytes(b"")
    _, found, said = report(capsys, "score", "photos", *MODEL, "--on-error", "skip")
    assert len(found["skipped"]) == 25
    assert len(said) == 11
    assert said[-1] == "fastuq: left out: 15 more; --json names all of them"
    assert all("good" not in line for line in said)


def test_the_cache_of_a_set_with_broken_files_is_found_and_verified(photos, capsys):
    skip = ("--on-error", "skip")
    first = report(capsys, "cache-features", photos, *MODEL, *skip)[1]
    assert (first["num_samples"], len(first["skipped"])) == (3, 2)
    assert report(capsys, "cache-features", photos, *MODEL, *skip)[1]["reused"]
    for action in ("verify", "repair"):
        assert cli.main(["cache", action, first["output"], "--images", photos, *MODEL, *skip]) == 0
        assert cli.main(["cache", action, first["output"], "--images", photos, *MODEL]) == 2
    Path("photos/apple/cut.png").unlink()
    Path("photos/whale/IMG_0000.jpg").unlink()
    assert report(capsys, "cache-features", photos, *MODEL)[1]["reused"]


def test_a_picture_counts_as_what_it_shows(capsys):
    """Pictures that a camera held otherwise saved get the very same figures as upright ones."""
    back = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    for number in range(12):
        picture(f"plain/{number:02}.png")
        shown = Image.open(f"plain/{number:02}.png")
        orientation = [*back][number % 4]
        exif = Image.Exif()
        exif[0x0112] = orientation
        Path("saved").mkdir(exist_ok=True)
        turned = shown.transpose(back[orientation]) if orientation > 1 else shown
        turned.save(f"saved/{number:02}.tif", exif=exif)
    for folder in ("plain", "saved"):
        assert cli.main(["score", folder, *MODEL, "--csv", f"{folder}.csv"]) == 0
    figures = [[{**row, "file": ""} for row in rows(f"{folder}.csv")] for folder in ("plain", "saved")]
    assert figures[0] == figures[1]


def test_one_picture(capsys):
    picture("photos/a b.jpg")
    assert report(capsys, "score", "photos/a b.jpg", *MODEL, "--csv", "t.csv")[1]["n"] == 1
    assert [(row["file"], row["label"]) for row in rows()] == [("a b.jpg", "")]
    assert open_images("photos/a b.jpg").fingerprint() == open_images("photos").fingerprint()


def test_classes_that_the_model_does_not_know_are_no_labels(capsys):
    picture("photos/holiday/a.png")
    picture("photos/work/b.png")
    status, found, said = report(capsys, "score", "photos", *MODEL, "--csv", "t.csv")
    assert (status, found["accuracy_plain"]) == (0, None)
    assert said == ["fastuq: no labels: none of holiday, work is among the 100 classes apple, aquarium_fish, baby, ..."]
    assert found["notes"] == [said[0].removeprefix("fastuq: ")]
    assert [row["label"] for row in rows()] == ["", ""]
    picture("photos/apple/c.png")
    assert "class 'holiday' is unknown to the model" in refusal(capsys, ["score", "photos", *MODEL])


def test_class_names_of_a_file_and_class_numbers(capsys):
    for name in ("7", "12"):
        picture(f"photos/{name}/a.png")
    assert cli.main(["score", "photos", *MODEL, "--csv", "t.csv"]) == 0
    assert [(row["label"], row["label_name"]) for row in rows()] == [("7", "beetle"), ("12", "bridge")]
    names = [f"thing {n}" for n in range(100)]
    Path("names.txt").write_text("\ufeff" + "\r\n".join(names) + "\n")
    picture("named/thing 99/a.png")
    for source in (["named"], ["--cache", str(next(Path("out").iterdir()))]):
        assert cli.main(["score", *source, *MODEL, "--classes", "names.txt", "--csv", "t.csv"]) == 0
        assert all(row["prediction_name"] == f"thing {row['prediction']}" for row in rows())
        assert all(row["label_name"] == f"thing {row['label']}" for row in rows())
    Path("names.txt").write_text("\n".join(names[:99]))
    said = refusal(capsys, ["score", "photos", *MODEL, "--classes", "names.txt"])
    assert "class names names.txt: expected 100, one for each class, found 99" in said


def test_features_of_folders_in_another_language(capsys):
    Path("de.txt").write_text("\n".join(f"Ding {n}" for n in range(100)))
    for name in ("Ding 3", "Ding 12"):
        picture(f"pde/{name}/a.png")
    classes = ("--classes", "de.txt")
    found = report(capsys, "cache-features", "pde", *MODEL, *classes, "--output", "de.h5")[1]
    assert (found["notes"], found["computed"]) == ([], 2)
    with FeatureCache.open("de.h5") as cache:
        assert sorted(cache.labels.tolist()) == [3, 12]
    for command in (["score"], ["report", "pde"]):
        assert cli.main([*command, "--cache", "de.h5", *MODEL, *classes]) == 0
    report(capsys, "cache-features", "pde", *MODEL, "--output", "none.h5")
    said = refusal(capsys, ["report", "pde", "--cache", "none.h5", *MODEL, *classes])
    assert "one has labels and the other has none: are the class names (--classes) those it was made with?" in said
    for action in ("verify", "repair"):
        assert cli.main(["cache", action, "de.h5", "--images", "pde", *MODEL]) == 0
    Path("de.txt").write_text("\n".join(["Ding 12", *(f"Ding {n}" for n in range(1, 100))]))
    for command in ("score", "cache-features"):
        assert "class 'Ding 12': is there twice among the names" in refusal(capsys, [command, "pde", *MODEL, *classes])


def test_class_numbers_are_said(capsys):
    picture("photos/12/a.png")
    picture("photos/13/a.png")
    _, found, said = report(capsys, "score", "photos", *MODEL)
    assert said == ["fastuq: labels are class numbers, counted from 0: 12 (bridge), 13 (bus)"]
    assert found["notes"] == [said[0].removeprefix("fastuq: ")]


def test_the_model_says_what_of_a_picture_it_sees(capsys):
    model = tiny_model()
    parts = {name: getattr(model, name) for name in ("network", "head", "head_int8", "class_names", "input_shape")}
    scales = {"feature_scale": model.feature_scale, "feature_zero_point": model.feature_zero_point}
    save = {"backbone": model.read_backbone(), "full": model.read_full(), "info": model.info["made"], **parts, **scales}
    assert save_model("same", **save).sha256 == model.sha256
    assert load_model("same").crop is None
    middle = save_model("middle", **save, crop=0.5)
    assert load_model("middle").crop == 0.5
    for name, said in (("same", "none"), ("middle", "0.5")):
        assert cli.main(["info", name]) == 0
        assert f"crop              {said}\n" in capsys.readouterr().out
    assert middle.sha256 != model.sha256
    picture("photos/a.png", (64, 64))
    made = report(capsys, "cache-features", "photos", "--model", "middle")[1]
    with FeatureCache.open(made["output"]) as cache:
        assert cache.provenance["preprocessing"]["crop"] == 0.5
        half = open_images("photos", crop=0.5)
        assert np.array_equal(cache.read(0, 1), Backbone(model.backbone_path)(half.read(0, 1)))
    assert cli.main(["cache", "verify", made["output"], "--images", "photos", "--model", "middle"]) == 0
    stretched = load_model("middle")
    object.__setattr__(stretched, "crop", None)
    cache_features(open_images("photos"), stretched, "stretched.h5").close()
    for command in (["score", "--cache"], ["cache", "verify"]):
        said = refusal(capsys, [*command, "stretched.h5", "--model", "middle"])
        assert "expected pictures with crop 0.5, as the model sees them, found crop None" in said


def test_arrays_have_neither_files_nor_another_identity(capsys):
    np.save("a.npy", RNG.integers(0, 256, (3, 32, 32, 3), np.uint8))
    found = report(capsys, "cache-features", "a.npy", *MODEL)[1]
    with FeatureCache.open(found["output"]) as cache:
        assert cache.provenance["preprocessing"] == {"color": "RGB", "dtype": "uint8", "shape": [32, 32, 3]}
    assert cli.main(["score", "a.npy", *MODEL, "--csv", "t.csv"]) == 0
    assert "file" not in rows()[0]


def test_arrays_as_keras_has_them(capsys):
    pixels = RNG.integers(0, 256, (3, 32, 32, 3), np.uint8)
    labels = np.array([5, 0, 99])
    prints = set()
    for kind in (labels, labels[:, None].astype(np.uint8), np.eye(100)[labels], np.eye(100, dtype=bool)[labels]):
        np.savez("a.npz", images=pixels, labels=kind)
        found = report(capsys, "cache-features", "a.npz", *MODEL)[1]
        prints.add(found["data_fingerprint"])
    assert len(prints) == 1
    grey = RNG.integers(0, 256, (5, 32, 32), np.uint8)
    prints = set()
    for kind in (grey, grey[..., None], np.stack([grey] * 3, -1)):
        np.save("g.npy", kind)
        prints.add(report(capsys, "cache-features", "g.npy", *MODEL)[1]["data_fingerprint"])
        prints.add(open_images(kind).fingerprint())
    assert len(prints) == 1
    np.save("one.npy", pixels[1])
    assert report(capsys, "score", "one.npy", *MODEL)[1]["n"] == 1
    assert open_images(pixels[1]).fingerprint() == open_images(pixels[1:2]).fingerprint()
    np.savez("a.npz", images=pixels, labels=[0, 1, 100])
    assert "expected labels 0 to 99" in refusal(capsys, ["score", "a.npz", *MODEL])
