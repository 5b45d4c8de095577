"""From a data set to its features: in one file, or shard by shard in a folder, which is read as one cache."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastuq.cache.build import cache_file, default_cache_path, runtime
from fastuq.cache.cache_files import CacheFiles
from fastuq.cache.feature_cache import FeatureCache
from fastuq.cache.file import CacheFile
from fastuq.cache.making import create_file
from fastuq.cache.manifest import Manifest, check_folder, save_manifest, shard_name
from fastuq.cache.staleness import ALIKE
from fastuq.cluster.luggage import CarriedModel
from fastuq.cluster.running import run
from fastuq.datasets import ImageSet, open_images
from fastuq.datasets.shards import SHARD_SIZE, AnyShard, Told, open_shards
from fastuq.errors import CacheError, InputError
from fastuq.model.model import Model
from fastuq.util.defaults import BATCH_SIZE
from fastuq.util.files import atomic_path
from fastuq.util.places import place_of
from fastuq.util.remote import is_remote

if TYPE_CHECKING:
    from fastuq.cluster.connection import Client


def cache_features(
    images: ImageSet | np.ndarray,
    model: Model,
    path: str | Path | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
    shard_size: int | None = None,
    client: "Client | None" = None,
) -> FeatureCache:
    """Run the backbone once over images and keep its features in a file, or in a folder of shards.

    A file that is there already goes on where it was: batches that are missing or damaged are computed, the others
    are verified and kept; damaged labels are put back. The file does not depend on interruptions, threads or machine
    load. What the backbone is fed is what the data fingerprint was taken of, compared image by image.

    Parameters
    ----------
    images : ImageSet or ndarray, (N, H, W, 3), uint8
        Or what else `open_images` takes; pictures are opened in the size and with the crop of the model.
    model : Model
    path : str or Path, optional
        The file, or with `shard_size` the folder. Default: see `default_cache_path`; a folder has none.
    batch_size : int
        Images that share a checksum, and at most lost by a kill; a file that is there keeps its own.
    threads : int, optional
        Default: the processors this process may use.
    shard_size : int, optional
        Images of a shard, a whole cache file each; `FeatureCache.open` takes the folder for one cache. Shards that are
        whole are skipped, without a look at their pixels where names, sizes and times of the files are the same.
    client : distributed.Client, optional
        Of a Dask cluster whose workers cache the shards, of 10,000 images where no size is given. Images and folder lie
        where all of them find them under the same name.

    Returns
    -------
    FeatureCache
        Open for reading; `computed` says how many samples were left to compute.

    Raises
    ------
    CacheError
        The file was made of something else, is written by another process, or cannot be written.
    InputError
        The images do not fit the model or change meanwhile, or an argument is out of range.

    Examples
    --------
    >>> import fastuq
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     cache.computed
    20

    The same call again finds everything there:

    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     cache.computed, cache.reused
    (0, True)

    The same features in shards of 8 images:

    >>> with fastuq.cache_features(images, model, "features", shard_size=8) as cache:
    ...     len(cache), len(cache.provenance["files"])
    (20, 3)
    """
    if shard_size is not None or client is not None:
        if path is None:
            raise InputError("path: expected the folder of the shards, found none; name one")
        how: dict[str, Any] = {
            "class_names": model.class_names,
            "image_size": model.image_shape[:2],
            "crop": model.crop,
        }
        shards = open_shards(images, size=SHARD_SIZE if shard_size is None else shard_size, **how)
        records = cache_shards(shards, model, path, batch_size=batch_size, threads=threads, client=client)
        return FeatureCache(
            CacheFiles.of_folder(place_of(path)),
            computed=sum(record.computed for record in records),
            labels_restored=any(record.labels_restored for record in records),
        )
    if not isinstance(images, ImageSet):
        images = open_images(images, image_size=model.image_shape[:2], crop=model.crop)
    images = images.matched_to(model.class_names)
    path = default_cache_path(images, model) if path is None else place_of(path)
    return cache_file(images, model, path, batch_size=batch_size, threads=threads)


@dataclass(frozen=True)
class ShardRecord:
    """What became of a shard.

    Attributes
    ----------
    index, count : int
        Shard `index` of `count`, counted from 1.
    samples : int
    fingerprint : str
        Data fingerprint of the shard.
    common : dict
        What it has to have in common with the other shards.
    computed : int
        Samples that the backbone ran on.
    labels_restored : bool
        Labels or file names were damaged and were put back.
    skipped : tuple of (str, str)
        File and error of each picture that was left out, where the pictures were looked at.
    notes : tuple of str
        What is to be said of this shard alone, where it was looked into.
    """

    index: int
    count: int
    samples: int
    fingerprint: str
    common: dict[str, Any]
    computed: int = 0
    labels_restored: bool = False
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def cache_shard(
    shard: AnyShard,
    model: Model,
    folder: str | Path,
    *,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
) -> ShardRecord:
    """Cache the features of a shard in its file in `folder`, as `cache_features` does.

    Where the file is whole and the stamp of the images is the one that it has, no pixels are read. Where the pixels are
    found to be the same all the same, the file gets the stamp.
    """
    path, stamp = place_of(folder) / shard_name(shard.index, shard.count), shard.stamp()
    cache, told = _unchanged(path, stamp, model), Told()
    if cache is None:
        images = shard.open().matched_to(model.class_names)
        cache = cache_file(images, model, path, batch_size=batch_size, threads=threads, stamp=stamp)
        told = Told(tuple(note for note in images.notes if note not in shard.notes), images.skipped)
        if stamp and cache.provenance.get("stamp") != stamp and not is_remote(path):
            _renew_stamp(path, stamp)
    with cache:
        said = cache.provenance
        names = hashlib.sha256("\n".join(cache.class_names).encode()).hexdigest()
        common = {**{name: said[name] for name in ALIKE}, "class names (SHA-256)": names}
        did = (cache.computed, cache.labels_restored, told.skipped, told.notes)
        return ShardRecord(shard.index, shard.count, len(cache), cache.data_fingerprint, common, *did)


def write_manifest(folder: str | Path, source: str, model: Model, records: Sequence[ShardRecord]) -> None:
    """Write the manifest of a folder whose shards are all whole.

    Parameters
    ----------
    folder : str or Path
    source : str
        Name of the data set.
    model : Model
    records : sequence of ShardRecord
        Of every shard, in any order.

    Raises
    ------
    CacheError
        A shard is missing, or there twice, or was made in another way than the others.
    """
    found = sorted(records, key=lambda record: record.index)
    count = found[0].count if found else 0
    places = [(record.index, record.count) for record in found]
    if not found or places != [(number, count) for number in range(1, count + 1)]:
        wrong = next((n for n in range(1, count + 1) if places.count((n, count)) != 1), "one of another run")
        raise CacheError(
            f"{folder}: expected each of {count} shards once, found {len(found)}, shard {wrong} not there or twice; "
            "cache every shard once"
        )
    for record in found:
        for name, value in found[0].common.items():
            if record.common[name] != value:
                path = place_of(folder) / shard_name(record.index, len(found))
                raise CacheError(
                    f"{path}: expected the {name} of the first shard, "
                    f"{value}, found {record.common[name]}; delete that shard and cache it as the others"
                )
    samples, fingerprints = (record.samples for record in found), (record.fingerprint for record in found)
    save_manifest(place_of(folder), Manifest(source, model.sha256, tuple(samples), tuple(fingerprints)))


def cache_shards(
    shards: Sequence[AnyShard],
    model: Model,
    folder: str | Path,
    *,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
    client: "Client | None" = None,
) -> list[ShardRecord]:
    """Cache every shard of a data set into a folder, here or by the workers of a cluster; the manifest is written last.

    Raises
    ------
    CacheError
        The folder holds shards of another run or something else, or as `cache_features`.
    """
    folder = place_of(folder).absolute()
    check_folder(folder, len(shards))
    carried = model if client is None else CarriedModel.of(model)
    work = partial(cache_shard, model=carried, folder=folder, batch_size=batch_size)
    records = []
    for _, record in run(work, shards, client=client, threads=threads):
        path = folder / shard_name(record.index, len(shards))
        if not path.exists():
            raise CacheError(
                f"{path}: expected the shard that a worker wrote, found nothing here; give a folder that all machines "
                "share under one name"
            )
        records.append(record)
    write_manifest(folder, shards[0].source, model, records)
    return records


def _unchanged(path: Path, stamp: str, model: Model) -> FeatureCache | None:
    """Return the cache at `path` if it is whole, and made by this model of images with this stamp."""
    if not stamp or not path.exists():
        return None
    try:
        file = CacheFile(path)
        header = file.header
        same = (header.stamp, header.model_sha256, header.runtime) == (stamp, model.sha256, runtime())
        return FeatureCache(CacheFiles.of([file])) if same and not file.pending() else None
    except CacheError:  # whoever caches it says what is wrong with it, or mends it
        return None


def _renew_stamp(path: Path, stamp: str) -> None:
    """Write a whole cache anew with another stamp: the checksums of its batches hold the seal of the header."""
    old = CacheFile(path)
    header, files = replace(old.header, stamp=stamp), old.files()
    with atomic_path(path) as partial:
        partial.unlink()
        create_file(partial, header, old.num_features, old.labels(), b"" if files is None else files.to_bytes())
        new = CacheFile(partial)
        with new.locked():
            for batch in range(header.num_batches):
                new.write(batch, old.read(*old.rows_of(batch)))
        new.close()
    old.close()
