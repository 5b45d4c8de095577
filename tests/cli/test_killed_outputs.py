"""What scoring and corruption making write: killed, stopped or out of space, a file is the old one or the new one."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from damage import drawn_bits, flipped, generator, outcome, refused
from forked import Forks
from places import TINY

from fastuq import cli
from fastuq.errors import CacheError
from fastuq.report.moments_file import load_moments
from fastuq.util.files import atomic_path


@pytest.fixture(scope="module")
def server():
    with Forks() as forks:
        yield forks


@pytest.fixture
def runs(server):
    server.said()
    return server


def digests(folder):
    """Return the SHA-256 of every file; what a killed run left under a temporary name reads as nothing."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".")
    }


def whole_outputs(runs, tmp_path):
    """Return the digests of the outputs of two seeds, and how long writing them takes."""
    whole, took = [], []
    for seed in (0, 1):
        folder = tmp_path / f"whole{seed}"
        folder.mkdir()
        assert runs.run("write_outputs", folder, seed) == 0
        took.append(runs.seconds)
        whole.append(digests(folder))
    assert whole[0].keys() == whole[1].keys() == {"t.csv", "m.h5", "s.json"}
    assert all(whole[0][name] != whole[1][name] for name in whole[0])
    return whole, min(took)


def check_kills(runs, tmp_path, seed, count):
    """Write over outputs and kill: each file is absent, the old or the new one."""
    whole, took = whole_outputs(runs, tmp_path)
    rng, folder, killed = generator(seed), tmp_path / "out", 0
    for number in range(count):
        if number % 3 == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        how = (signal.SIGKILL, signal.SIGTERM)[number % 2]
        status = runs.run("write_outputs", folder, number % 2, kill_after=rng.uniform(0, took), how=how)
        assert status in (0, -how, 143)
        killed += status != 0
        for name, digest in digests(folder).items():
            assert digest in (whole[0][name], whole[1][name]), f"{name} is half-written"
    print(f"outputs of scoring: {count} runs, {killed} of them killed, 0 half-written files")
    assert killed > count / 10
    runs.check_no_traceback()


def test_killed_while_writing_outputs(runs, tmp_path):
    check_kills(runs, tmp_path, 0, 40)


@pytest.mark.torture
def test_killed_many_times_while_writing_outputs(runs, tmp_path):
    check_kills(runs, tmp_path, 1, 1000)


def check_full_disk(runs, tmp_path, seed, count):
    whole, _ = whole_outputs(runs, tmp_path)
    rng, folder = generator(seed), tmp_path / "out"
    folder.mkdir()
    assert runs.run("write_outputs", folder, 0) == 0
    largest, refusals = max(path.stat().st_size for path in folder.iterdir()), 0
    for _ in range(count):
        status = runs.run("write_outputs", folder, 1, fsize=int(rng.integers(0, largest)))
        refusals += status == 2
        assert status in (0, 2)
        for name, digest in digests(folder).items():
            assert digest in (whole[0][name], whole[1][name])
        assert not list(folder.glob(".*")), "a partial file stayed"
    said = runs.said()
    assert len(said) == refusals
    assert all("File too large" in line and str(folder) in line for line in said)
    print(f"outputs of scoring: {count} runs without space, {refusals} refused in one line, 0 half-written files")


def test_no_space_for_outputs(runs, tmp_path):
    check_full_disk(runs, tmp_path, 2, 20)


@pytest.mark.torture
def test_no_space_for_outputs_many_times(runs, tmp_path):
    check_full_disk(runs, tmp_path, 3, 300)


def check_corruption_kills(runs, tmp_path, seed, count, fsize=False):
    """Kill corruption making: what took its name is whole, and a rerun ends in the same bytes."""
    pytest.importorskip("cv2", reason="needs the corruptions: pip install 'fastuq[corrupt]'")
    once, folder, rng = tmp_path / "once", tmp_path / "out", generator(seed)
    took, stopped = [], 0
    for place in (once, tmp_path / "twice"):
        assert runs.run("write_corruptions", place) == 0
        took.append(runs.seconds)
    for number in range(count):
        if number % 4 == 0:
            shutil.rmtree(folder, ignore_errors=True)
        how = (signal.SIGKILL, signal.SIGTERM)[number % 2]
        if fsize:
            stopped += runs.run("write_corruptions", folder, fsize=int(rng.integers(0, 400_000))) != 0
        else:
            stopped += runs.run("write_corruptions", folder, kill_after=rng.uniform(0, min(took)), how=how) != 0
        pixels = {
            name: digest for name, digest in (digests(folder) if folder.exists() else {}).items() if ".npy" in name
        }
        assert pixels.items() <= digests(once).items()
        if number % 4 == 3:
            assert runs.run("write_corruptions", folder) == 0
            found = digests(folder)
            assert {name for name in found if ".npy" in name} == {name for name in digests(once) if ".npy" in name}
            assert found.items() <= digests(once).items()
            assert not list(folder.glob(".*.partial"))
    print(f"corruption making: {count} runs, {stopped} of them stopped, every rerun ended in the same bytes")
    assert stopped > count / 10
    runs.check_no_traceback()


def test_killed_while_corrupting(runs, tmp_path):
    check_corruption_kills(runs, tmp_path, 4, 12)


def test_no_space_while_corrupting(runs, tmp_path):
    check_corruption_kills(runs, tmp_path, 5, 8, fsize=True)


@pytest.mark.torture
def test_killed_many_times_while_corrupting(runs, tmp_path):
    check_corruption_kills(runs, tmp_path, 6, 400)


# ---------------------------------------------------------------- the command as a whole


@pytest.fixture
def workplace(tmp_path):
    images = np.random.default_rng(3).integers(0, 256, (30, 32, 32, 3)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    return tmp_path


COMMAND = ["-m", "fastuq", "score", "images.npz", "--model", str(TINY), "--num-iter", "10"]


def score_command(workplace, *outputs, **options):
    options = {"capture_output": True, "text": True, "check": False, "timeout": 120} | options
    environment = {**os.environ, "FASTUQ_DATA": str(workplace / "no-data")}
    return subprocess.run([sys.executable, *COMMAND, *outputs], cwd=workplace, env=environment, **options)


def in_one_line(done):
    said = [line for line in done.stderr.splitlines() if not line.startswith("fastuq: compiling")]
    return done.returncode == 2 and len(said) == 1 and said[0].startswith("fastuq: ")


EACH = """
import sys
from fastuq import cli
for option, place in zip(sys.argv[1::2], sys.argv[2::2]):
    print(cli.main(["score", "images.npz", "--model", {tiny!r}, "--num-iter", "5", option, place]))
"""


def test_a_read_only_folder_is_one_line(workplace):
    closed = workplace / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    # root writes anywhere unless it gives up the right to
    before = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
    if before and not shutil.which("setpriv"):
        pytest.skip("root without setpriv can write to read-only folders")
    outputs = ["--csv", "closed/t.csv", "--json", "closed/s.json", "--moments", "closed/m.h5"]
    argv = [*before, sys.executable, "-c", EACH.format(tiny=str(TINY)), *outputs]
    done = subprocess.run(argv, cwd=workplace, capture_output=True, text=True, check=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("fastuq: compiling")]
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["2", "2", "2"]
    assert len(said) == 3
    assert all("Permission denied" in line for line in said)
    assert not list(closed.iterdir())


def test_devices_are_written_to_and_not_replaced(workplace, monkeypatch):
    """As root, renaming over /dev/null would replace it."""
    monkeypatch.chdir(workplace)
    outputs = ["--csv", "/dev/null", "--moments", "/dev/null", "--json", "/dev/null"]
    assert cli.main(["score", "images.npz", "--model", str(TINY), "--num-iter", "5", *outputs]) == 0
    assert Path("/dev/null").is_char_device()


def test_a_link_stays_a_link(workplace):
    (workplace / "elsewhere").mkdir()
    (workplace / "s.json").symlink_to("elsewhere/real.json")
    assert score_command(workplace, "--json", "s.json").returncode == 0
    assert (workplace / "s.json").is_symlink()
    assert json.loads((workplace / "elsewhere" / "real.json").read_text())["n"] == 30


def test_a_full_disk_behind_standard_output_is_one_line(workplace):
    with open("/dev/full", "w") as full:
        done = score_command(workplace, "--json", "-", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert in_one_line(done), done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.torture
def test_the_command_killed_at_any_moment(workplace):
    """From the first import to the last rename; then a run to the end gives what an undisturbed one gives."""
    outputs = ["--csv", "t.csv", "--moments", "m.h5", "--json", "s.json"]
    began = time.monotonic()
    assert score_command(workplace, *outputs).returncode == 0
    took, whole = time.monotonic() - began, digests(workplace)
    rng, killed = generator(9), 0
    for _ in range(100):
        for path in [*workplace.glob("t.csv"), *workplace.glob("m.h5"), *workplace.glob("s.json")]:
            path.unlink()
        if rng.random() < 0.5:
            shutil.rmtree(workplace / "out", ignore_errors=True)
        process = subprocess.Popen(
            [sys.executable, *COMMAND, *outputs],
            cwd=workplace,
            env={**os.environ, "FASTUQ_DATA": str(workplace / "no-data")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0, took))
        process.kill()
        killed += process.wait() != 0
        found = digests(workplace)
        assert all(found[name] == whole[name] for name in ("t.csv", "m.h5") if name in found)
        assert "s.json" not in found or json.loads((workplace / "s.json").read_text())["n"] == 30
    assert score_command(workplace, *outputs).returncode == 0
    found = digests(workplace)
    assert (found["t.csv"], found["m.h5"]) == (whole["t.csv"], whole["m.h5"])
    print(f"fastuq score: 100 runs, {killed} killed, 0 half-written files, then the same results")


# ---------------------------------------------------------------- moments files


def check_moments_flips(runs, tmp_path, seed, flips, cuts):
    folder = tmp_path / "moments"
    folder.mkdir()
    assert runs.run("write_outputs", folder, 0) == 0
    file, rng = folder / "m.h5", generator(seed)
    content, whole = file.read_bytes(), load_moments(file)
    damaged = chain(
        (flipped(content, bit) for bit in drawn_bits(rng, content, flips)),
        (content[: int(cut)] for cut in rng.integers(0, len(content), cuts)),
    )
    refusals = 0
    for data in damaged:
        file.write_bytes(data)
        found = outcome(lambda: load_moments(file))
        if refused(found):
            assert isinstance(found, CacheError)
            refusals += 1
        else:
            assert all(np.array_equal(found[name], whole[name]) for name in whole), "damage was read as moments"
    print(f"moments file: {flips} flips and {cuts} cuts, {refusals} refused, the others without effect, 0 wrong")
    return refusals


def test_damaged_moments_are_refused(runs, tmp_path):
    assert check_moments_flips(runs, tmp_path, 10, 60, 20) > 60


@pytest.mark.torture
def test_damaged_moments_are_refused_many_times(runs, tmp_path):
    check_moments_flips(runs, tmp_path, 11, 3000, 500)


def test_a_signal_as_soon_as_the_partial_file_is_there_leaves_none(tmp_path, monkeypatch):
    def close(descriptor):
        real(descriptor)
        raise KeyboardInterrupt

    real = os.close
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x.csv"):
            pass
    assert not list(tmp_path.iterdir())
