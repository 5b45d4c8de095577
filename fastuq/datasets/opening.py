"""From what a user names to an ImageSet."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.arrays import as_rgb, open_npy, open_npz
from fastuq.datasets.cifar import CIFAR100_FOLDER, load_cifar, load_cifar100c, open_cifar
from fastuq.datasets.folder import open_folder, open_picture
from fastuq.datasets.foreign import FOREIGN, open_foreign
from fastuq.datasets.imageset import ImageSet
from fastuq.datasets.picture import SUFFIXES
from fastuq.datasets.tars import open_tars, tar_paths
from fastuq.errors import InputError
from fastuq.util.bundled import bundled_path
from fastuq.util.checks import array_of, checked_path, one_of, sides_of
from fastuq.util.remote import base_name, is_remote

HELP = (
    f"cifar100, cifar100/train, cifar10, cifar10/train, cifar100c/NAME/SEVERITY, {', '.join(FOREIGN)}, bundled, "
    "a folder of pictures or one of them, a .npy, .npz or .tar file, or a folder or file of CIFAR's python layout"
)


def data_root() -> Path:
    """Return the folder of the data sets: ``$FASTUQ_DATA``, else ``data/`` here, else ``data/`` of the repository."""
    given = os.environ.get("FASTUQ_DATA")
    if given:
        return checked_path(given)
    here, repository = Path("data"), Path(__file__).parents[2] / "data"
    return repository if repository.is_dir() and not here.is_dir() else here


def has_cifar100() -> bool:
    """Tell whether the CIFAR-100 test set is there; raises InputError where ``$FASTUQ_DATA`` names no folder."""
    root = data_root()
    if os.environ.get("FASTUQ_DATA") and not root.is_dir():
        raise InputError(f"FASTUQ_DATA: expected the folder of the data sets, found none at {root}; mend its name")
    return (root / CIFAR100_FOLDER / "test").is_file()


def open_images(
    spec: str | Path | np.ndarray | None = None,
    *,
    labels: Any = None,
    image_size: tuple[int, int] = (32, 32),
    crop: float | None = None,
    on_error: str = "stop",
) -> ImageSet:
    """Open images by name, path or array; pixels of files are read when they are used.

    Parameters
    ----------
    spec : str, Path, ndarray or None
        ``cifar100``, ``cifar100/train``, ``cifar10``, ``cifar10/train``, ``cifar100c/fog/3``, ``bundled``, what
        ``fastuq download`` calls ``mnist``, ``svhn``, ``textures``, ``places365`` and ``tiny-imagenet``, a folder of
        pictures (sub-folders are classes), one picture, a ``.npy`` file, a ``.npz`` file (``images``, and ``labels``,
        ``class_names`` if wanted), ``.tar`` files of pictures (``data.tar``, ``data-{00000..00009}.tar``,
        ``data-*.tar``), the path of ``cifar-100-python`` or ``cifar-10-batches-py`` (the test images) or
        of a file of theirs, or an array (N, H, W, 3) uint8; a single image (H, W, 3) or (H, W, 1), or grey ones
        (N, H, W) or (N, H, W, 1), will do. Pictures and arrays may lie on another machine (``s3://bucket/photos``, any
        address of fsspec). None: the CIFAR-100 test set where it is there, else the bundled 20 images.
    labels : array-like (N,) of int, optional
        Class numbers, in place of those that the source brings, or of the sub-folders as classes; (N, 1) and one-hot
        (N, C) are taken too.
    image_size : (int, int)
        Height and width that the pictures of a folder are resized to.
    crop : float, optional
        Take the middle of each picture of a folder alone: this fraction of the largest that has the proportions of
        `image_size`. None: the whole picture, stretched.
    on_error : {'stop', 'skip'}
        ``skip``: look at every picture of a folder now, and leave out those that cannot be read (`ImageSet.skipped`).
        ``stop``: taking the fingerprint finds them, and is an error that names the first.

    Raises
    ------
    InputError
        Nothing of that name, or what is there is damaged, foreign or does not match its labels.

    Examples
    --------
    >>> import fastuq
    >>> images = fastuq.open_images("bundled")
    >>> len(images), images.class_names[images.labels[0]]
    (20, 'mountain')

    An array of pixels, with labels or without:

    >>> import numpy as np
    >>> fastuq.open_images(np.zeros((3, 32, 32, 3), np.uint8), labels=[7, 0, 7]).labels
    array([7, 0, 7])
    """
    one_of("on_error", on_error, ("stop", "skip"))
    found = _open(spec, sides_of("image_size", image_size), crop)
    if labels is not None:
        names = found.class_names if found.prepared is None else None  # sub-folders are not what these labels count
        found = replace(found, labels=labels, class_names=names, one_hot=None)
    return found.readable() if on_error == "skip" and found.prepared is not None else found


def _open(spec: str | Path | np.ndarray | None, image_size: tuple[int, int], crop: float | None) -> ImageSet:
    if spec is None:
        return load_cifar(data_root(), "cifar100") if has_cifar100() else load_bundled()
    if isinstance(spec, str):
        known = open_foreign(data_root(), spec, image_size, crop) if spec in FOREIGN else _open_named(spec)
        if known is not None:
            return known
        tars = tar_paths(spec)
        if tars is not None:
            return open_tars(tars, base_name(spec), image_size, crop)[0]
        spec = spec if is_remote(spec) else Path(spec)
    if is_remote(spec):
        return _open_address(str(spec), image_size, crop)
    if not isinstance(spec, Path):
        return ImageSet(as_rgb(array_of("images", spec), "array"), None, None, "array")
    checked_path(spec)
    cifar = open_cifar(spec)
    if cifar is not None:
        return cifar
    if spec.is_dir():
        return open_folder(spec, image_size, crop)
    if spec.suffix.lower() in SUFFIXES and spec.is_file():
        return open_picture(spec, image_size, crop)
    if spec.suffix == ".npy":
        return ImageSet(as_rgb(open_npy(spec), f"file:{spec.name}"), None, None, f"file:{spec.name}")
    if spec.suffix == ".npz":
        return _from_npz(spec, f"file:{spec.name}")
    problem = "is neither a folder, a picture, a .npy nor a .npz file" if spec.exists() else "is not there"
    raise InputError(f"images {str(spec)!r}: {problem}; give {HELP}")


def _open_address(address: str, image_size: tuple[int, int], crop: float | None) -> ImageSet:
    """Open what lies on another machine; its suffix says what it is."""
    suffix, name = Path(address).suffix.lower(), f"file:{base_name(address)}"
    if suffix in SUFFIXES:
        return open_picture(address, image_size, crop)
    if suffix == ".npy":
        return ImageSet(as_rgb(open_npy(address), name), None, None, name)
    if suffix == ".npz":
        return _from_npz(address, name)
    return open_folder(address, image_size, crop)


def _open_named(spec: str) -> ImageSet | None:
    if spec == "bundled":
        return load_bundled()
    match = re.fullmatch(r"(cifar100?)(?:/(test|train))?", spec)
    if match:
        return load_cifar(data_root(), match[1], match[2] or "test")
    match = re.fullmatch(r"cifar100c/([\w-]+)(?:/(\d+))?", spec)
    if match:
        return load_cifar100c(data_root(), match[1], int(match[2]) if match[2] else None)
    if re.match(r"cifar10(0c?)?(/|$)", spec):
        raise InputError(
            f"images {spec!r}: give cifar100 or cifar10, alone or with /test or /train, or cifar100c/NAME/SEVERITY"
        )
    return None


def open_test_images(spec: str | None, training: ImageSet, *, on_error: str = "stop") -> ImageSet | None:
    """Open the images on which the accuracy of a network trained on `training` is reported.

    Parameters
    ----------
    spec : str or None
        As `open_images` takes it; ``none`` is no report; None is the test set of CIFAR-10 or CIFAR-100 where `training`
        is its training set, else no report.
    on_error : {'stop', 'skip'}
        As `open_images` takes it.

    Raises
    ------
    InputError
        The images have another shape or other classes than `training`.
    """
    if spec is None:
        published = re.match(r"(cifar100?)/train", training.name)
        spec = f"{published[1]}/test" if published else "none"
    if spec == "none":
        return None
    expected = tuple(training.images.shape[1:])
    crop = None if training.prepared is None else training.prepared["crop"]
    test = open_images(spec, image_size=expected[:2], crop=crop, on_error=on_error)
    if tuple(test.images.shape[1:]) != expected:
        raise InputError(
            f"--test {spec}: expected images {expected} as the training images, found {tuple(test.images.shape[1:])}; "
            "give test images of the same kind, or --test none"
        )
    matched = test if training.class_names is None else test.matched_to(training.class_names)
    if matched.labels is None and test.labels is not None:
        raise InputError(f"--test {spec}: found {matched.notes[-1]}; give test images of the same classes")
    return matched


def load_bundled() -> ImageSet:
    """Return the first 20 CIFAR-100 test images, which come with fastuq."""
    return _from_npz(bundled_path("images") / "cifar100_first20.npz", "bundled")


def _from_npz(path: Path | str, name: str) -> ImageSet:
    arrays = open_npz(path)
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise InputError(f"{path}: expected class_names as an array of strings, found {names.dtype} {names.shape}")
    class_names = None if names is None else tuple(str(text) for text in names)
    return ImageSet(as_rgb(arrays["images"], name), arrays.get("labels"), class_names, name)
