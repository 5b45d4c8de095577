"""The backbone of an import in int8: one range for all images where that serves, else the range of each image."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.datasets import ImageSet
from fastuq.model.backbone import Backbone
from fastuq.model.coding import Coding
from fastuq.model.head import Head
from fastuq.training.data_check import check_on_data
from fastuq.training.front import Front
from fastuq.training.tflite import coded, predictor, to_int8, to_int8_by_image

_ENOUGH = 0.95
"""Share of images of the same class in float and int8 from which on one range for all images serves."""


@dataclass(frozen=True)
class QuantizedBackbone:
    """A backbone in float and in int8, and the head on it.

    Attributes
    ----------
    network : keras.Model
        In float. Where the ranges are those of each image, its outputs are the codes before they are rounded.
    data : bytes
        In int8.
    runner : Backbone
        Of `data`.
    head : Head
        On the outputs of `network`.
    found : dict
        What `check_on_data` found; with ``agreement_one_range`` where the ranges are those of each image.
    """

    network: Any
    data: bytes
    runner: Backbone
    head: Head
    found: dict[str, Any]

    @property
    def by_image(self) -> bool:
        """Whether activations are rounded in the range of each image."""
        return "agreement_one_range" in self.found


def quantize_backbone(
    network: Any, head: Head, calibration: np.ndarray, images: ImageSet, front: Front, threads: int | None
) -> QuantizedBackbone:
    """Quantize a backbone with one range for all images, or, where its head sees another class then, without.

    Parameters
    ----------
    network : keras.Model
        The float backbone.
    head : Head
    calibration : ndarray, (M, H, W, 3), uint8
    images : ImageSet
        What `check_on_data` draws from.
    front : Front
    """

    def made(network: Any, data: bytes, head: Head) -> QuantizedBackbone:
        runner = Backbone(data, threads=threads)
        return QuantizedBackbone(network, data, runner, head, check_on_data(network, runner, head, images, front))

    one_range = made(network, to_int8(network, calibration), head)
    if one_range.found["agreement"] >= _ENOUGH:
        return one_range
    coding = Coding.spanning(predictor(network)(calibration))
    codes = coded(network, coding)
    by_image = made(codes, to_int8_by_image(codes), head.after(coding.scale, coding.offset))
    if by_image.found["agreement"] <= one_range.found["agreement"]:
        return one_range
    by_image.found["agreement_one_range"] = one_range.found["agreement"]
    return by_image
