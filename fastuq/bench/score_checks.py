"""What the benchmark of scores asks of its data: labels, samples that nothing was fitted on, shifted in their order."""

from collections.abc import Sequence

import numpy as np

from fastuq.bench.score_data import SEVERITIES
from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.scoring.bank import Bank
from fastuq.scoring.bank.apart import doubles_of, too_many
from fastuq.scoring.digests import digests
from fastuq.scoring.reading import chunks
from fastuq.scoring.scores.reference import Reference

LEAST = 200
"""Fewest samples whose halves say anything."""


def check_data(cache: FeatureCache, reference: Reference | None, bank: Bank | None, threads: int | None) -> np.ndarray:
    """Return the samples that nothing was fitted on; raises InputError where there are too few, or no labels.

    Samples are known again by their features, in whatever file and order they come.
    """
    if cache.labels is None:
        raise InputError("benchmark-scores: expected a cache with labels, found none; cache images that have labels")
    doubles, free = {"bank": 0, "reference": 0}, []
    rows_of_reference = None if reference is None else digests(reference.rows)
    for start, rows in chunks(cache):
        known, fresh = digests(rows), np.ones(len(rows), bool)
        if bank is not None:
            doubles["bank"] += int(doubles_of(bank, rows, bank.similarities(rows, threads=threads))[0])
            fresh = ~np.isin(known, bank.fitted)
        if rows_of_reference is not None:
            doubles["reference"] += int(np.isin(known, rows_of_reference).sum())
        free.append(start + np.flatnonzero(fresh))
    for name, count in doubles.items():
        if too_many(count, len(cache)):
            raise InputError(
                f"benchmark-scores: expected other data than the {name} was made of, found {count} of its rows among "
                f"the {len(cache)} samples; give a cache of test images"
            )
    found = np.concatenate(free)
    if len(found) < LEAST:
        raise InputError(
            f"benchmark-scores: expected at least {LEAST} samples that nothing was fitted on, found {len(found)}; give "
            "a larger test set"
        )
    return found


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
