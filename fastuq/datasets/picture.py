"""One picture file as pixels: upright, on white, RGB, in the size that a network takes."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastuq.errors import FastUQError, InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""What Pillow is let look for, whatever the suffix: pictures are saved under the wrong one now and then."""
MAX_PIXELS = 50_000_000
"""Largest picture that is decoded; what declares more is refused before its pixels are unpacked."""
MAX_BYTES = 200_000_000
"""Largest file that is read."""
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""Tags of a TIFF."""
_WHITE_IS_ZERO = 0
MAX_SCANS = 100
"""Scans of a JPEG, beside one per 32 KB (other data may look so); one of a few bytes costs a pass over all pixels."""


def prepared(crop: float | None) -> dict[str, Any]:
    """Return how `read_picture` makes pixels of a file, as JSON values: part of the identity of what comes of it."""
    return {"orientation": "exif", "transparency": "white", "resize": "bilinear", "crop": crop}


class PictureFile(Protocol):
    """What a picture is read from; its text says where it is. A path is one."""

    def read_bytes(self) -> bytes:
        """Return what it holds."""


def read_picture(path: PictureFile, image_size: tuple[int, int], crop: float | None = None) -> np.ndarray:
    """Return a picture file as uint8 (height, width, 3).

    It is turned as its EXIF orientation says, put on white where it is transparent, and resized (bilinear, with
    antialias). Of several frames the first counts.

    Parameters
    ----------
    path : Path or PictureFile
    image_size : (int, int)
        Height and width.
    crop : float, optional
        Take the middle of the picture alone, in the proportions of `image_size`, this fraction of the largest that
        fits. None: the whole picture, stretched.

    Raises
    ------
    InputError
        The file is empty, truncated, foreign, or declares more than 50 million pixels.
    """
    from PIL import Image

    height, width = image_size
    try:
        # From memory: Pillow asks for as many bytes as a chunk declares, and a file would set that much aside.
        data = _content(path)
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            _check(path, picture, data)
            picture.verify()  # the checksums of a PNG, which decoding does not look at
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            rgb = _rgb(_upright(picture))
            if rgb.size != (width, height) or crop is not None:
                box = None if crop is None else _middle(rgb.size, (width, height), crop)
                rgb = rgb.resize((width, height), Image.Resampling.BILINEAR, box)
            return np.asarray(rgb)
    except FastUQError:
        raise
    except Exception as error:  # a damaged picture can raise nearly anything
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        raise InputError(
            f"{path}: expected a picture ({', '.join(_FORMATS)}), found a truncated or foreign file, or a kind that "
            f"Pillow does not read ({type(error).__name__}); replace it or take it out of the folder"
        ) from None


def _check(path: PictureFile, picture: Any, data: bytes) -> None:
    """Refuse what declares more than a picture needs, and levels of which nothing says what is white."""
    if picture.width * picture.height > MAX_PIXELS:
        raise InputError(
            f"{path}: refused: it declares {picture.width} x {picture.height} pixels, "
            f"more than {MAX_PIXELS}; scale it down"
        )
    if picture.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS + len(data) // 2**15:
        raise InputError(f"{path}: refused: it has more scans than a picture needs; save it anew")
    deep = picture.mode in ("I", "F") and picture.format != "PNG"
    if deep or set(_tags(picture).get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise InputError(
            f"{path}: refused: its levels are of 32 bits, signed or fractions, and nothing says which is white; "
            "save it with levels of 8 or 16 bits"
        )


def _tags(picture: Any) -> Any:
    """Return the tags of a TIFF; other pictures have none."""
    return getattr(picture, "tag_v2", {})


def _content(path: PictureFile) -> bytes:
    if isinstance(path, Path) and (size := path.stat().st_size) > MAX_BYTES:
        raise InputError(f"{path}: refused: {size} bytes, more than {MAX_BYTES}; scale it down")
    data = path.read_bytes()
    if not data:
        raise InputError(f"{path}: expected a picture, found an empty file; replace it or take it out of the folder")
    return data


def _upright(picture: Any) -> Any:
    """Return the picture turned as its metadata say; those that cannot be read say nothing."""
    from PIL import ImageOps

    picture.load()
    with suppress(Exception):
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _rgb(picture: Any) -> Any:
    from PIL import Image

    if picture.mode.startswith("I"):
        return Image.fromarray(_upper_bits(picture)).convert("RGB")
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        white.alpha_composite(clear)
        picture = white
    return picture.convert("RGB")


def _upper_bits(picture: Any) -> np.ndarray:
    """Return grey levels of more than 8 bits as uint8: Pillow's own conversion cuts them off at 255."""
    bits = _tags(picture).get(_BITS, (16,))[0]
    levels = np.clip(np.asarray(picture), 0, 2**bits - 1)
    grey = (levels >> (bits - 8)).astype(np.uint8)
    if _tags(picture).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns levels of 8 bits round, and no others
        grey = 255 - grey
    grey[levels == picture.info.get("transparency", -1)] = 255
    return grey


def _middle(found: tuple[int, int], wanted: tuple[int, int], crop: float) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of what is taken of a picture; sizes are (width, height)."""
    scale = crop * min(have / want for have, want in zip(found, wanted, strict=True))
    (left, right), (top, bottom) = [
        (max(0.0, (have - scale * want) / 2), min(float(have), (have + scale * want) / 2))
        for have, want in zip(found, wanted, strict=True)
    ]
    return left, top, right, bottom
