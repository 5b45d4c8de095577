"""Architectures, training and quantization: the only place that imports TensorFlow."""
