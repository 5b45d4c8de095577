"""What an .h5 file of Keras says of its network, in the words of a .keras file, and the classes that Keras 2 wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError, short

_DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout")


def config_of_h5(path: Path, most: int) -> Any:
    """Return the configuration in an .h5 file, at most so many bytes, as `fastuq.training.keras_config` reads it.

    Raises
    ------
    InputError
        The file holds no network, but weights or something else.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"network {path}: damaged ({short(error, 80)}); save or copy it again") from None
    if not isinstance(text, str | bytes) or len(text) > most:
        raise InputError(
            f"network {path}: expected a whole network, found an .h5 file without one, weights alone perhaps; save it "
            "by model.save where it was made"
        )
    config = json.loads(text)
    _named(config)
    return config


def image_size_of(path: Path) -> int | None:
    """Return the height and width that a file of weights says they were trained in; None where it says none.

    A file that cannot be read says none: what is wrong with it is said where its weights are taken.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            size = file.attrs.get("image_size")
    except (OSError, RuntimeError, KeyError, ValueError):
        return None
    return int(size) if isinstance(size, np.integer) else None


def _named(entry: Any) -> None:
    """Give the layers, of which an .h5 file names the class alone, the module that a .keras file would name."""
    if not isinstance(entry, dict):
        return
    kind, inner = str(entry.get("class_name")), entry.get("config")
    own = kind.lower().endswith("dropout") and kind not in _DROPOUTS
    if "module" not in entry and not own:
        entry["module"] = "keras.layers"
    for layer in (inner.get("layers") or []) if isinstance(inner, dict) else []:
        _named(layer)


def classes_of_keras2() -> dict[str, type]:
    """Return the classes whose settings Keras 3 does not know any more: a DepthwiseConv2D had groups, always 1."""
    import keras

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
        def __init__(self, *, groups: int = 1, **settings: Any) -> None:
            if groups != 1:
                raise ValueError(f"DepthwiseConv2D of {groups} groups")
            super().__init__(**settings)

    return {"DepthwiseConv2D": DepthwiseConv2D}
