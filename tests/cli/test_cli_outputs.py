"""Outputs of the command line: they replace no input and no other output, and are refused before any work."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import refusal
from places import TINY

from fastuq import cli
from fastuq.cache import cache_features
from fastuq.datasets import open_images
from fastuq.errors import InputError
from fastuq.scoring.scoring import score
from fastuq.util.files import atomic_path, write_json, write_text
from fastuq.util.outputs import check_outputs

OPTIONS = ["--model", str(TINY), "--num-iter", "5"]


@pytest.fixture
def place(workplace, model):
    images = np.random.default_rng(3).integers(0, 256, (9, 32, 32, 3)).astype(np.uint8)
    np.save("in.npy", images)
    with cache_features(images, model, "c.h5"):
        pass
    Path("link.csv").symlink_to("in.npy")
    Path("folder").mkdir()
    Path("pictures").mkdir()
    Path("pictures/a.png").write_bytes(b"a picture")
    return workplace


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["score", "in.npy", "--csv", "in.npy", *OPTIONS], "--csv in.npy: expected a new file, found an input"),
        (["score", "in.npy", "--csv", "link.csv", *OPTIONS], "found an input"),
        (["score", "pictures", "--csv", "pictures/a.png", *OPTIONS], "found an input"),
        (["score", "--cache", "c.h5", "--csv", "./c.h5", *OPTIONS], "found an input"),
        (["score", "in.npy", "--csv", "a", "--json", "a", *OPTIONS], "--json a: --csv goes there too"),
        (["score", "in.npy", "--csv", "-", "--json", "/dev/stdout", *OPTIONS], "--json -: --csv goes there too"),
        (["score", "in.npy", "--moments", "folder", *OPTIONS], "found a folder"),
        (["score", "in.npy", "--csv", "in.npy/t.csv", *OPTIONS], "--csv: cannot write"),
        (["score", "in.npy", "--csv", "x" * 300, *OPTIONS], "File name too long"),
        (["cache-features", "in.npy", "--json", "in.npy", "--model", str(TINY)], "found an input"),
        (["cache-features", "in.npy", "--output", "in.npy", "--model", str(TINY)], "in.npy"),
        (["cache-features", "in.npy", "--output", "n.h5", "--json", "n.h5", "--model", str(TINY)], "goes there too"),
        (["cache", "info", "c.h5", "--json", "c.h5"], "found an input"),
        (["score-cifar100c", "--csv", "a", "--markdown", "a", *OPTIONS], "goes there too"),
        (["reproduce", "--json", "o/reproduction.json", "--output", "o", *OPTIONS], "goes there too"),
        (["bench", "--json", "a", "--plot", "a"], "goes there too"),
        (["demo", "--json", "folder"], "found a folder"),
        (["download", "cifar100", "--json", "folder"], "found a folder"),
    ],
)
def test_outputs_that_would_destroy_are_refused_before_any_work(place, capsys, argv, words):
    assert words in refusal(capsys, argv, place)


def test_the_cache_made_on_the_way_is_an_input_too(place, capsys):
    assert cli.main(["score", "in.npy", *OPTIONS]) == 0
    (made,) = (place / "out").iterdir()
    argv = ["score", "in.npy", "--csv", str(made), *OPTIONS]
    assert "found an input" in refusal(capsys, argv, place)
    made.unlink()
    assert "the feature cache goes there too" in refusal(capsys, argv, place)


def test_a_table_beside_the_images_can_be_written_again(place):
    inputs = ["pictures", "bundled", None]
    write_text("pictures/t.csv", "old")
    check_outputs({"--csv": "pictures/t.csv", "--json": "new/folder/s.json", "--markdown": None}, inputs)
    check_outputs({"--csv": "/dev/null", "--json": "/dev/null"}, inputs)
    assert not Path("new").exists()
    with pytest.raises(InputError, match="found an input"):
        check_outputs({"--json": TINY / "model.json"}, [TINY])


def test_the_table_goes_to_the_screen_alone(place, capsys):
    assert cli.main(["score", "in.npy", "--csv", "-", *OPTIONS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("index,label,")
    assert len(lines) == 10


def test_devices_and_pipes_get_the_data_whole(place):
    done = subprocess.run(
        [sys.executable, "-m", "fastuq", "cache", "info", "c.h5", "--json", "/dev/stdout"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)[0]["complete"]
    write_json("/dev/null", 1)
    assert Path("/dev/null").is_char_device()
    os.mkfifo("pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_text()))
    reader.start()
    write_text("pipe", "whole")
    reader.join()
    assert got == ["whole"]
    assert Path("pipe").is_fifo()


def test_a_full_disk_names_the_file(place):
    with pytest.raises(OSError, match="No space") as caught, atomic_path("t.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(place / "t.csv")
    with pytest.raises(OSError, match="No space") as caught:
        write_text("/dev/full", "text")
    assert caught.value.filename == "/dev/full"
    with pytest.raises(FileNotFoundError) as caught, atomic_path("t.csv"):
        Path("another").read_text()
    assert caught.value.filename == "another"
    assert not list(place.glob(".*"))


@pytest.mark.parametrize("label", [2**63 + 1, 2**64 - 1])
def test_labels_too_large_for_a_sign_are_told_as_they_are(model, label):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    labels = np.array([0, label], np.uint64)
    with pytest.raises(InputError, match=f"found 0 to {label}; give the labels"):
        open_images(images, labels=labels)
    with pytest.raises(InputError, match=f"found 0 to {label}; the labels"):
        score(model, np.zeros((2, model.head.num_features), np.int8), labels=labels, num_iter=2)
