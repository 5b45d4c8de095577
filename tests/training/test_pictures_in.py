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
from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.model.model import load_model
from fastuq.training.train import Plan, train

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


def network(size, classes=2):
    inputs = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(x))
    keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(keras.layers.Dropout(0.2)(x))).save("n.keras")
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


def test_folders_that_the_network_does_not_know_are_no_labels(photos, capsys):
    """Names are needed for labels alone, and nobody asked for those."""
    file = network((16, 16), 4)
    command = ["import", file, "--output", "m", "--json", "j.json", "--data"]

    def made(*options):
        capsys.readouterr()
        assert cli.main([*command, *options]) == 0
        said, found = capsys.readouterr().out, json.loads(Path("j.json").read_text())
        assert found.get("labels", "") in said
        return load_model("m").class_names[0], found["data"].get("accuracy_float32"), found.get("labels", "")

    name, by_number, said = made(photos)
    assert (name, said) == ("class_0", "labels are class numbers, counted from 0: 0 (class_0), 1 (class_1)")
    assert by_number is not None
    Path("names.txt").write_text("one\ndark\ntwo\nbright\n")
    Path("photos/0").rename("photos/bright")
    Path("photos/1").rename("photos/dark")
    assert made(photos)[:2] == ("class_0", None)
    assert made(photos)[2].startswith("no labels: none of bright, dark is among the 4 classes class_0")
    name, by_name, said = made(photos, "--classes", "names.txt", "--test", photos)
    assert (name, said) == ("one", "")
    assert by_name is not None
    assert "accuracy_int8" in json.loads(Path("j.json").read_text())["report"]
    said = refusal(capsys, [*command, photos, "--test", photos])
    assert "test images folder:photos: found no labels: none of bright, dark" in said
    Path("names.txt").write_text("a\nb\nc\nd\n")
    assert made(photos, "--classes", "names.txt")[:2] == ("a", None)
    Path("names.txt").write_text("a\nb\nc\ndark\n")
    assert "class 'bright' is unknown" in refusal(capsys, [*command, photos, "--classes", "names.txt"])


def test_test_images_are_matched_with_the_classes_of_the_training():
    pixels, labels = RNG.integers(0, 256, (8, 16, 16, 3), np.uint8), np.arange(8) % 2
    images = ImageSet(pixels, labels, ("cat", "dog"), "training")
    with pytest.raises(InputError, match="class 'emu' is unknown to the model"):
        train(Plan("tiny"), images, ImageSet(pixels, labels, ("dog", "emu"), "test"), "m", work="w")
    assert not Path("w").exists()
