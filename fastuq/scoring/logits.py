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
    """Return what the last activation is taken of in one pass without dropout.

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
    head: Any = model.head_int8 if integers else model.head
    *blocks, last = head.blocks
    head = replace(head, blocks=(*blocks, replace(last, activation="linear")))
    logits = np.empty((len(features), model.head.num_classes), np.float32)
    for start in range(0, len(logits), _ROWS):
        stop = min(start + _ROWS, len(logits))
        rows = features.read(start, stop) if isinstance(features, FeatureCache) else features[start:stop]
        logits[start:stop] = head.forward(rows if integers else model.dequantize(rows))
    return logits
