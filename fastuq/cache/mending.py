"""A folder of shards verified, and its damaged or missing shards computed again."""

from collections.abc import Iterator
from pathlib import Path

from fastuq.cache.cache_files import open_shard
from fastuq.cache.file import CacheFile
from fastuq.cache.header import Header
from fastuq.cache.manifest import Manifest, shard_name
from fastuq.cache.shards import ShardRecord, cache_shard
from fastuq.cache.staleness import check_shard_images
from fastuq.datasets import ImageSet
from fastuq.datasets.shards import ImageShard
from fastuq.errors import CacheError
from fastuq.model.model import Model
from fastuq.util.defaults import BATCH_SIZE
from fastuq.util.progress import progress_bar


def damaged_shards(folder: Path, manifest: Manifest) -> Iterator[tuple[int, str]]:
    """Verify every byte of every shard; yield place and problem of each that is missing, damaged or another's."""
    count, first = len(manifest.samples), None
    with progress_bar(count, "verifying", unit="shard") as bar:
        for place in range(count):
            try:
                file = open_shard(folder, manifest, place, first=first)
                first = first or file
                if pending := file.pending():
                    yield place, f"{file.path}: {listed(pending)}"
            except CacheError as error:
                yield place, str(error)
            bar.update()


def repair_shards(
    folder: Path, manifest: Manifest, model: Model, images: ImageSet, *, threads: int | None = None
) -> list[ShardRecord]:
    """Compute again what is damaged or missing, from the images that the shards were made of.

    Raises
    ------
    CacheError
        The images are others, or a file in the place of a shard is of something else.
    """
    count, ranges, records = len(manifest.samples), list(manifest.ranges()), []
    found = any_header(folder, manifest)
    batch_size = BATCH_SIZE if found is None else found.batch_size
    for place, _ in damaged_shards(folder, manifest):
        check_shard_images(folder, manifest, images, [place])
        shard = ImageShard(images.subset(*ranges[place]), manifest.images, place + 1, count)
        records.append(cache_shard(shard, model, folder, batch_size=batch_size, threads=threads))
    return records


def any_header(folder: Path, manifest: Manifest) -> Header | None:
    """Return the header of the first shard that can be opened; None where there is none."""
    for place in range(len(manifest.samples)):
        try:
            return CacheFile(folder / shard_name(place + 1, len(manifest.samples))).header
        except CacheError:
            continue
    return None


def listed(batches: list[int]) -> str:
    """Return which batches are damaged, in words."""
    few = ", ".join(map(str, batches[:10])) + (", ..." if len(batches) > 10 else "")
    return f"{len(batches)} batches are damaged or missing ({few})"
