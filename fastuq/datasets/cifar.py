"""CIFAR-100 in its published python layout, and CIFAR-100-C, from a data folder."""

from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.arrays import open_npy
from fastuq.datasets.checksums import check_recorded
from fastuq.datasets.classes import CIFAR100_CLASSES
from fastuq.datasets.imageset import ImageSet, Rows
from fastuq.datasets.pickles import read_pickle
from fastuq.errors import InputError
from fastuq.npy import NpyArray

CIFAR100_FOLDER = "cifar-100-python"
CIFAR100C_FOLDER = "CIFAR-100-C"
SEVERITIES = 5
_CIFAR100_AGAIN = "fetch it anew with `fastuq download cifar100`"
_CIFAR100C_AGAIN = "`fastuq corrupt` makes it again, or `fastuq download cifar100c` fetches it"


def load_cifar100(root: Path, split: str = "test") -> ImageSet:
    """Return CIFAR-100's ``test`` or ``train`` images (Krizhevsky 2009), uint8 (N, 32, 32, 3).

    Parameters
    ----------
    root : Path
        Data folder that holds ``cifar-100-python/``.
    split : {"test", "train"}
        Which part.

    Raises
    ------
    InputError
        The file is missing, damaged, or is no CIFAR-100 file.
    """
    path = root / CIFAR100_FOLDER / split
    if not path.is_file():
        raise InputError(
            f"CIFAR-100 is not there: expected {path}; run `fastuq download cifar100`, "
            "or set FASTUQ_DATA to the folder that holds cifar-100-python"
        )
    check_recorded(path, _CIFAR100_AGAIN)
    content = read_pickle(path)
    data, labels = content.get("data"), content.get("fine_labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1:] != (3072,):
        raise InputError(f"{path}: expected CIFAR-100 pixels as uint8 (N, 3072) under 'data', found {_what(data)}")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 100 for label in labels):
        raise InputError(f"{path}: expected a list of class numbers 0 to 99 under 'fine_labels', found {_what(labels)}")
    images = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return ImageSet(images, np.array(labels, np.int64), _class_names(path.parent), f"cifar100/{split}")


def _class_names(folder: Path) -> tuple[str, ...]:
    """Return the names in ``meta``, which is authoritative where it is there."""
    path = folder / "meta"
    if not path.is_file():
        return CIFAR100_CLASSES
    check_recorded(path, _CIFAR100_AGAIN)
    names = read_pickle(path).get("fine_label_names")
    if not isinstance(names, list) or len(names) != 100 or not all(isinstance(name, bytes | str) for name in names):
        raise InputError(f"{path}: expected 100 class names under 'fine_label_names', found {_what(names)}")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)


def load_cifar100c(root: Path, corruption: str, severity: int | None = None) -> ImageSet:
    """Return one split of CIFAR-100-C (Hendrycks and Dietterich 2019); pixels are read when they are sliced.

    Parameters
    ----------
    root : Path
        Data folder that holds ``CIFAR-100-C/``.
    corruption : str
        Name of one of its files, without ``.npy``.
    severity : int, optional
        1 to 5: rows (s-1) N to s N, where the published files have N = 10,000; None: all rows of the file.

    Raises
    ------
    InputError
        The file is missing, damaged or of another shape, or the severity is not 1 to 5.
    """
    folder = root / CIFAR100C_FOLDER
    if not folder.is_dir():
        raise InputError(
            f"CIFAR-100-C is not there: expected {folder}; run `fastuq corrupt` to make it, "
            "`fastuq download cifar100c` to fetch it, or set FASTUQ_DATA to the folder that holds CIFAR-100-C"
        )
    known = sorted(path.stem for path in folder.glob("*.npy") if path.stem != "labels")
    if corruption not in known:
        raise InputError(f"no corruption {corruption!r} in {folder}; it holds {', '.join(known) or 'none'}")
    if severity is not None and not 1 <= severity <= SEVERITIES:
        raise InputError(f"severity {severity} is not 1 to {SEVERITIES}")
    for name in (f"{corruption}.npy", "labels.npy"):
        check_recorded(folder / name, _CIFAR100C_AGAIN)
    images, labels = open_npy(folder / f"{corruption}.npy"), open_npy(folder / "labels.npy")
    if len(labels.shape) != 1 or labels.dtype.kind not in "iu" or len(labels) % SEVERITIES:
        raise InputError(f"{folder / 'labels.npy'}: expected the class numbers five times, found {_what(labels)}")
    count = len(labels) // SEVERITIES
    rows = count if severity is None and images.shape[:1] == (count,) else len(labels)  # one severity, or all five
    if images.shape != (rows, 32, 32, 3) or images.dtype != np.uint8:
        raise InputError(
            f"{folder / corruption}.npy: expected uint8 ({rows}, 32, 32, 3), found {_what(images)}; "
            "this is not the published layout"
        )
    start, stop = (0, rows) if severity is None else ((severity - 1) * count, severity * count)
    name = f"cifar100c/{corruption}" if severity is None else f"cifar100c/{corruption}/{severity}"
    return ImageSet(Rows(images, start, stop), labels[start:stop], CIFAR100_CLASSES, name)


def _what(value: Any) -> str:
    if isinstance(value, np.ndarray | NpyArray):
        return f"{value.dtype} {value.shape}"
    return "nothing" if value is None else type(value).__name__
