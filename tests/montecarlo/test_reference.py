"""The fast path equals the naive loop on real images: the same moments and the same decisions."""

import numpy as np
import pytest
from places import TINY

from fastuq.cache import cache_features
from fastuq.datasets import open_images
from fastuq.errors import InputError
from fastuq.model.backbone import Backbone
from fastuq.model.model import load_model
from fastuq.montecarlo.engine import moments
from fastuq.montecarlo.reference import naive_moments
from fastuq.scoring.decisions import decide, interval, ternary_vector
from fastuq.util.bundled import bundled_path


@pytest.fixture(scope="module")
def images():
    return open_images("bundled")


def decided(mean, std):
    lower, upper = interval(mean, std, 0.7)
    return decide(ternary_vector(lower, upper, 0.5), mean)


def check_equal(model, images, folder, num_iter, masks, precision, xnnpack=True):
    """Naive loop on pixels against the fast path through a cache file."""
    pixels = np.ascontiguousarray(images.images)
    backbone = Backbone(model.backbone_path, xnnpack=xnnpack)
    options = {"num_iter": num_iter, "seed": 11, "masks": masks, "precision": precision}
    mean, std = naive_moments(model, backbone, pixels, **options)
    if xnnpack:
        with cache_features(images, model, folder / "features.h5") as cache:
            features = cache.read(0, len(cache))
    else:
        features = backbone(pixels)
    found = moments(model, features, **options)
    assert np.abs(found.mean - mean).max() <= 1e-5
    assert np.abs(found.std - std).max() <= 1e-5
    assert std.max() > 0.01, "masks must make a difference"
    ours, theirs = decided(found.mean, found.std), decided(mean, std)
    assert np.array_equal(ours.keep, theirs.keep)
    assert np.array_equal(ours.reason, theirs.reason)
    assert np.array_equal(ours.positive, theirs.positive)


def unlabelled(images, count):
    return type(images)(images.images[:count], None, None, images.name)


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_tiny_model(images, tmp_path, masks, precision):
    check_equal(load_model(TINY), unlabelled(images, 20), tmp_path, 12, masks, precision)


def test_without_the_delegate(images, tmp_path):
    check_equal(load_model(TINY), unlabelled(images, 4), tmp_path, 5, "shared", "int8", xnnpack=False)


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_bundled_model(images, tmp_path, masks, precision):
    count = 20 if (masks, precision) == ("shared", "int8") else 4
    check_equal(load_model(bundled_path("model")), images.subset(0, count), tmp_path, 50, masks, precision)


def test_efficientnet_b0_of_the_paper(images, tmp_path):
    folder = bundled_path("models/efficientnet-b0-cifar100")
    if not folder.is_dir():
        pytest.skip("needs data/models of the repository, which is in no package")
    check_equal(load_model(folder), images.subset(0, 2), tmp_path, 10, "shared", "int8")


def test_resnet50_of_the_paper(images, tmp_path, monkeypatch):
    """With all its layers, on pictures of 64 in place of 224 pixels, which changes nothing of what is compared."""
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
    import keras

    from fastuq.training import finish_model, random_model
    from fastuq.training.tflite import to_int8

    made = []
    # The network with its head in one file takes another half a minute to make, and is not looked at here.
    monkeypatch.setattr(random_model, "to_int8", lambda *given: made.append(to_int8(*given)) or made[0])
    monkeypatch.setattr(finish_model, "to_int8", lambda *given: made[0])
    monkeypatch.setattr(finish_model, "float_size", lambda network: 1)
    monkeypatch.setattr(random_model, "_IMAGES", 8)
    resizing = keras.layers.Resizing
    monkeypatch.setattr(keras.layers, "Resizing", lambda height, width, **options: resizing(64, 64, **options))
    model = random_model.random_model("resnet50", tmp_path / "model", class_names=images.class_names)
    assert model.head.widths == (2048, 300)
    check_equal(model, images.subset(0, 2), tmp_path, 10, "shared", "int8")


def test_an_iteration_depends_on_its_masks_alone(images):
    """The loop's own promise: a longer run begins with the iterations of a shorter one, whatever the batch."""
    model, backbone = load_model(TINY), Backbone(TINY / "backbone.tflite")
    pixels = np.ascontiguousarray(images.images[:3])
    mean2, _ = naive_moments(model, backbone, pixels, num_iter=2, masks="per_sample")
    mean3, _ = naive_moments(model, backbone, pixels, num_iter=3, masks="per_sample")
    alone, _ = naive_moments(model, backbone, pixels[2:], num_iter=2, masks="per_sample", sample_ids=np.array([2]))
    assert np.array_equal(alone[0], mean2[2])
    third = 3 * mean3.astype(float) - 2 * mean2.astype(float)
    assert ((third > -1e-4) & (third < 1 + 1e-4)).all()


def test_unknown_options_are_refused(images):
    with pytest.raises(InputError):
        naive_moments(load_model(TINY), Backbone(TINY / "backbone.tflite"), images.images[:1], masks="none")
