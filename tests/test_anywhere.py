"""Where fastuq may run: no home, read-only package, closed streams, little memory, few threads, forked children."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import caches
import numpy as np
import pytest
from places import TINY

import fastuq
from fastuq import cli
from fastuq.datasets import open_images
from fastuq.errors import InputError
from fastuq.model.backbone import Backbone
from fastuq.montecarlo import engine
from fastuq.montecarlo import threads as in_threads
from fastuq.util import process

PROBE = """
from typing import NamedTuple
import numpy as np
from fastuq.montecarlo.kernels.building import kernel, record_of

class Job(NamedTuple):
    x: np.ndarray

@kernel
def one(frame):
    job = record_of(frame)
    job.x[0] += 1
"""
USE = """
import os, pwd
def nobody(number): raise KeyError(number)
pwd.getpwuid = nobody
{before}
import fastuq.montecarlo.engine
from fastuq.montecarlo.kernels import compiled, probe, targets
x = probe.np.ones(1)
compiled.Kernel("probe", "one")(targets.host_target(), probe.Job(x))
assert x[0] == 2
print(compiled.cache_folder() is not None)
"""


def run(*command, **options):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=100, **options
    )


@pytest.fixture
def read_only(tmp_path):
    """Copy the package to where Numba can keep nothing (whoever runs this), and return a way to use the copy."""
    shutil.copytree(Path(fastuq.__file__).parent, tmp_path / "fastuq", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fastuq/montecarlo/kernels/probe.py").write_text(PROBE)
    (tmp_path / "fastuq/montecarlo/kernels/__pycache__").write_text("no folder")
    for folder in ("tmp", "here"):
        (tmp_path / folder).mkdir()

    def use(before="", **environment):
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("NUMBA_", "HOME", "XDG_"))}
        environment = {**kept, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path / "tmp"), **environment}
        return run(sys.executable, "-c", USE.format(before=before), cwd=tmp_path / "here", env=environment)

    return use


@pytest.mark.parametrize(
    "environment", [{}, {"HOME": "/dev/null"}, {"HOME": "/dev/null", "NUMBA_CACHE_DIR": "/dev/null/there"}]
)
def test_kernels_are_kept_without_home_or_writable_package(read_only, tmp_path, environment):
    done = read_only(**environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    (folder,) = (tmp_path / "tmp").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list(folder.rglob("one-*.o"))) == 1
    assert list((tmp_path / "here").iterdir()) == []  # Numba itself would make a folder named ~


def test_a_cache_folder_that_others_can_write_is_not_trusted(read_only, tmp_path):
    name = f"fastuq-numba-{os.geteuid()}"
    own, elsewhere = tmp_path / "tmp" / name, tmp_path / "elsewhere"
    own.mkdir(mode=0o755)
    elsewhere.mkdir(mode=0o700)
    assert read_only().stdout == "False\n"
    own.rmdir()
    own.symlink_to(elsewhere)
    assert read_only().stdout == "False\n"
    own.unlink()
    own.with_name(f"fastuq-numba-{os.geteuid() + 1}").mkdir(mode=0o700)
    assert read_only("real = os.geteuid(); os.geteuid = lambda: real + 1").stdout == "False\n"  # made by another user
    (tmp_path / "tmp").chmod(0o777)  # where anybody can rename what is there
    assert read_only().stdout == "False\n"
    assert not list(tmp_path.rglob("*.o"))


def test_what_no_cache_costs_is_said(monkeypatch, capsys):
    monkeypatch.setattr(in_threads, "cache_folder", lambda: None)
    in_threads._announce.__wrapped__()
    said = capsys.readouterr().err
    assert "slow every time" in said
    assert said.count("\n") == 1
    monkeypatch.setattr(sys, "stderr", None)
    in_threads._announce.__wrapped__()
    assert capsys.readouterr() == ("", "")


def test_kernels_switched_off_is_one_line():
    done = run(sys.executable, "-m", "fastuq", "demo", env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "NUMBA_DISABLE_JIT" in done.stderr


def cached(folder, closed, *options):
    np.save(folder / "images.npy", caches.images(13).images)
    command = [sys.executable, "-m", "fastuq", "cache-features", "images.npy", "--model", str(TINY), *options]
    return run("bash", "-c", f'exec "$@" {closed}', "bash", *command, cwd=folder)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    done = cached(tmp_path, closed, "--output", "f.h5", "--batch-size", "1")
    assert (done.returncode, done.stderr) == (0, "")
    with fastuq.FeatureCache.open(tmp_path / "f.h5") as cache:
        assert np.array_equal(cache.read(0, 13), caches.features(13))
    wrong = cached(tmp_path, closed, "--output", "g.h5", "--threads", "0")
    assert wrong.returncode == 2
    assert ("threads" in wrong.stderr) == ("2>" not in closed)


def test_output_for_a_closed_screen_is_refused_before_the_work(tmp_path):
    done = cached(tmp_path, ">&-", "--output", "f.h5", "--json", "-")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "standard output is closed" in done.stderr
    assert not (tmp_path / "f.h5").exists()


def test_a_file_that_took_the_place_of_stderr_stays_as_it_is(tmp_path):
    code = (
        "import os, sys\nfrom fastuq.model.backbone import Backbone\n"
        "os.close(2); sys.stderr = None\n"
        f"Backbone({str(TINY / 'backbone.tflite')!r})\n"
        "try: os.fstat(2)\n"
        "except OSError: pass\n"
        "else: sys.exit(3)\n"  # still closed
        "file = open('data', 'wb'); assert file.fileno() == 2\n"
        f"Backbone({str(TINY / 'full.tflite')!r})\n"
        "file.write(b'data')"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path).returncode == 0
    assert (tmp_path / "data").read_bytes() == b"data"


def test_threads_that_mute_at_once_leave_stderr_as_it_was():
    before = os.fstat(2)

    def mute(_):
        with process.muted(2):
            threading.Event().wait(0.001)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(mute, range(64)))
    assert os.path.samestat(os.fstat(2), before)


def test_little_memory_is_one_line(tmp_path):
    start = [sys.executable, "-m", "fastuq"]
    for limit in ("400000", "600000"):
        limited = ["bash", "-c", f'ulimit -v {limit}; exec "$@"', "bash", *start]
        done = run(*limited, "score", "bundled", "--model", TINY, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "expected an address space of" in done.stderr
        assert run(*limited, "score", "--help").returncode == 0


def test_few_threads_are_one_line(monkeypatch, capsys):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    process.check_limits(2)
    monkeypatch.setattr(process, "_most_processes", lambda: 10)
    monkeypatch.setattr(process._thread, "start_new_thread", refuse)
    with pytest.raises(InputError, match="raise the limit of processes"):
        process.check_limits(2)
    assert cli._run(refuse, None) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("threads", [0, -1, 20_000, 2.0, True, "2"])
def test_threads_are_bounded_everywhere(tmp_path, threads):
    model = caches.tiny_model()
    for take in (
        lambda: Backbone(model.backbone_path, threads=threads),
        lambda: engine.MonteCarlo(model, threads=threads),
        lambda: fastuq.score(model, caches.features(), threads=threads),
        lambda: fastuq.cache_features(caches.images(), model, tmp_path / "f.h5", threads=threads),
    ):
        with pytest.raises(InputError, match="threads: expected a whole number from 1 to"):
            take()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["os._exit", "sys.exit"])
def test_a_backbone_runs_in_a_forked_child(tmp_path, end):
    """Old threads and interpreters neither hang nor crash it, not even when they are freed."""
    code = (
        "import os, signal, sys, numpy as np\nfrom fastuq.model.backbone import Backbone\n"
        f"backbone = Backbone({str(TINY / 'backbone.tflite')!r}, threads=3)\n"
        "images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)\n"
        "many, one = backbone(images), backbone(images[:1])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(30)\n"
        "    same = np.array_equal(backbone(images), many) and np.array_equal(backbone(images[:1]), one)\n"
        f"    {end}(0 if same else 3)\n"
        "assert np.array_equal(backbone(images), many)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = run(sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_single_images_from_many_threads():
    images = caches.images(200).images
    backbone = Backbone(TINY / "backbone.tflite", threads=2)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: backbone(images[n : n + 1]), range(200)))
    assert np.array_equal(np.concatenate(found), caches.features(200))


def test_a_data_folder_that_is_named_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    assert open_images().name == "bundled"
    for wrong in (tmp_path / "mistyped", tmp_path / "file"):
        (tmp_path / "file").touch()
        monkeypatch.setenv("FASTUQ_DATA", str(wrong))
        with pytest.raises(InputError, match="FASTUQ_DATA: expected the folder"):
            open_images()
        assert open_images("bundled").name == "bundled"
