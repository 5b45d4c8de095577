"""The feature cache: what the backbone computed, kept in HDF5 with checksums; docs/cache-format.md has the format."""

from fastuq.features.cache import FeatureCache
from fastuq.features.caching import BATCH_SIZE, cache_features, default_cache_path
from fastuq.features.moments import load_moments, save_moments

__all__ = ["BATCH_SIZE", "FeatureCache", "cache_features", "default_cache_path", "load_moments", "save_moments"]
