"""A model of embeddings: a head on features from anywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache.features import Features
from fastuq.errors import InputError, ModelError
from fastuq.model.coding import CutOff
from fastuq.model.description import check_names
from fastuq.model.folder import check_replaceable
from fastuq.model.head import Head
from fastuq.model.model import Model, save_model
from fastuq.training.head_check import rounded_heads
from fastuq.training.head_rounding import CALIBRATION_SAMPLES
from fastuq.util.checks import checked_path
from fastuq.util.labels import check_width


def embedding_model(
    path: str | Path,
    head: Head,
    features: Features,
    *,
    class_names: Sequence[str] | None = None,
    name: str = "embeddings",
) -> Model:
    """Write a model folder of a head and the scales of embeddings; no backbone is in it.

    The scale and the offset of each dimension go into the affine that the head begins with, so that the head takes the
    int8 codes themselves.

    Parameters
    ----------
    path : str or Path
        The model folder.
    head : Head
        What follows the embeddings.
    features : Features
        Embeddings like those that the head was trained on; up to 4,096 of them round it to int8.
    class_names : sequence of str, optional
        Default: ``class_0`` and so on.
    name : str
        What made the embeddings, as ``vit_b16``.

    Raises
    ------
    InputError
        The widths or the number of names do not fit, or `path` holds something else than a model.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> x = np.random.default_rng(0).standard_normal((100, 1280)).astype(np.float32)
    >>> model = fastuq.embedding_model("embeddings", fastuq.load_model().head, fastuq.Features.from_arrays(x))
    >>> model.input_shape, model.head.num_features, len(model.class_names)
    (None, 1280, 100)
    """
    target = checked_path(path)
    check_replaceable(target)
    if features.num_features != head.num_features:
        raise InputError(
            f"head: takes {head.num_features} features, the embeddings have {features.num_features}; give the head "
            "that was trained on them"
        )
    check_width(features.name, features.one_hot, head.num_classes)
    names = check_class_names(class_names, head.num_classes)
    try:
        on_codes = head.after(features.coding.scale, features.coding.offset)
    except ModelError:
        raise InputError("embeddings: values so large that the head's numbers overflow; scale them down") from None
    return model_on_codes(target, [on_codes], features, names, name, {})


def check_class_names(given: Sequence[str] | None, count: int, *, at_least: bool = False) -> tuple[str, ...]:
    """Return the names of `count` classes, `class_0` and so on where none are given; raises InputError for others."""
    names = tuple(f"class_{n}" for n in range(count)) if given is None else tuple(given)
    if len(names) != count and not (at_least and len(names) > count):
        raise InputError(f"class names: expected {count}, one for each class, found {len(names)}")
    check_names("embeddings", names)
    return names


def model_on_codes(
    path: str | Path, heads: Sequence[Head], features: Features, names: tuple[str, ...], name: str, made: dict[str, Any]
) -> Model:
    """Write the model of heads that take the codes themselves; up to 4,096 of the features round them to int8."""
    check_names(name, names)
    drawn = np.sort(np.random.default_rng(0).permutation(len(features))[:CALIBRATION_SAMPLES])
    codes = features.rows(drawn, cut_off := CutOff(features.num_features))
    (first, *others), rounding = rounded_heads(heads, codes, 1.0, 0)
    found = {"cut_off": cut_off.report(), "head_int8": rounding}
    return save_model(
        path,
        network=name,
        backbone=None,
        full=None,
        head=first[0],
        head_int8=first[1],
        others=others,
        class_names=names,
        input_shape=None,
        feature_scale=1.0,
        feature_zero_point=0,
        coding=features.coding,
        info={
            "embeddings": features.name,
            "samples": len(features),
            **made,
            "report": {**made.get("report", {}), **found},
        },
    )
