"""NumPy's .npy and .npz formats, read without trust: no Python objects, memory bounded by what is there."""

import math
import warnings
import zipfile
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np


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


def npz_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an open .npz by the names of their arrays."""
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def declared_bytes(members: Iterable[zipfile.ZipInfo]) -> int:
    """Return what `members` unpack to by their own account, beyond which `read_member` reads nothing."""
    return sum(info.file_size for info in members)


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one array of an .npz, its data no longer than the archive declares (zipfile itself stops there).

    Raises
    ------
    ValueError
        The member is compressed in a way NumPy does not write, or declares another size than it has. Damage that
        zipfile finds raises what it raises.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("a compression other than NumPy's")  # zipfile unpacks those without bound
    with archive.open(info) as stream:
        shape, fortran, dtype = read_header(stream)
        size = math.prod(shape) * dtype.itemsize
        if size > info.file_size:
            raise ValueError(f"a header that declares {size} bytes where {info.file_size} are stored")
        data = stream.read(size)
        if len(data) != size or stream.read(1):  # reading to the end also makes zipfile check the CRC
            raise ValueError("an array shorter or longer than its header says")
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")


def read_npz(file: BinaryIO, limit: int) -> dict[str, np.ndarray]:
    """Return all arrays of an .npz.

    Raises
    ------
    ValueError
        The archive is damaged, foreign, holds Python objects or declares more than `limit` bytes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = npz_members(archive)
            declared = declared_bytes(members.values())
            if declared > limit:
                raise ValueError(f"its arrays unpack to {declared} bytes, more than {limit}")
            return {name: read_member(archive, info) for name, info in members.items()}
    except Exception as error:  # a hostile archive can raise nearly anything
        raise ValueError(" ".join(str(error).split())[:120] or type(error).__name__) from None
