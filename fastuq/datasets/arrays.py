"""Images from .npy and .npz files: nothing executed, memory bounded by what the headers declare."""

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError

MAX_NPZ_BYTES = 2**30
"""Largest total of unpacked arrays taken from one .npz; a memory-mapped .npy has no such limit."""


def open_npy(path: str | Path) -> np.ndarray:
    """Return a .npy file as a read-only memory map.

    Raises
    ------
    InputError
        The file is missing, truncated, no .npy, empty, or holds Python objects.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2 are read, with a warning nobody can act on
            shape, fortran, dtype = _read_header(file)
            return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # a hostile header can raise nearly anything
        raise _unreadable(path, error) from None


def open_npz(path: str | Path) -> dict[str, Any]:
    """Return the arrays of a .npz file that describe images: ``images``, and ``labels``, ``class_names`` if there.

    An archive with one array alone is taken as the images, whatever its name.

    Raises
    ------
    InputError
        The file is missing, truncated, no .npz, has no images, holds Python objects, or declares more than 1 GiB.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {key: members[key] for key in ("images", "labels", "class_names") if key in members}
            if "images" not in wanted:
                if len(members) != 1:
                    raise InputError(
                        f"{path}: expected an array named images, found {', '.join(sorted(members)[:5]) or 'nothing'}"
                    )
                wanted = {"images": next(iter(members.values()))}
            declared = sum(info.file_size for info in wanted.values())
            if declared > MAX_NPZ_BYTES:
                raise InputError(
                    f"{path}: its arrays unpack to {declared} bytes, more than {MAX_NPZ_BYTES}; "
                    "save large images as .npy, which is read piece by piece"
                )
            return {key: _read_member(archive, info) for key, info in wanted.items()}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except Exception as error:  # a hostile archive can raise nearly anything
        raise _unreadable(path, error) from None


def _read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of version 1.0, which NumPy writes for arrays of numbers; later ones may declare 4 GB of it."""
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("a later version of the .npy format than 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or any(length < 0 for length in shape):
        raise ValueError("Python objects" if dtype.hasobject else "a negative length")
    return shape, fortran, dtype


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one array, its data no longer than the archive declares (zipfile itself stops there)."""
    with archive.open(info) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape, fortran, dtype = _read_header(stream)
        size = math.prod(shape) * dtype.itemsize
        if size > info.file_size:
            raise ValueError(f"a header that declares {size} bytes where {info.file_size} are stored")
        data = stream.read(size)
        if len(data) != size or stream.read(1):  # reading to the end also makes zipfile check the CRC
            raise ValueError("an array shorter or longer than its header says")
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, OSError) and error.strerror:
        return InputError(f"cannot read {path}: {error.strerror}")
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return InputError(
        f"{path}: expected a NumPy array of numbers, found a truncated or foreign file ({reason}); save it anew"
    )
