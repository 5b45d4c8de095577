"""Killed, stopped, crowded and out of space: what a run leaves is good or says that it is not."""

import errno
import fcntl
import json
import os
import shutil
import signal

import caches
import numpy as np
import pytest
from damage import damage
from forked import Forks

from fastuq.cache import FeatureCache, cache_features
from fastuq.cache import file as cache_file
from fastuq.cache.file import CacheFile
from fastuq.cache.manifest import MANIFEST
from fastuq.errors import CacheError, InputError
from fastuq.report.moments_file import save_moments
from fastuq.util.files import partial_prefix

COUNT, BATCH = 400, 8


@pytest.fixture(scope="module")
def forks():
    with Forks() as forks:
        yield forks
        assert forks.said() == []


def good_batches(path):
    """Return how many batches of a file match; a file that is not there has none."""
    if not path.exists():
        return 0
    file = CacheFile(path)
    found = file.header.num_batches - len(file.pending())
    file.close()
    return found


def check_what_is_left(path):
    """Every row is the right one or refused."""
    if not path.exists():
        return
    expected = caches.features(COUNT)
    with FeatureCache.open(path, incomplete=True) as cache:
        np.testing.assert_array_equal(cache.labels, caches.images(COUNT).labels)
        for start in range(0, COUNT, BATCH):
            try:
                rows = cache.read(start, start + BATCH)
            except CacheError as error:
                message = str(error)
            else:
                np.testing.assert_array_equal(rows, expected[start : start + BATCH])
                continue
            assert "not written yet" in message  # its features may be half there, but not its checksum


def kill_often(forks, folder, kills, seed):
    """Kill run after run at random moments; when one comes to its end, begin anew. Return the kills that hit a run."""
    rng, path, hits = np.random.default_rng(seed), folder / "killed.h5", 0
    assert forks.run("write_cache", path, COUNT, BATCH) == 0  # also starts the process that forks
    path.unlink()
    assert forks.run("write_cache", path, COUNT, BATCH) == 0
    duration = forks.seconds
    while hits < kills:
        if good_batches(path) == COUNT // BATCH:
            assert path.read_bytes() == caches.whole_file(COUNT, BATCH)
            assert sorted(each.name for each in folder.iterdir()) == ["killed.h5"]
            path.unlink()
        before = good_batches(path)
        status = forks.run("write_cache", path, COUNT, BATCH, kill_after=rng.uniform(0, duration))
        assert status in (-signal.SIGKILL, 0)
        hits += status != 0
        after = good_batches(path)
        assert after >= before
        assert forks.computed() - (after - before) in (0, 1), "more than the batch in flight was lost"
        check_what_is_left(path)
    assert forks.run("write_cache", path, COUNT, BATCH) == 0
    assert path.read_bytes() == caches.whole_file(COUNT, BATCH)
    return hits


def test_kills_lose_at_most_the_batch_in_flight(forks, tmp_path):
    assert kill_often(forks, tmp_path, 25, seed=0) == 25


def test_a_killed_run_of_shards_is_no_cache_and_goes_on(forks, tmp_path):
    def files():
        return {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir() if path.name not in left()}

    def left():
        """Return the half-made manifests of killed runs, which nothing reads (docs/reliability.md)."""
        pattern = f"{partial_prefix(MANIFEST)}*.partial"
        return {path.name for path in (tmp_path / "shards").glob(pattern)}

    rng, work, hits = np.random.default_rng(1), ("write_cache", tmp_path / "shards", COUNT, BATCH, 60), 0
    assert forks.run(*work) == 0
    whole, duration = files(), forks.seconds
    batches = sum(-(-min(60, COUNT - start) // BATCH) for start in range(0, COUNT, 60))
    shutil.rmtree(tmp_path / "shards")
    computed, killed = 0, 0
    while hits < 12:
        status = forks.run(*work, kill_after=rng.uniform(0, duration))
        hits, killed, computed = hits + (status != 0), killed + (status != 0), computed + forks.computed()
        if not (tmp_path / "shards" / MANIFEST).exists():
            assert status != 0
            with pytest.raises(CacheError, match=r"did not end|no such file|without shards"):
                FeatureCache.open(tmp_path / "shards")
            continue
        assert files() == whole
        assert len(left()) <= killed
        assert computed <= batches + killed, "more than the batch in flight was lost"
        shutil.rmtree(tmp_path / "shards")
        computed, killed = 0, 0


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(10))
def test_many_kills(forks, tmp_path, seed):
    assert kill_often(forks, tmp_path, 100, seed=seed) == 100


def test_sigterm_ends_cleanly(forks, tmp_path):
    path = tmp_path / "terminated.h5"
    rng = np.random.default_rng(3)
    for _ in range(5):
        status = forks.run("write_cache", path, COUNT, BATCH, kill_after=rng.uniform(0.005, 0.05), how=signal.SIGTERM)
        assert status in (0, 143)
        check_what_is_left(path)
        assert not list(path.parent.glob(".*"))
    forks.check_no_traceback()
    assert forks.run("write_cache", path, COUNT, BATCH) == 0
    assert path.read_bytes() == caches.whole_file(COUNT, BATCH)


@pytest.mark.parametrize("share", [0, 0.3, 0.999])
def test_no_room_is_known_at_once_and_leaves_nothing(forks, tmp_path, share):
    path = tmp_path / "full.h5"
    limit = max(100, int(share * len(caches.whole_file(COUNT, BATCH))))
    assert forks.run("write_cache", path, COUNT, BATCH, fsize=limit) == 2
    assert forks.computed() == 0
    assert not list(tmp_path.iterdir())
    said = forks.said()
    assert len(said) == 1, said
    error = said[0]
    assert "cannot write" in error
    assert "File too large" in error


def test_a_disk_that_fails_later_keeps_what_is_there(tmp_path, monkeypatch):
    path, writes, real = tmp_path / "x.h5", [], os.pwrite

    def failing(descriptor, data, offset):
        writes.append(offset)
        if len(writes) == 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing)
        with pytest.raises(CacheError, match="No space left on device; make room"):
            caches.write(path, COUNT, BATCH)
    assert 0 < good_batches(path) < COUNT // BATCH
    caches.write(path, COUNT, BATCH)
    assert path.read_bytes() == caches.whole_file(COUNT, BATCH)


def test_half_written_pieces_are_continued(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:100], offset))
    path = caches.write(tmp_path / "x.h5", 40, 8)
    with FeatureCache.open(path) as cache:
        np.testing.assert_array_equal(cache.read(0, 40), caches.features(40))


@pytest.mark.parametrize("path", ["/proc/x.h5", "/proc/version/x.h5", "/dev/null/x.h5"])
def test_places_that_cannot_be_written(path):
    with pytest.raises(CacheError, match="cannot"):
        caches.write(path)


def test_names_that_are_too_long():
    with pytest.raises(InputError, match="File name too long"):
        caches.write(f"/tmp/{'x' * 300}.h5")


def test_moments_in_a_place_that_cannot_be_written():
    from fastuq.scoring.scoring import score

    with pytest.raises((CacheError, InputError), match="cannot write"):
        save_moments("/proc/m.h5", score(caches.tiny_model(), caches.features()))


def test_a_complete_cache_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    path = caches.write(tmp_path / "x.h5")
    real = os.open

    def read_only(name, mode, *rest):
        if mode & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(name))
        return real(name, mode, *rest)

    monkeypatch.setattr(os, "open", read_only)
    with cache_features(caches.images(), caches.tiny_model(), path) as cache:
        assert cache.reused


class TestTwoAtOnce:
    def test_a_reader_between_any_two_writes(self, tmp_path, monkeypatch):
        path, real, looks = tmp_path / "x.h5", os.pwrite, []

        def looked_at(*args):
            looks.append(path.exists())
            check_what_is_left(path)
            return real(*args)

        monkeypatch.setattr(os, "pwrite", looked_at)
        caches.write(path, COUNT, 80)
        assert looks.count(True) == 2 * COUNT // 80

    def test_a_writer_between_any_two_reads(self, tmp_path, monkeypatch):
        real, features = os.preadv, caches.features()
        for turn in range(2):
            path = tmp_path / f"{turn}.h5"
            data = bytearray(caches.whole_file(50, 8))
            places = json.loads(data.split(b"\n")[1])["datasets"]
            entry, row = places["checksums"]["offset"], places["features"]["offset"]
            data[entry : entry + 8], data[row : row + 256] = bytes(8), bytes(256)
            path.write_bytes(data)
            reads = []

            def written_meanwhile(*args, path=path, turn=turn, reads=reads):
                if len(reads) == turn:
                    file = CacheFile(path)
                    with file.locked():
                        file.write(0, features[:8])
                    file.close()
                reads.append(args)
                return real(*args)

            with FeatureCache.open(path, incomplete=True) as cache, monkeypatch.context() as patch:
                patch.setattr(os, "preadv", written_meanwhile)
                if turn == 0:
                    np.testing.assert_array_equal(cache.read(0, 8), features[:8])
                else:
                    with pytest.raises(CacheError, match="not written yet"):
                        cache.read(0, 8)

    def test_the_second_writer_stops_with_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cache_file, "LOCK_SECONDS", 0.1)
        path = caches.write(tmp_path / "x.h5")
        data = damage(path)
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(CacheError, match="another process is writing this cache; wait for it to end"):
                caches.write(path)
        assert path.read_bytes() == data
        caches.write(path)
        assert path.read_bytes() == caches.whole_file(50, 8)

    def test_an_incomplete_cache_says_that_it_is_being_written(self, tmp_path):
        path = caches.write(tmp_path / "x.h5")
        data = bytearray(path.read_bytes())
        place = json.loads(data.split(b"\n")[1])["datasets"]["checksums"]["offset"]
        data[place : place + 8] = bytes(8)
        path.write_bytes(data)
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(CacheError, match="another process is writing it"):
                FeatureCache.open(path)
        with pytest.raises(CacheError, match="was stopped"):
            FeatureCache.open(path)

    def test_racing_writers_leave_one_good_file(self, forks, tmp_path):
        with Forks() as others:
            for turn in range(5):
                path = tmp_path / f"{turn}.h5"
                for each in (forks, others):
                    each.start("write_cache", path, COUNT, BATCH)
                assert [each.end() for each in (forks, others)] == [0, 0]
                assert path.read_bytes() == caches.whole_file(COUNT, BATCH)
                assert forks.computed() + others.computed() == COUNT // BATCH

    def test_readers_see_whole_batches_only(self, forks, tmp_path):
        path, looks = tmp_path / "growing.h5", 0
        for _ in range(10):
            forks.start("write_cache", path, COUNT, BATCH)
            while good_batches(path) < COUNT // BATCH:
                check_what_is_left(path)
                looks += 1
            assert forks.end() == 0
            path.unlink()
        assert looks >= 10

    def test_a_file_replaced_before_the_lock_is_noticed(self, tmp_path):
        path = caches.write(tmp_path / "x.h5")
        file = CacheFile(path)
        path.rename(tmp_path / "old.h5")
        caches.write(path)
        with pytest.raises(CacheError, match="replaced meanwhile"), file.locked():
            pass
        file.close()
