"""Weights files in the layout in which Keras publishes them: the networks are those of `keras.applications`."""

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from fastuq.errors import InputError
from fastuq.training.networks import NETWORKS, build_backbone, image_size_for

keras = pytest.importorskip("keras", reason="needs TensorFlow: pip install 'fastuq[train]'")

SHAPE = (64, 64, 3)
IMAGENET = {"mean": np.array([0.485, 0.456, 0.406]), "variance": np.square([0.229, 0.224, 0.225])}
"""What EfficientNet-B0's file has for the first layer."""


def write_published(file, model):
    """Write random weights for a Keras model in the layout of the published files."""
    rng = np.random.default_rng(0)
    with h5py.File(file, "w") as out:
        out.attrs["layer_names"] = [layer.name for layer in model.layers]
        for layer in model.layers:
            group = out.create_group(layer.name)
            variables = layer.trainable_weights + layer.non_trainable_weights
            group.attrs["weight_names"] = [f"{layer.name}/{variable.name}:0" for variable in variables]
            for variable in variables:
                fan = variable.shape[:2] if "depthwise" in type(layer).__name__.lower() else variable.shape[:-1]
                values = rng.normal(0, np.prod(fan, dtype=float) ** -0.5, variable.shape)
                if variable.name in ("gamma", "moving_variance"):
                    # Activations neither vanish nor explode on their way through the network.
                    values = (0.6 if variable.name == "gamma" else 0.2) + 0.2 * rng.random(variable.shape)
                values = IMAGENET.get(variable.name, values)
                group[f"{layer.name}/{variable.name}:0"] = values.astype(np.float32)


def read(model, images):
    """Return the features of a model, which must tell the images apart."""
    features = model.predict(images, verbose=0)
    assert features.std(axis=0).mean() > 1e-3 * np.abs(features).mean()
    return features


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.float32)


def test_resnet50_is_that_of_keras_applications(images, tmp_path):
    theirs = keras.applications.ResNet50(include_top=False, pooling="avg", weights=None, input_shape=SHAPE)
    write_published(tmp_path / "weights.h5", theirs)
    theirs.load_weights(tmp_path / "weights.h5")
    wanted = read(theirs, keras.applications.resnet.preprocess_input(images.copy()))
    backbone = build_backbone("resnet50", weights=str(tmp_path / "weights.h5"), input_shape=SHAPE, image_size=64)
    np.testing.assert_allclose(read(backbone, images), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_efficientnet_b0_takes_a_file_as_keras_applications_takes_what_it_downloads(images, tmp_path, monkeypatch):
    from keras.src.applications import efficientnet

    file = str(tmp_path / "weights.h5")
    write_published(file, build_backbone("efficientnet_b0", input_shape=SHAPE, image_size=64))
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: file)
    theirs = keras.applications.EfficientNetB0(include_top=False, pooling="avg", input_shape=SHAPE)
    wanted = read(theirs, images)
    for weights in (file, "imagenet"):
        backbone = build_backbone("efficientnet_b0", weights=weights, input_shape=SHAPE, image_size=64)
        np.testing.assert_allclose(read(backbone, images), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


def cut(file):
    file.write_bytes(file.read_bytes()[:-2000])


def of_another_network(file):
    write_published(file, build_backbone("tiny"))


def of_other_units(file):
    with h5py.File(file, "r+") as content:
        del content["c/c/kernel:0"]
        content["c/c/kernel:0"] = np.zeros((3, 3, 3, 9), np.float32)


def not_a_number(file):
    with h5py.File(file, "r+") as content:
        content["c/c/bias:0"][0] = np.nan


def without_a_layout(file):
    with h5py.File(file, "w") as content:
        content["weights"] = np.ones(3)


def with_code(file):
    file.write_bytes(pickle.dumps(Evil()))


SPOILT = (cut, of_another_network, of_other_units, not_a_number, without_a_layout, with_code)


@pytest.fixture
def small(monkeypatch):
    """Put a small network in place of EfficientNet-B0, which reads its file as that does."""

    def build(image, size, weights):
        resized = keras.layers.Resizing(size, size, name="resize")(image)
        features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, name="c")(resized))
        if weights is not None:
            keras.Model(image, features).load_weights(weights)
        return features

    monkeypatch.setitem(NETWORKS, "efficientnet_b0", replace(NETWORKS["efficientnet_b0"], build=build))


@pytest.mark.usefixtures("small")
def test_weights_that_say_their_size_are_built_in_it_and_in_no_other(tmp_path):
    file = tmp_path / "weights.h5"
    write_published(file, build_backbone("efficientnet_b0"))
    for recorded, wanted, size in ((None, None, 224), (None, 48, 48), (64, None, 64), (64, 64, 64), ("big", None, 224)):
        with h5py.File(file, "r+") as content:
            if recorded is not None:
                content.attrs["image_size"] = recorded
        backbone = build_backbone("efficientnet_b0", weights=str(file), image_size=wanted)
        assert backbone.get_layer("resize").output.shape[1:3] == (size, size)
    with h5py.File(file, "r+") as content:
        content.attrs["image_size"] = 64
    assert image_size_for("efficientnet_b0", str(file), None) == 64
    with pytest.raises(InputError, match=r"weights\.h5: trained on images of 64 x 64, found --network-size 224"):
        build_backbone("efficientnet_b0", weights=str(file), image_size=224)
    with h5py.File(file, "r+") as content:
        content.attrs["image_size"] = 5000
    with pytest.raises(
        InputError, match=r"weights\.h5: image_size: expected a whole number from 32 to 1024, found 5000"
    ):
        build_backbone("efficientnet_b0", weights=str(file))
    cut(file)
    assert image_size_for("efficientnet_b0", str(file), None) == 224  # and building says what is wrong


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("spoil", SPOILT)
def test_files_that_do_not_fit_are_refused_in_one_line(spoil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights.h5"
    write_published(file, build_backbone("efficientnet_b0"))
    build_backbone("efficientnet_b0", weights=str(file))
    spoil(file)
    with pytest.raises(InputError, match=r"weights\.h5") as caught:
        build_backbone("efficientnet_b0", weights=str(file))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()
