"""Small models, caches and banks of embeddings with classes that can be told apart."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace

import numpy as np
from heads import random_head

from fastuq.cache import FeatureCache, Features, cache_embeddings
from fastuq.scoring.bank import Bank
from fastuq.training.embedding_model import embedding_model

WIDTH, CLASSES = 40, 6


def embeddings(count, seed, classes=CLASSES):
    """Return values (count, WIDTH) around one centre per class, and their labels."""
    labels = np.random.default_rng(seed).permutation(np.arange(count) % classes)
    centres = np.random.default_rng(0).standard_normal((CLASSES, WIDTH))
    noise = np.random.default_rng(seed + 100).standard_normal((count, WIDTH))
    return (centres[labels] + 1.5 * noise).astype(np.float32), labels


@cache
def parts():
    """Return a model, and caches of training, held-out and other samples: `model`, `training`, `held_out`, `other`."""
    folder = Path(mkdtemp())
    x, labels = embeddings(300, 1)
    head = random_head([(WIDTH, 20, 0.2, "relu"), (20, CLASSES, 0.4, "sigmoid")])
    model = embedding_model(folder / "model", head, Features.from_arrays(x, labels))
    caches = {
        name: cached(model, folder / f"{name}.h5", *embeddings(count, seed))
        for name, count, seed in (("training", 300, 1), ("held_out", 150, 2), ("other", 70, 3))
    }
    return SimpleNamespace(model=model, **caches)


def cached(model, path, x, labels=None, name="embeddings"):
    """Return the feature cache of embeddings, made in the place of an older one."""
    path.unlink(missing_ok=True)
    cache_embeddings(Features.from_arrays(x, labels, model=model, name=name), model, path, batch_size=64).close()
    return FeatureCache.open(path, model)


@cache
def bank(components=16):
    """Return the bank of `parts`."""
    of = parts()
    return Bank.make(of.model, of.training, of.held_out, components=components)
