"""Servers that are up to no good, or not well: one line each, no endless wait, no memory without bound."""

import socket
import threading
import time
import tracemalloc
from contextlib import contextmanager

import pytest

from fastuq import cli
from fastuq.datasets import transport
from fastuq.datasets.download import download
from fastuq.datasets.published import Archive
from fastuq.errors import LONGEST, DownloadError

SIZE = 1000
ARCHIVE = Archive("mini", "http://127.0.0.1:1/mini", "mini.tar", SIZE, "0" * 32, "set", {"a": "0" * 32})
OK = b"HTTP/1.1 200 OK\r\n"
PART = b"HTTP/1.1 206 Partial Content\r\n"
MANY = b"9" * 5000


@contextmanager
def server(answer):
    """Serve each connection with what `answer` sends over its socket."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(connection,), daemon=True).start()

    def converse(connection):
        with connection:
            try:
                connection.recv(65536)
                answer(connection)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # so that what was sent arrives before the connection ends
                    pass
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mini"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def refused(url, root):
    with pytest.raises(DownloadError) as caught:
        download(ARCHIVE, root, url=url, wait=0)
    text = str(caught.value)
    assert len(text) <= LONGEST
    assert text.isprintable()
    return text


def location(address):
    return b"HTTP/1.1 302 Found\r\nLocation: " + address + b"\r\nContent-Length: 0\r\n\r\n"


ANSWERS = {
    "length of 5000 digits": OK + b"Content-Length: " + MANY + b"\r\n\r\n",
    "range of 5000 digits": PART + b"Content-Range: bytes 0-1/" + MANY + b"\r\n\r\n",
    "digits of another script": OK + b"Content-Length: \xb2\r\n\r\n",
    "negative length": OK + b"Content-Length: -5\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 1000\r\n\r\nabc",
    "no range": PART + b"\r\n",
    "odd range": PART + b"Content-Range: \xff\x00/\xff\r\n\r\n",
    "nothing": b"",
    "no HTTP": b"\x00" * 3000,
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status of 5000 digits": b"HTTP/1.1 " + MANY + b" OK\r\n\r\n",
    "status 999999": b"HTTP/1.1 999999 OK\r\n\r\n",
    "no content": b"HTTP/1.1 204 No\r\n\r\n",
    "another version": b"HTTP/9.9 200 OK\r\n\r\n",
    "long status line": b"HTTP/1.1 200 " + b"a" * 70_000 + b"\r\n\r\n",
    "reason with escapes": b"HTTP/1.1 404 \x1b[2J\r\n\r\n",
    "long reason": b"HTTP/1.1 404 " + b"a" * 60_000 + b"\r\n\r\n",
    "long header": OK + b"A: " + b"a" * 70_000 + b"\r\n\r\n",
    "many headers": OK + b"A: b\r\n" * 300 + b"\r\n",
    "continue without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000,
    "chunk that is no number": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + b"a" * 10**7,
    "chunk of 5000 digits": OK + b"Transfer-Encoding: chunked\r\n\r\n" + MANY + b"\r\nabc",
    "long chunk line": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 70_000 + b"\r\n",
    "trailers without end": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 10**6,
    "cut chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\nabc",
    "login without kind": b"HTTP/1.1 401 No\r\nWWW-Authenticate: \xff\r\n\r\n",
    **{
        f"redirect to {address.decode('latin-1')[:20]}": location(address)
        for address in (
            b"http://[::1",
            b"http://[nowhere]/",
            b"http://127.0.0.1:99999999/",
            b"http://127.0.0.1:-1/",
            b"http://127.0.0.1:abc/",
            b"http://" + b"a" * 300 + b"/",
            b"http://..a/",
            b"http:///",
            b"http://",
            b"//",
            b"http://a b/",
            b"http://\xff\xfe/",
            b"http://xn--\x80/",
            b"file:///etc/passwd",
            b"ftp://127.0.0.1:1/x",
            b"data:,x",
            b"http://127.0.0.1:1/\x01",
            b"?again",
            b"",
        )
    },
    "redirect with a large body": b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n" + b"a" * 10**7,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_malformed_answers_are_refused_in_one_line(tmp_path, name):
    tracemalloc.start()
    with server(lambda connection: connection.sendall(ANSWERS[name])) as url:
        text = refused(url, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for part in (url, "cannot fetch", "by hand", "fastuq download mini"):
        assert part in text
    assert peak < 16 * 2**20
    assert "mini.tar" not in [path.name for path in tmp_path.iterdir()]


ADDRESSES = [
    "http://[::1",
    "http://[nowhere]/x",
    "http://127.0.0.1:99999999/",
    "http://127.0.0.1:abc/",
    "http://127.0.0.1:" + "9" * 5000,
    "http://" + "a" * 300 + "/",
    "http://..a/",
    "http://a..b/",
    "http://",
    "http:///x",
    "http://a b/",
    "http://a\nb/",
    "http://\udcff/",
    "http://127.0.0.1:1/ä\udcff",
    "http://127.0.0.1:1/\0",
    "http://%zz:1/",
    "http://@/",
    "https://[::1",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_malformed_addresses_are_refused_in_one_line(tmp_path, url):
    refused(url, tmp_path)
    assert not list(tmp_path.iterdir())


def test_malformed_addresses_on_the_command_line(tmp_path, capsys):
    for url in ADDRESSES[:1]:
        assert cli.main(["download", "cifar100", "--output", str(tmp_path), "--url", url]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("fastuq: cannot fetch")
        assert shown.count("\n") == 1


@pytest.mark.parametrize("proxy", ["http://[::1", "http://127.0.0.1:99999999", "\x01", "nowhere:abc"])
def test_malformed_proxies_are_refused_in_one_line(tmp_path, monkeypatch, proxy):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    refused("http://example.invalid/mini", tmp_path)


def drip(head, each):
    def answer(connection):
        connection.sendall(head)
        for _ in range(400):
            connection.sendall(each)
            time.sleep(0.02)

    return answer


LENGTH = OK + b"Content-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "each"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 ", b"O"),
        (OK, b"A: b\r\n"),
        (b"HTTP/1.1 302 Found\r\nLocation: /a\r\n\r\n", b"a"),
        (OK + b"Content-Length: 1000\r\n\r\n", b"a"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
    ],
)
def test_servers_that_drip_are_given_up(tmp_path, monkeypatch, head, each):
    monkeypatch.setattr(transport, "TIMEOUT", 0.2)
    monkeypatch.setattr(transport, "SLOWEST", 10_000)
    monkeypatch.setattr("fastuq.datasets.download.TIMEOUT", 0.2)
    monkeypatch.setattr("fastuq.datasets.download.SLOWEST", 10_000)
    with server(drip(head, each)) as url:
        assert "slower than" in refused(url, tmp_path)


def test_servers_that_bring_a_byte_per_connection_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("fastuq.datasets.download.TIMEOUT", 0.05)
    monkeypatch.setattr("fastuq.datasets.download.SLOWEST", 10**9)
    asked = []

    def answer(connection):
        asked.append(1)
        head = b"Content-Range: bytes %d-999/1000\r\n\r\n" % (len(asked) - 1)
        connection.sendall(PART + head + b"a")
        time.sleep(0.02)

    with server(answer) as url:
        assert "are kept" in refused(url, tmp_path)
    assert len(asked) < 100


def test_what_has_arrived_survives_an_answer_that_is_no_file(tmp_path):
    """A page that asks for a login, or one of another size, does not replace what an earlier run has brought."""
    (tmp_path / "mini.tar.part").write_bytes(b"x" * 500)
    for answer in (b"HTTP/1.1 204 No\r\n\r\n", OK + b"Content-Length: 5\r\n\r\nlogin"):
        with server(lambda connection, answer=answer: connection.sendall(answer)) as url:
            refused(url, tmp_path)
        assert (tmp_path / "mini.tar.part").read_bytes() == b"x" * 500
