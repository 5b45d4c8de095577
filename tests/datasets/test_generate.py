"""CIFAR-100-C on disk: layout, resuming, foreign files, kills."""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fastuq.cli import corrupt as command
from fastuq.datasets import open_images
from fastuq.datasets.corruptions import corrupt, generate, verify
from fastuq.datasets.published import CIFAR100C_MD5
from fastuq.errors import InputError
from fastuq.util.files import partial_prefix

pytest.importorskip("cv2", reason="needs the corruptions: pip install 'fastuq[corrupt]'")

FEW = ("contrast", "fog")


@pytest.fixture(scope="module")
def images():
    return open_images("bundled")


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npy"))}


def make(images, folder, **options):
    return generate.generate(images, folder, **{"corruptions": FEW, "jobs": 1} | options)


def test_published_layout(images, tmp_path):
    assert make(images, tmp_path) == {"made": ["contrast.npy", "fog.npy"], "kept": []}
    pixels, labels = np.load(tmp_path / "fog.npy"), np.load(tmp_path / "labels.npy")
    assert pixels.shape == (100, 32, 32, 3)
    assert pixels.dtype == labels.dtype == np.uint8
    assert np.array_equal(labels, np.tile(images.labels, 5))
    assert np.array_equal(pixels[40:60], corrupt(images.images, "fog", 3))


def test_published_files_have_the_published_size(tmp_path):
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (50_000, 32, 32, 3))
    generate._write_npy(tmp_path / "b.npy", (50_000, 32, 32, 3), iter(()), {"files": {}}, None)
    assert (tmp_path / "a.npy").stat().st_size == 153_600_128
    assert (tmp_path / "b.npy").read_bytes() == np.memmap(tmp_path / "a.npy", mode="r", shape=128).tobytes()


def test_any_number_of_jobs_and_any_batch_give_the_same_files(images, tmp_path, monkeypatch):
    make(images, tmp_path / "one")
    make(images, tmp_path / "two", jobs=2)
    monkeypatch.setattr(generate, "BATCH", 7)
    make(images, tmp_path / "three")
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")


def test_a_second_run_makes_nothing_and_a_damaged_file_is_made_again(images, tmp_path):
    make(images, tmp_path)
    before = contents(tmp_path)
    assert make(images, tmp_path) == {"made": [], "kept": ["contrast.npy", "fog.npy"]}
    with (tmp_path / "fog.npy").open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x01")
    assert make(images, tmp_path)["made"] == ["fog.npy"]
    assert contents(tmp_path) == before


def test_fewer_severities_are_files_of_their_own(images, tmp_path, monkeypatch):
    make(images, tmp_path / "CIFAR-100-C", corruptions=("fog",), severities=(4, 2))
    assert sorted(contents(tmp_path / "CIFAR-100-C")) == ["fog-2.npy", "fog-4.npy", "labels.npy"]
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    opened = open_images("cifar100c/fog-4")
    assert np.array_equal(opened.images, corrupt(images.images, "fog", 4))
    assert np.array_equal(opened.labels, images.labels)


def test_other_seed_or_images_are_refused(images, tmp_path):
    make(images, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="was made with seed 0, now 1"):
        make(images, tmp_path, seed=1)
    with pytest.raises(InputError, match="images_fingerprint"):
        make(images.subset(0, 3), tmp_path)
    assert contents(tmp_path) == before


def test_files_made_by_others_are_not_touched(images, tmp_path):
    (tmp_path / "fog.npy").write_bytes(b"published")
    with pytest.raises(InputError, match="was not made by this command"):
        make(images, tmp_path)
    assert contents(tmp_path) == {"fog.npy": b"published"}


def test_damaged_record_is_one_line(images, tmp_path):
    for text in ("{", "[]", '{"files": {"fog.npy": 3}}', '{"files": null}'):
        (tmp_path / generate.RECORD).write_text(text)
        with pytest.raises(InputError, match="damaged file"):
            make(images, tmp_path)


def test_two_at_once(images, tmp_path):
    with (tmp_path / ".fastuq-corrupt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another `fastuq corrupt`"):
            make(images, tmp_path)
    assert make(images, tmp_path)["made"]


def test_full_disk_and_read_only_places_are_one_line(images, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        make(images, tmp_path / "file" / "folder")
    with monkeypatch.context() as patch:
        patch.setattr(generate.shutil, "disk_usage", lambda path: argparse.Namespace(free=1000))
        with pytest.raises(InputError, match="GB are needed"):
            make(images, tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_json", full)
        with pytest.raises(InputError, match="No space left"):
            make(images, tmp_path)
    assert contents(tmp_path) == {}
    assert not list(tmp_path.glob(".*.partial"))


def test_interrupted_run_leaves_whole_files_only_and_goes_on(images, tmp_path, monkeypatch):
    calls = []

    def interrupted(batch, name, *args, **kwargs):
        calls.append(name)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return corrupt(batch, name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "corrupt", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(images, tmp_path / "a")
    assert sorted(contents(tmp_path / "a")) == ["contrast.npy", "labels.npy"]
    assert make(images, tmp_path / "a")["made"] == ["fog.npy"]
    make(images, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


KILLED = """
from pathlib import Path
from fastuq.datasets import open_images
from fastuq.datasets.corruptions.generate import generate
if __name__ == "__main__":
    generate(open_images({spec!r}), Path({out!r}), corruptions=("contrast", "fog", "frost"), jobs=2)
"""


def test_killed_run_leaves_whole_files_only_no_worker_and_goes_on(images, tmp_path):
    many = np.tile(images.images, (40, 1, 1, 1))
    np.save(tmp_path / "many.npy", many)
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(KILLED.format(spec=str(tmp_path / "many.npy"), out=str(out)))
    process = subprocess.Popen([sys.executable, script], start_new_session=True)
    deadline = time.monotonic() + 60
    while (
        not list(out.glob(f"{partial_prefix('fog.npy')}*")) and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid), "workers outlived the run"
    assert "contrast.npy" in contents(out)
    again = open_images(tmp_path / "many.npy")
    generate.generate(again, out, corruptions=("contrast", "fog", "frost"), jobs=1)
    generate.generate(again, tmp_path / "once", corruptions=("contrast", "fog", "frost"), jobs=1)
    assert contents(out) == contents(tmp_path / "once")
    assert not list(out.glob(".*.partial"))


def _alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def run_command(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(words)))


def test_command_makes_and_verifies(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    words = ["--images", "bundled", "--jobs", "1", "--json", str(tmp_path / "report.json")]
    assert run_command(*words, "--corruptions", "fog,contrast") == 0
    assert json.loads((tmp_path / "report.json").read_text())["made"] == ["fog.npy", "contrast.npy"]
    assert run_command("--verify") == 1
    assert "snow               missing" in capsys.readouterr().out
    assert run_command(*words) == 0
    assert run_command("--verify") == 0
    with (tmp_path / "CIFAR-100-C" / "snow.npy").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\x01")
    assert run_command("--verify", "--json", str(tmp_path / "report.json")) == 1
    states = json.loads((tmp_path / "report.json").read_text())["files"]
    assert states["snow"] == "differs"
    assert states["fog"] == "made here"
    assert not any(line.startswith("Traceback") for line in capsys.readouterr().err.splitlines())


def test_verify_knows_the_published_files(tmp_path, monkeypatch):
    for name in CIFAR100C_MD5:
        (tmp_path / f"{name}.npy").write_bytes(name.encode())
    monkeypatch.setattr(
        verify,
        "CIFAR100C_MD5",
        {name: generate.md5_file(tmp_path / f"{name}.npy") for name in CIFAR100C_MD5},
    )
    report = verify.verify(tmp_path, tmp_path / "none")
    assert set(report["files"].values()) == {"published"}
    assert report["ok"]
    with pytest.raises(InputError, match="nothing to verify"):
        verify.verify(tmp_path / "nowhere", tmp_path / "none")


@pytest.mark.parametrize(
    "words",
    [
        ["--corruptions", "smog"],
        ["--severities", "0"],
        ["--severities", "1,,2"],
        ["--severities", "six"],
        ["--jobs", "0"],
        ["--seed", "-1"],
        ["--images", "nowhere"],
    ],
)
def test_command_refuses_bad_arguments(tmp_path, words):
    with pytest.raises(InputError):
        run_command("--output", str(tmp_path), *words)


def test_contact_sheet(tmp_path):
    from PIL import Image

    assert run_command("--contact-sheet", str(tmp_path / "sheet.png")) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[1] > 19 * 64


def test_workers_begin_where_sigterm_does_not_reach(monkeypatch):
    """It would interrupt them while they start, or while they hand over pixels that the parent waits for."""
    masks, real = [], generate.ProcessPoolExecutor.submit

    def submit(pool, *given):
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return real(pool, *given)

    monkeypatch.setattr(generate.ProcessPoolExecutor, "submit", submit)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pixels = open_images("bundled").read(0, 2)
    with generate._workers(2) as run:
        assert len(list(run(iter([(pixels, "contrast", 1, 0, 0)] * 2)))) == 2
    assert [signal.SIGTERM in mask for mask in masks] == [True, True]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
