"""TensorFlow and Keras, without their chatter and with fastuq's own settings."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from fastuq.errors import InputError, MissingExtraError
from fastuq.util.process import muted


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed and warned inside the block; TensorFlow's C++ prints past ``sys.stderr``."""
    with muted(1, 2), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def tensorflow() -> Any:
    """Import TensorFlow quietly and return it; Keras runs on it, with its defaults.

    The settings of other projects (``KERAS_BACKEND``, ``keras.json``) would give other networks, or none.

    Raises
    ------
    MissingExtraError
        TensorFlow is not installed.
    InputError
        Keras is imported on another backend already, or its settings keep it from being imported.
    """
    if not (sys.modules.get("tensorflow") and sys.modules.get("keras")):
        _import()
    import keras
    import tensorflow as tf

    found = keras.config.backend()
    if found != "tensorflow":
        raise InputError(
            f"Keras: expected the backend tensorflow, found {found}, on which this process imported it before; "
            "set KERAS_BACKEND=tensorflow for it"
        )
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    return tf


def _import() -> None:
    os.environ["KERAS_BACKEND"] = "tensorflow"  # comes before what keras.json says
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        with silence():
            import keras  # noqa: F401
            import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError(
            f"this command trains or converts networks and needs TensorFlow ({error}); "
            "install it with: pip install 'fastuq[train]'"
        ) from error
    except Exception as error:  # whatever keras.json may hold
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"Keras: cannot be imported ({reason}); its settings are no good: "
            "mend or delete keras.json in ~/.keras or $KERAS_HOME, and unset the variables KERAS_*"
        ) from error
    tf.get_logger().setLevel("ERROR")
