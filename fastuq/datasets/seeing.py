"""One pass over all pixels: their digests, which the fingerprint is made of, and which pictures cannot be read."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.datasets.rows import attempt
from fastuq.util.progress import progress_bar

CHUNK_BYTES = 16 * 2**20
KEPT_BYTES = 2**28
"""Most pixels of pictures that are kept from the pass that decodes them for the fingerprint."""
DIGEST = 16
"""Bytes of the digest of an image."""


@dataclass(frozen=True)
class Seen:
    """What one pass over all pixels found.

    Attributes
    ----------
    whole : hashlib object
        SHA-256 of the shape, and of the pixels unless they come from pictures.
    each : bytes
        The digests of all images one after the other, `DIGEST` bytes each.
    failed : list of (int, str)
        Number and error of each picture that cannot be read; the others have digests.
    pixels : ndarray or None
        Of the pictures, where they are few enough to be kept: decoding takes longer than the backbone.
    """

    whole: Any
    each: bytes
    failed: list[tuple[int, str]]
    pixels: np.ndarray | None


def see(images: Any, *, pictures: bool) -> Seen:
    """Read all images once, by chunks; `pictures` are decoded for it, and the broken ones found."""
    whole = hashlib.sha256(f"images uint8 {tuple(int(n) for n in images.shape)}\n".encode())
    each, failed = bytearray(), list[tuple[int, str]]()
    total, size = int(images.shape[0]), int(np.prod(images.shape[1:]))
    step = max(1, CHUNK_BYTES // size)
    keep = pictures and total * size <= KEPT_BYTES
    kept, count = np.empty(images.shape if keep else 0, np.uint8), 0
    with progress_bar(total, "reading") as bar:
        for start in range(0, total, step):
            stop = min(start + step, total)
            pixels, others = attempt(images, start, stop)
            if not pictures:
                whole.update(pixels.data)
            if keep:
                kept[count : count + len(pixels)] = pixels
            count += len(pixels)
            each += digests(pixels)
            failed += others
            bar.update(stop - start)
    return Seen(whole, bytes(each), failed, kept[:count] if keep else None)


def digests(pixels: np.ndarray) -> bytes:
    """Return the digests of images, `DIGEST` bytes each, so that those of any batch can be taken out."""
    return b"".join(hashlib.sha256(image.data).digest()[:DIGEST] for image in pixels)
