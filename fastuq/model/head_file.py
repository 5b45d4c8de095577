"""Head files: a float head by itself as .npz, to be put on features from anywhere."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.folder import MAX_HEAD_BYTES
from fastuq.model.head import Head
from fastuq.util.checks import checked_path
from fastuq.util.files import atomic_path
from fastuq.util.npy import open_regular, read_npz


def save_head(path: str | Path, head: Head) -> None:
    """Write a head as .npz, whole or not at all; docs/embeddings.md says what the arrays are.

    Parameters
    ----------
    path : str or Path
    head : Head

    Raises
    ------
    InputError
        The file cannot be written.

    Examples
    --------
    >>> import fastuq
    >>> fastuq.save_head("head.npz", fastuq.load_model().head)
    """
    with atomic_path(path) as partial:
        partial.write_bytes(npz_of(head.to_arrays()))


def load_head(path: str | Path) -> Head:
    """Read a head from .npz, without trust.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ModelError
        The file is missing or damaged, or its arrays are no head.

    Examples
    --------
    >>> import fastuq
    >>> fastuq.save_head("head.npz", fastuq.load_model().head)
    >>> fastuq.load_head("head.npz")
    Head(1280, 300 -> 100)
    """
    try:
        with open(open_regular(checked_path(path)), "rb") as file:
            arrays = read_npz(file, MAX_HEAD_BYTES)
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"head {path}: expected an .npz of a head, which fastuq.save_head writes, found none ({reason}); "
            "check the path, or save it again"
        ) from None
    try:
        return Head.from_arrays(arrays)
    except ModelError as error:
        raise ModelError(f"head {path}: {error}") from None


def npz_of(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return named arrays as the content of an .npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
