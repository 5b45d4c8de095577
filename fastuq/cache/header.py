"""What a feature cache says of itself: the identity that decides whether it may be used, and its layout."""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin

from fastuq.cache.sealed import Extent, Seal
from fastuq.errors import CacheError

TITLE = "feature cache 1"
"""Kind and version of the format; docs/cache-format.md specifies it."""
MAX_BATCH_BYTES = 2**28
MAX_FILES_BYTES = 2**30
"""Longest file names of one file, all together; they are read at once."""
MAX_SAMPLES = 2**28
"""Most samples of one file, whose labels are read at once; shards hold more."""
_OPTIONAL = {"files_sha256": "", "stamp": ""}
"""Keys that a header need not have."""


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`: samples `start` to `stop` (exclusive) of the data set; a whole cache is part 1 of 1."""

    index: int
    count: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count} (samples {self.start} to {self.stop - 1})"


@dataclass(frozen=True)
class Header:
    """The header of a feature cache.

    Attributes
    ----------
    model_sha256, network, class_names
        Of the model whose backbone made the features.
    scale, zero_point : float, int
        real = scale * (q - zero_point).
    data_fingerprint : str
        `ImageSet.fingerprint` of the whole data set, its labels counting `class_names`.
    images : str
        Name of the data set.
    num_samples : int
        Of the whole data set.
    labelled : bool
    labels_sha256 : str
        SHA-256 of the labels dataset.
    preprocessing, runtime : dict
        What comes before the backbone, and what ran it.
    batch_size : int
        Samples that share a checksum.
    shard : Shard
    fastuq_version : str
        Of the writer.
    files_sha256 : str
        SHA-256 of the files dataset; empty where the samples have no file names, and then not in the file either.
    stamp : str
        `ImageShard.stamp` of the files that the images were read from; empty, and not in the file, where there is none.
    """

    model_sha256: str
    network: str
    class_names: tuple[str, ...]
    scale: float
    zero_point: int
    data_fingerprint: str
    images: str
    num_samples: int
    labelled: bool
    labels_sha256: str
    preprocessing: dict[str, Any]
    runtime: dict[str, Any]
    batch_size: int
    shard: Shard
    fastuq_version: str
    files_sha256: str = ""
    stamp: str = ""

    @property
    def size(self) -> int:
        """Number of samples in this file."""
        return self.shard.stop - self.shard.start

    @property
    def num_batches(self) -> int:
        """Number of batches in this file."""
        return -(-self.size // self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """Return the header as JSON values."""
        found = {**asdict(self), "class_names": list(self.class_names)}
        return {name: value for name, value in found.items() if value or name not in _OPTIONAL}


def header_of(seal: Seal, path: Path) -> Header:
    """Return the header that a seal carries, checked against the datasets of the file.

    Raises
    ------
    CacheError
        It does not describe a feature cache.
    """
    try:
        header = _from_json(seal.about)
        _check_layout(header, seal.datasets)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CacheError(
            f"{path}: expected the header of a feature cache, found something else ({type(error).__name__}: "
            f"{str(error)[:100]}); the program that wrote it does not keep to the format; cache the features again"
        ) from None
    return header


def shapes_of(header: Header, num_features: int, files_bytes: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of the datasets of a cache; `files_bytes` is the length of its file names, if any."""
    return {
        "labels": ((header.size,), "<i8"),
        "checksums": ((header.num_batches, 2), "<u4"),
        **({"files": ((files_bytes,), "|i1")} if header.files_sha256 else {}),
        "features": ((header.size, num_features), "|i1"),
    }


def _from_json(about: dict[str, Any]) -> Header:
    shard = Shard(**_typed(about["shard"], Shard))
    plain = _typed({**_OPTIONAL, **about}, Header, "class_names", "shard")
    shape, names = plain["preprocessing"]["shape"], about["class_names"]
    if not (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 0 < n < 2**20 for n in shape)):
        raise ValueError("preprocessing without the shape of an image")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("class_names are no list of names")
    return Header(class_names=tuple(names), shard=shard, **plain)


def _typed(about: Any, kind: type, *others: str) -> dict[str, Any]:
    """Return the fields of a dataclass, but `others`, each of exactly the type that it is declared with."""
    found = {}
    for field in fields(kind):
        if field.name not in others:
            found[field.name], wanted = about[field.name], get_origin(field.type) or field.type
            if type(found[field.name]) is not wanted:
                raise TypeError(f"{field.name} is no {wanted}")
    return found


def _check_layout(header: Header, datasets: dict[str, Extent]) -> None:
    shard = header.shard
    if not (1 <= shard.index <= shard.count and 0 <= shard.start < shard.stop <= header.num_samples):
        raise ValueError(f"impossible shard {shard}")
    if not (0 < header.scale < math.inf and -128 <= header.zero_point <= 127 and header.batch_size >= 1):
        raise ValueError("impossible scale, zero point or batch size")
    num_features = datasets["features"].shape[-1]
    if num_features < 1 or min(header.batch_size, header.size) * num_features > MAX_BATCH_BYTES:
        raise ValueError(f"a batch of more than {MAX_BATCH_BYTES} bytes")
    if header.size > MAX_SAMPLES:
        raise ValueError(f"more than {MAX_SAMPLES} samples")
    files_bytes = datasets["files"].size if header.files_sha256 else 0
    if files_bytes > MAX_FILES_BYTES:
        raise ValueError(f"more than {MAX_FILES_BYTES} bytes of file names")
    expected = shapes_of(header, num_features, files_bytes)
    found = {name: (one.shape, one.dtype) for name, one in datasets.items()}
    if found != expected:
        raise ValueError(f"expected datasets {expected}, found {found}")
