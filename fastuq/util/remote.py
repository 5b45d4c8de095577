"""Addresses of other machines (``s3://bucket/x``, ``gs://``, ``https://``): the only place that imports fsspec."""

import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastuq.errors import FastUQError, MissingExtraError, NotThereError, RemoteError, short, without_secrets

if TYPE_CHECKING:
    import numpy as np

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
BLOCK = 8 * 2**20
"""Bytes that are asked for at once."""
MAX_BYTES = 2**30
"""Most bytes of one file that are kept in memory."""
_EXTRAS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
_VERSIONS = ("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "mtime", "created")
_PUT_WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Stores in which an object that is put appears whole or not at all."""


def is_remote(place: object) -> bool:
    """Return whether this is an address, as text or as what `fastuq.util.places.place_of` makes of it, and no path."""
    address = getattr(place, "address", place)
    return isinstance(address, str) and _ADDRESS.match(address) is not None


def is_there(address: str) -> bool:
    """Return whether a file or folder is there."""
    with _reading(address):
        system, path = _system(address)
        return bool(system.exists(path))


def is_folder(address: str) -> bool:
    """Return whether a folder is there."""
    with _reading(address):
        system, path = _system(address)
        return bool(system.isdir(path))


def base_name(address: str) -> str:
    """Return the last part of an address."""
    return address.rstrip("/").rpartition("/")[2]


def joined(address: str, name: str) -> str:
    """Return the address of something below another."""
    return f"{address.rstrip('/')}/{name}"


class RemoteFile:
    """A file of another machine, read where it is asked for and somewhat ahead; threads may share it.

    Attributes
    ----------
    size : int
        In bytes.
    stamp : str
        As `stamp` gives it, of the file that was opened.
    """

    def __init__(self, address: str) -> None:
        self._address, self._lock = address, threading.Lock()
        with _reading(address):
            system, path = _system(address)
            self.stamp = _version(system.info(path))
            self._file = system.open(path, "rb", block_size=BLOCK, cache_type="readahead")
            self.size = int(self._file.seek(0, os.SEEK_END))
            self._file.seek(0)

    def read_into(self, array: "np.ndarray", offset: int) -> None:
        """Fill a contiguous array with the bytes at `offset`; raises EOFError where the file ends before."""
        view = array.reshape(-1).view("u1").data
        with self._lock, _reading(self._address):
            self._file.seek(offset)
            while view:
                data = self._file.read(min(len(view), BLOCK))
                if not data:
                    raise EOFError
                view[: len(data)] = data
                view = view[len(data) :]


def fetch(address: str) -> int:
    """Return a descriptor of a copy of a whole file on this machine: without a name, and gone once that is closed.

    Raises
    ------
    RemoteError
        It is not there, may not be read, or did not arrive whole.
    """
    with tempfile.TemporaryFile() as copy:
        with _reading(address):
            system, path = _system(address)
            size = system.info(path).get("size")
            source = system.open(path, "rb", block_size=BLOCK, cache_type="readahead")
        with source:
            while block := _next_block(source, address):
                copy.write(block)
        copy.flush()
        if size not in (None, copy.tell()):
            raise RemoteError(
                f"{address}: expected {size} bytes, found {copy.tell()}; it was cut or replaced while it was read; "
                "run again"
            )
        copy.seek(0)
        return os.dup(copy.fileno())


def _next_block(source: Any, address: str) -> bytes:
    with _reading(address):
        return source.read(BLOCK)


class Copies:
    """Whole files of other machines on this one, the last few that were read; threads may share them."""

    def __init__(self, most: int = 2) -> None:
        self._most, self._lock, self._kept = most, threading.Lock(), dict[str, _Copy]()

    def open(self, address: str) -> "_Copy":
        """Return the copy of a file, which is fetched unless it is one of the last."""
        with self._lock:
            copy = self._kept.pop(address, None) or _Copy(address)
            self._kept[address] = copy
            while len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
            return copy


class _Copy:
    """A copy that is closed when nobody has it any more."""

    def __init__(self, address: str) -> None:
        self.descriptor = fetch(address)
        weakref.finalize(self, os.close, self.descriptor)


def read_bytes(address: str, most: int = MAX_BYTES) -> bytes:
    """Return what a file holds; raises RemoteError where these are more than `most` bytes."""
    with _reading(address):
        system, path = _system(address)
        data = system.cat_file(path, start=0, end=most + 1)
    if len(data) > most:
        raise RemoteError(f"{address}: expected at most {most} bytes, found more; is it the right file?")
    return data


def stamp(address: str) -> str:
    """Return what tells whether a file has changed, its size and version; empty where the store names no version."""
    with _reading(address):
        system, path = _system(address)
        return _version(system.info(path))


def _version(found: dict[str, Any]) -> str:
    version = next((found[key] for key in _VERSIONS if found.get(key)), "")
    return version and f"{found.get('size')} {version}"


def entries(address: str) -> Iterator[tuple[str, bool]]:
    """Yield name and whether it is a folder of what lies in a folder; the store lists one folder at a time."""
    with _reading(address):
        system, path = _system(address)
        root = path.rstrip("/")
        found = system.ls(path, detail=True)
    for entry in found:
        name = entry["name"].rstrip("/").removeprefix(root).lstrip("/")
        if name:  # some stores list the folder itself
            yield name.rpartition("/")[2], entry["type"] == "directory"


def matching(pattern: str) -> list[str]:
    """Return the addresses that a pattern with * and ? stands for, sorted."""
    with _reading(pattern):
        system, path = _system(pattern)
        return sorted(system.unstrip_protocol(name) for name in system.glob(path))


def upload(source: Path, address: str) -> None:
    """Put a finished file where an address says, whole or not at all.

    Raises
    ------
    RemoteError
        It cannot be written there.
    """
    with _writing(address):
        system, path = _system(address)
        target = path if _scheme(address) in _PUT_WHOLE else f"{_folder(system, address, path)}/{_partial_name()}"
        system.put_file(str(source), target)
        if system.info(target)["size"] != source.stat().st_size:
            system.rm_file(target)
            raise OSError("it did not arrive whole")
        if target != path:
            system.mv(target, path)


def check_writable(address: str) -> None:
    """Raise RemoteError unless a file can be put beside an address: an empty one is, and taken away again."""
    if address.endswith("/"):
        raise RemoteError(f"cannot write {address}: it is a folder; add the name of a file")
    with _writing(address):
        system, path = _system(address)
        beside = f"{_folder(system, address, path)}/{_partial_name()}"
        system.pipe_file(beside, b"")
        with suppress(Exception):  # who may write need not be allowed to delete
            system.rm_file(beside)


@contextmanager
def written(address: str) -> Iterator[Path]:
    """Yield a temporary path on this machine, and put what is there where the address says once the block ends well."""
    folder = tempfile.mkdtemp(prefix="fastuq-")
    try:
        partial = Path(folder, "output")
        partial.touch()
        yield partial
        upload(partial, address)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _partial_name() -> str:
    return f".fastuq-{os.urandom(8).hex()}.partial"


def _folder(system: Any, address: str, path: str) -> str:
    """Return the folder of a path, which is made where stores have such things."""
    folder = path.rpartition("/")[0]
    if _scheme(address) not in _PUT_WHOLE:
        system.makedirs(folder, exist_ok=True)
    return folder


def _scheme(address: str) -> str:
    return address.partition("://")[0].lower()


def _system(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the path in it; listings are not kept, which may be of millions."""
    if without_secrets(address) != address:  # it would be kept in caches and reports
        raise RemoteError(
            f"{address}: expected no password or signature in an address, found one; set the environment of its library"
        )
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtraError(f"{address}: addresses need fsspec: pip install 'fastuq[remote]'") from None
    try:
        return url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        library = _EXTRAS.get(_scheme(address))
        way_out = "fastuq[remote]" if library in ("s3fs", "aiohttp") else library
        needs = f"needs {library}: pip install '{way_out}'" if library else short(error)
        raise MissingExtraError(f"{address}: {needs}") from None


@contextmanager
def _reading(address: str) -> Iterator[None]:
    with _told(f"cannot read {address}", "check the address, and that the server has it"):
        yield


@contextmanager
def _writing(address: str) -> Iterator[None]:
    with _told(f"cannot write {address}", "check that the bucket or folder is there"):
        yield


@contextmanager
def _told(what: str, way_out: str) -> Iterator[None]:
    """Turn whatever goes wrong on the way to another machine into one line that names the address."""
    try:
        yield
    except (FastUQError, EOFError, MemoryError):
        raise
    except FileNotFoundError as error:
        reason = "no such bucket" if "bucket does not exist" in str(error) else "nothing is there"
        raise NotThereError(f"{what}: {reason}; {way_out}") from None
    except NotImplementedError:
        raise RemoteError(f"{what}: addresses of this kind are read alone; name another place") from None
    except Exception as error:  # whatever the libraries of all stores raise
        refused = isinstance(error, PermissionError) or "credentials" in str(error)
        check = (
            "check that the credentials are there and still valid, and what they allow; then run again"
            if refused
            else "check address, network and server, and run again"
        )
        raise RemoteError(f"{what}: {short(error).rstrip('.')}; {check}") from None
