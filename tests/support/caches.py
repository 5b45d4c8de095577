"""Small caches of the tiny model for the tests of the feature cache."""

from functools import cache
from pathlib import Path

import numpy as np
from models import tiny_model

from fastuq.cache import cache_features
from fastuq.datasets import ImageSet
from fastuq.model.backbone import Backbone


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


@cache
def whole_file(count, batch_size):
    """Return the bytes of a cache made in one go."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder, "whole.h5"), count, batch_size).read_bytes()
