"""An S3 server on the loopback, and pictures to put there."""

import io
import logging
import tarfile
import urllib.request
from contextlib import contextmanager

import numpy as np

ALL = 2**40


class Store:
    """The server: its bucket, and who is let in."""

    def __init__(self, url, system):
        self.url, self.system, self.bucket = url, system, "s3://bucket"

    def put(self, name, source):
        """Put a file or a folder of this machine, and return its address."""
        self.system.put(str(source), f"bucket/{name}", recursive=source.is_dir())
        return f"{self.bucket}/{name}"

    def get(self, name):
        return self.system.cat_file(f"bucket/{name}")

    def names(self, start=""):
        """Return the names of all objects that begin so."""
        return sorted(name.removeprefix("bucket/") for name in self.system.find(f"bucket/{start}"))

    @contextmanager
    def locked(self):
        """Let nobody in, as where a credential has expired."""
        self._let_in(0)
        try:
            yield
        finally:
            self._let_in(ALL)

    def _let_in(self, requests):
        headers = {"Content-Type": "text/plain"}
        ask = urllib.request.Request(f"{self.url}/moto-api/reset-auth", str(requests).encode(), headers, method="POST")
        urllib.request.urlopen(ask).close()


@contextmanager
def serving(patch):
    """Start a server with an empty bucket, which the environment of this process and its children points to."""
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "NO_PROXY": "127.0.0.1",
    }.items():
        patch.setenv(name, value)
    try:
        system = fsspec.filesystem("s3", use_listings_cache=False)
        system.mkdir("bucket")
        yield Store(url, system)
    finally:
        server.stop()


def picture(number):
    """Return a picture as the bytes of a PNG."""
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def write_tar(path, members):
    """Write members, bytes or text by name, into a tar file."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
