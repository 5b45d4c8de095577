"""Sealed HDF5 files: laid out whole when they are made, and read without trusting the HDF5 library.

A sealed file is an HDF5 file of contiguous datasets behind a user block, a stretch that HDF5 skips. The user block
holds the seal: a line that names kind and version, a line of JSON, and the SHA-256 of the two. The JSON says where each
dataset lies and has the SHA-256 of all HDF5 metadata, which are never written again. Other tools open the file as plain
HDF5; fastuq itself reads bytes at known offsets, so links, filters and declared sizes of a hostile file are never
looked at, and no flipped bit goes unseen.
"""

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import CacheError, NotThereError
from fastuq.util.rawio import reserve, write_all
from fastuq.util.remote import fetch, is_remote

DTYPES = ("|i1", "|b1", "<i8", "<u4", "<f4")
MAX_SEAL = 16 * 2**20
"""Longest line of JSON that is read."""
MAX_METADATA = 2**20
"""Most bytes that may lie outside of seal and datasets."""


@dataclass(frozen=True)
class Extent:
    """Where a dataset lies in its file."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Length in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Seal:
    """What the user block of a sealed file says.

    Attributes
    ----------
    about : dict
        What the kind of file keeps there, JSON values.
    datasets : dict of str to Extent
    size : int
        Length of the file in bytes.
    sha256 : str
        Of the seal's first two lines.
    """

    about: dict[str, Any]
    datasets: dict[str, Extent]
    size: int
    sha256: str


def open_file(path: Path, mode: int, made_by: str = "fastuq cache-features") -> int:
    """Return a descriptor of the regular file `path`, which the command `made_by` makes; else of a copy of it.

    Raises
    ------
    CacheError
        It is missing, no regular file, or may not be opened.
    """
    if is_remote(path):
        assert mode == os.O_RDONLY  # what is there is replaced whole
        try:
            return fetch(str(path))
        except NotThereError:
            raise CacheError(f"{path}: no such file; make it with `{made_by}`, or check the address") from None
    try:
        descriptor = os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise CacheError(f"{path}: no such file; make it with `{made_by}`, or check the path") from None
    except OSError as error:
        raise CacheError(f"{path}: cannot be opened ({error.strerror}); check its path and permissions") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CacheError(f"{path}: expected a file, found a folder or device; check the path")
    return descriptor


def create(
    descriptor: int,
    path: Path,
    title: str,
    about: Mapping[str, Any],
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    attributes: Mapping[str, Mapping[str, Any]],
) -> Seal:
    """Make a sealed file of an empty one, with all of its space reserved; the datasets hold zeros.

    Parameters
    ----------
    descriptor : int
        The file, open for writing.
    path : Path
        Its name, which nobody else uses; the caller renames it once it is what it should be.
    title : str
        Kind and version, as in ``feature cache 1``.
    about : mapping
        JSON values.
    shapes : mapping
        Shape and dtype of each dataset.
    attributes : mapping
        HDF5 attributes of datasets, for those who open the file with other tools.

    Raises
    ------
    OSError
        The disk is full or the folder cannot be written.
    """
    room = len(_json(about)) + 256 * len(shapes) + 512
    block = max(4096, 1 << (room - 1).bit_length())
    wanted = sum(Extent(0, *shape).size for shape in shapes.values())
    # Before HDF5 writes, which on a full disk would leave a half-closed file behind: more than it will take.
    reserve(descriptor, block + wanted + 2**16)
    datasets = _lay_out(path, block, shapes, attributes)
    size = os.fstat(descriptor).st_size
    reserve(descriptor, size)
    fields = {
        "user_block": block,
        "size": size,
        "hdf5_sha256": _metadata_sha256(descriptor, block, size, datasets),
        "datasets": {
            name: {"offset": one.offset, "shape": list(one.shape), "dtype": one.dtype} for name, one in datasets.items()
        },
        "about": dict(about),
    }
    text = f"fastuq {title}\n{_json(fields)}\n".encode("ascii")
    digest = hashlib.sha256(text).hexdigest()
    write_all(descriptor, np.frombuffer(text + f"{digest}\n".encode("ascii"), np.uint8), 0)
    return Seal(dict(about), datasets, size, digest)


def read_seal(descriptor: int, path: Path, title: str) -> Seal:
    """Read and check the seal of an open file.

    Raises
    ------
    CacheError
        The file is foreign, truncated, damaged in its seal or its HDF5 metadata, or of another version.
    """
    with open(os.dup(descriptor), "rb") as file:
        file.seek(0)
        _check_title(file.readline(80), path, title)
        line, digest = file.readline(MAX_SEAL), file.readline(80)
    text = f"fastuq {title}\n".encode("ascii") + line
    sha256 = hashlib.sha256(text).hexdigest()
    if digest != f"{sha256}\n".encode("ascii"):
        raise _damaged(path, "the seal at its beginning does not match its SHA-256")
    try:
        fields = json.loads(line)
        block, size = _whole(fields["user_block"]), _whole(fields["size"])
        datasets = {str(name): _extent(one) for name, one in fields["datasets"].items()}
        about, metadata = dict(fields["about"]), str(fields["hdf5_sha256"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"the seal does not describe a file ({type(error).__name__}: {error})") from None
    found = os.fstat(descriptor).st_size
    if found != size:
        raise _damaged(path, f"expected {size} bytes, found {found}")
    padding = os.pread(descriptor, max(0, min(block, 2 * MAX_SEAL) - len(text) - 65), len(text) + 65)
    if len(text) + 65 + len(padding) != block or padding.strip(b"\0"):
        raise _damaged(path, "the user block holds more than the seal")
    if _metadata_sha256(descriptor, block, size, datasets) != metadata:
        raise _damaged(path, "its HDF5 metadata do not match their SHA-256")
    return Seal(about, datasets, size, sha256)


def cannot_write(path: Path, error: OSError) -> CacheError:
    """Return the error of a file that cannot be written."""
    return CacheError(
        f"cannot write {path}: {error.strerror or error}; make room or choose another output; "
        "what was written before is kept, and the same command goes on from there"
    )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _lay_out(path: Path, block: int, shapes: Mapping, attributes: Mapping) -> dict[str, Extent]:
    """Let HDF5 make the file. No object carries the time, so that the same content is the same bytes."""
    import h5py
    from h5py import h5d, h5f, h5p, h5s, h5t

    kind, access = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS)
    kind.set_userblock(block)
    kind.set_obj_track_times(False)
    # The format of HDF5 1.10 is the oldest whose metadata carry checksums of their own, and every tool reads it.
    access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
    access.set_file_locking(False, True)
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_layout(h5d.CONTIGUOUS)
    layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    datasets = {}
    with h5py.File(h5f.create(os.fsencode(path), h5f.ACC_TRUNC, kind, access)) as file:
        for name, (shape, dtype) in shapes.items():
            of = h5t.py_create(np.dtype(dtype), logical=True)
            made = h5d.create(file.id, name.encode(), of, h5s.create_simple(shape), layout)
            for key, value in attributes.get(name, {}).items():
                h5py.Dataset(made).attrs[key] = value
            datasets[name] = Extent(made.get_offset(), tuple(shape), dtype)
    return datasets


def _metadata_sha256(descriptor: int, block: int, size: int, datasets: Mapping[str, Extent]) -> str:
    """Return the SHA-256 of all bytes outside of user block and datasets; empty where they cannot be such bytes."""
    digest, place, total = hashlib.sha256(), block, 0
    ends = [(one.offset, one.offset + one.size) for one in datasets.values()]
    for start, stop in [*sorted(ends), (size, size)]:
        total += start - place
        if not place <= start <= stop <= size or total > MAX_METADATA:
            return ""
        digest.update(os.pread(descriptor, start - place, place))
        place = stop
    return digest.hexdigest()


def _check_title(line: bytes, path: Path, title: str) -> None:
    if line == f"fastuq {title}\n".encode("ascii"):
        return
    kind, _, version = title.rpartition(" ")
    words = line.rstrip(b"\n").rpartition(b" ")
    if words[0] == f"fastuq {kind}".encode("ascii") and words[2].isdigit():
        raise CacheError(
            f"{path}: expected format version {version} of a {kind}, found {words[2].decode()[:20]}; "
            "it was written by another version of fastuq: use that one, or make the file again"
        )
    raise CacheError(
        f"{path}: expected a fastuq {kind}, found a foreign or damaged file; "
        "check the path, or delete the file and make it again"
    )


def _damaged(path: Path, what: str) -> CacheError:
    return CacheError(f"{path}: {what}; it was truncated or altered after it was written; delete it and make it again")


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"expected a whole number, found {str(value)[:40]!r}")
    return value


def _extent(fields: Any) -> Extent:
    shape = tuple(_whole(length) for length in fields["shape"])
    if fields["dtype"] not in DTYPES or not 1 <= len(shape) <= 2:
        raise ValueError("a dataset of unknown dtype or shape")
    return Extent(_whole(fields["offset"]), shape, fields["dtype"])
