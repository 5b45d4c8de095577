"""Heads rounded to int8 by few calibration features, and the comparison with float32 that every import ends with."""

from dataclasses import replace

import numpy as np
import pytest
from heads import random_features, random_head
from tflite_files import FOLDER, images

from fastuq.datasets import open_images
from fastuq.model.backbone import Backbone
from fastuq.model.tflite_dense import dense_layers
from fastuq.model.tflite_graph import Graph
from fastuq.model.tflite_heads import heads_of
from fastuq.training.head_check import check_head, head_lines
from fastuq.training.head_rounding import FEW_ROWS, quantize_head
from fastuq.training.import_tflite import import_tflite

SCALE, ZERO_POINT = 0.05, -128
LAYOUTS = {
    "relu": [(24, 16, 0.5, "relu"), (16, 4, 0.2, "softmax")],
    "gelu": [(24, 16, 0.2, "gelu"), (16, 4, 0.5, "softmax")],
    "tanh": [(24, 16, 0.5, "tanh"), (16, 4, 0.5, "sigmoid")],
}


@pytest.mark.parametrize("count", [1, 8, 64])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_few_rows_see_many_masks(layout, count):
    head, features = random_head(layout), random_features(count, 24)
    found = check_head(head, quantize_head(head, features, SCALE, ZERO_POINT), features, SCALE, ZERO_POINT)
    assert max(found["mean_difference"], found["std_difference"]) < 0.012
    assert found["rows"] == count
    assert len(head_lines(found)) == 1


def test_few_rows_narrow_no_range():
    head = random_head(LAYOUTS["relu"])
    faint = np.full((FEW_ROWS, 24), -120, np.int8)
    ends = np.array([[-128], [127]]) * np.ones((1, 24))
    few, enough = (quantize_head(head, rows, SCALE, ZERO_POINT) for rows in (faint[1:], faint))
    for rounded, cut in ((few, False), (enough, True)):
        assert (np.abs(ends * rounded.input_scale + rounded.input_shift).max() > 130) == cut


def test_what_rounding_costs_is_measured():
    head = random_head([(24, 4, 0.0, "sigmoid")])
    features = random_features(40, 24)
    rounded = quantize_head(head, features, SCALE, ZERO_POINT)
    shifted = replace(rounded, blocks=(replace(rounded.blocks[0], bias=rounded.blocks[0].bias + np.float32(1)),))
    found = check_head(head, shifted, features, SCALE, ZERO_POINT)
    exact = head.forward(np.float32(SCALE) * (features.astype("f4") - ZERO_POINT))
    assert found["mean_difference"] == pytest.approx(np.abs(shifted.forward(features) - exact).max(), abs=1e-3)
    assert (found["std_difference"], found["bound"]) == (0, 0.01)
    assert "warning     that is more than the Monte-Carlo error" in head_lines(found)[1]


@pytest.mark.parametrize("data", [None, 5, 100])
def test_codes_between_the_layers_of_a_file_reach_as_far_as_dropout(tmp_path, data):
    rates = [0.6, 0.1]
    shown = None if data is None else open_images(images(data))
    model = import_tflite(FOLDER / "two_layers.tflite", tmp_path / "model", dropout=rates, images=shown)
    backbone = Backbone(model.read_backbone())
    features = backbone(images(100, seed=7))
    of_file = heads_of(dense_layers(Graph((FOLDER / "two_layers.tflite").read_bytes(), "two_layers")), rates)
    found, before = (
        check_head(model.head, each, features, backbone.scale, backbone.zero_point)
        for each in (model.head_int8, of_file.head_int8)
    )
    assert found["mean_difference"] < 0.015 < 0.025 < before["mean_difference"]
    assert model.info["made"]["report"]["head_int8"]["mean_difference"] < 0.015
    for block, own in zip(model.head_int8.blocks, of_file.head_int8.blocks, strict=True):
        assert np.array_equal(block.weights, own.weights)


def test_one_dark_image_narrows_no_range(tmp_path):
    steps = [
        import_tflite(
            FOLDER / "one_layer.tflite", tmp_path / "model", dropout=[0.2], images=open_images(images(count, high=40))
        ).info["made"]["report"]["input_step"]
        for count in (1, FEW_ROWS)
    ]
    assert steps[0] == pytest.approx(255 / 127)
    assert steps[1] == 1
