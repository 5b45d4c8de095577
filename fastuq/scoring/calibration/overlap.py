"""What a calibration is known again by: a digest of the features of each sample, and of what scores were made with."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.scoring.bank import Bank
from fastuq.scoring.digests import digests
from fastuq.scoring.reading import chunks
from fastuq.scoring.scores import Reference
from fastuq.scoring.views import Views


def check_cache(features: Any) -> None:
    """Raise InputError where features are no cache, which alone says what data they are of."""
    if not isinstance(features, FeatureCache):
        raise InputError(
            f"promise: expected a FeatureCache, found {type(features).__name__}; make one with cache_features, or of "
            "embeddings with cache_embeddings"
        )


def digests_of(views: Views) -> np.ndarray:
    """Return a digest of the features of each sample in each view, (N, V) uint64."""
    return np.stack([np.concatenate([digests(rows) for _, rows in chunks(view)]) for view in views], axis=1)


def known_by(reference: Reference | None, bank: Bank | None, gate: float, views: Sequence[str]) -> dict[str, Any]:
    """Return what is known again of that which changes scores beside model and options; `views` are their kinds."""
    return {
        "reference": None if reference is None else f"{reference.data_fingerprint} {len(reference.rows)}",
        "bank": None if bank is None else _bank_sha256(bank),
        "gate": float(gate),
        "views": ", ".join(views) or None,
    }


def _bank_sha256(bank: Bank) -> str:
    digest = sha256(repr(bank.weights).encode())
    for array in (bank.rows, bank.counts, bank.projection.weights):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
