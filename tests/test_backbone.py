import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastuq.backbone import Backbone
from fastuq.datasets import open_images
from fastuq.errors import InputError, ModelError

TINY = Path(__file__).parent / "data" / "tiny_model"


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
    code = f"from fastuq.backbone import Backbone; Backbone({str(TINY / 'backbone.tflite')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert (done.stdout, done.stderr) == ("", "")
