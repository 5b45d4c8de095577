"""Images of other kinds than CIFAR's, as `fastuq download` leaves them: MNIST, SVHN, Textures, Places365, and so on."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.arrays import as_rgb
from fastuq.datasets.checksums import check_recorded
from fastuq.datasets.folder import open_folder
from fastuq.datasets.imageset import ImageSet
from fastuq.datasets.published import ARCHIVES
from fastuq.datasets.rows import Resized
from fastuq.errors import InputError, short

FOREIGN = ("mnist", "svhn", "textures", "places365", "tiny-imagenet")
MAX_BYTES = 2**28
"""Most pixels that are taken of a file; SVHN's test images have 80 MB."""


def open_foreign(root: Path, name: str, image_size: tuple[int, int], crop: float | None) -> ImageSet:
    """Return the published test images of another kind, in the size of the model's; only Textures has labels.

    Raises
    ------
    InputError
        They are not in the data folder `root`, or are damaged.
    MissingExtraError
        Pictures, or images of another size, need Pillow.
    """
    archive = ARCHIVES[name]
    path, again = root / (archive.file if archive.is_data else archive.folder), f"`fastuq download {name}` fetches it"
    if not path.exists():
        raise InputError(
            f"{name} is not there: expected {path}; {again}, or set FASTUQ_DATA to the folder that holds "
            f"{archive.folder}"
        )
    if not archive.is_data:
        return replace(open_folder(path, image_size, crop), name=name)
    check_recorded(path, again)
    try:
        pixels = _read_idx(path) if path.suffix == ".gz" else _read_mat(path)
    except Exception as error:  # a damaged file can raise nearly anything
        raise InputError(
            f"{path}: expected the images of {name}, found a damaged file ({short(error, 100)}); {again}"
        ) from None
    images = as_rgb(pixels, name)
    return ImageSet(images if images.shape[1:3] == image_size else Resized(images, image_size), None, None, name)


def _read_idx(path: Path) -> np.ndarray:
    """Return the pixels of an IDX file of images, uint8 (N, H, W): four big-endian numbers, then bytes."""
    with gzip.open(path) as file:
        magic, *shape = np.frombuffer(file.read(16), ">u4").tolist()
        if magic != 0x803 or not 0 < int(np.prod(shape)) <= MAX_BYTES:
            raise ValueError(f"header {magic:#x}, {shape}")
        return np.frombuffer(file.read(int(np.prod(shape))), np.uint8).reshape(shape)


def _read_mat(path: Path) -> Any:
    """Return the pixels of a MATLAB file, uint8 (N, H, W, 3), which lie there as ``X`` (H, W, 3, N)."""
    from scipy.io import loadmat

    return np.ascontiguousarray(loadmat(path, variable_names=["X"])["X"].transpose(3, 0, 1, 2))
