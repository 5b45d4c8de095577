"""What the processes of `forked` do: each name prepares a work, once, and returns the function that a run is."""

import os
from functools import cache
from pathlib import Path

import caches
import numpy as np

import fastuq.model.backbone
from fastuq.datasets import open_images
from fastuq.report.moments_file import save_moments
from fastuq.report.samples import write_sample_table
from fastuq.scoring.scoring import score
from fastuq.util.files import write_json

log = None
"""The descriptor of the file that is there once a run began, of a byte for every batch that it computed."""


class Logged(fastuq.model.backbone.Backbone):
    def __call__(self, images):
        features = super().__call__(images)
        os.write(log, b".")
        return features


def write_cache(path, count, batch_size, shard_size=None):
    """Cache features as `caches.write` does."""
    caches.images(count).fingerprint()

    def work():
        fastuq.model.backbone.Backbone = Logged
        caches.write(path, count, batch_size, shard_size=shard_size)

    return work


@cache
def result(seed):
    features = np.random.default_rng(0).integers(-128, 128, (400, 32)).astype(np.int8)
    return score(caches.tiny_model(), features, num_iter=5, seed=seed)


def write_outputs(folder, seed):
    """Write table, moments file and summary of a scoring."""
    found, folder = result(seed), Path(folder)

    def work():
        write_sample_table(folder / "t.csv", found, caches.tiny_model().class_names)
        save_moments(folder / "m.h5", found)
        write_json(folder / "s.json", {**found.summary(), "seconds": 0, "seed": seed})

    return work


@cache
def bundled_images():
    images = open_images("bundled")
    images.fingerprint()
    return images


def write_corruptions(folder):
    """Make three corruptions of the bundled images."""
    from fastuq.datasets.corruptions import generate

    images, folder = bundled_images(), Path(folder)
    return lambda: generate.generate(images, folder, corruptions=("contrast", "fog", "pixelate"), jobs=1)
