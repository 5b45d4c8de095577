"""Features read by chunks, once they are known to be of the model."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.cache.staleness import check_crop
from fastuq.errors import CacheError, InputError
from fastuq.model.model import Model
from fastuq.util.labels import checked_labels

ROWS_AT_ONCE = 8192
SETTLED_AT_ONCE = 32768
"""The same for samples that run until they are settled: the few that are left share the work of making the masks."""


def checked_truth(model: Model, features: FeatureCache | np.ndarray, labels: Any) -> np.ndarray | None:
    """Return the labels to score with; raises InputError or CacheError where the features do not fit either."""
    if isinstance(features, FeatureCache):
        if features.model_sha256 != model.sha256:
            raise CacheError(
                f"feature cache: expected features of model {model.sha256[:12]}, "
                f"found those of {features.model_sha256[:12]}; score with the model that made the cache, "
                "or cache the features again"
            )
        check_crop(features.provenance["preprocessing"], model.crop)
        labels = features.labels if labels is None else labels
    elif not isinstance(features, np.ndarray):
        raise InputError(
            f"features: expected a FeatureCache or an int8 array (N, D), found {type(features).__name__}; "
            "make a cache of images with cache_features"
        )
    elif features.dtype != np.int8 or features.ndim != 2 or features.shape[1] != model.head.num_features:
        raise InputError(
            f"features: expected int8 (N, {model.head.num_features}), found {features.dtype} {features.shape}; "
            "use the features of this model's backbone"
        )
    if len(features) == 0:
        raise InputError("score: expected at least one sample, found none")
    if labels is None:
        return None
    way_out = "the labels are of other samples, or of another data set than the model"
    return checked_labels("labels", labels, len(features), model.head.num_classes, way_out)


def chunks(features: FeatureCache | np.ndarray, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows int8) of all features, so many rows at a time."""
    for start in range(0, len(features), rows_at_once):
        stop = min(start + rows_at_once, len(features))
        yield start, features.read(start, stop) if isinstance(features, FeatureCache) else features[start:stop]
