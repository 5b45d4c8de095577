"""HTTP from a server that need not be well: whatever it answers, and however slowly, ends as `Broken` or as bytes."""

import http.client
import io
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastuq.errors import short

TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up, and after which it must be faster than `SLOWEST`."""
SLOWEST = 1000
"""Bytes per second."""
OVERHEAD = 2**20
"""Bytes beside the file's own that a server may send: headers, redirects, the borders of chunks."""


class Broken(Exception):
    """A connection that ended before the file did; `final` when another would end the same way."""

    def __init__(self, reason: object, *, final: bool = False) -> None:
        super().__init__(short(reason, 200))
        self.final = final


@contextmanager
def transport() -> Iterator[None]:
    """Turn whatever goes wrong in a block that touches nothing but the network into `Broken`."""
    try:
        yield
    except Broken:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise Broken(f"{error.code} {error.reason}", final=error.code < 500 and error.code not in (408, 429)) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        unknown = isinstance(reason, socket.gaierror)  # the server's name: offline, another try finds it no sooner
        raise Broken(reason, final=unknown or isinstance(error, http.client.InvalidURL)) from None
    except Exception as error:  # a hostile answer can raise nearly anything: numbers of 5,000 digits, odd hosts
        raise Broken(f"an address or answer that is no HTTP ({error})", final=True) from None


@transport()
def open_url(url: str, start: int, size: int) -> Any:
    """Return the response of a server that was asked for a file from byte `start` on.

    Parameters
    ----------
    url : str
        Address (http or https); redirects lead nowhere else.
    start : int
        First byte wanted.
    size : int
        Bytes of the whole file, after which a server is not listened to for long.

    Raises
    ------
    Broken
        There is no such server, or it has another answer.
    """
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-", "User-Agent": "fastuq"})
    opener, ours = urllib.request.OpenerDirector(), _Handler()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        ours,
    ):
        opener.add_handler(handler)
    try:
        response: Any = opener.open(request, timeout=TIMEOUT)
    except BaseException:
        for response in ours.responses:  # a redirect to no address leaves its own open
            response.close()
        raise
    response.line.most += size + size // 8
    return response


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens http and https with responses that are bounded."""

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def __init__(self) -> None:
        super().__init__()
        self.responses: list[_Response] = []

    def http_open(self, request: Any) -> Any:
        return self.do_open(self._connection, request, kind=http.client.HTTPConnection)  # type: ignore[arg-type]

    def https_open(self, request: Any) -> Any:
        return self.do_open(self._connection, request, kind=http.client.HTTPSConnection)  # type: ignore[arg-type]

    def _connection(self, host: str, kind: Any, **options: Any) -> Any:
        connection = kind(host, **options)
        connection.response_class = self._response
        return connection

    def _response(self, *args: Any, **options: Any) -> Any:
        self.responses.append(_Response(*args, **options))
        return self.responses[-1]


class _Response(http.client.HTTPResponse):
    """A response of which no more is read than `line` allows, nor more slowly than `SLOWEST`."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.line = _Line(self.fp.detach())  # type: ignore[attr-defined]
        self.fp = io.BufferedReader(self.line)


class _Line(io.RawIOBase):
    """What arrives, with an eye on the clock."""

    def __init__(self, source: Any) -> None:
        self.source, self.most, self.count, self.start = source, OVERHEAD, 0, time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self.source.readinto(buffer) or 0
        self.count += got
        passed = time.monotonic() - self.start
        if passed > TIMEOUT and self.count < SLOWEST * passed:
            raise TimeoutError(f"slower than {SLOWEST} bytes per second")
        if self.count > self.most:
            raise OSError("more bytes than the file has")
        return got

    def close(self) -> None:
        self.source.close()
        super().close()
