"""Images from .npy and .npz files: nothing executed, memory bounded by what the headers declare."""

import zipfile
from pathlib import Path
from typing import Any

from fastuq.errors import InputError
from fastuq.util.npy import NpyArray, declared_bytes, npz_members, open_regular, read_member

MAX_NPZ_BYTES = 2**30
"""Largest total of unpacked arrays taken from one .npz; a .npy, read piece by piece, has no such limit."""


def open_npy(path: str | Path) -> NpyArray:
    """Return a .npy file as an array that is read when it is sliced.

    Raises
    ------
    InputError
        The file is missing, truncated, no .npy, empty, or holds Python objects.
    """
    path = Path(path)
    try:
        return NpyArray(path)
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
        with open(open_regular(path), "rb") as file, zipfile.ZipFile(file) as archive:
            members = npz_members(archive)
            wanted = {key: members[key] for key in ("images", "labels", "class_names") if key in members}
            if "images" not in wanted:
                if len(members) != 1:
                    raise InputError(
                        f"{path}: expected an array named images, found {', '.join(sorted(members)[:5]) or 'nothing'}"
                    )
                wanted = {"images": next(iter(members.values()))}
            declared = declared_bytes(wanted.values())
            if declared > MAX_NPZ_BYTES:
                raise InputError(
                    f"{path}: its arrays unpack to {declared} bytes, more than {MAX_NPZ_BYTES}; "
                    "save large images as .npy, which is read piece by piece"
                )
            return {key: read_member(archive, info) for key, info in wanted.items()}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except Exception as error:  # a hostile archive can raise nearly anything
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, OSError) and error.strerror:
        return InputError(f"cannot read {path}: {error.strerror}")
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return InputError(
        f"{path}: expected a NumPy array of numbers, found a truncated or foreign file ({reason}); save it anew"
    )
