"""Whether a cache may be used: whole, and made by this model, of these images, in this way."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastuq.cache.file import CacheFile
from fastuq.cache.header import Header
from fastuq.cache.manifest import Manifest, shard_name
from fastuq.datasets import ImageSet
from fastuq.errors import CacheError
from fastuq.model.model import Model

ALIKE = ("preprocessing", "runtime", "scale", "zero_point", "labelled")
"""What all files of a cache have in common, beside the model."""


def check_model(file: CacheFile, sha256: str) -> None:
    """Raise CacheError unless the cache was made with the model of that SHA-256."""
    header = file.header
    if header.model_sha256 != sha256:
        raise _stale(
            file.path,
            f"features of model {sha256[:12]}",
            f"those of model {header.model_sha256[:12]} ({header.network})",
            "the model was made again or another one is meant",
        )


def check_made_by(file: CacheFile, model: Model | None) -> None:
    """Raise CacheError unless the cache was made with that model, of pictures as it sees them; None is any model."""
    if model is not None:
        check_model(file, model.sha256)
        check_crop(file.header.preprocessing, model.crop)


def check_crop(preprocessing: Mapping[str, Any], crop: float | None) -> None:
    """Raise CacheError where pictures went into a cache of which another part was taken than a model with `crop` sees.

    Arrays are given as they are, and nothing is known of them.
    """
    if preprocessing.get("crop", crop) != crop:
        raise CacheError(
            f"feature cache: expected pictures with crop {crop}, as the model sees them, found crop "
            f"{preprocessing['crop']}; cache the features again"
        )


def check_images(file: CacheFile, images: ImageSet) -> None:
    """Raise CacheError unless the cache was made of these images and labels, which count its classes."""
    header = file.header
    if header.data_fingerprint != images.fingerprint():
        cause = "a pixel, a label, the order or the number of images changed"
        if header.labelled != (images.labels is not None):
            cause = "one has labels and the other has none: are the class names (--classes) those it was made with?"
        raise _stale(
            file.path,
            f"features of images {images.name} ({len(images)}, fingerprint {images.fingerprint()[:12]})",
            f"those of {header.images} ({header.num_samples}, fingerprint {header.data_fingerprint[:12]})",
            cause,
        )


def check_shard_images(
    folder: Path, manifest: Manifest, images: ImageSet, places: Collection[int] | None = None
) -> None:
    """Raise CacheError unless every shard of a folder, or those at `places`, is of its range of these images."""
    if len(images) != manifest.num_samples:
        found = f"those of {manifest.images} ({manifest.num_samples})"
        raise _stale(folder, f"features of images {images.name} ({len(images)})", found, "they are other images")
    for place, (start, stop) in enumerate(manifest.ranges()):
        if places is not None and place not in places:
            continue
        part = replace(images.subset(start, stop))  # a set of its own, so that what is kept of its pixels goes with it
        if part.fingerprint() != manifest.fingerprints[place]:
            raise _stale(
                folder / shard_name(place + 1, len(manifest.samples)),
                f"features of images {part.name} (fingerprint {part.fingerprint()[:12]})",
                f"others (fingerprint {manifest.fingerprints[place][:12]})",
                "a pixel, a label or the order of images changed",
            )


def check_same(file: CacheFile, expected: Header) -> None:
    """Raise CacheError unless a cache with `expected` could go on in this file; its batch size may differ."""
    check_model(file, expected.model_sha256)
    causes = {
        "data_fingerprint": "a pixel, a label, the order or the number of images changed",
        "preprocessing": "the images go into the backbone in another way",
        "runtime": "LiteRT was updated, and another runtime computes other features",
        "shard": "another part of the data set is meant",
    }
    for name, cause in causes.items():
        found, wanted = getattr(file.header, name), getattr(expected, name)
        if found != wanted:
            raise _stale(file.path, f"{name.replace('_', ' ')} {_brief(wanted)}", _brief(found), cause)


def check_complete(file: CacheFile) -> None:
    """Raise CacheError unless every batch is written."""
    header, written = file.header, file.written()
    if written == header.num_batches:
        return
    way_out = (
        "another process is writing it: wait for it to end"
        if file.being_written()
        else "the run that made it was stopped; the same `fastuq cache-features` command goes on from there"
    )
    raise CacheError(
        f"{file.path}: incomplete: {written} of {header.num_batches} batches of {header.batch_size} samples are "
        f"written; {way_out}"
    )


def check_alike(file: CacheFile, first: CacheFile, names: Sequence[str]) -> None:
    """Raise CacheError unless two files go together: of the same model, and with the same entries `names`."""
    check_model(file, first.header.model_sha256)
    different = [name for name in names if getattr(file.header, name) != getattr(first.header, name)]
    different += ["number of features"] if file.num_features != first.num_features else []
    if different:
        raise CacheError(
            f"{file.path}: expected a shard of the same cache as {first.path}, found another "
            f"{different[0].replace('_', ' ')}; give the shards of one cache"
        )


def check_parts(files: list[CacheFile]) -> None:
    """Raise CacheError unless the files, in order, are all parts of one cache."""
    first = files[0].header
    count = first.shard.count
    for file in files:
        check_alike(file, files[0], (*ALIKE, "data_fingerprint", "num_samples"))
    found = [f"{file.header.shard.index}/{file.header.shard.count}" for file in files]
    if found != [f"{number}/{len(files)}" for number in range(1, len(files) + 1)]:
        raise CacheError(
            f"{files[0].path}: expected the {count} shards 1/{count} to {count}/{count}, found {', '.join(found)}; "
            "give every shard once"
        )
    stops = [0] + [file.header.shard.stop for file in files]
    if [file.header.shard.start for file in files] != stops[:-1] or stops[-1] != first.num_samples:
        raise CacheError(f"{files[0].path}: the shards do not cover the data set; cache the features again")


def _stale(path: Path, expected: str, found: str, cause: str) -> CacheError:
    return CacheError(
        f"{path}: expected {expected}, found {found}; {cause}; give what the cache was made of, "
        "or another cache file, or delete this one and cache the features again"
    )


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return value[:12] if isinstance(value, str) else str(value)
