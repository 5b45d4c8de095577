"""``fastuq cache-features`` and ``fastuq cache`` as a user calls them."""

import json

import caches
import numpy as np
import pytest
from commands import refusal
from damage import damage
from places import TINY

from fastuq.cache import FeatureCache
from fastuq.cli import main

MODEL = ("--model", str(TINY))


pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, caches.images().images)
    return str(path)


def run(*args):
    return main([*args])


def report(capsys, *args):
    """Run a command and return its JSON."""
    capsys.readouterr()
    status = run(*args, "--json", "-")
    return status, json.loads(capsys.readouterr().out)


def test_bundled_images_by_default(tmp_path, capsys):
    assert run("cache-features", *MODEL) == 0
    (made,) = (tmp_path / "out").iterdir()
    assert "20 x 32 features of bundled" in capsys.readouterr().out
    with FeatureCache.open(made) as cache:
        assert len(cache) == 20
        assert cache.labels[0] == 49


def test_second_run_says_that_nothing_is_to_do(images, capsys):
    first = report(capsys, "cache-features", images, *MODEL)[1]
    assert (first["reused"], first["computed"], first["num_samples"]) == (False, 50, 50)
    assert run("cache-features", images, *MODEL) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert report(capsys, "cache-features", images, *MODEL)[1]["reused"]


def test_score_finds_the_cache(images, capsys):
    cached = report(capsys, "cache-features", images, *MODEL)[1]
    assert run("score", images, *MODEL) == 0
    assert report(capsys, "cache-features", images, *MODEL)[1]["output"] == cached["output"]


def test_folder_is_resized_to_the_model_and_labelled_by_its_classes(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'fastuq[images]'")
    for name in ("whale", "apple"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "photos" / name / "a.png")
    assert run("cache-features", "photos", *MODEL, "--output", "photos.h5") == 0
    with FeatureCache.open("photos.h5") as cache:
        assert [cache.class_names[label] for label in cache.labels] == ["apple", "whale"]
    assert run("cache", "verify", "photos.h5", "--images", "photos", *MODEL) == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--shard-size", "5"], "--shard-size: expected --output too"),
        (["--shard-size", "0", "--output", "f"], "shard size: expected a whole number from 1"),
        (["--batch-size", "0"], "batch size: expected a whole number from 1"),
        (["--threads", "0"], "threads: expected a whole number from 1"),
        (["--output", "/proc/x.h5"], "cannot write /proc/x.h5"),
        (["--output", "."], "expected a file, found a folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, images, capsys, args, message):
    assert message in refusal(capsys, ["cache-features", images, *MODEL, *args], tmp_path)


def test_images_of_another_shape(tmp_path, capsys):
    np.save(tmp_path / "small.npy", np.zeros((3, 8, 8, 3), np.uint8))
    assert run("cache-features", "small.npy", *MODEL) == 2
    assert "expected images (32, 32, 3)" in capsys.readouterr().err


def test_info(capsys):
    caches.write("x.h5")
    status, (found,) = report(capsys, "cache", "info", "x.h5")
    assert status == 0
    assert (found["complete"], found["batches"], found["num_samples"]) == (True, 7, 50)
    assert found["model_sha256"] == caches.tiny_model().sha256
    assert run("cache", "info", "x.h5") == 0
    assert "100 (apple, aquarium_fish, baby, ...)" in capsys.readouterr().out


def test_verify_and_repair(tmp_path, images, capsys):
    path = tmp_path / "x.h5"
    assert run("cache-features", images, *MODEL, "--output", "x.h5", "--batch-size", "8") == 0
    good = path.read_bytes()
    assert report(capsys, "cache", "verify", "x.h5") == (
        0,
        [{"file": "x.h5", "ok": True, "missing": 0, "bad_batches": []}],
    )
    damage(path)
    damage(path, -1600)
    status, (found,) = report(capsys, "cache", "verify", "x.h5")
    assert (status, found["ok"], found["bad_batches"]) == (1, False, [0, 6])
    assert run("cache", "verify", "x.h5") == 1
    assert "2 batches are damaged or missing (0, 6); `fastuq cache repair`" in capsys.readouterr().out
    status, (repaired,) = report(capsys, "cache", "repair", "x.h5", "--images", images, *MODEL)
    assert (status, repaired["computed"]) == (0, 10)
    assert path.read_bytes() == good
    assert run("cache", "repair", "x.h5", "--images", images, *MODEL) == 0
    assert "nothing to repair" in capsys.readouterr().out


def test_repair_needs_the_images_of_the_cache(tmp_path, images, capsys):
    assert run("cache-features", images, *MODEL, "--output", "x.h5") == 0
    damage(tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()
    assert run("cache", "repair", "x.h5", "--images", "bundled", *MODEL) == 2
    assert "data fingerprint" in capsys.readouterr().err
    assert (tmp_path / "x.h5").read_bytes() == before


def test_verify_refuses_other_images_and_models(images, capsys):
    assert run("cache-features", images, *MODEL, "--output", "x.h5") == 0
    assert run("cache", "verify", "x.h5", "--images", images, *MODEL) == 0
    assert run("cache", "verify", "x.h5", "--images", "bundled") == 2
    assert "those of file:images.npy (50, fingerprint" in capsys.readouterr().err


def damage_labels(path):
    damage(path, json.loads(path.read_bytes().split(b"\n")[1])["datasets"]["labels"]["offset"])


def test_damaged_labels_are_named(tmp_path, capsys):
    path = caches.write(tmp_path / "x.h5")
    damage_labels(path)
    for command in (("cache", "verify", "x.h5"), ("score", "--cache", "x.h5", *MODEL)):
        assert run(*command) == 2
        assert "the labels do not match their SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("also", ["batches", "no more"])
@pytest.mark.parametrize("command", ["repair", "cache-features"])
def test_damaged_labels_are_put_back(tmp_path, images, capsys, command, labelled, also):
    if labelled:
        np.savez("images.npz", images=caches.images().images, labels=caches.images().labels)
        images = "images.npz"
    path = tmp_path / "x.h5"
    make = ("cache-features", images, *MODEL, "--output", "x.h5")
    repair = ("cache", "repair", "x.h5", "--images", images, *MODEL) if command == "repair" else make
    assert run(*make) == 0
    good = path.read_bytes()
    for said in (run, report):
        damage_labels(path)
        if also == "batches":
            damage(path)
        if said is run:
            assert run(*repair) == 0
            assert "labels put back" in capsys.readouterr().out
        else:
            status, found = report(capsys, *repair)
            found = found[0] if command == "repair" else found
            assert (status, found["labels_restored"], found["computed"] > 0) == (0, True, also == "batches")
            assert not found.get("reused")
        assert path.read_bytes() == good
    assert run(*repair) == 0
    assert "nothing to" in capsys.readouterr().out


def test_damaged_labels_stay_as_they_are_without_their_images(tmp_path, images, capsys):
    assert run("cache-features", images, *MODEL, "--output", "x.h5") == 0
    damage_labels(tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()
    assert run("cache", "repair", "x.h5", "--images", "bundled", *MODEL) == 2
    assert "data fingerprint" in capsys.readouterr().err
    assert (tmp_path / "x.h5").read_bytes() == before
