"""File systems without locks (some of NFS, Lustre, FUSE): reading needs none, writing says so."""

import errno
import fcntl
import os

import caches
import numpy as np
import pytest
from commands import refusal
from damage import damage
from places import TINY

from fastuq import cli
from fastuq.cache import FeatureCache, cache_features
from fastuq.cache.file import CacheFile

MODEL = ["--model", str(TINY)]


@pytest.fixture
def place(workplace):
    np.save("in.npy", caches.images().images)
    with cache_features(np.load("in.npy"), caches.tiny_model(), "c.h5"):
        pass
    return workplace


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request, monkeypatch, place):
    def flock(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("no_locks")
def test_reading_needs_no_lock(place, capsys):
    for argv in (
        ["cache", "info", "c.h5"],
        ["cache", "verify", "c.h5", "--images", "in.npy", *MODEL],
        ["score", "--cache", "c.h5", "--num-iter", "3", *MODEL],
        ["cache-features", "in.npy", "--output", "c.h5", *MODEL],
    ):
        assert cli.main(argv) == 0
    assert "being_written     unknown" in capsys.readouterr().out
    with FeatureCache.open("c.h5") as cache:
        np.testing.assert_array_equal(cache.read(0, 50), caches.features())


@pytest.mark.usefixtures("no_locks")
def test_writing_says_that_there_are_none_and_leaves_nothing(place, capsys):
    damage("c.h5")
    for argv in (
        ["cache-features", "in.npy", "--output", "n.h5", *MODEL],
        ["cache", "repair", "c.h5", "--images", "in.npy", *MODEL],
    ):
        said = refusal(capsys, argv, place)
        assert "has no locks" in said
        assert "local disk" in said
        assert "make room" not in said


@pytest.mark.usefixtures("no_locks")
def test_an_incomplete_cache_still_says_so(place, capsys):
    file = CacheFile("c.h5")
    assert file.being_written() is None
    file.close()


@pytest.mark.usefixtures("no_locks")
def test_corruptions_say_it_too(place, capsys):
    pytest.importorskip("cv2", reason="needs the corruptions: pip install 'fastuq[corrupt]'")
    argv = ["corrupt", "--images", "bundled", "--corruptions", "fog", "--jobs", "1", "--output", "o"]
    assert cli.main(argv) == 2
    assert "has no locks" in capsys.readouterr().err
    assert not list((place / "o").glob("*.npy"))


def test_other_errors_of_locks_are_told_as_they_are(place, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert cli.main(["cache", "info", "c.h5"]) == 2
    assert "Input/output error" in capsys.readouterr().err
