"""fastuq: which predictions of a quantized vision model to trust, with the backbone run once."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Backbone": "fastuq.backbone",
    "CacheError": "fastuq.errors",
    "DownloadError": "fastuq.errors",
    "FastUQError": "fastuq.errors",
    "FeatureCache": "fastuq.features",
    "Head": "fastuq.head",
    "ImageSet": "fastuq.datasets",
    "InputError": "fastuq.errors",
    "Model": "fastuq.model",
    "ModelError": "fastuq.errors",
    "Result": "fastuq.scoring",
    "cache_features": "fastuq.features",
    "load_model": "fastuq.model",
    "open_images": "fastuq.datasets",
    "score": "fastuq.scoring",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'fastuq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
