"""Images in: CIFAR-100, CIFAR-100-C, folders, arrays; corruptions; downloads with checksums."""

from fastuq.datasets.imageset import ImageSet
from fastuq.datasets.opening import data_root, open_images, open_test_images

__all__ = ["ImageSet", "data_root", "open_images", "open_test_images"]
