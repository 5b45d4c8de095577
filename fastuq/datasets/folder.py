"""A folder of PNG and JPEG images, decoded when they are asked for."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.imageset import ImageSet
from fastuq.errors import InputError, MissingExtraError
from fastuq.util.file_names import FileNames

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 50_000_000
"""Largest picture that is decoded; what declares more is refused before its pixels are unpacked."""
MAX_BYTES = 200_000_000
"""Largest file that is read."""
MAX_SCANS = 100
"""Scans of a JPEG, beside one per 32 KB (other data may look so); one of a few bytes costs a pass over all pixels."""


class FolderImages:
    """Image files as one lazy (N, H, W, 3) uint8 array: each slice decodes its own files, in RGB.

    Parameters
    ----------
    folder : Path
    files : FileNames
        PNG or JPEG files, relative to `folder`.
    image_size : (int, int)
        Height and width that each picture is resized to (bilinear, antialiased), unless it has them.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, folder: Path, files: FileNames, image_size: tuple[int, int]) -> None:
        self.folder, self.files = folder, files
        self.shape = (len(files), *image_size, 3)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: slice) -> np.ndarray:
        files = self.files[key]
        out = np.empty((len(files), *self.shape[1:]), np.uint8)
        for place, name in enumerate(files):
            out[place] = read_image(self.folder / name, (self.shape[1], self.shape[2]))
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)


def read_image(path: Path, image_size: tuple[int, int]) -> np.ndarray:
    """Return one PNG or JPEG file as uint8 (height, width, 3).

    Raises
    ------
    InputError
        The file is truncated, foreign, or declares more than 50 million pixels.
    """
    from PIL import Image

    height, width = image_size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of (a large picture, odd metadata) is settled below
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"{path}: refused: {path.stat().st_size} bytes, more than {MAX_BYTES}; scale it down")
            # From memory: Pillow asks for as many bytes as a chunk declares, and a file would set that much aside.
            data = path.read_bytes()
            content = io.BytesIO(data)
            with Image.open(content, formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise InputError(
                        f"{path}: refused: it declares {picture.width} x {picture.height} pixels, "
                        f"more than {MAX_PIXELS}; scale it down"
                    )
                if picture.format == "JPEG" and data.count(b"\xff\xda") > MAX_SCANS + len(data) // 2**15:
                    raise InputError(f"{path}: refused: it has more scans than a picture needs; save it anew")
                picture.verify()  # the checksums of a PNG, which decoding does not look at
            with Image.open(content, formats=("PNG", "JPEG")) as picture:
                rgb = _eight_bits(picture).convert("RGB")
                if rgb.size != (width, height):
                    rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
                return np.asarray(rgb)
    except InputError:
        raise
    except Exception as error:  # a damaged picture can raise nearly anything
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        raise InputError(
            f"{path}: expected a PNG or JPEG picture, found a truncated or foreign file ({type(error).__name__}); "
            "replace it or take it out of the folder"
        ) from None


def _eight_bits(picture: Any) -> Any:
    """Return a picture whose grey levels of 16 bits became 8: Pillow's own conversion cuts them off at 255."""
    if not picture.mode.startswith("I"):
        return picture
    from PIL import Image

    levels = np.asarray(picture)
    return Image.fromarray((np.clip(levels, 0, 65535) >> 8).astype(np.uint8))


def open_folder(folder: Path, image_size: tuple[int, int]) -> ImageSet:
    """Return the PNG and JPEG files of `folder`, sorted by name; sub-folders that hold such files are the classes.

    Raises
    ------
    InputError
        No image is there, or images lie both beside and inside of sub-folders.
    MissingExtraError
        Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise MissingExtraError("folders of images need Pillow: pip install 'fastuq[images]'") from None
    loose = _image_files(folder)
    classes = {
        path.name: [f"{path.name}/{name}" for name in _image_files(path)]
        for path in sorted(folder.iterdir())
        if path.is_dir()
    }
    classes = {name: files for name, files in classes.items() if files}
    if loose and classes:
        raise InputError(
            f"{folder}: found images beside sub-folders with images; keep them all in sub-folders "
            "(one per class) or all in the folder itself (no labels)"
        )
    name = f"folder:{folder.resolve().name}"
    if loose:
        names = FileNames.of(loose)
        return ImageSet(FolderImages(folder, names, image_size), None, None, name, names)
    if not classes:
        raise InputError(f"{folder}: expected PNG or JPEG images there or in sub-folders named by class, found none")
    names = FileNames.of(name for names in classes.values() for name in names)
    labels = np.repeat(np.arange(len(classes)), [len(names) for names in classes.values()])
    return ImageSet(FolderImages(folder, names, image_size), labels, tuple(classes), name, names)


def _image_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
