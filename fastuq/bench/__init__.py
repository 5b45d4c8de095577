"""The benchmark: fastuq beside the naive loop and batched Keras and NumPy heads."""
