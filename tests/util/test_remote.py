"""Addresses of other machines: files fetched, listed and put there whole, and what goes wrong on the way."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import caches
import numpy as np
import pytest
from places import TINY
from stores import picture, write_tar

from fastuq import cli
from fastuq.cache import FeatureCache, cache_features
from fastuq.datasets import open_images
from fastuq.datasets.shards import open_shards
from fastuq.errors import CacheError, InputError, MissingExtraError, RemoteError, without_secrets
from fastuq.util import remote
from fastuq.util.files import write_text
from fastuq.util.outputs import check_outputs
from fastuq.util.places import place_of

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install 'fastuq[remote]'")


@pytest.fixture
def memory():
    """Return an empty store in memory."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def content(address):
    descriptor = remote.fetch(address)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("root", ["memory://a", "file"])
def test_what_is_written_is_there_whole(memory, tmp_path, root):
    root = f"file://{tmp_path}/new" if root == "file" else root
    check_outputs({"--csv": f"{root}/b/t.csv"})
    write_text(f"{root}/b/t.csv", "hello")
    write_text(f"{root}/b/t.csv", "hello again")
    assert content(f"{root}/b/t.csv") == remote.read_bytes(f"{root}/b/t.csv") == b"hello again"
    assert list(remote.entries(root)) == [("b", True)]
    assert list(remote.entries(f"{root}/b")) == [("t.csv", False)]
    assert [remote.base_name(found) for found in remote.matching(f"{root}/b/*.csv")] == ["t.csv"]
    place = place_of(f"{root}/b/")
    assert (place.exists(), place.is_dir(), (place / "t.csv").is_dir(), (place / "x").exists()) == (1, 1, 0, 0)
    stamp = remote.stamp(f"{root}/b/t.csv")
    write_text(f"{root}/b/t.csv", "hello there")
    assert remote.stamp(f"{root}/b/t.csv") != stamp


def test_nothing_is_there_where_the_work_or_the_way_fails(memory, monkeypatch):
    with pytest.raises(ZeroDivisionError), remote.written("memory://a/t.csv") as partial:
        partial.write_text(str(1 / 0))
    assert list(memory.find("/")) == []
    put = type(memory).put_file
    monkeypatch.setattr(type(memory), "put_file", lambda self, source, target: put(self, os.devnull, target))
    with pytest.raises(RemoteError, match=r"cannot write memory://a/t.csv: it did not arrive whole"):
        write_text("memory://a/t.csv", "hello")
    assert list(memory.find("/")) == []


def test_a_file_that_is_cut_on_the_way_is_refused(memory, monkeypatch):
    write_text("memory://a/t.csv", "hello")
    info = type(memory).info
    monkeypatch.setattr(type(memory), "info", lambda *given: {**info(*given), "size": 6})
    with pytest.raises(RemoteError, match=r"memory://a/t.csv: expected 6 bytes, found 5; it was cut or replaced"):
        remote.fetch("memory://a/t.csv")
    with pytest.raises(RemoteError, match="expected at most 4 bytes, found more"):
        remote.read_bytes("memory://a/t.csv", 4)


def test_outputs_replace_no_input_and_not_each_other(memory):
    write_text("memory://a/t.csv", "hello")
    for outputs, inputs, why in (
        ({"--csv": "memory://a/t.csv"}, ["memory://a/t.csv"], "found an input"),
        ({"--csv": "memory://a/1.png"}, ["memory://a"], "found an input"),
        ({"--csv": "memory://a/b.csv", "--json": "memory://a/b.csv"}, [], "--csv goes there too"),
    ):
        with pytest.raises(InputError, match=why):
            check_outputs(outputs, inputs)
    check_outputs({"--csv": "memory://a/new.csv"}, ["memory://a", "memory://a/new.csv"])
    with pytest.raises(RemoteError, match="add the name of a file"):
        check_outputs({"--csv": "memory://a/"})


def test_a_picture_that_cannot_be_fetched_is_no_picture_that_cannot_be_read(memory):
    for number in range(3):
        memory.pipe_file(f"/photos/{number}.png", picture(number) if number else b"no picture")
    assert len(open_images("memory://photos", on_error="skip")) == 2
    images = open_images("memory://photos")
    memory.rm_file("/photos/1.png")
    with pytest.raises(RemoteError, match=r"cannot read memory://photos/1.png: nothing is there"):
        images.readable()


def test_few_copies_are_kept(memory, monkeypatch):
    fetched = []
    fetch = remote.fetch
    monkeypatch.setattr(remote, "fetch", lambda address: fetched.append(address[-1]) or fetch(address))
    for name in "abc":
        write_text(f"memory://{name}", name)
    copies, before = remote.Copies(), len(os.listdir("/proc/self/fd"))
    for name in "aabacacba":
        assert os.pread(copies.open(f"memory://{name}").descriptor, 9, 0) == name.encode()
    assert "".join(fetched) == "abcba"
    assert len(os.listdir("/proc/self/fd")) == before + 2


@pytest.mark.parametrize(
    ("library", "address", "way_out"),
    [
        ("fsspec", "s3://b/x.npy", r"need fsspec: pip install 'fastuq\[remote\]'"),
        ("s3fs", "s3://b/x.npy", r"needs s3fs: pip install 'fastuq\[remote\]'"),
        ("gcsfs", "gs://b/x.npy", "needs gcsfs: pip install 'gcsfs'"),
    ],
)
def test_what_is_not_installed_is_named(monkeypatch, library, address, way_out):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)  # which was found before
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=way_out):
        open_images(address)


def test_what_is_local_imports_no_fsspec(tmp_path):
    code = f"""
import sys
from fastuq.cli import main
main(["score", "bundled", "--model", {str(TINY)!r}, "--csv", "t.csv", "--json", "s.json"])
print([name for name in ("fsspec", "s3fs", "aiohttp") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr


def test_a_size_is_no_stamp(tmp_path, model):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    folder = tmp_path / "www"
    folder.mkdir()
    np.save(folder / "x.npy", caches.images(4).images)
    for number in range(2):
        write_tar(folder / f"t-{number}.tar", {"0.png": picture(number), "0.cls": "1"})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for name in ("x.npy", "t-0.tar", "t-{0..1}.tar"):
                spec = f"http://127.0.0.1:{server.server_port}/{name}"
                assert open_shards(spec)[0].stamp() == "", name
                cache_features(spec, model, tmp_path / name, shard_size=10).close()
                changed = folder / name.replace("{0..1}", "1")
                data = bytearray(changed.read_bytes())
                if changed.suffix == ".npy":
                    data[-1] ^= 1
                else:
                    data[data.rindex(b"1", 0, data.rindex(b"ustar") + 520)] += 1  # the label
                changed.write_bytes(data)
                with pytest.raises(CacheError, match="expected data fingerprint"):
                    cache_features(spec, model, tmp_path / name, shard_size=10)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "address",
    [
        "http://user:pass:w@rd@host/x.npy",
        "ftp://:rd@host/x.npz",
        "https://host/t.tar?X-Amz-Date=5&X-Amz-Credential=rd&X-Amz-Signature=rd",
        "https://host/x.npy?sv=1&SIG=rd",
        "s3://bucket/photos?access_token=rd&a=1",
        "http://user:rd@host/t-{0..1}.tar",
        "http://user:rd@host/t-*.tar",
        "http://user:rd@host/1.png",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_printed(address, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (
        ["cache-features", address, "--output", "x.h5"],
        ["cache-features", address, "--output", "x", "--shard-size", "5"],
        ["cache-features", "bundled", "--output", address],
        ["score", "--cache", address],
        ["score", "bundled", "--csv", address],
        ["score", "bundled", "--reference", address],
        ["score", address, "--model", address],
        ["cache", "verify", address],
        ["info", address],
        ["score", "bundled", "--what", address],
    ):
        with suppress(SystemExit):
            assert cli.main([*command, "--model", str(TINY)] if command[0] != "info" else command) == 2
        said = "".join(capsys.readouterr())
        assert "rd@" not in said, said
        assert "=rd" not in said, said
    assert os.listdir() == []


def test_what_looks_like_a_secret_and_is_none():
    for text in ("s3://bucket/a:b@c.npy", "sftp://me@host/x", "http://h:80/a@b.npy?x=1", "a:b@c", "host:80/x?y"):
        assert without_secrets(text) == text


# On S3.


@pytest.fixture
def pictures(tmp_path):
    """The same pictures in every way, and where they lie."""
    (tmp_path / "photos/cat").mkdir(parents=True)
    for number in range(5):
        (tmp_path / f"photos/cat/{number}.png").write_bytes(picture(number))
    write_tar(tmp_path / "t-0.tar", {f"{number}.png": picture(number) for number in range(3)})
    write_tar(tmp_path / "t-1.tar", {f"{number}.png": picture(number) for number in range(3, 5)})
    pixels = open_images(tmp_path / "photos").images[:]
    np.save(tmp_path / "x.npy", pixels)
    np.savez_compressed(tmp_path / "x.npz", images=pixels, labels=np.arange(5))
    return tmp_path


def test_images_are_the_same_here_and_there(store, pictures):
    for name in ("photos", "t-0.tar", "t-1.tar", "x.npy", "x.npz"):
        store.put(f"same/{name}", pictures / name)
    for spec in ("photos", "photos/cat/3.png", "t-{0..1}.tar", "t-*.tar", "x.npy", "x.npz"):
        here, there = open_images(str(pictures / spec)), open_images(f"{store.bucket}/same/{spec}")
        assert there.fingerprint() == here.fingerprint()
        assert (there.name, there.class_names) == (here.name, here.class_names)
        assert list(there.files or []) == list(here.files or [])
        assert np.array_equal(there.read(0, len(there)), here.read(0, len(here)))


def test_a_cache_is_made_here_and_put_there(store, pictures, model, workplace):
    images = open_images(pictures / "x.npy")
    address = f"{store.bucket}/caches/x.h5"
    with cache_features(images, model, "here.h5") as here, cache_features(images, model, address) as there:
        assert (there.computed, np.array_equal(here.read(0, 5), there.read(0, 5))) == (5, True)
    with cache_features(images, model, address) as cache:
        assert (cache.computed, cache.reused) == (0, True)
    store.system.pipe_file("bucket/caches/x.h5", store.get("caches/x.h5")[:-1])
    with pytest.raises(CacheError, match=rf"{address}: expected \d+ bytes, found"):
        FeatureCache.open(address)
    store.system.rm_file("bucket/caches/x.h5")
    with store.locked(), pytest.raises(RemoteError, match="credentials are there and still valid"):
        cache_features(images, model, address)
    assert os.listdir("out") == []


def test_a_run_that_was_stopped_goes_on(store, pictures, model, workplace, monkeypatch):
    images, address = open_images(pictures / "x.npy"), f"{store.bucket}/stopped/x.h5"
    with monkeypatch.context() as patch:
        patch.setattr("fastuq.cache.build.upload", lambda source, target: remote.upload(source, "s3://nobody/x.h5"))
        with pytest.raises(RemoteError, match=r"cannot write s3://nobody/x.h5: no such bucket"):
            cache_features(images, model, address)
    assert len(os.listdir("out")) == 1
    assert "stopped/x.h5" not in store.names()
    with cache_features(images, model, address) as cache:
        assert (cache.computed, len(cache)) == (0, 5)
    assert os.listdir("out") == []


def test_what_a_stopped_run_left_hinders_no_other(store, pictures, model, workplace, monkeypatch):
    images, address = open_images(pictures / "x.npy"), f"{store.bucket}/left/x.h5"
    with monkeypatch.context() as patch:
        patch.setattr("fastuq.cache.build.upload", lambda source, target: remote.upload(source, "s3://nobody/x.h5"))
        with pytest.raises(RemoteError):
            cache_features(images, model, address)
    (left,) = os.listdir("out")
    with cache_features(images.subset(0, 3), model, address) as cache:
        assert (cache.computed, len(cache)) == (3, 3)
    assert os.listdir("out") == [left]
    store.system.rm_file("bucket/left/x.h5")
    with cache_features(images, model, address) as cache:
        assert (cache.computed, len(cache)) == (0, 5)
    assert os.listdir("out") == []


@pytest.mark.parametrize("before", [True, False])
def test_another_process_that_puts_the_same_is_no_error(store, pictures, model, workplace, monkeypatch, before):
    images, address = open_images(pictures / "x.npy"), f"{store.bucket}/twice{before}/x.h5"

    def other(source, target):
        remote.upload(source, target)
        source.unlink()
        if before:
            remote.upload(source, target)

    monkeypatch.setattr("fastuq.cache.build.upload", other)
    with cache_features(images, model, address) as cache:
        assert cache.read(0, 5).shape == (5, 32)
    assert os.listdir("out") == []


def test_shards_there_are_verified_and_repaired(store, pictures, workplace, capsys):
    folder, spec = f"{store.bucket}/mended", str(pictures / "x.npy")
    made = ["--model", str(TINY), "--shard-size", "2", "--output", folder]
    assert cli.main(["cache-features", spec, *made]) == 0
    names = [name for name in store.names("mended") if name.endswith(".h5")]
    before = [store.get(name) for name in names]
    for gone in (names[:1], names[1:2], names):
        for name in gone:
            store.system.rm_file(f"bucket/{name}")
        flipped = bytearray(before[2])
        flipped[-1] ^= 1
        if len(gone) == 1:
            store.system.pipe_file(f"bucket/{names[2]}", bytes(flipped))
        capsys.readouterr()
        assert cli.main(["cache", "verify", folder]) == 1
        said = capsys.readouterr().out
        assert all(f"{name.removeprefix('mended/')}: no such file" in said for name in gone), said
        assert cli.main(["cache", "repair", folder, "--images", spec, "--model", str(TINY)]) == 0
        assert [store.get(name) for name in names] == before
    with store.locked():
        assert cli.main(["cache", "verify", folder]) == 2
    assert "credentials are there" in capsys.readouterr().err


def test_a_credential_that_expires_in_the_middle(store, pictures):
    for name in ("photos", "t-0.tar"):
        store.put(f"expires/{name}", pictures / name)
    opened = [open_images(f"{store.bucket}/expires/{name}") for name in ("photos", "t-0.tar")]
    opened[1].images._pictures._copies._kept.clear()
    with store.locked():
        for images in opened:
            with pytest.raises(RemoteError, match=rf"cannot read {store.bucket}/expires/.*credentials .* still valid"):
                images.fingerprint()
    assert [len(images.fingerprint()) for images in opened] == [64, 64]


def test_nobody_says_who_asks(store, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(RemoteError, match=r"Unable to locate credentials; check that the credentials are there"):
            open_images(f"{store.bucket}/x.tar")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_that_is_not_there(store):
    for spec in ("s3://nobody/photos", "s3://nobody/x.npy", "s3://nobody/x.tar", "s3://nobody/1.png"):
        with pytest.raises(RemoteError, match=rf"cannot read {spec}: n"):
            open_images(spec).fingerprint()
    with pytest.raises(RemoteError, match=r"cannot write s3://nobody/t\.csv: no such bucket"):
        check_outputs({"--csv": "s3://nobody/t.csv"})


def test_a_server_that_went_away(store, tmp_path):
    away = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "FSSPEC_S3": '{"config_kwargs": {"retries": {"max_attempts": 0}}}',
    }
    command = [sys.executable, "-m", "fastuq", "score", "s3://bucket/x.npy", "--model", str(TINY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **away})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "cannot read s3://bucket/x.npy: Could not connect" in done.stderr
