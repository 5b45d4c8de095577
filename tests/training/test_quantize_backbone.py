"""Networks whose images differ in activations by orders of magnitude, and what says so."""

import numpy as np
import pytest

from fastuq import cache_features, load_model, open_images, score
from fastuq.datasets import ImageSet
from fastuq.model.backbone import Backbone
from fastuq.montecarlo.reference import naive_moments
from fastuq.training import train as training
from fastuq.training.fitting import Recipe
from fastuq.training.quantize_file import quantize_file

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras on saving
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

import keras  # noqa: E402
from keras import layers as L  # noqa: E402

from fastuq.training.tflite import calibration_images, check_backbone, to_int8  # noqa: E402

COLOURS = ("red", "green", "blue")


def colours(count=96):
    """Images in a colour: one of eight bright, the others nearly black."""
    labels = np.arange(count) % 3
    pixels = np.random.default_rng(0).integers(0, 2, (count, 16, 16, 3), dtype=np.uint8)
    pixels[np.arange(count), :, :, labels] += 3
    pixels[::8] *= 60
    return ImageSet(pixels, labels, COLOURS, "colours")


def cubing():
    """A network that tells colours by cubes of their differences, 200,000 times as large in bright images."""
    inputs = keras.Input((16, 16, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(3, 1, use_bias=False, name="differences")(inputs))
    x = L.Activation("tanh")(L.Multiply()([x, L.Multiply()([x, x])]))
    network = keras.Model(inputs, L.Dense(3, activation="softmax", name="classes")(L.Dropout(0.2)(x)))
    network.get_layer("differences").set_weights([(np.eye(3) - 1 / 3).reshape(1, 1, 3, 3)])
    network.get_layer("classes").set_weights([np.eye(3) * 4, np.zeros(3)])
    return network


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    cubing().save(folder / "n.keras")
    return quantize_file(folder / "n.keras", colours(), colours(), folder / "model")


def test_images_of_all_sizes_of_activations_keep_their_classes(imported):
    made = imported.info["made"]
    assert made["data"]["agreement_one_range"] < 0.6 < 0.99 < made["data"]["agreement"]
    report = made["report"]
    assert report["accuracy_float32"] == report["accuracy_int8_backbone"] == report["accuracy_int8"] == 1
    assert report["feature_correlation"] > 0.99


def test_such_a_model_scores_as_any_other(imported, tmp_path):
    model, pixels = load_model(imported.path), np.ascontiguousarray(colours().images[:8])
    backbone = Backbone(model.read_backbone(), threads=2)
    features = backbone(pixels)
    np.testing.assert_array_equal(np.concatenate([backbone(pixels[n : n + 1]) for n in range(8)]), features)
    with cache_features(open_images(pixels), model, tmp_path / "x.h5") as cache:
        result = score(model, cache, num_iter=20)
    mean, std = naive_moments(model, backbone, pixels, num_iter=20, precision="int8")
    np.testing.assert_array_equal(mean.argmax(axis=1), np.arange(8) % 3)
    np.testing.assert_allclose(result.mean, mean, atol=1e-6)
    np.testing.assert_allclose(result.std, std, atol=1e-6)


def test_a_few_large_images_do_not_hide_what_the_others_lost():
    network = cubing()
    features = keras.Model(network.input, network.layers[-4].output)
    pixels = colours().images
    one_range = Backbone(to_int8(features, calibration_images(pixels)))
    assert check_backbone(features, one_range, pixels) < 0.5  # and 1.0 over all numbers, which is let pass


def test_training_takes_the_range_of_each_image_where_one_for_all_does_not_serve(tmp_path, monkeypatch):
    def differences(*_, **__):
        network = cubing()
        return keras.Model(network.input, network.layers[-2].input)

    monkeypatch.setattr(training, "build_backbone", differences)
    recipe = Recipe(epochs=30, learning_rate=0.05, cosine=True, weight_decay=0, batch_size=32)
    plan = training.Plan("tiny", "none", head="0.2:softmax", recipe=recipe)
    model = training.train(plan, colours(), colours(), tmp_path / "model", work=tmp_path / "work")
    report = model.info["made"]["report"]
    assert report["accuracy_float32"] == report["accuracy_int8_backbone"] == report["accuracy_int8"] == 1
    assert report["feature_correlation"] > 0.99
