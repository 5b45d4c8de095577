"""What `fastuq import` refuses: in one line, by the name of the layer, most of it before TensorFlow is loaded."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from fastuq.datasets import ImageSet
from fastuq.errors import InputError, ModelError
from fastuq.training.front import Front
from fastuq.training.keras_file import check_file
from fastuq.training.quantize_file import _read_network, quantize_file
from fastuq.training.wishes import Wishes

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras on saving
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

import keras  # noqa: E402
import keras_zoo as zoo  # noqa: E402
from keras import layers as L  # noqa: E402
from keras_zoo import CLASSES, IMAGES, PIXELS, SIZE, dense, gap, read, with_tail  # noqa: E402


def two_inputs():
    a, b = keras.Input((SIZE, SIZE, 3)), keras.Input((SIZE, SIZE, 3))
    return keras.Model([a, b], dense()(L.Dropout(0.2)(gap()(L.Add()([a, b])))))


def two_outputs():
    network = base = zoo.base()
    x = gap()(base.output)
    return keras.Model(network.input, [dense()(x), dense()(L.Dropout(0.2)(x))])


def tabular():
    return keras.Sequential([keras.Input((20,)), L.Dense(9), L.Dropout(0.2), dense()])


class Own(L.Layer):
    def call(self, x):
        return x


class ManyDropouts(L.Dropout):
    """A dropout that does more than force training."""

    def __init__(self, rate, passes=3, **options):
        super().__init__(rate, **options)
        self.passes = passes

    def get_config(self):
        return {**super().get_config(), "passes": self.passes}


class MCAlphaDropout(L.AlphaDropout):
    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


class OwnNetwork(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = dense()

    def call(self, x):
        return self.last(keras.ops.mean(x, axis=(1, 2)))


def quantized():
    network = with_tail(gap(), L.Dropout(0.2), dense(name="last"))
    network.layers[-1].quantize("int8")
    return network


def own_network():
    network = OwnNetwork()
    network(PIXELS.astype(np.float32))
    return network


BEFORE = {
    "two inputs": (two_inputs, "expected one input, found 2"),
    "two outputs": (two_outputs, "expected one output, found 2"),
    "tabular": (tabular, r"takes inputs \(20,\), expected images"),
    "another size": (lambda: keras.Sequential([keras.Input((8, 8, 3)), gap(), dense()]), r"takes images \(8, 8, 3\)"),
    "a layer of its own": (
        lambda: with_tail(Own(name="mine"), gap(), dense()),
        r"layer mine \(Own\) has code of its own",
    ),
    "a dropout that does more": (
        lambda: with_tail(gap(), ManyDropouts(0.2, name="many"), dense()),
        r"layer many \(ManyDropouts\) has code of its own",
    ),
    "another kind of dropout with code of its own": (
        lambda: with_tail(gap(), MCAlphaDropout(0.2, name="own"), dense()),
        r"layer own \(MCAlphaDropout\) has code of its own",
    ),
    "weights that Keras quantized": (quantized, "layer last: its weights are quantized by Keras"),
    "a network of its own": (own_network, "is a OwnNetwork, which is code of its own"),
    "logits": (lambda: with_tail(gap(), L.Dropout(0.2), L.Dense(3)), "ends in 3 logits.*--activation softmax"),
    "LayerNormalization after the dropout": (
        lambda: with_tail(gap(), L.Dropout(0.2, name="lost"), L.LayerNormalization(name="ln"), dense()),
        r"\(lost\) can be in a head: layer ln \(LayerNormalization\).*--dropout RATE",
    ),
    "UnitNormalization after the dropout": (
        lambda: with_tail(gap(), L.Dropout(0.2), L.UnitNormalization(name="un"), dense()),
        r"layer un \(UnitNormalization\)",
    ),
    "PReLU": (lambda: with_tail(gap(), L.Dropout(0.2), L.Dense(5), L.PReLU(name="p"), dense()), r"layer p \(PReLU\)"),
    "AlphaDropout": (
        lambda: with_tail(gap(), L.AlphaDropout(0.2, name="alpha"), dense()),
        r"\(alpha\) can be in a head: layer alpha \(AlphaDropout\).*--dropout RATE",
    ),
    "GaussianDropout": (
        lambda: with_tail(gap(), L.GaussianDropout(0.2, name="gauss"), dense()),
        r"layer gauss \(GaussianDropout\)",
    ),
    "no vector after the dropout": (
        lambda: with_tail(
            L.Dropout(0.2), L.Conv2D(CLASSES, 1), L.MaxPooling2D(4, name="pool"), L.Flatten(), L.Softmax()
        ),
        r"layer pool \(MaxPooling2D\).*put a Dense layer after its pooling",
    ),
    "stochastic depth alone": (
        lambda: with_tail(
            L.Dropout(0.2, noise_shape=(None, 1, 1, 1), name="path"), L.MaxPooling2D(name="mp"), gap(), dense()
        ),
        r"\(path\) can be in a head: layer mp",
    ),
}
"""What the file alone shows."""

AFTER = {
    "units of a map dropped before pooling": (
        lambda: with_tail(L.Dropout(0.2, name="lost"), L.GlobalAveragePooling2D(name="pool"), dense()),
        r"\(lost\) can be in a head: layer pool \(GlobalAveragePooling2D\) works on a map",
    ),
    "a convolution of a map": (
        lambda: with_tail(
            L.Dropout(0.2), L.Conv2D(CLASSES, 1, name="c"), L.GlobalMaxPooling2D(name="pool"), L.Softmax()
        ),
        "layer pool.*put a Dense layer after its pooling",
    ),
    "dropout after the last dense layer": (
        lambda: with_tail(gap(), dense(), L.Dropout(0.2, name="late")),
        "dropout late comes after the last dense layer.*--dropout RATE",
    ),
    "the same mask for all images": (
        lambda: with_tail(gap(), L.Dropout(0.2, noise_shape=(1, 12), name="d"), dense()),
        r"layer d \(Dropout\) drops units together",
    ),
    "Flatten with channels first": (
        lambda: with_tail(L.Dropout(0.2), L.Flatten(data_format="channels_first", name="f"), dense()),
        r"layer f \(Flatten\) puts the channels first",
    ),
    "a softmax over rows": (
        lambda: with_tail(
            L.GlobalAveragePooling2D(keepdims=True), L.Dropout(0.2), L.Conv2D(4, 1), L.Softmax(axis=1, name="s")
        ),
        "softmax over axis 1",
    ),
    "another top": (
        lambda: with_tail(gap(), L.Dropout(0.2), L.Dense(5), L.ReLU(3.0, name="r"), dense()),
        r"layer r \(ReLU\) is a ReLU with a threshold",
    ),
    "an unknown activation": (
        lambda: with_tail(gap(), L.Dropout(0.2), dense(5, "softsign", name="s"), dense()),
        r"layer s \(Dense\) has the activation softsign",
    ),
    "a high rate": (lambda: with_tail(gap(), L.Dropout(0.95, name="d"), dense()), "layer d: expected a dropout rate"),
    "softmax in the middle": (
        lambda: with_tail(gap(), L.Dropout(0.2), dense(5), dense(name="late")),
        "layer late: comes after a softmax",
    ),
    "an end that is no probability": (
        lambda: with_tail(gap(), L.Dropout(0.2), dense(3, "tanh")),
        "3 units of tanh",
    ),
    "no dense layer": (lambda: with_tail(gap(), L.Softmax()), "expected a dense layer at the end of the network"),
    "a head that is too wide": (
        lambda: with_tail(L.UpSampling2D(20, name="up"), L.Flatten(), L.Dropout(0.5), dense()),
        "after up with 76800 features, expected at most 65536; cut later",
    ),
    "one class": (lambda: with_tail(gap(), L.Dropout(0.2), dense(1, "softmax")), "1 units of softmax"),
}
"""What the opened network shows."""


@pytest.mark.parametrize("kind", [*BEFORE, *AFTER])
def test_what_cannot_be_taken_is_refused_by_name(tmp_path, kind):
    make, words = (BEFORE | AFTER)[kind]
    path = tmp_path / "network.keras"

    def check(path):
        return check_file(path, PIXELS.shape[1:], Wishes()) if kind in BEFORE else _read_network(path, IMAGES, Wishes())

    make().save(path)
    with pytest.raises(InputError, match=words) as caught:
        check(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (Wishes(cut="nosuch"), "the network has no such layer; a head can begin after"),
        (Wishes(cut="conv2d"), "a head cannot begin there: layer max_pooling2d"),
        (Wishes(cut="dense_1"), "is the last layer"),
        (Wishes(dropout=(0.1, 0.2, 0.3)), "at most one rate for each of the 2 dense layers"),
        (Wishes(activation="sigmoid"), "ends in softmax already"),
    ],
)
def test_wishes_that_cannot_be_met(tmp_path, wishes, words):
    keras.backend.clear_session()
    network = zoo.sequential()
    assert [layer.name for layer in network.layers][-1] == "dense_1"
    with pytest.raises(InputError, match=words):
        read(network, tmp_path, wishes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Front(rescale="x"), "--rescale: expected a number above 0"),
        (lambda: Front(rescale="1/0"), "--rescale"),
        (lambda: Front(rescale="1/255", preprocess="tf"), "leave one out"),
        (lambda: Front(preprocess="keras"), "expected one of tf, torch, caffe"),
        (lambda: Front(preprocess="torch").into(1), "the network takes one"),
    ],
)
def test_fronts_that_mean_nothing(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (ImageSet(PIXELS, np.full(32, 9), None, "nine"), "4 classes, a label is 9"),
    ],
)
def test_images_of_other_classes(tmp_path, images, words):
    with pytest.raises(InputError, match=words):
        read(zoo.sequential(), tmp_path, images=images)


def test_files_that_are_no_network_say_what_they_are(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    (tmp_path / "a.h5").write_bytes(b"x")
    (tmp_path / "b.onnx").write_bytes(b"x")
    for name, words in (
        ("saved", "SavedModel"),
        ("a.h5", "not saved by Keras as an .h5"),
        ("b.onnx", "is no .keras or .h5 file"),
    ):
        with pytest.raises(InputError, match=words):
            check_file(tmp_path / name)


def test_a_damaged_configuration_is_one_line(tmp_path):
    zoo.sequential().save(tmp_path / "n.keras")
    with zipfile.ZipFile(tmp_path / "n.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    broken = ["{", "[]", "3", '{"config": 3}', json.dumps({**config, "config": {"layers": [{"class_name": 3}]}})]
    for text in broken:
        with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
            for name, data in {**members, "config.json": text.encode()}.items():
                archive.writestr(name, data)
        with pytest.raises(InputError) as caught:
            check_file(tmp_path / "bad.keras", wishes=Wishes())
        assert "\n" not in str(caught.value)


def test_a_refusal_does_not_wait_for_tensorflow(tmp_path):
    BEFORE["LayerNormalization after the dropout"][0]().save(tmp_path / "n.keras")
    np.save(tmp_path / "x.npy", PIXELS)
    code = (
        "import sys; from fastuq import cli; status = cli.main(sys.argv[1:]); "
        "assert not {'tensorflow', 'keras', 'numba'} & {*sys.modules}; sys.exit(status)"
    )
    command = ["import", str(tmp_path / "n.keras"), "--data", str(tmp_path / "x.npy"), "--output", str(tmp_path / "o")]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "layer ln (LayerNormalization)" in done.stderr


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_network_without_weights_is_refused(tmp_path):
    network = keras.Sequential([L.Conv2D(4, 3), gap(), L.Dropout(0.2), dense()])
    with pytest.raises(InputError, match="was saved before it had its weights"):
        read(network, tmp_path)


def test_what_has_no_int8_form_is_refused(tmp_path):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = L.LSTM(4, dropout=0.2)(L.Reshape((SIZE, 3 * SIZE))(inputs))
    read(keras.Model(inputs, dense()(L.Dropout(0.2)(x))), tmp_path)
    with pytest.raises(ModelError, match=r"unroll=True"):
        quantize_file(tmp_path / "network.keras", IMAGES, None, tmp_path / "model")
