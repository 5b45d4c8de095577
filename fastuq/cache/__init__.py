"""The feature cache: what the backbone computed, kept in HDF5 with checksums; docs/cache-format.md has the format."""

from fastuq.cache.build import default_cache_path
from fastuq.cache.embeddings import cache_embeddings, default_embeddings_path
from fastuq.cache.feature_cache import FeatureCache
from fastuq.cache.features import Features
from fastuq.cache.shards import cache_features
from fastuq.util.defaults import BATCH_SIZE

__all__ = [
    "BATCH_SIZE",
    "FeatureCache",
    "Features",
    "cache_embeddings",
    "cache_features",
    "default_cache_path",
    "default_embeddings_path",
]
