"""fastuq: which predictions of a quantized vision model to trust, with the backbone run once."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# What is loaded at first use; the imports below say the same to type checkers and editors, a test compares the two.
_PUBLIC = {
    "Backbone": "fastuq.model.backbone",
    "Bank": "fastuq.scoring.bank.bank",
    "CacheError": "fastuq.errors",
    "DownloadError": "fastuq.errors",
    "DropoutClassifier": "fastuq.training.classifier",
    "FastUQError": "fastuq.errors",
    "FeatureCache": "fastuq.cache",
    "Features": "fastuq.cache",
    "Head": "fastuq.model.head",
    "ImageSet": "fastuq.datasets",
    "InputError": "fastuq.errors",
    "MissingExtraError": "fastuq.errors",
    "Model": "fastuq.model.model",
    "ModelError": "fastuq.errors",
    "Options": "fastuq.scoring.options",
    "Reason": "fastuq.scoring.decisions",
    "Reference": "fastuq.scoring.scores",
    "RemoteError": "fastuq.errors",
    "Result": "fastuq.scoring.result",
    "Scorer": "fastuq.scoring.scoring",
    "Promise": "fastuq.scoring.calibration.promise",
    "cache_embeddings": "fastuq.cache",
    "cache_features": "fastuq.cache",
    "calibrate": "fastuq.scoring.calibration.calibrate",
    "embedding_model": "fastuq.training.embedding_model",
    "fit_reference": "fastuq.scoring.scores",
    "head_from_layers": "fastuq.model.head_layers",
    "import_tflite": "fastuq.training.import_tflite",
    "keep_by_promise": "fastuq.scoring.calibration.applying",
    "load_head": "fastuq.model.head_file",
    "load_model": "fastuq.model.model",
    "load_moments": "fastuq.report.moments_file",
    "load_promise": "fastuq.scoring.calibration.promise",
    "load_reference": "fastuq.scoring.scores",
    "open_images": "fastuq.datasets",
    "plain_logits": "fastuq.scoring.logits",
    "save_head": "fastuq.model.head_file",
    "save_moments": "fastuq.report.moments_file",
    "save_report": "fastuq.report.page.write",
    "score": "fastuq.scoring.scoring",
    "scores": "fastuq.scoring.scores",
}
__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from fastuq.cache import FeatureCache as FeatureCache
    from fastuq.cache import Features as Features
    from fastuq.cache import cache_embeddings as cache_embeddings
    from fastuq.cache import cache_features as cache_features
    from fastuq.datasets import ImageSet as ImageSet
    from fastuq.datasets import open_images as open_images
    from fastuq.errors import CacheError as CacheError
    from fastuq.errors import DownloadError as DownloadError
    from fastuq.errors import FastUQError as FastUQError
    from fastuq.errors import InputError as InputError
    from fastuq.errors import MissingExtraError as MissingExtraError
    from fastuq.errors import ModelError as ModelError
    from fastuq.errors import RemoteError as RemoteError
    from fastuq.model.backbone import Backbone as Backbone
    from fastuq.model.head import Head as Head
    from fastuq.model.head_file import load_head as load_head
    from fastuq.model.head_file import save_head as save_head
    from fastuq.model.head_layers import head_from_layers as head_from_layers
    from fastuq.model.model import Model as Model
    from fastuq.model.model import load_model as load_model
    from fastuq.report.moments_file import load_moments as load_moments
    from fastuq.report.moments_file import save_moments as save_moments
    from fastuq.report.page.write import save_report as save_report
    from fastuq.scoring.bank.bank import Bank as Bank
    from fastuq.scoring.calibration.applying import keep_by_promise as keep_by_promise
    from fastuq.scoring.calibration.calibrate import calibrate as calibrate
    from fastuq.scoring.calibration.promise import Promise as Promise
    from fastuq.scoring.calibration.promise import load_promise as load_promise
    from fastuq.scoring.decisions import Reason as Reason
    from fastuq.scoring.logits import plain_logits as plain_logits
    from fastuq.scoring.options import Options as Options
    from fastuq.scoring.result import Result as Result
    from fastuq.scoring.scores import Reference as Reference
    from fastuq.scoring.scores import fit_reference as fit_reference
    from fastuq.scoring.scores import load_reference as load_reference
    from fastuq.scoring.scores import scores as scores
    from fastuq.scoring.scoring import Scorer as Scorer
    from fastuq.scoring.scoring import score as score
    from fastuq.training.classifier import DropoutClassifier as DropoutClassifier
    from fastuq.training.embedding_model import embedding_model as embedding_model
    from fastuq.training.import_tflite import import_tflite as import_tflite
else:  # hidden from type checkers, which would take it for leave to use any name

    def __getattr__(name):
        if name in _PUBLIC:
            return getattr(import_module(_PUBLIC[name]), name)
        raise AttributeError(f"module 'fastuq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
