"""The logits of the plain pass: what its last activation is taken of."""

from dataclasses import replace
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.model.model import Model
from fastuq.montecarlo.sampling import PRECISIONS
from fastuq.util.checks import one_of

_ROWS = 8192


def plain_logits(model: Model, features: FeatureCache | np.ndarray, *, precision: str = "int8") -> np.ndarray:
    """Return what the last activation is taken of in one pass without dropout, of several heads the mean.

    Parameters
    ----------
    model : Model
    features : FeatureCache or ndarray, (N, D), int8
    precision : {'int8', 'float32'}
        Of the head, as in `fastuq.Options`.

    Returns
    -------
    ndarray, (N, C), float32

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     logits, result = fastuq.plain_logits(model, cache), fastuq.score(model, cache)
    >>> bool(np.allclose(1 / (1 + np.exp(-logits)), result.plain, atol=1e-5))
    True
    """
    integers = one_of("precision", precision, PRECISIONS) == "int8"
    judged = [with_logits(each) for each in model.members]
    heads: list[Any] = [each.head_int8 if integers else each.head for each in judged]
    logits = np.empty((len(features), model.head.num_classes), np.float32)
    for start in range(0, len(logits), _ROWS):
        stop = min(start + _ROWS, len(logits))
        rows = features.read(start, stop) if isinstance(features, FeatureCache) else features[start:stop]
        given = rows if integers else model.dequantize(rows)
        logits[start:stop] = np.mean([head.forward(given) for head in heads], axis=0)
    return logits


def with_logits(model: Model) -> Model:
    """Return the model, of one head, without its last activation: its outputs are logits."""
    heads: dict[str, Any] = {}
    for name in ("head", "head_int8"):
        head: Any = getattr(model, name)
        *blocks, last = head.blocks
        heads[name] = replace(head, blocks=(*blocks, replace(last, activation="linear")))
    return replace(model, **heads)
