"""Small caches of the tiny model for the tests of the feature cache."""

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from models import tiny_model

from fastuq.cache import build, cache_features
from fastuq.cache.file import CacheFile
from fastuq.cache.header import Shard
from fastuq.cache.making import create_file
from fastuq.datasets import ImageSet
from fastuq.model.backbone import Backbone
from fastuq.util.file_names import FileNames


@cache
def images(count=50, labelled=True, seed=0):
    """Make random images; the same arguments give the same object."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 100, count) if labelled else None
    return ImageSet(pixels, labels, tiny_model().class_names, "random")


@cache
def features(count=50, seed=0):
    """Return what the backbone itself makes of `images`."""
    return Backbone(tiny_model().backbone_path, threads=2)(images(count, seed=seed).images)


def write(path, count=50, batch_size=8, **options):
    """Cache `images` and close the file."""
    cache_features(images(count), tiny_model(), path, batch_size=batch_size, **options).close()
    return path


def write_part(path, index, count, given=None, batch_size=8):
    """Write part `index` of `count` of a cache, the file that there was in place of a shard once."""
    given, model = given or images(), tiny_model()
    header, labels, names = build._header(given, model, batch_size, "")
    start, stop = len(given) * (index - 1) // count, len(given) * index // count
    labels, names = labels[start:stop], FileNames(names)[start:stop].to_bytes()
    digests = {"labels_sha256": hashlib.sha256(labels).hexdigest()}
    digests |= {"files_sha256": hashlib.sha256(names).hexdigest()} if names else {}
    header = replace(header, shard=Shard(index, count, start, stop), **digests)
    create_file(path, header, model.head.num_features, labels, names)
    rows, file = Backbone(model.backbone_path, threads=2)(given.read(start, stop)), CacheFile(path)
    with file.locked():
        for batch in range(header.num_batches):
            file.write(batch, rows[slice(*file.rows_of(batch))])
    file.close()
    return path


@cache
def whole_file(count, batch_size):
    """Return the bytes of a cache made in one go."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder, "whole.h5"), count, batch_size).read_bytes()
