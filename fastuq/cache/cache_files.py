"""The files of one cache as a list: all open, or those of a folder of shards, opened when they are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from fastuq.cache.file import CacheFile
from fastuq.cache.header import Header, Shard
from fastuq.cache.manifest import Manifest, read_manifest, shard_name
from fastuq.cache.staleness import ALIKE, check_alike, check_complete, check_model
from fastuq.errors import CacheError

MOST_OPEN = 16
"""Most files of a folder that are open at once, beside the first."""


@dataclass(frozen=True, eq=False)
class CacheFiles:
    """The files of one cache, in order.

    Attributes
    ----------
    header : Header
        Of the whole data set.
    num_features : int
    paths : list of Path
    sizes : list of int
        Samples of each file.
    open : callable
        Returns a file by its place; what it returns is good until `close`.
    close : callable
    manifest : Manifest or None
        Of a folder of shards.
    """

    header: Header
    num_features: int
    paths: Sequence[Path]
    sizes: Sequence[int]
    open: Callable[[int], CacheFile]
    close: Callable[[], None]
    manifest: Manifest | None = None

    @classmethod
    def of(cls, files: Sequence[CacheFile]) -> "CacheFiles":
        """Return files that are open."""

        def close() -> None:
            for file in files:
                file.close()

        paths, sizes = [file.path for file in files], [file.header.size for file in files]
        return cls(files[0].header, files[0].num_features, paths, sizes, files.__getitem__, close)

    @classmethod
    def of_folder(cls, folder: Path) -> "CacheFiles":
        """Return the shards of a folder; the first is opened for what all have in common.

        Raises
        ------
        CacheError
            There is no manifest or a damaged one, a shard is missing, or the first is none of it.
        """
        manifest = read_manifest(folder)
        there, names = {path.name for path in folder.iterdir()}, manifest.names()
        missing = [name for name in names if name not in there]
        if missing:
            raise CacheError(
                f"{folder}: expected {len(names)} shards, found {len(names) - len(missing)}: {missing[0]} is missing; "
                "put it back, or run the `fastuq cache-features` command that made it again"
            )
        first = open_shard(folder, manifest, 0)
        whole = replace(
            first.header,
            images=manifest.images,
            data_fingerprint=manifest.data_fingerprint,
            num_samples=manifest.num_samples,
            shard=Shard(1, 1, 0, manifest.num_samples),
            labels_sha256="",
            files_sha256="",
            stamp="",
        )
        paths = [folder / name for name in names]
        opened = _Opened(lambda place: open_shard(folder, manifest, place, first=first) if place else first)
        return cls(whole, first.num_features, paths, manifest.samples, opened, opened.close, manifest)


class _Opened:
    """Files that are opened when they are asked for, the last few kept open; what is dropped closes itself."""

    def __init__(self, make: Callable[[int], CacheFile]) -> None:
        self._make: Callable[[int], CacheFile] | None = lru_cache(MOST_OPEN)(make)

    def __call__(self, place: int) -> CacheFile:
        if self._make is None:
            raise CacheError("feature cache: the cache is closed; open it again")
        return self._make(place)

    def close(self) -> None:
        self._make = None


def open_shard(folder: Path, manifest: Manifest, place: int, *, first: CacheFile | None = None) -> CacheFile:
    """Return a shard of a folder, which is what the manifest says and goes together with the first.

    Raises
    ------
    CacheError
        It does not, or it is missing or incomplete.
    """
    file = CacheFile(folder / shard_name(place + 1, len(manifest.samples)))
    header, expected = file.header, (manifest.samples[place], manifest.fingerprints[place])
    check_model(file, manifest.model_sha256)
    if first is not None:
        check_alike(file, first, (*ALIKE, "class_names"))
    if (header.num_samples, header.data_fingerprint) != expected or header.size != header.num_samples:
        raise CacheError(
            f"{file.path}: expected shard {place + 1} of {manifest.images} ({expected[0]} samples, fingerprint "
            f"{expected[1][:12]}), found {header.images} ({header.num_samples}, {header.data_fingerprint[:12]}); put "
            "the right file back, or delete it and run the `fastuq cache-features` command that made it again"
        )
    check_complete(file)
    return file
