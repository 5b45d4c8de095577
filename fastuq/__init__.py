"""fastuq: which predictions of a quantized vision model to trust, with the backbone run once."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# What is loaded at first use; the imports below say the same to type checkers and editors, a test compares the two.
_PUBLIC = {
    "Backbone": "fastuq.backbone",
    "CacheError": "fastuq.errors",
    "DownloadError": "fastuq.errors",
    "FastUQError": "fastuq.errors",
    "FeatureCache": "fastuq.features",
    "Head": "fastuq.head",
    "ImageSet": "fastuq.datasets",
    "InputError": "fastuq.errors",
    "MissingExtraError": "fastuq.errors",
    "Model": "fastuq.model",
    "ModelError": "fastuq.errors",
    "Options": "fastuq.result",
    "Reason": "fastuq.decisions",
    "Result": "fastuq.result",
    "Scorer": "fastuq.scoring",
    "cache_features": "fastuq.features",
    "load_model": "fastuq.model",
    "load_moments": "fastuq.features.moments",
    "open_images": "fastuq.datasets",
    "save_moments": "fastuq.features.moments",
    "score": "fastuq.scoring",
}
__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from fastuq.backbone import Backbone as Backbone
    from fastuq.datasets import ImageSet as ImageSet
    from fastuq.datasets import open_images as open_images
    from fastuq.decisions import Reason as Reason
    from fastuq.errors import CacheError as CacheError
    from fastuq.errors import DownloadError as DownloadError
    from fastuq.errors import FastUQError as FastUQError
    from fastuq.errors import InputError as InputError
    from fastuq.errors import MissingExtraError as MissingExtraError
    from fastuq.errors import ModelError as ModelError
    from fastuq.features import FeatureCache as FeatureCache
    from fastuq.features import cache_features as cache_features
    from fastuq.features.moments import load_moments as load_moments
    from fastuq.features.moments import save_moments as save_moments
    from fastuq.head import Head as Head
    from fastuq.model import Model as Model
    from fastuq.model import load_model as load_model
    from fastuq.result import Options as Options
    from fastuq.result import Result as Result
    from fastuq.scoring import Scorer as Scorer
    from fastuq.scoring import score as score
else:  # hidden from type checkers, which would take it for leave to use any name

    def __getattr__(name):
        if name in _PUBLIC:
            return getattr(import_module(_PUBLIC[name]), name)
        raise AttributeError(f"module 'fastuq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
