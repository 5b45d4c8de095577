"""Folders of pictures of any size go into training and import in the size of the network."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")

import keras
from commands import refusal
from PIL import Image

from fastuq import cli
from fastuq.model.model import load_model

RNG = np.random.default_rng(0)
pytestmark = [
    pytest.mark.usefixtures("workplace"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras on saving
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]
NETWORK = ["--network", "tiny", "--weights", "none", "--head", "0.2:softmax", "--epochs", "1"]


@pytest.fixture
def photos():
    for name, level in (("0", 40), ("1", 200)):
        Path("photos", name).mkdir(parents=True)
        for number in range(6):
            pixels = RNG.integers(level - 40, level + 40, (50, 60, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(f"photos/{name}/{number}.png")
    Path("names.txt").write_text("dark\nbright\n")
    return "photos"


def network(size):
    inputs = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(x))
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(keras.layers.Dropout(0.2)(x))).save("n.keras")
    return "n.keras"


def test_import_takes_pictures_in_the_size_of_the_network(photos, capfd):
    Path("photos/0/broken.png").write_bytes(b"")
    Path("photos/0/film.mov").write_bytes(b"")
    command = ["import", network((24, 20)), "--data", photos, "--test", photos, "--classes", "names.txt"]
    options = ["--crop", "0.875", "--on-error", "skip", "--json", "j.json", "--output", "m"]
    capfd.readouterr()
    assert cli.main([*command, *options]) == 0
    assert [line.split(":")[1] for line in capfd.readouterr().err.splitlines()] == [
        " 1 file passed over",
        " left out",
    ]
    model, made = load_model("m"), json.loads(Path("j.json").read_text())
    assert (model.input_shape, model.class_names, model.crop) == ((24, 20, 3), ("dark", "bright"), 0.875)
    assert [each["file"] for each in made["skipped"]] == ["0/broken.png"]
    assert "accuracy_int8" in made["report"]
    assert cli.main(["score", photos, "--model", "m", "--on-error", "skip"]) == 0


def test_a_network_that_takes_any_size(photos, capsys):
    file = network((None, None))
    assert "say which one with --image-size" in refusal(capsys, ["import", file, "--data", photos, "--output", "m"])
    assert cli.main(["import", file, "--data", photos, "--output", "m", "--image-size", "16x24"]) == 0
    assert load_model("m").input_shape == (16, 24, 3)
    said = refusal(capsys, ["import", file, "--data", photos, "--output", "n", "--image-size", "big"])
    assert "--image-size: expected a side or HEIGHTxWIDTH" in said


def test_train_says_the_size_that_it_takes_pictures_in(photos, capsys):
    command = ["train", "--data", photos, *NETWORK, "--classes", "names.txt"]
    assert cli.main([*command, "--image-size", "24", "--crop", "1", "--output", "m"]) == 0
    assert "folder:photos: 12 pictures in 24 x 24, the middle of each (1)" in capsys.readouterr().out
    model = load_model("m")
    assert (model.input_shape, model.class_names, model.crop) == ((24, 24, 3), ("dark", "bright"), 1.0)
    assert cli.main(["train", "--data", photos, *NETWORK, "--output", "n"]) == 0
    assert "12 pictures in 32 x 32, stretched" in capsys.readouterr().out
    assert load_model("n").class_names == ("0", "1")
    Path("names.txt").write_text("dark\nbright\ngrey\n")
    said = refusal(capsys, [*command, "--output", "o"])
    assert "names.txt: 3 names, but 1 have no images, the first of them 'grey'" in said
    Path("names.txt").write_text("dark\n")
    assert "class '1' is unknown" in refusal(capsys, [*command, "--output", "o"])
