"""The tiny model, and models saved once more."""

from functools import cache

from places import TINY

from fastuq.model.model import load_model, save_model


@cache
def tiny_model():
    return load_model(TINY)


def save_again(model, path, **changes):
    """Save a model as it is but for `changes`, arguments of `save_model`."""
    values = {
        "network": model.network,
        "backbone": model.backbone_path.read_bytes(),
        "full": model.full_path.read_bytes(),
        "head": model.head,
        "head_int8": model.head_int8,
        "class_names": model.class_names,
        "input_shape": model.input_shape,
        "feature_scale": model.feature_scale,
        "feature_zero_point": model.feature_zero_point,
        "info": model.info["made"],
    }
    return save_model(path, **{**values, **changes})
