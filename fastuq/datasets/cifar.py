"""CIFAR-10 and CIFAR-100 in their published python layout, and CIFAR-100-C, from a data folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.arrays import open_npy
from fastuq.datasets.checksums import check_recorded
from fastuq.datasets.classes import CIFAR10_CLASSES, CIFAR100_CLASSES
from fastuq.datasets.imageset import ImageSet
from fastuq.datasets.pickles import read_pickle
from fastuq.datasets.rows import Rows
from fastuq.errors import InputError
from fastuq.util.npy import NpyArray

CIFAR100_FOLDER = "cifar-100-python"
CIFAR100C_FOLDER = "CIFAR-100-C"
SEVERITIES = 5
_CIFAR100C_AGAIN = "`fastuq corrupt` makes it again, or `fastuq download cifar100c` fetches it"


@dataclass(frozen=True)
class Cifar:
    """How one of the two data sets (Krizhevsky 2009) is laid out.

    Attributes
    ----------
    name, folder : str
        What it is called, and the folder that holds it.
    splits : dict of str to tuple of str
        The files of each split; each is a dictionary with pixels under ``data``.
    labels : str
        Key of the class numbers.
    names_file, names : str
        File and key of the class names.
    classes : tuple of str
        The class names where that file is not there.
    again : str
        The way to get it.
    """

    name: str
    folder: str
    splits: dict[str, tuple[str, ...]]
    labels: str
    names_file: str
    names: str
    classes: tuple[str, ...]
    again: str


CIFAR = {
    "cifar100": Cifar(
        name="CIFAR-100",
        folder=CIFAR100_FOLDER,
        splits={"test": ("test",), "train": ("train",)},
        labels="fine_labels",
        names_file="meta",
        names="fine_label_names",
        classes=CIFAR100_CLASSES,
        again="fetch it with `fastuq download cifar100`",
    ),
    "cifar10": Cifar(
        name="CIFAR-10",
        folder="cifar-10-batches-py",
        splits={"test": ("test_batch",), "train": tuple(f"data_batch_{n}" for n in range(1, 6))},
        labels="labels",
        names_file="batches.meta",
        names="label_names",
        classes=CIFAR10_CLASSES,
        again="fetch it with `fastuq download cifar10`",
    ),
}


def load_cifar(root: Path, name: str, split: str = "test") -> ImageSet:
    """Return the ``test`` or ``train`` images of ``cifar10`` or ``cifar100``, uint8 (N, 32, 32, 3).

    Parameters
    ----------
    root : Path
        Data folder that holds ``cifar-10-batches-py/`` or ``cifar-100-python/``.
    name : {"cifar10", "cifar100"}
        Which data set.
    split : {"test", "train"}
        Which part.

    Raises
    ------
    InputError
        A file is missing, damaged, or is no CIFAR file.
    """
    cifar = CIFAR[name]
    return _load([root / cifar.folder / file for file in cifar.splits[split]], cifar, f"{name}/{split}")


def open_cifar(path: Path) -> ImageSet | None:
    """Return the images of a file of CIFAR-10 or CIFAR-100, or the test images of the folder of one; None of others."""
    for cifar in CIFAR.values():
        test = path / cifar.splits["test"][0]
        if test.is_file() and (path.name == cifar.folder or (path / cifar.names_file).is_file()):
            return _load([test], cifar, f"folder:{path.resolve().name}")
        if path.is_file() and any(path.name in files for files in cifar.splits.values()):
            return _load([path], cifar, f"file:{path.name}")
    return None


def _load(paths: list[Path], cifar: Cifar, name: str) -> ImageSet:
    for path in paths:
        if not path.is_file():
            raise InputError(
                f"{cifar.name} is not there: expected {path}; {cifar.again}, "
                f"or set FASTUQ_DATA to the folder that holds {cifar.folder}"
            )
    pixels, labels = zip(*(_read(path, cifar) for path in paths), strict=True)
    images = np.empty((sum(map(len, labels)), 32, 32, 3), np.uint8)
    np.concatenate([part.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for part in pixels], out=images)
    return ImageSet(images, np.concatenate(labels), _class_names(paths[0].parent, cifar), name)


def _read(path: Path, cifar: Cifar) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (N, 3072) and class numbers (N,) of one file, however Python or NumPy wrote them."""
    check_recorded(path, cifar.again)
    content = read_pickle(path, cifar.again)
    data, given = content.get("data"), content.get(cifar.labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1:] != (3072,):
        raise InputError(f"{path}: expected {cifar.name} pixels as uint8 (N, 3072) under 'data', found {_what(data)}")
    try:
        labels = np.asarray(given)
    except ValueError:  # of lists of several lengths
        labels = np.empty(0, object)
    count = len(cifar.classes)
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(data),), (len(data), 1)):
        raise InputError(
            f"{path}: expected {len(data)} class numbers, one per image, under {cifar.labels!r}, found {_what(given)}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < count:
        raise InputError(f"{path}: expected class numbers 0 to {count - 1} under {cifar.labels!r}, found others")
    return data, labels.reshape(-1).astype(np.int64)


def _class_names(folder: Path, cifar: Cifar) -> tuple[str, ...]:
    """Return the names in ``meta``, which is authoritative where it is there."""
    path = folder / cifar.names_file
    if not path.is_file():
        return cifar.classes
    check_recorded(path, cifar.again)
    names = read_pickle(path, cifar.again).get(cifar.names)
    listed = list(names) if isinstance(names, list | tuple | np.ndarray) else []
    if len(listed) != len(cifar.classes) or not all(isinstance(name, bytes | str) for name in listed):
        raise InputError(
            f"{path}: expected {len(cifar.classes)} class names under {cifar.names!r}, found {_what(names)}"
        )
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in listed)


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
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "nothing" if value is None else type(value).__name__
