"""TensorFlow without its chatter."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from fastuq.errors import MissingExtraError
from fastuq.process import muted


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed and warned inside the block; TensorFlow's C++ prints past ``sys.stderr``."""
    _flush()
    with muted(1, 2), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            _flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def tensorflow() -> Any:
    """Import TensorFlow quietly and return it.

    Raises
    ------
    MissingExtraError
        TensorFlow is not installed.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        with silence():
            import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError(
            f"this command trains or converts networks and needs TensorFlow ({error}); "
            "install it with: pip install 'fastuq[train]'"
        ) from error
    tf.get_logger().setLevel("ERROR")
    return tf
