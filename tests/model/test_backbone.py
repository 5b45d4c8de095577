import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from places import GOLDEN, TINY

from fastuq.datasets import open_images
from fastuq.errors import InputError, ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.image_input import pixel_codes

# What TensorFlow makes of keras.applications.vgg16.preprocess_input and average pooling: the mean of each channel, less
# a constant. Its input has scale 1.485 and zero point 83.
CAFFE = GOLDEN / "caffe_backbone.tflite"


@pytest.fixture(scope="module")
def images():
    return np.ascontiguousarray(open_images("bundled").images)


@pytest.mark.parametrize("xnnpack", [True, False])
def test_features_do_not_depend_on_threads_or_batches(images, xnnpack):
    one = Backbone(TINY / "backbone.tflite", threads=1, xnnpack=xnnpack)
    alone = np.concatenate([one(images[n : n + 1]) for n in range(len(images))])
    assert alone.dtype == np.int8
    assert len(np.unique(alone)) > 10
    for threads in (1, 2, 5):
        backbone = Backbone((TINY / "backbone.tflite").read_bytes(), threads=threads, xnnpack=xnnpack)
        assert np.array_equal(backbone(images), alone)
        assert np.array_equal(backbone(images[3:16]), alone[3:16])
        assert np.array_equal(backbone(images[7:8]), alone[7:8])


def test_what_it_says_of_itself(images):
    features, full = Backbone(TINY / "backbone.tflite"), Backbone(TINY / "full.tflite", xnnpack=False)
    assert features.input_shape == full.input_shape == (32, 32, 3)
    assert features.output_shape == features(images).shape[1:] == (32,)
    assert features.scale > 0
    assert -128 <= features.zero_point <= 127
    assert set(features.runtime) == {"litert", "delegate"}
    assert (features.runtime["delegate"], full.runtime["delegate"]) == ("xnnpack", "none")


def test_no_images_give_no_features():
    assert Backbone(TINY / "backbone.tflite")(np.empty((0, 32, 32, 3), np.uint8)).shape == (0, 32)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 32, 32, 3)), np.zeros((2, 31, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8), [[0]]],
)
def test_wrong_images_are_refused(wrong):
    with pytest.raises(InputError, match=r"takes uint8 \(N, 32, 32, 3\), found"):
        Backbone(TINY / "backbone.tflite")(wrong)


def test_a_foreign_or_cut_file_is_refused(tmp_path):
    whole = (TINY / "backbone.tflite").read_bytes()
    for content in (b"", b"no network at all", whole[: len(whole) // 2], bytes(len(whole))):
        with pytest.raises(ModelError, match="expected a TFLite network"):
            Backbone(content)
    with pytest.raises(ModelError, match="cannot be read"):
        Backbone(tmp_path / "none.tflite")
    with pytest.raises(InputError, match="threads"):
        Backbone(whole, threads=0)


def test_the_delegate_says_nothing():
    code = f"from fastuq.model.backbone import Backbone; Backbone({str(TINY / 'backbone.tflite')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("threads", [1, 3])
def test_pixels_go_through_the_scale_of_the_input(images, threads):
    backbone = Backbone(CAFFE, threads=threads)
    expected = images[..., ::-1].mean(axis=(1, 2)) - [103.939, 116.779, 123.68]
    found = np.concatenate([backbone(images[:1]), backbone(images[1:])])
    real = backbone.scale * (found.astype(float) - backbone.zero_point)
    assert np.abs(real - expected).max() < 1  # a step of the features is 0.65


def test_an_input_that_cannot_hold_pixels_is_refused():
    scale = struct.pack("<f", 1.4850196)
    for other in (1 / 255, 1.0, 1.4):
        with pytest.raises(ModelError, match="holds the pixels 0 to 255, or 0 to 1, or -1 to 1, found"):
            Backbone(CAFFE.read_bytes().replace(scale, struct.pack("<f", other)))


@pytest.mark.parametrize(
    ("scales", "zero_points"),
    [
        ([0.0], [0]),
        ([-1.0], [255]),
        ([np.nan], [0]),
        ([np.inf], [0]),
        ([1.0], [30]),
        ([0.85], [0]),
        ([1.0] * 3, [0] * 3),
    ],
)
def test_impossible_input_scales_are_refused(scales, zero_points):
    with pytest.raises(ModelError, match="network: expected an input that holds the pixels"):
        pixel_codes({"scales": np.array(scales, np.float32), "zero_points": np.array(zero_points)}, "network")


@pytest.mark.parametrize(("scale", "zero_point"), [(1.0, 0), (1.0000001, 0), (1.485, 83), (2.5, 140), (3.0, 0)])
def test_every_pixel_is_within_half_a_step_of_its_code(scale, zero_point):
    codes = pixel_codes({"scales": np.array([scale], np.float32), "zero_points": np.array([zero_point])}, "network")
    codes = np.arange(256, dtype=np.uint8) if codes is None else codes
    assert codes.dtype == np.uint8
    assert np.abs(scale * (codes.astype(float) - zero_point) - np.arange(256)).max() <= scale / 2 + 1e-4


def test_inputs_without_quantization_take_pixels_as_they_are():
    assert pixel_codes({"scales": np.array([], np.float32), "zero_points": np.array([], np.int32)}, "network") is None


@pytest.mark.parametrize(("low", "high"), [(0, 248), (0, 0.96), (-1, 0.95), (-0.96, 1)])
def test_pixels_that_were_not_calibrated_on_saturate(low, high):
    scale = (high - low) / 255
    zero_point = round(-low / scale)
    codes = pixel_codes({"scales": np.array([scale], np.float32), "zero_points": np.array([zero_point])}, "network")
    pixels = np.arange(256)
    meant = pixels if high > 1 else pixels / 255 if low == 0 else pixels / 127.5 - 1
    reached = np.clip(meant, scale * -zero_point, scale * (255 - zero_point))
    assert (np.abs(scale * (codes - float(zero_point)) - reached) <= 0.501 * scale).all()
