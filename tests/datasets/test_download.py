"""Downloads from a local server: resume, wrong content, offline; tar members that are up to no good."""

import argparse
import errno
import fcntl
import gzip
import hashlib
import http.server
import io
import os
import re
import socket
import subprocess
import tarfile
import threading
import zipfile
from dataclasses import replace
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastuq.cli import download as command
from fastuq.datasets import published
from fastuq.datasets.download import download
from fastuq.datasets.published import ARCHIVES, Archive
from fastuq.datasets.unpacking import extract, extract_pictures
from fastuq.errors import DownloadError, FastUQError, InputError

FILES = {"train": b"t" * 50_000, "test": bytes(range(256)) * 40, "meta": b"names"}


TYPES = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def tar_of(members, mode="w:gz"):
    """Return a tar of (name, data or type) pairs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content in TYPES:
                info.type, info.linkname = content, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


CONTENT = tar_of([("set", tarfile.DIRTYPE)] + [(f"set/{name}", data) for name, data in FILES.items()])


@pytest.fixture
def archive():
    members = {name: md5(data) for name, data in FILES.items()}
    return Archive("mini", "http://127.0.0.1:1/mini.tar.gz", "mini.tar.gz", len(CONTENT), md5(CONTENT), "set", members)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    content, ranges, cut, status, fail = CONTENT, True, None, None, 0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/mini.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        start = int(re.match(r"bytes=(\d+)-", self.headers["Range"])[1]) if server.ranges else 0
        if server.status or len(server.asked) <= server.fail:
            self.send_error(server.status or 503)
            return
        self.send_response(206 if server.ranges else 200)
        if server.ranges:
            total = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start:][: server.cut])


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def check_files(root):
    found = {path.name: path.read_bytes() for path in (root / "set").iterdir()}
    sums = subprocess.run(["md5sum", "-c", "MD5SUMS"], cwd=root / "set", capture_output=True, text=True, check=True)
    assert sums.stdout.count(": OK") == len(FILES)
    assert {**FILES, "MD5SUMS": found["MD5SUMS"]} == found
    assert not list(root.glob("mini*"))


def test_fetch_then_nothing_to_do(archive, server, tmp_path):
    assert download(archive, tmp_path, url=server.url)
    check_files(tmp_path)
    assert not download(archive, tmp_path, url=server.url)
    assert server.asked == ["bytes=0-"]


def test_broken_transfers_go_on_where_they_were(archive, server, tmp_path):
    server.cut = 150
    assert download(archive, tmp_path, url=server.url, wait=0)
    check_files(tmp_path)
    assert server.asked[:3] == ["bytes=0-", "bytes=150-", "bytes=300-"]


def test_a_later_run_goes_on_where_the_first_was(archive, server, tmp_path):
    (tmp_path / "mini.tar.gz.part").write_bytes(CONTENT[:100])
    download(archive, tmp_path, url=server.url)
    check_files(tmp_path)
    assert server.asked == ["bytes=100-"]


def test_server_without_ranges_sends_all_again(archive, server, tmp_path):
    server.ranges = False
    (tmp_path / "mini.tar.gz.part").write_bytes(b"x" * 100)
    download(archive, tmp_path, url=server.url)
    check_files(tmp_path)


def test_server_without_ranges_that_always_breaks_off_is_given_up(archive, server, tmp_path):
    server.ranges, server.cut = False, 120
    with pytest.raises(DownloadError, match="broke off"):
        download(archive, tmp_path, url=server.url, wait=0)
    assert len(server.asked) == 5


def test_server_that_is_down_for_a_while(archive, server, tmp_path):
    server.fail = 3
    download(archive, tmp_path, url=server.url, wait=0)
    check_files(tmp_path)


def test_missing_page_is_not_asked_for_twice(archive, server, tmp_path):
    server.status = 404
    with pytest.raises(DownloadError, match="404"):
        download(archive, tmp_path, url=server.url)
    assert len(server.asked) == 1


def test_wrong_content_is_removed_and_said(archive, server, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    below = replace(archive, file="models/mini.tar.gz")
    with pytest.raises(DownloadError, match=f"expected MD5 {archive.md5}, found"):
        download(below, tmp_path, url=server.url)
    assert not list(tmp_path.iterdir())


def test_another_size_is_refused_before_it_is_fetched(archive, server, tmp_path):
    server.content = CONTENT + b"more"
    for server.ranges in (True, False):
        with pytest.raises(DownloadError, match="not the published"):
            download(archive, tmp_path, url=server.url)


def test_offline_leaves_nothing(archive, tmp_path):
    with pytest.raises(DownloadError, match="cannot fetch"):
        download(archive, tmp_path / "new" / "data", wait=0)
    assert not list(tmp_path.iterdir())


def test_a_name_that_nobody_knows_is_asked_for_once(archive, tmp_path, monkeypatch):
    asked = Mock(side_effect=socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    with pytest.raises(DownloadError, match=r"cannot fetch .* name resolution"):
        download(archive, tmp_path, url="https://example.org/mini.tar.gz", wait=0)
    assert asked.call_count == 1


def test_offline_names_address_file_and_place(archive, tmp_path):
    with pytest.raises(DownloadError) as caught:
        download(archive, tmp_path, wait=0)
    text = str(caught.value)
    for part in (archive.url, str(tmp_path / "mini.tar.gz"), "by hand", "fastuq download mini"):
        assert part in text
    assert "\n" not in text


def test_archive_fetched_by_hand_is_used_and_kept(archive, tmp_path):
    (tmp_path / "mini.tar.gz").write_bytes(CONTENT)
    assert download(archive, tmp_path)
    assert (tmp_path / "mini.tar.gz").exists()
    (tmp_path / "set" / "test").write_bytes(b"damaged")
    assert download(archive, tmp_path)
    assert (tmp_path / "set" / "test").read_bytes() == FILES["test"]


@pytest.mark.parametrize("content", [CONTENT[:50], b"?" * len(CONTENT), b""], ids=["cut", "foreign", "empty"])
def test_damaged_archive_fetched_by_hand_is_refused_and_kept(archive, tmp_path, content):
    (tmp_path / "mini.tar.gz").write_bytes(content)
    with pytest.raises(DownloadError, match="remove it"):
        download(archive, tmp_path)
    assert (tmp_path / "mini.tar.gz").read_bytes() == content


def test_generated_files_are_not_replaced(archive, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "fastuq-corrupt.json").write_text("{}")
    with pytest.raises(InputError, match="made by `fastuq corrupt`"):
        download(archive, tmp_path)


def test_read_only_place_and_odd_address(archive, server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        download(archive, tmp_path / "file", url=server.url)
    with pytest.raises(InputError, match="http"):
        download(archive, tmp_path, url="file:///etc/passwd")


def test_archives_of_our_own_come_from_where_the_variable_says(server, archive, tmp_path, monkeypatch):
    own = replace(archive, url="")
    monkeypatch.delenv("FASTUQ_RELEASES", raising=False)
    with pytest.raises(DownloadError, match=r"--url, or of the folder that has it in FASTUQ_RELEASES, or the file at"):
        download(own, tmp_path)
    monkeypatch.setenv("FASTUQ_RELEASES", "ftp://somewhere")
    with pytest.raises(InputError, match=r"FASTUQ_RELEASES ftp://somewhere: expected an address that starts with"):
        download(own, tmp_path)
    assert not (tmp_path / "set").exists()
    monkeypatch.setenv("FASTUQ_RELEASES", server.url.rpartition("/")[0] + "/")
    assert download(own, tmp_path, wait=0)
    assert (tmp_path / "set" / "meta").read_bytes() == FILES["meta"]


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", b"x"),
        ("set/../../evil", b"x"),
        ("/tmp/evil", b"x"),
        ("set/test", tarfile.SYMTYPE),
        ("set/test", tarfile.LNKTYPE),
        ("set/test", tarfile.FIFOTYPE),
        ("set/test", tarfile.CHRTYPE),
    ],
)
def test_unsafe_members_are_refused(archive, tmp_path, member):
    path = tmp_path / "a" / "mini.tar.gz"
    path.parent.mkdir()
    path.write_bytes(tar_of([member]))
    with pytest.raises(DownloadError, match="refused"):
        extract(path, "set", archive.members, tmp_path / "a" / "set")
    assert [item.name for item in tmp_path.rglob("*")] == ["a", "mini.tar.gz"]


def test_unknown_members_are_left_in_the_archive(archive, tmp_path):
    path = tmp_path / "mini.tar"
    path.write_bytes(tar_of([("set/README", b"hello"), *((f"set/{n}", d) for n, d in FILES.items())], mode="w"))
    extract(path, "set", archive.members, tmp_path / "set")
    assert sorted(item.name for item in (tmp_path / "set").iterdir()) == sorted(FILES)


def test_altered_or_missing_member_is_refused_and_not_written(archive, tmp_path):
    path = tmp_path / "mini.tar"
    path.write_bytes(tar_of([("set/test", b"altered")], mode="w"))
    with pytest.raises(DownloadError, match="expected MD5"):
        extract(path, "set", archive.members, tmp_path / "set")
    path.write_bytes(tar_of([("other/test", FILES["test"])], mode="w"))
    with pytest.raises(DownloadError, match="found none"):
        extract(path, "set", archive.members, tmp_path / "set")
    assert not list((tmp_path / "set").iterdir())


PICTURES = {"a/1.jpg": b"one", "a/2.JPEG": b"two", "b/3.png": b"three"}
OTHERS = {"a/notes.txt": b"text", "a/.hidden.jpg": b"junk"}


def zip_of(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def published_pictures(kind):
    members = [(f"top/images/{name}", data) for name, data in {**PICTURES, **OTHERS}.items()]
    members += [("top/labels.txt", b"x"), ("top/images2/4.jpg", b"four")]
    data = zip_of(members) if kind == "zip" else tar_of(members)
    name = f"pictures.{kind}"
    return data, Archive("pictures", f"http://127.0.0.1:1/{name}", name, len(data), md5(data), "top/images", None)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_pictures_are_unpacked_whole(server, tmp_path, kind):
    server.content, archive = published_pictures(kind)
    server.cut = len(server.content) // 2 + 1
    assert download(archive, tmp_path, url=server.url, wait=0)
    assert len(server.asked) == 2, "broken off once"
    folder = tmp_path / "top" / "images"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == PICTURES
    assert [path.name for path in tmp_path.iterdir()] == ["top"]
    assert [path.name for path in folder.parent.iterdir()] == ["images"]
    assert not download(archive, tmp_path)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_pictures_that_are_no_good_leave_no_folder(server, tmp_path, kind):
    content, archive = published_pictures(kind)
    server.content = bytes(len(content))
    with pytest.raises(DownloadError, match="expected MD5"):
        download(archive, tmp_path, url=server.url)
    make = zip_of if kind == "zip" else tar_of
    for members in ([("top/images/1.jpg", b"x"), ("../evil.jpg", b"x")], [("top/images/1.txt", b"x")], []):
        data = make(members) if members else b"no archive"
        bad = replace(archive, size=len(data), md5=md5(data))
        server.content = data
        with pytest.raises(DownloadError, match=r"refused|expected pictures|cannot unpack"):
            download(bad, tmp_path, url=server.url)
        (tmp_path / archive.file).unlink()
    assert not list(tmp_path.rglob("*.jpg"))
    assert not list(tmp_path.rglob("images"))


def test_a_file_that_is_no_archive_is_kept_as_it_is(server, tmp_path):
    server.content, server.cut = bytes(range(256)) * 8, 1500
    sum_of = md5(server.content)
    archive = Archive("set", "http://127.0.0.1:1/x.mat", "set/x.mat", 2048, sum_of, "set", {"x.mat": sum_of})
    assert download(archive, tmp_path, url=server.url, wait=0)
    assert server.asked == ["bytes=0-", "bytes=1500-"]
    assert (tmp_path / "set" / "x.mat").read_bytes() == server.content
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["MD5SUMS", "x.mat"]
    assert not download(archive, tmp_path)
    (tmp_path / "set" / "x.mat").write_bytes(b"other")
    with pytest.raises(DownloadError, match="expected 2048 bytes, found 5; remove it"):
        download(archive, tmp_path)
    with pytest.raises(DownloadError, match="put it at") as caught:
        download(archive, tmp_path / "elsewhere", wait=0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "elsewhere").exists()


PLAIN_TAR = gzip.decompress(CONTENT)


@settings(max_examples=150)
@given(
    st.one_of(
        st.binary(max_size=2000),
        st.tuples(st.integers(0, 2600), st.binary(min_size=1, max_size=20)).map(
            lambda edit: PLAIN_TAR[: edit[0]] + edit[1] + PLAIN_TAR[edit[0] + len(edit[1]) :]
        ),
        st.integers(0, len(CONTENT) - 1).map(lambda cut: CONTENT[:cut]),
    )
)
def test_any_bytes_as_a_tar_give_one_line_or_the_right_files(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("tar")
    (folder / "a.tar").write_bytes(data)
    message = ""
    try:
        extract(folder / "a.tar", "set", {name: md5(content) for name, content in FILES.items()}, folder / "set")
    except FastUQError as error:
        message = str(error)
    assert "\n" not in message
    for path in folder.glob("set/*"):
        assert path.read_bytes() == FILES[path.name]
    assert {path.name for path in folder.iterdir()} <= {"a.tar", "set"}


PLAIN_ZIP, _ = published_pictures("zip")


@settings(max_examples=60)
@given(st.integers(0, len(PLAIN_ZIP)), st.binary(max_size=20))
def test_an_edited_zip_gives_one_line_or_pictures(tmp_path_factory, place, edit):
    folder = tmp_path_factory.mktemp("zip")
    (folder / "a.zip").write_bytes(PLAIN_ZIP[:place] + edit + PLAIN_ZIP[place + len(edit) :])
    message = ""
    try:
        extract_pictures(folder / "a.zip", "top/images", folder / "set")
    except FastUQError as error:
        message = str(error)
    assert "\n" not in message
    assert (folder / "set").exists() == (not message)
    assert {path.name for path in folder.iterdir()} <= {"a.zip", "set"}


def test_published_archives():
    assert tuple(command._MEGABYTES) == tuple(ARCHIVES)
    for name, archive in ARCHIVES.items():
        assert archive.name == name
        assert command._MEGABYTES[name] == round(archive.size / 1e6)
        sums = [archive.md5, *(archive.members or {}).values()]
        assert all(re.fullmatch("[0-9a-f]{32}", each) for each in sums)
        assert archive.is_data == (name in ("mnist", "svhn"))
    assert ARCHIVES["cifar100"].size == 169_001_437
    assert ARCHIVES["cifar100c"].size == 2_918_473_216
    assert len(ARCHIVES["cifar100c"].members) == 20


def test_command(archive, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(published.ARCHIVES, "cifar100", archive)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["cifar100", "--output", str(tmp_path), "--url", server.url, "--json", str(tmp_path / "out.json")]
    assert command.run(parser.parse_args(words)) == 0
    assert command.run(parser.parse_args(words)) == 0
    assert "already there" in capsys.readouterr().out
    assert '"fetched": false' in (tmp_path / "out.json").read_text()


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "folder", "pipe"])
def test_what_lies_in_the_place_of_a_part_is_left_alone(tmp_path, archive, server, kind):
    part, victim = tmp_path / "mini.tar.gz.part", tmp_path / "victim"
    victim.write_bytes(b"precious")
    if kind == "link":
        part.symlink_to(victim)
    elif kind == "dangling":
        part.symlink_to(tmp_path / "made")
    elif kind == "hard link":
        os.link(victim, part)
    elif kind == "folder":
        part.mkdir()
    else:
        os.mkfifo(part)
    with pytest.raises(InputError, match=r"mini.tar.gz.part: expected a temporary file of fastuq, found"):
        download(archive, tmp_path, url=server.url)
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "made").exists()
    assert server.asked == []
    part.rmdir() if kind == "folder" else part.unlink()
    victim.unlink()
    part.write_bytes(CONTENT[:100])
    assert download(archive, tmp_path, url=server.url)
    assert server.asked == ["bytes=100-"]
    check_files(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_nothing_left(tmp_path, archive, server, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InputError, match="has no locks"):
        download(archive, tmp_path / "data", url=server.url)
    assert not (tmp_path / "data").exists()
    assert server.asked == []
