"""What the benchmark of scores asks of its data: labels, samples that nothing was fitted on, shifted in their order."""

from collections.abc import Sequence

import numpy as np

from fastuq.bench.score_data import SEVERITIES
from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.scoring.bank import Bank
from fastuq.scoring.scores.reference import Reference

LEAST = 200
"""Fewest samples whose halves say anything."""


def check_data(cache: FeatureCache, reference: Reference | None, bank: Bank | None) -> int:
    """Return the first sample that nothing was fitted on; raises InputError where there are too few, or no labels."""
    if cache.labels is None:
        raise InputError("benchmark-scores: expected a cache with labels, found none; cache images that have labels")
    taken = {"reference": reference and reference.data_fingerprint, "bank": bank and bank.origin.training_fingerprint}
    for name, fingerprint in taken.items():
        if fingerprint == cache.data_fingerprint:
            raise InputError(
                f"benchmark-scores: expected other data than the {name} was made of, found the same; give a cache of "
                "test images"
            )
    first = bank.origin.held_out_samples if bank and bank.origin.held_out_fingerprint == cache.data_fingerprint else 0
    if len(cache) - first < LEAST:
        raise InputError(
            f"benchmark-scores: expected at least {LEAST} samples that nothing was fitted on, found "
            f"{len(cache) - first}; give a larger test set"
        )
    return first


def check_shifted(cache: FeatureCache, shifted: Sequence[FeatureCache]) -> None:
    """Raise InputError unless shifted data have the labels of the clean ones, once or for each severity."""
    assert cache.labels is not None
    for other in shifted:
        times, left = divmod(len(other), len(cache))
        if (
            other.labels is None
            or left
            or times not in (1, SEVERITIES)
            or (other.labels != np.tile(cache.labels, times)).any()
        ):
            raise InputError(
                f"benchmark-scores: expected shifted data of the {len(cache)} samples of the clean ones, with their "
                f"labels, once or {SEVERITIES} times, found {len(other)} of {other.provenance['images']}; give caches "
                "of the same images, corrupted"
            )
