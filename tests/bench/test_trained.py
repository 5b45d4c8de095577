"""The trained networks of the paper: where they are looked for, and that what is fetched is what the clone has."""

import hashlib
import shutil

import pytest

from fastuq import load_model
from fastuq.bench import networks
from fastuq.bench.trained import trained_folder
from fastuq.datasets.published import ARCHIVES
from fastuq.util.bundled import bundled_path
from fastuq.util.defaults import TRAINED

IN_THE_CLONE = bundled_path("models/efficientnet-b0-cifar100")


@pytest.fixture
def clone():
    if not IN_THE_CLONE.is_dir():
        pytest.skip("needs data/models of the repository, which is in no package")
    return IN_THE_CLONE


def test_a_fetched_model_is_that_of_the_clone(clone):
    published = ARCHIVES[TRAINED["efficientnet_b0"]]
    assert sorted(file.name for file in clone.iterdir()) == sorted(published.members)
    for name, md5 in published.members.items():
        assert hashlib.md5((clone / name).read_bytes(), usedforsecurity=False).hexdigest() == md5, name
    assert load_model(clone).network == "efficientnet_b0"


def test_a_fetched_model_comes_first_then_that_of_the_clone(clone, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    assert trained_folder("efficientnet_b0") == clone
    fetched = tmp_path / "models" / clone.name
    shutil.copytree(clone, fetched)
    assert trained_folder("efficientnet_b0") == fetched
    assert trained_folder("vgg16") is None


def test_the_benchmark_takes_a_trained_network_before_a_random_one(clone, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    assert networks.missing_networks(["efficientnet_b0", "efficientnet_lite0"], tmp_path) == ["efficientnet_lite0"]
    model = networks.open_network("efficientnet_b0", tmp_path)
    found = networks.bench_network(model, rounds=1, samples=64, advance=lambda: None)
    assert found.about == "Trained, images in 96 x 96."
    assert found.one_pass["xnnpack"].median > found.head.median  # the backbone, as there is no full.tflite
