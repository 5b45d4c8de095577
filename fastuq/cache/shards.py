"""From a data set in shards to a folder of cache files, one for each, and the manifest that makes them one cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastuq.cache.build import cache_file, runtime
from fastuq.cache.cache_files import CacheFiles
from fastuq.cache.feature_cache import FeatureCache
from fastuq.cache.file import CacheFile
from fastuq.cache.manifest import Manifest, check_folder, save_manifest, shard_name
from fastuq.datasets.shards import ImageShard
from fastuq.errors import CacheError
from fastuq.model.model import Model
from fastuq.util.checks import checked_path
from fastuq.util.defaults import BATCH_SIZE
from fastuq.util.progress import progress_bar


@dataclass(frozen=True)
class ShardRecord:
    """What became of a shard.

    Attributes
    ----------
    index : int
        Counted from 1.
    samples : int
    fingerprint : str
        Data fingerprint of the shard.
    computed : int
        Samples that the backbone ran on.
    labels_restored : bool
        Labels or file names were damaged and were put back.
    skipped : tuple of (str, str)
        File and error of each picture that was left out, where the pictures were looked at.
    """

    index: int
    samples: int
    fingerprint: str
    computed: int = 0
    labels_restored: bool = False
    skipped: tuple[tuple[str, str], ...] = ()


def cache_shard(
    shard: ImageShard,
    model: Model,
    folder: str | Path,
    *,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
) -> ShardRecord:
    """Cache the features of a shard in its file in `folder`, as `cache_features` does.

    Where the file is whole and the stamp of the images is the one that it was made with, no pixels are read.
    """
    path, stamp = checked_path(folder) / shard_name(shard.index, shard.count), shard.stamp()
    done = _unchanged(path, stamp, model)
    if done is not None:
        return ShardRecord(shard.index, *done)
    images = shard.open().matched_to(model.class_names)
    with cache_file(images, model, path, batch_size=batch_size, threads=threads, stamp=stamp) as cache:
        did = (cache.computed, cache.labels_restored, images.skipped)
        return ShardRecord(shard.index, len(cache), cache.data_fingerprint, *did)


def write_manifest(folder: str | Path, source: str, model: Model, records: Sequence[ShardRecord]) -> Manifest:
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
        A shard is missing or there twice.
    """
    found = sorted(records, key=lambda record: record.index)
    if [record.index for record in found] != list(range(1, len(found) + 1)) or not found:
        raise CacheError(
            f"{folder}: expected each of the shards 1 to {len(found)} once, found "
            f"{', '.join(str(record.index) for record in found[:10])}; cache every shard once"
        )
    samples, fingerprints = (record.samples for record in found), (record.fingerprint for record in found)
    manifest = Manifest(source, model.sha256, tuple(samples), tuple(fingerprints))
    save_manifest(checked_path(folder), manifest)
    return manifest


def cache_shards(
    shards: Sequence[ImageShard],
    model: Model,
    folder: str | Path,
    *,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
) -> FeatureCache:
    """Cache every shard of a data set into a folder, one after the other, which `FeatureCache.open` reads as one cache.

    Shards that are whole already are kept, one that was cut off goes on where it was; the manifest is written last.

    Raises
    ------
    CacheError
        The folder holds shards of another run, or as `cache_features`.
    """
    folder = checked_path(folder)
    check_folder(folder, len(shards))
    records = []
    with progress_bar(len(shards), "shards", unit="shard") as bar:
        for shard in shards:
            records.append(cache_shard(shard, model, folder, batch_size=batch_size, threads=threads))
            bar.update()
    manifest = write_manifest(folder, shards[0].source, model, records)
    return FeatureCache(
        CacheFiles.of_folder(folder, manifest),
        computed=sum(record.computed for record in records),
        labels_restored=any(record.labels_restored for record in records),
    )


def _unchanged(path: Path, stamp: str, model: Model) -> tuple[int, str] | None:
    """Return samples and fingerprint of a file that is whole and made by this model of images with this stamp."""
    if not stamp or not path.exists():
        return None
    try:
        file = CacheFile(path)
        header = file.header
        same = (header.stamp, header.model_sha256, header.runtime) == (stamp, model.sha256, runtime())
        done = same and not file.pending()
        file.close()
    except CacheError:  # whoever caches it says what is wrong with it, or mends it
        return None
    return (header.num_samples, header.data_fingerprint) if done else None
