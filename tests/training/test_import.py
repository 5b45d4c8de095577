"""Networks as people bring them: what becomes of each kind, and what is refused by name."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from fastuq import cli
from fastuq.datasets import ImageSet
from fastuq.errors import InputError, ModelError
from fastuq.model.activations import ACTIVATIONS, activation_of
from fastuq.model.backbone import Backbone
from fastuq.model.folding import Affine, Drop, fold
from fastuq.model.model import load_model
from fastuq.montecarlo.reference import naive_moments
from fastuq.training.data_check import check_on_data
from fastuq.training.front import Front
from fastuq.training.import_report import import_lines
from fastuq.training.keras_check import check_against_keras
from fastuq.training.keras_graph import open_network
from fastuq.training.keras_heads import _keras_activation
from fastuq.training.quantize_file import _described, _read_network, quantize_file
from fastuq.training.wishes import Wishes

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras on saving
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

import keras  # noqa: E402
import keras_zoo as zoo  # noqa: E402
from keras import layers as L  # noqa: E402
from keras_zoo import IMAGES, PIXELS, SIZE, ZOO, dense, gap, read, with_tail  # noqa: E402


def checked(parts, activation=None):
    return check_against_keras(parts.network.image, parts.cut, parts.head, PIXELS, activation)


# -- what gets in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ZOO)
def test_each_kind_gets_the_head_that_keras_runs(tmp_path, kind):
    make, rates = ZOO[kind]
    keras.utils.set_random_seed(1)
    parts = read(make(), tmp_path)
    assert parts.head.rates == rates
    found = checked(parts)
    assert found["plain_difference"] < 1e-5
    assert parts.class_names == tuple(f"class_{number}" for number in range(parts.head.num_classes))
    assert 0.5 < parts.cut.static_share <= 1


@pytest.mark.parametrize(("make", "close"), [(zoo.nested, 1e-5), (zoo.learnt_means, 1e-3)])
def test_the_plain_outputs_are_those_of_the_file(tmp_path, make, close):
    """Keras resizes whole numbers to whole numbers, which is left out here."""
    keras.utils.set_random_seed(1)
    network = make()
    parts = read(network, tmp_path)
    features = parts.backbone()(PIXELS.astype(np.float32), training=False).numpy()
    expected = network(PIXELS.astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(parts.head.forward(features), expected, atol=close)


def test_what_stays_behind_is_named(tmp_path):
    parts = read(zoo.stochastic_depth(), tmp_path)
    assert [call.name for call in parts.cut.off] == ["drop_path"]
    parts = read(ZOO["layers that do nothing"][0](), tmp_path)
    assert [call.kind for call in parts.cut.off] == ["GaussianNoise"]


def test_a_dropout_that_is_used_twice_is_named_where_it_is_off(tmp_path):
    twice = L.Dropout(0.2, name="twice")
    parts = read(with_tail(twice, L.MaxPooling2D(), gap(), twice, dense()), tmp_path)
    assert parts.cut.rates == {"twice": 0.2}
    assert [call.name for call in parts.cut.off] == ["twice"]
    checked(parts)


def test_a_dense_layer_that_is_used_twice(tmp_path):
    keras.utils.set_random_seed(1)
    twice = L.Dense(12, activation="relu")
    parts = read(with_tail(gap(), L.Dropout(0.2), twice, L.Dropout(0.3), twice, dense()), tmp_path)
    assert parts.head.rates == (0.2, 0.3, 0.0)
    checked(parts)


def test_mixed_precision_is_read_in_float32(tmp_path):
    parts = read(zoo.in_precision("mixed_float16"), tmp_path)
    assert {call.outputs[0].dtype for call in parts.network.calls} == {"float32"}


def test_grey_pixels_are_the_grey_of_the_colours(tmp_path):
    parts = read(ZOO["grey images"][0](), tmp_path)
    alike = np.repeat(PIXELS[..., :1], 3, axis=3).astype(np.float32)
    network = keras.models.load_model(tmp_path / "network.keras")
    expected = network(alike[..., :1], training=False).numpy()
    found = parts.head.forward(parts.backbone()(alike, training=False).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert parts.network.image.shape == (None, SIZE, SIZE, 3)


def test_colours_count_in_grey_as_the_eye_sees_them():
    image = keras.Input((SIZE, SIZE, 3))
    grey = keras.Model(image, Front().into(1)(image))(PIXELS.astype(np.float32)).numpy()
    np.testing.assert_allclose(grey[..., 0], PIXELS @ [0.299, 0.587, 0.114], atol=1)


def chain():
    return with_tail(
        gap(), L.Dropout(0.1, name="one"), dense(9, "relu", name="a"), L.Dropout(0.4, name="two"), dense(name="b")
    )


@pytest.mark.parametrize(
    ("wishes", "rates", "off"),
    [
        (Wishes(cut="a"), (0.4,), ["one"]),
        (Wishes(dropout=(0.3,)), (0.3,), ["one", "two"]),
        (Wishes(dropout=(0.2, 0.3)), (0.2, 0.3), ["one", "two"]),
        (Wishes(cut="global_average_pooling2d", dropout=(0.3,)), (0.0, 0.3), ["one", "two"]),
    ],
)
def test_cut_and_dropout_can_be_chosen(tmp_path, wishes, rates, off):
    keras.utils.set_random_seed(1)
    network = chain()
    pooling = next(layer.name for layer in network.layers if layer.name.startswith("global"))
    parts = read(network, tmp_path, wishes if wishes.cut in (None, "a") else replace(wishes, cut=pooling))
    assert parts.head.rates == rates
    assert [call.name for call in parts.cut.off] == off
    checked(parts)


@pytest.mark.parametrize("layer", ["spatial", "pool"])
def test_a_cut_beside_a_pooling(tmp_path, layer):
    network = with_tail(
        L.SpatialDropout2D(0.3, name="spatial"), L.GlobalAveragePooling2D(name="pool"), L.Dropout(0.2), dense()
    )
    parts = read(network, tmp_path, Wishes(cut=layer))
    assert parts.head.rates == (0.2,)
    assert parts.cut.features.shape == (None, 12)
    checked(parts)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("units", [1, 3])
def test_logits_get_their_activation(tmp_path, activation, units):
    network = with_tail(gap(), L.Dropout(0.3), L.Dense(units))
    wishes = Wishes(activation=activation)
    if (units, activation) == (1, "softmax"):
        with pytest.raises(InputError, match="1 units of softmax"):
            read(network, tmp_path, wishes)
        return
    parts = read(network, tmp_path, wishes)
    assert parts.logits
    checked(parts, activation)


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        (Front(rescale="1/255"), lambda x: x / 255),
        (Front(rescale="0.5"), lambda x: x / 2),
        *(
            (Front(preprocess=mode), lambda x, m=mode: keras.applications.imagenet_utils.preprocess_input(x, mode=m))
            for mode in ("tf", "torch", "caffe")
        ),
    ],
)
def test_what_people_do_outside_comes_in_front(front, expected):
    network = keras.Sequential([keras.Input((SIZE, SIZE, 3)), L.Flatten()])
    opened = open_network(network, (SIZE, SIZE, 3), front.into(3))
    found = keras.Model(opened.image, opened.output)(PIXELS.astype(np.float32)).numpy()
    wanted = np.asarray(expected(PIXELS.astype(np.float32).copy())).reshape(len(PIXELS), -1)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_keras(name):
    x = np.linspace(-8, 8, 400, dtype=np.float32).reshape(20, 20)
    theirs = _keras_activation(name)
    expected = theirs(x) if callable(theirs) else keras.activations.get(theirs)(x)
    np.testing.assert_allclose(activation_of(name).forward(x), np.asarray(expected), atol=2e-6)


def test_a_dropout_of_ones_own_takes_the_place_of_any(tmp_path):
    normalised = [gap(), L.Dropout(0.2), L.LayerNormalization()]
    between = [gap(), dense(9, "relu"), L.AlphaDropout(0.2)]
    for layers in (normalised, between, [L.SpatialDropout2D(0.1), gap()]):
        rates = (0.3, 0.2) if layers is between else (0.3,)
        parts = read(with_tail(*layers, dense()), tmp_path, Wishes(dropout=rates))
        assert parts.head.rates == rates
        checked(parts)


# -- the check against Keras -----------------------------------------------------------------------------------------


def misread(parts, change):
    """Return parts whose head was made of other steps than the network's."""
    return replace(parts, head=fold(change(list(parts.cut.steps)), parts.cut.features.shape[-1]))


@pytest.mark.parametrize(
    "change",
    [
        lambda steps: [replace(s, rate=s.rate * 0.8) if isinstance(s, Drop) else s for s in steps],
        lambda steps: [s for s in steps if not isinstance(s, Drop)],
        lambda steps: sorted(steps, key=lambda s: not isinstance(s, Affine)),  # BatchNorm before the dropout
    ],
)
def test_a_head_with_other_dropout_is_found_out(tmp_path, change):
    keras.utils.set_random_seed(1)
    parts = read(ZOO["Dropout then BatchNorm"][0](), tmp_path)
    checked(parts)
    with pytest.raises(ModelError, match="moments of the head are not those of Keras's dropout"):
        checked(misread(parts, change))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_images_are_enough(tmp_path, count):
    keras.utils.set_random_seed(1)
    parts = read(ZOO["Dropout then BatchNorm"][0](), tmp_path)
    for seed in range(4):
        check_against_keras(parts.network.image, parts.cut, parts.head, PIXELS[:count], seed=seed)
    wrong = misread(parts, lambda steps: [s for s in steps if not isinstance(s, Drop)])
    with pytest.raises(ModelError, match="moments of the head"):
        check_against_keras(wrong.network.image, wrong.cut, wrong.head, PIXELS[:count])


def test_a_head_with_other_outputs_is_found_out(tmp_path):
    parts = read(ZOO["Dropout then BatchNorm"][0](), tmp_path)
    with pytest.raises(ModelError, match="without dropout, outputs of the head differ"):
        checked(misread(parts, lambda steps: [s for s in steps if not isinstance(s, Affine)]))


# -- whole imports ---------------------------------------------------------------------------------------------------


def bright(count, seed):
    """Images that are dark or bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=count)
    pixels = rng.integers(0, 90, (count, SIZE, SIZE, 3)) + 120 * labels[:, None, None, None]
    return ImageSet(pixels.astype(np.uint8), labels, ("dark", "bright"), "bright")


def of_small_values():
    """A network that tells dark from bright by pixels from 0 to 1."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 1, activation="tanh", name="c")(inputs))
    network = keras.Model(inputs, L.Dense(1, activation="sigmoid", name="d")(L.Dropout(0.2)(x)))
    network.get_layer("c").set_weights([np.full((1, 1, 3, 4), 0.5), np.full(4, -0.6)])
    network.get_layer("d").set_weights([np.full((4, 1), 4.0), np.zeros(1)])
    return network


def test_a_binary_network_with_pixels_scaled_outside(tmp_path, capfd):
    of_small_values().save(tmp_path / "n.keras")
    images = bright(128, 0)
    wrong = quantize_file(tmp_path / "n.keras", images, None, tmp_path / "wrong")
    assert any("import it again with --rescale 1/255" in text for text in wrong.info["made"]["data"]["warnings"])
    assert wrong.info["made"]["data"]["accuracy_float32"] < 0.7
    arrays = {"images": images.images, "labels": images.labels, "class_names": np.array(images.class_names)}
    np.savez(tmp_path / "x.npz", **arrays)
    command = [
        "import",
        str(tmp_path / "n.keras"),
        "--data",
        str(tmp_path / "x.npz"),
        "--test",
        str(tmp_path / "x.npz"),
    ]
    capfd.readouterr()
    assert (
        cli.main([*command, "--rescale", "1/255", "--output", str(tmp_path / "m"), "--json", str(tmp_path / "j")]) == 0
    )
    said = capfd.readouterr()
    assert said.err == ""
    model, made = load_model(tmp_path / "m"), json.loads((tmp_path / "j").read_text())
    assert made["model_sha256"] == model.sha256
    assert made["data"]["warnings"] == []
    assert made["data"]["accuracy_float32"] == made["data"]["accuracy_int8"] == 1
    assert made["report"]["accuracy_int8_backbone"] == 1
    assert model.class_names == ("dark", "bright")
    assert "cut         after global_average_pooling2d" in said.out
    assert "accuracy float32 100.00%   int8 100.00%" in said.out


def test_a_backbone_that_leads_to_other_classes_is_said_to(tmp_path):
    keras.utils.set_random_seed(1)
    parts = read(zoo.nested(), tmp_path)
    exact = parts.backbone()(PIXELS.astype(np.float32), training=False).numpy()

    class Runner:
        scale, zero_point = float(exact.max() / 255), -128

        def __init__(self, features):
            self.features = features

        def __call__(self, pixels):
            return np.clip(np.rint(self.features / self.scale) - 128, -128, 127).astype(np.int8)

    images = ImageSet(PIXELS, None, None, "noise")
    for features, warnings in ((exact, 0), (exact.max() - exact, 1)):
        found = check_on_data(parts.backbone(), Runner(features), parts.head, images, Front())
        assert len(found["warnings"]) == warnings
        assert (found["agreement"] < 0.8) == bool(warnings)


def test_a_head_that_looks_its_codes_up_goes_whole_through_the_reference(tmp_path):
    keras.utils.set_random_seed(1)
    network = ZOO["BatchNorm behind an activation"][0]()
    network.save(tmp_path / "n.keras")
    model = load_model(quantize_file(tmp_path / "n.keras", IMAGES, None, tmp_path / "model").path)
    assert model.head_int8.blocks[0].table is not None
    backbone = Backbone(model.backbone_path)
    mean, std = naive_moments(model, backbone, PIXELS[:6], num_iter=20, precision="int8")
    exact, spread = naive_moments(model, backbone, PIXELS[:6], num_iter=20, precision="float32")
    np.testing.assert_allclose(mean, exact, atol=0.01)
    np.testing.assert_allclose(std, spread, atol=0.01)
    assert spread.max() > 0.02


def test_an_h5_file_is_read_without_its_code(tmp_path):
    marker = str(tmp_path / "executed")
    zoo.sequential().save(tmp_path / "n.h5")
    assert _read_network(tmp_path / "n.h5", IMAGES, Wishes()).head.rates == (0.25, 0.5)
    code = eval("lambda x: (open(marker, 'w').close(), x)[1]", {"marker": marker})
    inputs = keras.Input((SIZE, SIZE, 3))
    keras.Model(inputs, dense()(gap()(L.Lambda(code, output_shape=(SIZE, SIZE, 3))(inputs)))).save(tmp_path / "evil.h5")
    (tmp_path / "executed").unlink(missing_ok=True)
    with pytest.raises(InputError, match="without code of its own"):
        _read_network(tmp_path / "evil.h5", IMAGES, Wishes())
    assert not (tmp_path / "executed").exists()


def _as_keras2(path):
    """Write the file again as Keras 2 did: nodes as lists, a list of outputs, settings that Keras 3 has no more."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layers = config["config"]["layers"]
        for before, layer in zip([None, *layers], layers, strict=False):
            settings = layer["config"]
            settings["dtype"] = "float32"
            if before is None:
                settings["batch_input_shape"] = settings.pop("batch_shape")
            if layer["class_name"] == "DepthwiseConv2D":
                settings["groups"] = 1
            if layer["class_name"] == "BatchNormalization":
                settings["axis"] = [1]
            layer["inbound_nodes"] = [] if before is None else [[[before["name"], 0, 0, {}]]]
        ends = {"input_layers": [[layers[0]["name"], 0, 0]], "output_layers": [[layers[-1]["name"], 0, 0]]}
        config = {"class_name": "Functional", "config": {"name": "old", "layers": layers, **ends}}
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = b"2.4.0"


def test_an_h5_file_of_keras_2_with_a_dropout_of_its_own(tmp_path):
    class MCDropout(L.Dropout):
        pass

    inputs = keras.Input((SIZE, SIZE, 3))
    x = L.Flatten()(L.AveragePooling2D(SIZE - 2)(L.DepthwiseConv2D(3)(inputs)))
    x = L.BatchNormalization()(L.Dense(5)(MCDropout(0.25)(x)))
    network = keras.Model(inputs, L.Dense(3, activation="softmax")(L.Activation("relu")(x)))
    network.save(tmp_path / "n.h5")
    _as_keras2(tmp_path / "n.h5")
    read = _read_network(tmp_path / "n.h5", IMAGES, Wishes())
    assert read.head.rates == (0.25, 0)
    expected = np.asarray(network(PIXELS.astype(np.float32)))
    features = np.asarray(read.backbone()(PIXELS.astype(np.float32)))
    np.testing.assert_allclose(read.head.forward(features), expected, atol=1e-5)
    chosen = _read_network(tmp_path / "n.h5", IMAGES, Wishes(dropout=(0.1,)))
    assert chosen.head.rates == (0.1,)


def test_an_h5_file_without_a_network_is_refused(tmp_path):
    zoo.sequential().save_weights(tmp_path / "n.weights.h5")
    with pytest.raises(InputError, match="weights alone"):
        _read_network(tmp_path / "n.weights.h5", IMAGES, Wishes())


def test_dropout_inside_of_another_layer_is_named(tmp_path):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = gap()(L.TimeDistributed(L.Dropout(0.5), name="wrapped")(inputs))
    parts = read(keras.Model(inputs, dense()(L.Dropout(0.2)(x))), tmp_path)
    assert [call.name for call in parts.cut.off] == ["wrapped"]


def test_no_dropout_is_said_plainly(tmp_path):
    parts = read(ZOO["no dropout"][0](), tmp_path)
    made = {"cut": _described(parts.cut), "checked": checked(parts), "training_images": "noise"}
    made["data"] = {"images": 3, "agreement": 1.0, "warnings": ["w"]}
    text = "\n".join(import_lines(made, parts.head))
    assert "warning     no dropout in the head" in text
    assert "warning     w" in text
