"""No output replaces an input, however the two are named, linked or mounted; names of any length are written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import caches
import numpy as np
import pytest
from commands import contents, refusal
from places import TINY

from fastuq import cli
from fastuq.cache import FeatureCache, cache_features, default_cache_path
from fastuq.datasets import open_images
from fastuq.datasets.corruptions import generate
from fastuq.errors import InputError
from fastuq.model.folder import write_folder
from fastuq.util.bundled import bundled_path
from fastuq.util.files import atomic_path, partial_prefix, write_text
from fastuq.util.outputs import check_outputs

LONGEST = ["n" * 255, "é" * 127 + "n", "n" * 251 + ".csv", "文" * 85]


@pytest.fixture
def place(workplace, monkeypatch):
    """A folder with something of each kind that is read."""
    monkeypatch.setenv("FASTUQ_DATA", str(workplace / "data"))
    shutil.copytree(TINY, "model")
    Path("model/README.md").write_text("a card")
    np.save("in.npy", caches.images().images)
    with cache_features(caches.images(), caches.tiny_model(), "c.h5"):
        pass
    given = ("net.keras", "net.tflite", "names.txt", "weights.h5")
    for file in ("pictures/a.png", "classes/cat/a.jpg", "data/cifar-100-python/test", *given):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("content of " + file)
    Path("caches").mkdir()
    shutil.copy("c.h5", "caches/fog-12345678.h5")
    Path("elsewhere.png").write_text("a picture that the folder links to")
    Path("pictures/link.png").symlink_to("../elsewhere.png")
    return workplace


READ = [
    (["score", "in.npy", "--model", "model"], ["in.npy", "model/head.npz", "model/README.md", "model/model.json"]),
    (["score", "pictures", "--model", "model"], ["pictures/a.png", "elsewhere.png"]),
    (["score", "classes", "--model", "model"], ["classes/cat/a.jpg"]),
    (["score", "--cache", "c.h5", "--model", "model"], ["c.h5", "model/full.tflite"]),
    (["report", "in.npy", "--model", "model", "--cifar100c", "names.txt"], ["in.npy", "model/head.npz", "names.txt"]),
    (["report", "--cache", "c.h5", "--model", "model"], ["c.h5"]),
    (["score", "--cache", "c.h5", "--bank", "names.txt", "--reference", "in.npy"], ["names.txt", "in.npy"]),
    (["score", "in.npy", "--model", "model", "--views", "c.h5", "mirror"], ["c.h5"]),
    (["score", "in.npy", "--model", "model", "--classes", "names.txt"], ["names.txt"]),
    (["train", "--data", "in.npy", "--classes", "names.txt", "--output", "o"], ["names.txt"]),
    (["import", "net.keras", "--classes", "names.txt", "--output", "o"], ["names.txt"]),
    (["score", "--model", "model"], ["data/cifar-100-python/test"]),
    (["cache-features", "in.npy", "--model", "model", "--output", "n.h5"], ["in.npy", "model/backbone.tflite"]),
    (["cache-features", "in.npy", "--model", "model", "--output", "c.h5"], ["c.h5"]),
    (["info", "c.h5"], ["c.h5"]),
    (["cache", "info", "c.h5"], ["c.h5"]),
    (["cache", "verify", "c.h5", "--images", "in.npy", "--model", "model"], ["c.h5", "in.npy", "model/head.npz"]),
    (["cache", "repair", "c.h5", "--model", "model"], ["data/cifar-100-python/test"]),
    (["bank", "c.h5", "--fit", "names.txt", "--model", "model"], ["c.h5", "names.txt", "model/head.npz"]),
    (["fit-reference", "c.h5", "--model", "model", "--output", "r.h5"], ["c.h5", "model/head.npz"]),
    (["benchmark-scores", "--cache", "c.h5", "--bank", "names.txt", "--model", "model"], ["c.h5", "names.txt"]),
    (
        ["calibrate", "--cache", "c.h5", "--model", "model", "--bank", "names.txt"],
        ["c.h5", "model/head.npz", "names.txt"],
    ),
    (["demo", "--model", "model"], ["model/head_int8.npz"]),
    (["bench", "--networks", "model"], ["model/head.npz"]),
    (["score-cifar100c", "--model", "model", "--caches", "caches"], ["model/head.npz", "data/cifar-100-python/test"]),
    (["reproduce", "--model", "model", "--resnet50", "classes"], ["model/head.npz", "classes/cat/a.jpg"]),
    (["reproduce", "--caches", "caches"], ["caches/fog-12345678.h5", "data/cifar-100-python/test"]),
    (["train", "--data", "in.npy", "--test", "classes", "--weights", "weights.h5", "--output", "o"], ["in.npy"]),
    (["train", "--data", "in.npy", "--test", "classes", "--weights", "weights.h5", "--output", "o"], ["weights.h5"]),
    (["train", "--data", "in.npy", "--test", "classes", "--output", "o"], ["classes/cat/a.jpg"]),
    (["train", "--features", "in.npy", "--labels", "names.txt", "--output", "o"], ["in.npy", "names.txt"]),
    (["train", "--output", "o"], ["data/cifar-100-python/test"]),
    (["import", "net.keras", "--data", "in.npy", "--output", "o"], ["net.keras", "in.npy"]),
    (["quantize", "net.keras", "--data", "in.npy", "--output", "o"], ["net.keras", "in.npy"]),
    (["import", "net.tflite", "--data", "in.npy", "--output", "o"], ["net.tflite", "in.npy"]),
    (["import", "net.tflite", "--labels", "names.txt", "--output", "o"], ["names.txt"]),
    (["import-features", "in.npy", "--model", "model"], ["in.npy", "model/head.npz"]),
    (["import-features", "in.npy", "--head", "weights.h5", "--labels", "names.txt"], ["weights.h5", "names.txt"]),
    (["corrupt", "--images", "in.npy"], ["in.npy", "data/cifar-100-python/test"]),
    (["download", "cifar100"], ["data/cifar-100-python/test"]),
]


@pytest.mark.parametrize(("argv", "file"), [(argv, file) for argv, files in READ for file in files])
def test_an_input_under_another_name_is_no_output_of_any_command(place, capsys, argv, file):
    os.link(file, "another-name.txt")  # device and inode are the same, as through a bind mount
    for name in ("another-name.txt", file):
        assert "found an input" in refusal(capsys, [*argv, "--json", name], place)


def test_every_command_is_tried():
    assert {argv[0] for argv, _ in READ} == set(cli.commands())


MOUNTED = """
import subprocess, sys
from pathlib import Path
if subprocess.run(["mount", "--bind", ".", "mounted"], capture_output=True).returncode:
    sys.exit(77)
from fastuq import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["score", "in.npy", "--model", "model", "--csv", "mounted/in.npy"], "found an input"),
        (["score", "--cache", "c.h5", "--model", "model", "--csv", "mounted/c.h5"], "found an input"),
        (["score", "pictures", "--model", "model", "--csv", "mounted/pictures/a.png"], "found an input"),
        (["score", "in.npy", "--model", "model", "--json", "mounted/model/head.npz"], "found an input"),
        (["score", "in.npy", "--model", "mounted/model", "--json", "model/README.md"], "found an input"),
        (["score", "in.npy", "--model", "model", "--json", "x/y", "--csv", "mounted/x/y"], "goes there too"),
        (["quantize", "net.keras", "--output", "o", "--json", "mounted/o/model.json"], "this command makes"),
    ],
)
def test_bind_mounts(place, argv, words):
    Path("mounted").mkdir()
    before = contents(place)
    if not shutil.which("unshare"):
        pytest.skip("no program unshare, so no bind mount can be made here")
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", sys.executable, "-c", MOUNTED, *argv], capture_output=True, text=True
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system lets nobody make bind mounts here; hard links try the same")
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert contents(place) == before


@pytest.mark.parametrize(
    "outputs",
    [
        {"--csv": "a", "--json": "b"},  # hard links
        {"--csv": "new/x", "--json": "link/new/x"},
        {"--csv": "new", "--json": "new/x"},
        {"--csv": "new/x", "--json": "new"},
    ],
)
def test_outputs_among_themselves(place, outputs):
    write_text("a", "an output of before")
    os.link("a", "b")
    Path("link").symlink_to(".")
    with pytest.raises(InputError, match=r"--json .*: --csv goes there too"):
        check_outputs(outputs)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["quantize", "net.keras", "--output", "o", "--json", "o/model.json"], "this command makes"),
        (["quantize", "net.keras", "--output", "o", "--json", "o/README.md"], "this command makes"),
        (["quantize", "net.keras", "--output", "model", "--json", "model/new.json"], "this command makes"),
        (["train", "--output", "o", "--json", "o/head.npz"], "this command makes"),
        (["train", "--output", "o", "--json", "o.work/run.json"], "this command makes"),
        (["train", "--output", "o", "--work", "w", "--json", "w/head.keras"], "this command makes"),
        (["corrupt", "--output", "o", "--json", "o/fog.npy"], "this command makes"),
        (["corrupt", "--output", "o", "--json", "o/fastuq-corrupt.json"], "this command makes"),
        (["download", "cifar100c", "--json", "data/CIFAR-100-C/fog.npy"], "this command makes"),
        (["download", "cifar100c", "--json", "data/CIFAR-100-C.tar"], "this command makes"),
        (["reproduce", "--caches", "k", "--json", "k/fog-12345678.h5"], "this command makes"),
        (["bench", "--models", "b", "--json", "b/resnet50/head.npz"], "this command makes"),
    ],
)
def test_what_a_command_makes_is_not_replaced_by_its_report(place, capsys, argv, words):
    assert words in refusal(capsys, argv, place)


def test_reports_of_before_are_written_again_where_they_lay(place):
    inputs = ["pictures", "classes", "data", "caches", "in.npy", "c.h5"]
    for file in ("pictures/t.csv", "classes/cat/s.json", "data/r.md", "caches/s.json", "pictures/m.h5", "t.csv"):
        write_text(file, "of before")
        check_outputs({"--csv": file, "--json": "new/s.json"}, inputs, ["data", "o"])
    check_outputs({"--json": "o/report.json"}, [], ["o"])
    write_text("model/score.json", "whatever lies in a model folder stays")
    write_text("data/CIFAR-100-C/fastuq-corrupt.json", "a record")
    for file in ("model/score.json", "data/CIFAR-100-C/fastuq-corrupt.json"):
        with pytest.raises(InputError, match="found an input"):
            check_outputs({"--json": file}, ["model", "data"])


def test_what_comes_with_fastuq_is_an_input_of_every_command():
    for file in (bundled_path("model") / "README.md", bundled_path("images") / "cifar100_first20.npz", cli.__file__):
        with pytest.raises(InputError, match="found an input"):
            check_outputs({"--json": file})


@pytest.mark.parametrize("name", LONGEST)
def test_names_as_long_as_the_file_system_takes(place, name):
    check_outputs({"--csv": name, "--json": f"new/{name}"})
    write_text(name, "whole")
    assert Path(name).read_text() == "whole"
    check_outputs({"--csv": name})
    with cache_features(caches.images(), caches.tiny_model(), f"folder/{name}") as cache:
        assert cache.computed == 50
    with FeatureCache.open(f"folder/{name}") as cache:
        np.testing.assert_array_equal(cache.read(0, 50), caches.features())
    write_folder(Path("models", name), {"part": b"whole"})
    assert Path("models", name, "part").read_bytes() == b"whole"
    assert not [path for path in place.rglob(".*") if path.is_file()]


@pytest.mark.parametrize("name", ["n" * 256, "é" * 128, f"new/{'n' * 256}/t.csv", f"{'文' * 86}/t.csv"])
def test_longer_names_are_refused_before_any_work(place, name):
    with pytest.raises(InputError, match=r"--csv: cannot write .*File name too long"):
        check_outputs({"--csv": name})
    assert not Path("new").exists()


def test_a_cache_of_images_with_a_long_name_gets_a_shorter_one(place):
    np.save("i" * 251, caches.images().images)
    np.save("文" * 83, caches.images().images)
    for name in ("i" * 251 + ".npy", "文" * 83 + ".npy"):
        path = default_cache_path(open_images(name), caches.tiny_model())
        with cache_features(open_images(name), caches.tiny_model()) as cache:
            assert cache.provenance["files"] == [str(path)]
    assert default_cache_path(open_images("in.npy"), caches.tiny_model()).name.startswith("features-file-in.npy-")


def test_temporary_names_are_short_and_those_of_a_cache_depend_on_its_name_alone(place):
    assert len(os.fsencode(partial_prefix("文" * 85))) < 40
    assert partial_prefix("a") != partial_prefix("b")
    with atomic_path("n" * 255) as partial:
        assert partial.name.startswith(partial_prefix("n" * 255))
    left = Path(f"{partial_prefix('n.h5')}partial")
    left.write_bytes(b"what a killed process left" * 1000)
    with cache_features(caches.images(), caches.tiny_model(), "n.h5"):
        pass
    assert not left.exists()
    assert Path("n.h5").read_bytes() == Path("c.h5").read_bytes()


@pytest.fixture(params=["link", "dangling", "hard link", "folder", "pipe"])
def put(request, place):
    """Put something that is not ours in the place of a temporary file; it is still there after the test."""

    write_text("precious", "not to be touched")

    def make(path):
        {
            "link": lambda: path.symlink_to(Path("precious").absolute()),
            "dangling": lambda: path.symlink_to(Path("made").absolute()),
            "hard link": lambda: os.link("precious", path),
            "folder": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
        }[request.param]()

    yield make
    assert Path("precious").read_text() == "not to be touched"
    assert not Path("made").exists()


def test_the_temporary_file_of_a_cache_is_never_somebody_elses(put):
    path = Path(f"{partial_prefix('n.h5')}partial")
    put(path)
    with pytest.raises(InputError, match="expected a temporary file of fastuq, found"):
        cache_features(caches.images(), caches.tiny_model(), "n.h5")
    assert not Path("n.h5").exists()
    path.rmdir() if path.is_dir() else path.unlink()
    with cache_features(caches.images(), caches.tiny_model(), "n.h5") as made:
        assert made.computed == 50


def test_the_lock_of_corruption_making_is_never_somebody_elses(put):
    pytest.importorskip("cv2", reason="needs the corruptions: pip install 'fastuq[corrupt]'")
    Path("out").mkdir()
    put(Path("out/.fastuq-corrupt.lock"))
    with pytest.raises(InputError, match="expected a temporary file of fastuq, found"):
        generate.generate(open_images("bundled"), Path("out"), corruptions=("fog",), severities=(1,), jobs=1)
