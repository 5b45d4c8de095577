"""`fastuq import FILE.tflite`: from a file of others to a model folder that scores."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refusal
from PIL import Image
from tflite_files import FOLDER, WHOLE, content, edited, images

from fastuq import cli
from fastuq.datasets import open_images
from fastuq.errors import FastUQError, InputError, ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.head import Block, Head
from fastuq.model.head_file import load_head, save_head
from fastuq.model.model import load_model
from fastuq.model.tflite_dense import dense_layers
from fastuq.model.tflite_graph import Graph
from fastuq.scoring.scoring import score
from fastuq.training.import_tflite import import_tflite
from fastuq.training.tflite_check import check_plain_pass


@pytest.mark.parametrize("name", WHOLE)
def test_the_plain_pass_is_the_files_own(tmp_path, name):
    shown = images(100, seed=3)
    labels = np.arange(100) % 2
    data = open_images(shown, labels=labels)
    model = import_tflite(FOLDER / f"{name}.tflite", tmp_path / "model", dropout=[0.2], images=data)
    features = Backbone(model.read_backbone())(shown)
    plain = model.head.forward(model.dequantize(features))
    whole = Backbone(content(name) if name != "binary" else model.read_full())
    given = (whole(shown).astype(float) - whole.zero_point) * whole.scale
    found = plain if given.shape[1] == plain.shape[1] else plain[:, 1:]
    sums = dense_layers(Graph(content(name), name))[-1].given.scale  # the file rounds them before softmax or sigmoid
    assert np.abs(found - given).max() <= 1.51 * whole.scale + 0.5 * sums
    report = model.info["made"]["report"]
    assert report["steps_apart"] <= 1
    assert report["same_class"] > 0.95
    assert report["accuracy_plain"] == (plain.argmax(axis=1) == labels).mean()
    assert model.class_names == tuple(f"class_{n}" for n in range(plain.shape[1]))
    assert load_model(model.path).head.rates == (0.2,)


def test_the_last_two_layers(tmp_path):
    model = import_tflite(FOLDER / "two_layers.tflite", tmp_path / "model", dropout=[0.1, 0.4])
    assert (model.head.widths, model.head.rates) == ((96, 7), (0.1, 0.4))
    features = Backbone(model.read_backbone())(images(20))
    result = score(model, features, num_iter=20)
    assert result.std.max() > 0.01
    assert np.abs(result.mean.sum(axis=1) - 1).max() < 1e-4
    float32 = score(model, features, num_iter=20, precision="float32")
    assert np.abs(result.mean - float32.mean).max() < 0.05


def test_a_head_that_does_not_follow_the_file_is_refused():
    graph = Graph(content("one_layer"), "edited.tflite")
    layers = dense_layers(graph)
    rng = np.random.default_rng(0)
    features = rng.integers(-128, 128, (30, 6)).astype(np.int8)
    sums = rng.integers(-128, 128, (30, 5)).astype(np.int8)
    head = Head((Block(0.2, np.ones((6, 5), np.float32), np.zeros(5, np.float32), "softmax"),), *np.ones((2, 6), "f4"))
    with pytest.raises(ModelError, match="by themselves do not give what the file gives"):
        check_plain_pass(graph, layers, head, features, sums)


CASES = {
    "a .tflite holds no dropout": ("one_layer", {}),
    "at most 1 dropout rates": ("one_layer", {"dropout": [0.1, 0.2]}),
    "at most 2 dropout rates": ("two_layers", {"dropout": [0.1, 0.2, 0.3]}),
    "dropout rate: expected a number from 0 to 0.9, found 1.0": ("one_layer", {"dropout": [1.0]}),
    "ends in linear outputs, logits that no threshold fits": ("channels_first", {"dropout": [0.1]}),
    "ends in softmax, not in logits": ("one_layer", {"dropout": [0.1], "activation": "sigmoid"}),
    "found FLOAT32 input; it is a float or partly": ("float", {"dropout": [0.1]}),
    "go together": ("one_layer", {"cut": "x"}),
    "class names: expected 5": ("one_layer", {"dropout": [0.1], "class_names": ["a"]}),
    r"takes images \(8, 8, 3\), found \(32, 32, 3\)": ("one_layer", {"dropout": [0.1], "images": "bundled"}),
}


@pytest.mark.parametrize(("message", "case"), CASES.items())
def test_refusals(tmp_path, message, case):
    name, options = case
    with pytest.raises(FastUQError, match=message):
        import_tflite(FOLDER / f"{name}.tflite", tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_logits_with_an_activation(tmp_path):
    file = FOLDER / "channels_first.tflite"
    for activation in ("softmax", "sigmoid"):
        model = import_tflite(file, tmp_path / "model", dropout=[0.2], activation=activation)
        assert model.head.blocks[-1].activation == model.head_int8.blocks[-1].activation == activation


def test_one_logit_is_no_softmax(tmp_path):
    def edit(model):
        graph = model.subgraphs[0]
        graph.operators, graph.outputs = graph.operators[:-2], graph.operators[-3].outputs

    (tmp_path / "logit.tflite").write_bytes(edited("binary", edit))
    with pytest.raises(InputError, match="the softmax of one output is always 1"):
        import_tflite(tmp_path / "logit.tflite", tmp_path / "model", dropout=[0.2], activation="softmax")
    model = import_tflite(tmp_path / "logit.tflite", tmp_path / "model", dropout=[0.2], activation="sigmoid")
    assert model.head.num_classes == 2


def test_any_tensor_with_a_head_of_ones_own(workplace, capsys):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((6, 3)).astype(np.float32)
    head = Head((Block(0.3, weights, np.zeros(3, np.float32), "softmax"),), *np.ones((2, 6), np.float32))
    save_head("head.npz", head)
    assert np.array_equal(load_head("head.npz").blocks[0].weights, weights)
    np.save("images.npy", images(30))
    graph = Graph(content("one_layer"), "one_layer")
    cut = graph.tensor_name(dense_layers(graph)[0].source)
    command = ["import", str(FOLDER / "one_layer.tflite"), "--output", "m", "--cut", cut, "--head", "head.npz"]
    assert "give --data IMAGES" in refusal(capsys, command)
    assert cli.main([*command, "--data", "images.npy"]) == 0
    model = load_model("m")
    parts = sorted(path.name for path in model.path.iterdir())
    assert parts == ["backbone.tflite", "head.npz", "head_int8.npz", "model.json"]
    with pytest.raises(ModelError, match=r"has no full\.tflite"):
        model.read_full()
    assert np.array_equal(model.head.blocks[0].weights, weights)
    features = Backbone(model.read_backbone())(images(30))
    plain = model.head.forward(model.dequantize(features))
    assert np.abs(score(model, features, num_iter=300, seed=1).mean - plain).max() < 0.2
    wide = Head((Block(0.3, np.ones((7, 3), np.float32), np.zeros(3, np.float32), "softmax"),), *np.ones((2, 7), "f4"))
    with pytest.raises(ModelError, match="has 6 features, the head takes 7"):
        import_tflite(FOLDER / "one_layer.tflite", "n", cut=cut, head=wide, images="images.npy")


def test_it_needs_no_tensorflow(tmp_path):
    code = (
        "import sys; from fastuq import cli\n"
        f"status = cli.main(['import', {str(FOLDER / 'one_layer.tflite')!r}, '--dropout', '0.2', '--output', 'm'])\n"
        "sys.exit(status or 'tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_pictures_of_any_size_and_names_of_a_file(workplace, capsys):
    for name in ("ape", "cat"):
        Path("photos", name).mkdir(parents=True)
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(f"photos/{name}/a.png")
    Path("photos/ape/broken.png").write_bytes(b"")
    Path("names.txt").write_text("emu\ncat\ndog\nape\nbear\n")
    command = ["import", str(FOLDER / "one_layer.tflite"), "--data", "photos", "--dropout", "0.2", "--output", "m"]
    options = ["--classes", "names.txt", "--crop", "0.875", "--on-error", "skip"]
    assert cli.main([*command, *options]) == 0
    assert capsys.readouterr().err.startswith("fastuq: left out: photos/ape/broken.png: ")
    model = load_model("m")
    assert (model.class_names, model.crop) == (("emu", "cat", "dog", "ape", "bear"), 0.875)
    assert model.info["made"]["report"]["test_images"] == "folder:photos"
    Path("photos/ape/broken.png").unlink()
    Path("names.txt").write_text("ape\ncat\n")
    assert "class names: expected 5" in refusal(capsys, [*command, "--classes", "names.txt"], Path("m"))


def test_labels_are_matched_with_the_classes_of_the_file(workplace, capsys):
    """Never by place: of 100 classes a folder has some, and an accuracy by place would be an accident."""
    bundled = load_model()
    images = open_images("bundled")

    def folders(root, names):
        for number, label in enumerate(images.labels):
            Path(root, names(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images[number]).save(f"{root}/{names(label)}/{number}.png")
        return root

    def made(data, **options):
        model = import_tflite(bundled.full_path, "m", dropout=[0.2], images=data, **options)
        found = model.info["made"]
        return model.class_names[0], found["report"].get("accuracy_file"), found.get("labels", "")

    truth = made(images)[1]
    assert truth > 0.5
    assert made(folders("nums", str))[:2] == ("class_0", truth)
    assert "labels are class numbers, counted from 0: 0 (class_0)" in made("nums")[2]
    assert made(folders("names", lambda n: bundled.class_names[n]), class_names=bundled.class_names) == (
        "apple",
        truth,
        "",
    )
    name, accuracy, said = made("names")
    assert (name, accuracy) == ("class_0", None)
    assert said.startswith("no labels: none of apple, ")
    assert said.endswith("; --classes FILE names those of the network")
    with pytest.raises(InputError, match="is unknown to the model"):
        made("names", class_names=("apple", *(f"thing {n}" for n in range(99))))
    with pytest.raises(InputError, match="100 classes, a label is 100"):
        made(open_images(images.images, labels=np.full(20, 100)))
    with pytest.raises(InputError, match="one-hot labels of 100 classes, as the model has, found 5"):
        made(open_images(images.images, labels=np.eye(5)[np.zeros(20, int)]))
    with pytest.raises(InputError, match=r"expected pictures opened with crop=0\.5"):
        made(open_images("nums"), crop=0.5)
    assert made(None, class_names=["a"] * 100)[0] == "a"  # two of ImageNet's classes have one name
    command = ["import", str(bundled.full_path), "--dropout", "0.2", "--data", "nums", "--output", "m"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert f"accuracy    file {truth:.2%}" in said
    assert "labels      labels are class numbers" in said


def test_the_command(workplace, capsys):
    Path("names.txt").write_text("ape\nbear\ncat\ndog\nemu\n")
    file = str(FOLDER / "one_layer.tflite")
    command = ["import", file, "--output", "m", "--dropout", "0.2", "--labels", "names.txt"]
    assert cli.main([*command, "--json", "found.json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[2].startswith("plain pass  as the file's own on noise: outputs at most")
    model = load_model("m")
    assert model.class_names == ("ape", "bear", "cat", "dog", "emu")
    found = json.loads(Path("found.json").read_text())
    assert (found["model_sha256"], found["imported_from"]) == (model.sha256, "one_layer.tflite")
    assert "expected rates from 0 to 0.9" in refusal(capsys, ["import", file, "--output", "n", "--dropout", "0.2,x"])
    assert "--rescale: is for Keras networks alone" in refusal(capsys, [*command, "--rescale", "1/255"])
    assert "--head: is for .tflite files" in refusal(capsys, ["import", "a.keras", "--output", "n", "--head", "x"])
    Path("names.txt").write_text("ape\n\nbear\n")
    assert "found an empty line" in refusal(capsys, command)
    assert "no such file" in refusal(capsys, ["import", "none.tflite", "--output", "n", "--dropout", "0.2"]).lower()
