"""A folder of shards on the command line: made, finished, verified, repaired, and read wherever a cache is."""

import json

import caches
import numpy as np
import pytest
from commands import refusal
from damage import damage
from places import TINY

import fastuq
from fastuq.cache import FeatureCache
from fastuq.cache.manifest import MANIFEST, shard_name
from fastuq.cli import main

MODEL = ("--model", str(TINY))
MAKE = ("cache-features", "images.npz", *MODEL, "--output", "shards", "--shard-size", "20", "--batch-size", "8")
FOLDER = ("--images", "images.npz", *MODEL)

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture
def shards(tmp_path):
    images = caches.images()
    np.savez(tmp_path / "images.npz", images=images.images, labels=images.labels)
    assert main([*MAKE]) == 0
    return tmp_path / "shards"


def report(capsys, *args):
    """Run a command and return its JSON."""
    capsys.readouterr()
    status = main([*args, "--json", "-"])
    return status, json.loads(capsys.readouterr().out)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_made_and_made_again(shards, capsys):
    before = contents(shards)
    assert sorted(before) == [*(shard_name(n, 3) for n in (1, 2, 3)), MANIFEST]
    assert main([*MAKE]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("shards: 50 x 32 features of file:images.npz in 3 shards are there already")
    said = report(capsys, *MAKE)[1]
    assert (said["shards"], said["num_samples"], said["computed"], said["reused"]) == (3, 50, 0, True)
    (shards / shard_name(2, 3)).unlink()
    said = report(capsys, *MAKE)[1]
    assert (said["computed"], said["reused"]) == (20, False)
    assert contents(shards) == before
    with FeatureCache.open(shards) as cache:
        assert said["data_fingerprint"] == cache.data_fingerprint


def test_mirrored(shards, capsys):
    said = report(capsys, *MAKE[:-6], "--output", "mirror", "--shard-size", "20", "--mirror")[1]
    assert said["computed"] == 50
    images = caches.images().mirrored()
    with FeatureCache.open("mirror", images=images) as cache:
        np.testing.assert_array_equal(cache.labels, images.labels)
    assert main(["score", "--cache", "shards", "--views", "./mirror", *MODEL, "--num-iter", "3"]) == 0


def of_file(shards):
    caches.write(shards.parent / "one.h5")
    return "one.h5"


@pytest.mark.parametrize("masks", ["shared", "per-sample"])
def test_scored_as_one_file_is(shards, masks, capsys):
    one, options = of_file(shards), [*MODEL, "--num-iter", "5", "--masks", masks.replace("-", "_")]
    for cache, name in ((one, "one"), ("shards", "many")):
        assert main(["score", "--cache", cache, *options, "--csv", f"{name}.csv", "--moments", f"{name}.npz"]) == 0
    assert (shards.parent / "one.csv").read_bytes() == (shards.parent / "many.csv").read_bytes()
    with np.load("one.npz") as single, np.load("many.npz") as several:
        for name in set(single) - {"about"}:
            np.testing.assert_array_equal(single[name], several[name])


def test_every_command_that_reads_a_cache_takes_it(tmp_path):
    pixels, names = caches.images(200).images, caches.tiny_model().class_names
    images = fastuq.ImageSet(pixels, np.arange(200) % 100, names, "labelled")
    fastuq.cache_features(images, caches.tiny_model(), "one.h5").close()
    fastuq.cache_features(images, caches.tiny_model(), "shards", shard_size=70).close()
    fastuq.cache_features(caches.images(120, seed=1), caches.tiny_model(), "fit", shard_size=50).close()
    for cache, name in (("one.h5", "one"), ("shards", "many")):
        assert main(["fit-reference", cache, *MODEL, "--output", f"{name}-reference.h5"]) == 0
        assert main(["bank", cache, "--fit", "fit", *MODEL, "--output", f"{name}-bank.h5", "--components", "8"]) == 0
        promise = ["--coverage", "0.9", "--num-iter", "5", "--output", f"{name}.json"]
        assert main(["calibrate", "--cache", cache, *MODEL, *promise]) == 0
        assert main(["report", "--cache", cache, *MODEL, "--num-iter", "3", "--output", f"{name}.html"]) == 0
    single, several = (fastuq.load_promise(f"{name}.json") for name in ("one", "many"))
    assert single.digests.tolist() == several.digests.tolist()
    np.testing.assert_array_equal(single.scores, several.scores)
    np.testing.assert_array_equal(*(fastuq.Bank.load(f"{name}-bank.h5").rows for name in ("one", "many")))
    np.testing.assert_array_equal(
        *(fastuq.load_reference(f"{name}-reference.h5").features.means for name in ("one", "many"))
    )


def test_verify_and_repair(shards, capsys):
    good = contents(shards)
    assert report(capsys, "cache", "verify", "shards", *FOLDER) == (
        0,
        [{"file": "shards", "ok": True, "shards": 3, "problems": []}],
    )
    damage(shards / shard_name(1, 3))
    (shards / shard_name(3, 3)).unlink()
    status, (said,) = report(capsys, "cache", "verify", "shards")
    assert (status, said["ok"], len(said["problems"])) == (1, False, 2)
    assert main(["cache", "verify", "shards"]) == 1
    first, second, total = capsys.readouterr().out.splitlines()
    assert first == "shards/shard-00001-of-00003.h5: 1 batches are damaged or missing (2)"
    assert second.startswith("shards/shard-00003-of-00003.h5: no such file")
    assert total.startswith("shards: 2 of 3 shards are damaged or missing; `fastuq cache repair` computes them again")
    status, (said,) = report(capsys, "cache", "repair", "shards", *FOLDER)
    assert (status, said["mended"], said["computed"]) == (0, [1, 3], 14)
    assert contents(shards) == good
    assert main(["cache", "repair", "shards", *FOLDER]) == 0
    assert "shards: nothing to repair; every checksum matches" in capsys.readouterr().out
    assert report(capsys, "cache", "info", "shards")[1][0]["shards"] == 3


def test_repair_needs_the_images_of_the_shards(shards, capsys, tmp_path):
    (shards / shard_name(3, 3)).unlink()
    pixels = np.array(caches.images().images)
    pixels[45] ^= 1
    np.savez("other.npz", images=pixels, labels=caches.images().labels)
    for images, message in (("other.npz", "shard-00003-of-00003.h5: expected features"), ("bundled", "(20), found")):
        said = refusal(capsys, ["cache", "repair", "shards", "--images", images, *MODEL], tmp_path)
        assert message in said
    said = refusal(capsys, ["cache", "verify", "shards", "--images", "images.npz"], tmp_path)
    assert "shard-00003-of-00003.h5 is missing" in said


def test_labels_are_put_back(shards, capsys):
    good = contents(shards)
    path = shards / shard_name(2, 3)
    damage(path, json.loads(path.read_bytes().split(b"\n")[1])["datasets"]["labels"]["offset"])
    assert main(["cache", "verify", "shards"]) == 1
    assert "the labels do not match" in capsys.readouterr().out
    status, (said,) = report(capsys, "cache", "repair", "shards", *FOLDER)
    assert (status, said["labels_restored"], said["computed"]) == (0, True, 0)
    assert contents(shards) == good


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["score", "--cache", "shards", *MODEL, "--json", "shards/shards.json"], "found an input"),
        (["score", "--cache", "shards", *MODEL, "--moments", "shards/shard-00001-of-00003.h5"], "found an input"),
        (["score", "--cache", "shards", "one.h5", *MODEL], "shards: expected a file, found a folder"),
        (["score", "--cache", "."], "found a folder without shards.json; check the path"),
        ([*MAKE[:-4], "--shard-size", "10"], "of a run with 3"),
        ([*MAKE, "--json", "shards/shards.json"], "shards/shards.json"),
        ([*MAKE[:-6], "--output", "images.npz", "--shard-size", "20"], "images.npz: expected a folder for shards"),
        ([*MAKE[:-4]], "shards: expected a file, found a folder"),
        ([*MAKE[:-6], "--output", "/proc/x", "--shard-size", "20"], "cannot write /proc/x"),
        ([*MAKE[:-6], "--output", str(TINY), "--shard-size", "20"], "expected a place outside of models"),
    ],
)
def test_mistakes_are_one_line(shards, tmp_path, capsys, args, message):
    of_file(shards)
    assert message in refusal(capsys, args, tmp_path)


def test_a_folder_with_pictures_in_it_is_no_place_for_shards(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'fastuq[images]'")
    (tmp_path / "photos").mkdir()
    image.fromarray(caches.images().images[0]).save(tmp_path / "photos" / "a.png")
    args = ["cache-features", "photos", *MODEL, "--output", "photos", "--shard-size", "5"]
    assert "photos: expected a new folder for shards, found a.png in it" in refusal(capsys, args, tmp_path)
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    args = ["cache-features", "photos", *MODEL, "--output", "f", "--shard-size", "5"]
    assert "b.png" in refusal(capsys, args, tmp_path)
    said = report(capsys, *args, "--on-error", "skip")[1]
    assert [each["file"] for each in said["skipped"]] == ["b.png"]
    assert said["num_samples"] == 1


@pytest.mark.parametrize("how", [("--shard-size", "20"), ("--scheduler", "tcp://127.0.0.1:1")])
def test_nothing_else_is_written_among_the_shards(tmp_path, capsys, how):
    make = ["cache-features", "bundled", *MODEL, "--output", "shards", *how, "--json", "shards/done.txt"]
    assert "lies among the files that this command makes" in refusal(capsys, make, tmp_path)
