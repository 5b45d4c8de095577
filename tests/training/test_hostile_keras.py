"""Keras files are read in safe mode: what carries code of its own, or names code not of Keras, is refused."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from damage import edited, generator, outcome, refused

from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.training.keras_file import load_network
from fastuq.training.quantize_file import quantize_file

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on saving


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small network with a place for code, saved without it."""
    import keras

    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    outputs = keras.layers.Dense(2, activation="sigmoid")(keras.layers.Dropout(0.2)(pooled))
    path = tmp_path_factory.mktemp("keras") / "network.keras"
    keras.Model(inputs, outputs).save(path)
    return path


def repacked(source, target, change):
    """Copy a .keras file with `change` made to each of its members, (name, bytes) -> bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def rewritten(source, target, change):
    """Copy a .keras file with `change` made to its configuration."""

    def edit(name, data):
        if name != "config.json":
            return data
        config = json.loads(data)
        change(config)
        return json.dumps(config).encode()

    return repacked(source, target, edit)


def dense_of(config):
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Dense")


def check_refused(path, words="without code of its own"):
    images = ImageSet(np.zeros((4, 32, 32, 3), np.uint8), None, ("a", "b"), "none")
    with pytest.raises(InputError, match=words) as caught:
        quantize_file(path, images, None, path.parent / "out")
    assert "\n" not in str(caught.value)


def test_a_network_without_code_is_read(saved, tmp_path):
    for path in (saved, rewritten(saved, tmp_path / "same.keras", lambda config: None)):
        assert load_network(path).output_shape == (None, 2)


def test_a_lambda_layer_does_not_run(tmp_path):
    import keras

    marker = str(tmp_path / "executed")
    inputs = keras.Input((32, 32, 3))
    code = eval("lambda x: (open(marker, 'w').close(), x)[1]", {"marker": marker})
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Lambda(code, output_shape=(32, 32, 3))(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "evil.keras")
    (tmp_path / "executed").unlink(missing_ok=True)  # building the model ran it, which is the author's own doing
    check_refused(tmp_path / "evil.keras")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("subprocess", "run"), ("posix", "system"), ("keras.utils", "get_file")],
)
def test_names_of_other_code_are_refused(saved, tmp_path, module, name):
    def change(config):
        dense_of(config)["config"]["activation"] = {"module": module, "class_name": "function", "config": name}

    check_refused(rewritten(saved, tmp_path / "evil.keras", change))


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("subprocess", "Popen"), ("builtins", "exec")])
def test_layers_of_other_code_are_refused(saved, tmp_path, module, name):
    def change(config):
        dense_of(config).update(module=module, class_name=name, registered_name=name, config={"args": ["true"]})

    check_refused(rewritten(saved, tmp_path / "evil.keras", change))


def test_files_of_other_formats_under_the_name_are_refused(saved, tmp_path):
    shutil.copy(saved, tmp_path / "whole.keras")
    for content in (b"", b"\x89HDF\r\n\x1a\n" + bytes(2000), saved.read_bytes()[:-100], b"PK\x05\x06" + bytes(18)):
        (tmp_path / "a.keras").write_bytes(content)
        check_refused(tmp_path / "a.keras", "not saved by Keras 3")


def check_edited(saved, folder, seed, count):
    """Edited members in a sound archive: refused in one line or read; nothing else comes out."""
    rng, refusals = generator(seed), 0
    with zipfile.ZipFile(saved) as archive:
        names = archive.namelist()
    for number in range(count):
        chosen = names[number % len(names)]
        path = folder / "a.keras"
        repacked(saved, path, lambda name, data, c=chosen: edited(rng, data) if name == c else data)
        refusals += refused(outcome(lambda p=path: load_network(p), memory=2**30))
    print(f".keras: {count} edited files, {refusals} refused in one line, the others read, 0 other exceptions")
    assert refusals


def test_edited_networks(saved, tmp_path):
    check_edited(saved, tmp_path, 0, 15)


@pytest.mark.torture
def test_many_edited_networks(saved, tmp_path):
    check_edited(saved, tmp_path, 1, 1000)
