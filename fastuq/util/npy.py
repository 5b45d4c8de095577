"""NumPy's .npy and .npz formats, read without trust: no Python objects, memory bounded by what is there."""

import io
import math
import os
import stat
import warnings
import weakref
import zipfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastuq.errors import FastUQError, InputError, short
from fastuq.util.rawio import read_into
from fastuq.util.remote import RemoteFile, base_name, is_remote

_MAX_HEADER = 2**17
"""More than a header of version 1.0 can have."""


class NpyArray:
    """An array in a .npy file, read when it is sliced along its first axis; threads may slice it at once.

    It is no memory map: one of a file that another program cuts ends the process (SIGBUS) instead of raising.

    Parameters
    ----------
    path : Path or str
        The text is an address of another machine.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Raises
    ------
    ValueError
        The file is truncated, no .npy, without numbers (`EmptyError`) or holds Python objects; what else a hostile
        header raises is not one kind.
    OSError
        The file cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._file = RemoteFile(str(path)) if is_remote(path) else _LocalFile(Path(path))
        start = np.empty(min(_MAX_HEADER, self._file.size), np.uint8)
        self._file.read_into(start, 0)
        stream = io.BytesIO(start.tobytes())
        self.shape, self._fortran, self.dtype = read_header(stream)
        self._offset = stream.tell()
        size = math.prod(self.shape) * self.dtype.itemsize
        if 0 in self.shape:
            raise EmptyError(f"an array {self.shape} without rows or columns")
        if size == 0 or self._offset + size > self._file.size:
            raise ValueError(f"{size} bytes declared, {self._file.size - self._offset} there")

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        """Return rows: of a slice, or of an array of row numbers.

        Raises
        ------
        InputError
            The file is shorter than when it was opened, or cannot be read.
        """
        if not isinstance(key, slice):
            rows = [self._read(int(row), int(row) + 1) for row in np.asarray(key)]
            return np.concatenate(rows or [self._read(0, 0)])
        rows_asked = range(len(self))[key]
        if not rows_asked:
            return self._read(0, 0)
        ends = sorted((rows_asked[0], rows_asked[-1]))
        return self._read(ends[0], ends[1] + 1)[:: rows_asked.step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)

    def stamp(self) -> str:
        """Return what tells whether the open file has changed, its name, size and version; empty without a version."""
        return self._file.stamp and f"{base_name(str(self._path))} {self._file.stamp}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._absolute(), self.shape, self.dtype)

    def _absolute(self) -> Path | str:
        return self._path if is_remote(self._path) else Path(self._path).absolute()

    def _read(self, start: int, stop: int) -> np.ndarray:
        lengths, count, item = self.shape[1:], stop - start, self.dtype.itemsize
        try:
            if not self._fortran:
                array = np.empty((count, *lengths), self.dtype)
                self._file.read_into(array, self._offset + start * math.prod(lengths) * item)
                return array
            columns = np.empty((*reversed(lengths), count), self.dtype)  # as they lie in the file
            for number, column in enumerate(columns.reshape(-1, count) if count else ()):
                self._file.read_into(column, self._offset + (number * len(self) + start) * item)
            return columns.T
        except EOFError:
            raise InputError(
                f"{self._path}: the file became shorter while it was read; another program writes to it: "
                "wait for that to end, and run again"
            ) from None
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror or error}; check the disk") from None


class _LocalFile:
    """A file of this machine, as `RemoteFile` is one of another."""

    def __init__(self, path: Path) -> None:
        self._descriptor = open_regular(path)
        weakref.finalize(self, os.close, self._descriptor)
        found = os.fstat(self._descriptor)
        self.size, self.stamp = found.st_size, f"{found.st_size} {found.st_mtime_ns}"

    def read_into(self, array: np.ndarray, offset: int) -> None:
        read_into(self._descriptor, array, offset)


def _reopened(path: Path | str, shape: tuple[int, ...], dtype: np.dtype) -> NpyArray:
    """Return an array that was open in another process, of the file that is there by now."""
    try:
        array = NpyArray(path)
        found: object = (array.shape, array.dtype)
    except FastUQError:
        raise
    except Exception as error:  # a hostile header can raise nearly anything
        found = short(error)
    if found != (shape, dtype):
        raise InputError(
            f"{path}: expected {dtype} {shape}, as where it was opened first, found {found}; "
            "keep the file where every process can read it, and leave it alone meanwhile"
        )
    return array


def open_regular(path: str | Path) -> int:
    """Return a descriptor to read a file with; a pipe, which would be waited for, raises ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueError("no regular file")


def read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of a .npy: shape, Fortran order, dtype.

    Version 1.0 alone, which NumPy writes for arrays of numbers; later ones may declare 4 GB of header.

    Raises
    ------
    ValueError
        The header is of another version or declares Python objects or a negative length; what else a hostile header
        raises is not one kind.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2 are read, with a warning nobody can act on
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("a later version of the .npy format than 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or any(length < 0 for length in shape):
        raise ValueError("Python objects" if dtype.hasobject else "a negative length")
    return shape, fortran, dtype


class EmptyError(ValueError):
    """An array of no numbers."""


class TooLargeError(ValueError):
    """An archive whose arrays unpack to more than is read."""


def read_npz(
    file: BinaryIO, limit: int, choose: Callable[[Collection[str]], Iterable[str]] = iter
) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz, or those that `choose` takes of their names.

    Raises
    ------
    ValueError
        The archive is damaged, foreign or holds Python objects, or (TooLargeError) declares more than `limit` bytes.
    InputError
        Whatever `choose` has against it.
    OSError
        The file cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: members[name] for name in choose(members)}
            declared = sum(info.file_size for info in wanted.values())  # beyond which nothing is read
            if declared > limit:
                raise TooLargeError(f"its arrays unpack to {declared} bytes, more than {limit}")
            return {name: _read_member(archive, info) for name, info in wanted.items()}
    except (InputError, TooLargeError):
        raise
    except Exception as error:  # a hostile archive can raise nearly anything
        if isinstance(error, OSError) and error.strerror:
            raise
        raise ValueError(short(error)) from None


def npz_shapes(file: BinaryIO) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return shape and dtype of every array of an .npz after reading all of it, piece by piece.

    Raises
    ------
    ValueError
        The archive is damaged or foreign.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            shapes = {}
            if damaged := archive.testzip():
                raise ValueError(damaged)
            for info in archive.infolist():
                with archive.open(info) as stream:
                    shape, _, dtype = read_header(stream)
                shapes[info.filename.removesuffix(".npy")] = (shape, dtype)
            return shapes
    except Exception as error:  # a hostile archive can raise nearly anything
        raise ValueError(short(error)) from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one array, its data no longer than the archive declares (zipfile itself stops there)."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("a compression other than NumPy's")  # zipfile unpacks those without bound
    with archive.open(info) as stream:
        shape, fortran, dtype = read_header(stream)
        size = math.prod(shape) * dtype.itemsize
        if size > info.file_size:  # np.load would set that much aside
            raise ValueError(f"a header that declares {size} bytes where {info.file_size} are stored")
        data = stream.read(size)
        if len(data) != size or stream.read(1):  # reading to the end also makes zipfile check the CRC
            raise ValueError("an array shorter or longer than its header says")
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")
