"""The tutorials, run as they are written: Python by Python, shell lines by the command line, in an empty folder."""

import pickle
import re
import shlex
import shutil
import sys
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import pytest
import torch_likes
from places import GOLDEN, ROOT

import fastuq
from fastuq import cli

PAGES = ROOT / "docs" / "tutorials"


@pytest.fixture
def data(workplace, monkeypatch):
    """Write a small CIFAR-100 of two classes that differ in brightness, and make it the data folder."""
    folder = workplace / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 80), ("test", 30)):
        labels = rng.integers(2, size=count)
        pixels = rng.integers(0, 100, (count, 3072)) + 120 * labels[:, None]
        content = {b"data": pixels.astype(np.uint8), b"fine_labels": labels.tolist()}
        (folder / split).write_bytes(pickle.dumps(content, protocol=2))
    monkeypatch.setenv("FASTUQ_DATA", str(folder.parent))


def run(page, names):
    """Run the blocks of a page in their order; return the names that its programs leave behind."""
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```$", (PAGES / page).read_text(), re.DOTALL | re.MULTILINE)
    assert {kind for kind, _ in blocks} == {"bash", "python"}
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, page, "exec"), names)
            continue
        for line in text.splitlines():
            program, *argv = shlex.split(line)
            assert program == "fastuq"
            assert cli.main(argv) == 0, line
    return names


def test_every_tutorial_is_run_here_and_listed():
    pages = {path.name for path in PAGES.glob("*.md")}
    assert pages == {"cifar100.md", "keras.md", "tflite.md", "pytorch.md"}
    for text in ((ROOT / "mkdocs.yml").read_text(), (ROOT / "README.md").read_text()):
        assert set(re.findall(r"tutorials/(\w+\.md)", text)) == pages


def test_cifar100(data, capsys, monkeypatch):
    pytest.importorskip("cv2", reason="needs the corruptions: pip install 'fastuq[corrupt]'")
    pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    monkeypatch.setattr("fastuq.datasets.download.download", lambda *_, **__: False)  # it is there already
    names = run("cifar100.md", {})
    assert len(names["frame"]) == 30
    assert names["result"].options.num_iter == 200
    out = capsys.readouterr().out
    assert out.count("Trust ") == 3
    assert "cifar100c/fog/3: 30 images" in out
    assert "table of samples, CSV" in out


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on saving
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
def test_keras(data, capsys):
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
    run("keras.md", {})
    out = capsys.readouterr().out
    assert "head        dropout 0.3, dense 3136 x 100 softmax" in out
    assert "The others are in table.csv." in out
    assert fastuq.load_model("my-model").head.rates == (0.3,)


def test_tflite(workplace, capsys):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'fastuq[images]'")
    shutil.copy(GOLDEN / "tflite" / "one_layer.tflite", "pretrainedResnet_quant.tflite")
    (workplace / "photos").mkdir()
    for n in range(5):
        pixels = np.random.default_rng(n).integers(0, 256, (40, 40, 3), np.uint8)
        image.fromarray(pixels).save(workplace / "photos" / f"IMG_{n}.png")
    names = run("tflite.md", {})
    out = capsys.readouterr().out
    assert "IMG_" in out
    assert out.count("rate 0.") == 3
    assert names["result"].std.max() > 0


class Batch(torch_likes.Tensor):
    """What an encoder of PyTorch gives, and a loader of labels."""

    def half(self):
        return Batch(self.values.astype(np.float16))

    def cpu(self):
        return self

    def numpy(self):
        return self.values


class Labels(Batch):
    def __init__(self, values):
        self.values = values


class Encoder:
    def eval(self):
        return self

    def __call__(self, images):
        return Batch(images)


def test_pytorch(workplace, capsys, monkeypatch):
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'fastuq[sklearn]'")

    @contextmanager
    def no_grad():
        yield

    torch = ModuleType("torch")
    torch.no_grad = no_grad
    monkeypatch.setitem(sys.modules, "torch", torch)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 32))

    def loader(batches):
        for _ in range(batches):
            labels = rng.integers(3, size=40)
            yield centres[labels] + rng.standard_normal((40, 32)), Labels(labels)

    layers = [torch_likes.Dropout(0.2), torch_likes.Linear(32, 3, rng)]
    names = {"encoder": Encoder(), "classifier": torch_likes.Sequential(*layers)}
    names |= {"train_loader": loader(5), "test_loader": loader(2)}
    run("pytorch.md", names)
    assert names["keep"].shape == (80,)
    assert names["estimator"].score(names["fresh"], names["truth"]) > 0.8
    assert "test.h5: 80 images" in capsys.readouterr().out
