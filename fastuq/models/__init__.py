"""Architectures, training and quantization: the only place that imports TensorFlow."""

from fastuq.models.heads import keras_head
from fastuq.models.random import random_model

__all__ = ["keras_head", "random_model"]
