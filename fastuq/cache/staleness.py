"""Whether a cache may be used: made by this model, of these images, in this way."""

from pathlib import Path
from typing import Any

from fastuq.cache.header import Header
from fastuq.datasets import ImageSet
from fastuq.errors import CacheError


def check_model(header: Header, path: Path, sha256: str) -> None:
    """Raise CacheError unless the cache was made with the model of that SHA-256."""
    if header.model_sha256 != sha256:
        raise _stale(
            path,
            f"features of model {sha256[:12]}",
            f"those of model {header.model_sha256[:12]} ({header.network})",
            "the model was made again or another one is meant",
        )


def check_images(header: Header, path: Path, images: ImageSet) -> None:
    """Raise CacheError unless the cache was made of these images and labels."""
    images = images.matched_to(header.class_names)
    if header.data_fingerprint != images.fingerprint():
        raise _stale(
            path,
            f"features of images {images.name} ({len(images)}, fingerprint {images.fingerprint()[:12]})",
            f"those of {header.images} ({header.num_samples}, fingerprint {header.data_fingerprint[:12]})",
            "a pixel, a label, the order or the number of images changed",
        )


def check_same(header: Header, path: Path, expected: Header) -> None:
    """Raise CacheError unless a cache with `expected` could go on in this file; its batch size may differ."""
    check_model(header, path, expected.model_sha256)
    causes = {
        "data_fingerprint": "a pixel, a label, the order or the number of images changed",
        "preprocessing": "the images go into the backbone in another way",
        "runtime": "LiteRT was updated, and another runtime computes other features",
        "shard": "another part of the data set is meant",
    }
    for name, cause in causes.items():
        found, wanted = getattr(header, name), getattr(expected, name)
        if found != wanted:
            raise _stale(path, f"{name.replace('_', ' ')} {_brief(wanted)}", _brief(found), cause)


def _stale(path: Path, expected: str, found: str, cause: str) -> CacheError:
    return CacheError(
        f"{path}: expected {expected}, found {found}; {cause}; give what the cache was made of, "
        "or another cache file, or delete this one and cache the features again"
    )


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return value[:12] if isinstance(value, str) else str(value)
