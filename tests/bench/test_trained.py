"""The trained networks of the paper: where they are looked for, and that what is fetched is what the clone has."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from places import TINY

from fastuq import cli, load_model
from fastuq.bench import networks
from fastuq.bench.run import scope_of
from fastuq.bench.trained import trained_folder
from fastuq.datasets.published import ARCHIVES
from fastuq.errors import InputError
from fastuq.util.bundled import bundled_path
from fastuq.util.defaults import TRAINED

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
IN_THE_CLONE = bundled_path("models/efficientnet-b0-cifar100")


@pytest.fixture
def clone():
    if not IN_THE_CLONE.is_dir():
        pytest.skip("needs data/models of the repository, which is in no package")
    return IN_THE_CLONE


@pytest.mark.parametrize("name", TRAINED.values())
def test_the_page_of_a_model_is_the_published_one(clone, name):
    page = (clone.parent / name / "README.md").read_bytes()
    assert hashlib.md5(page, usedforsecurity=False).hexdigest() == ARCHIVES[name].members["README.md"]


def test_a_fetched_model_is_that_of_the_clone(clone):
    published = ARCHIVES[TRAINED["efficientnet_b0"]]
    assert sorted(file.name for file in clone.iterdir()) == sorted(published.members)
    for name, md5 in published.members.items():
        assert hashlib.md5((clone / name).read_bytes(), usedforsecurity=False).hexdigest() == md5, name
    assert load_model(clone).network == "efficientnet_b0"


def test_an_archive_of_a_model_is_unpacked_once_and_mends_what_is_damaged(clone, tmp_path, capsys):
    told = subprocess.run(["tar", "--version"], capture_output=True, text=True, check=False).stdout
    if "GNU tar" not in told:
        pytest.skip("needs GNU tar, with which the archives are made (CONTRIBUTING.md)")
    published = ARCHIVES[clone.name]
    archive = tmp_path / published.file
    archive.parent.mkdir()
    options = re.search("`(tar --format[^`]*) -C data -cf NAME.tar`", CONTRIBUTING.read_text(encoding="utf-8"))[1]
    files = [f"{published.folder}/{name}" for name in published.members]
    subprocess.run([*options.split(), "-C", clone.parents[1], "-cf", archive, *files], check=True)
    assert archive.stat().st_size == published.size
    assert hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest() == published.md5
    folder, sha256 = tmp_path / published.folder, load_model(clone).sha256
    for said in ("fetched and checked", "already there", "fetched and checked"):
        assert cli.main(["download", clone.name, "--output", str(tmp_path)]) == 0
        assert capsys.readouterr().out.strip() == f"{folder}: {said}"
        assert load_model(folder).sha256 == sha256
        if said == "already there":
            (folder / "backbone.tflite").write_bytes(b"cut")


def test_another_model_in_the_place_of_a_fetched_one_is_left_alone(tmp_path, capsys):
    name = TRAINED["efficientnet_b0"]
    folder = tmp_path / "models" / name
    shutil.copytree(TINY, folder)
    before = load_model(folder).sha256
    assert cli.main(["download", name, "--output", str(tmp_path)]) == 2
    assert f"{folder} holds another model; move it away" in capsys.readouterr().err
    assert load_model(folder).sha256 == before


@pytest.mark.parametrize("inside", ["models", "."])
def test_what_was_done_is_not_written_where_a_folder_will_be(tmp_path, inside, capsys):
    root = tmp_path / "new"
    argv = ["download", TRAINED["efficientnet_b0"], "--output", str(root), "--json", str(root / inside)]
    assert cli.main(argv) == 2
    assert "the files that this command makes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_what_was_done_is_not_written_among_the_files_of_a_model(tmp_path, there, capsys):
    folder = tmp_path / "models" / TRAINED["efficientnet_b0"]
    if there:
        shutil.copytree(TINY, folder)
    argv = ["download", folder.name, "--output", str(tmp_path), "--json", str(folder / "said.json")]
    assert cli.main(argv) == 2
    assert "lies among the files that this command makes" in capsys.readouterr().err


def test_a_fetched_model_comes_first_then_that_of_the_clone(clone, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    assert trained_folder("efficientnet_b0") == clone
    fetched = tmp_path / "models" / clone.name
    fetched.mkdir(parents=True)
    assert trained_folder("efficientnet_b0") == clone  # there is no model in it yet
    fetched.rmdir()
    shutil.copytree(clone, fetched)
    assert trained_folder("efficientnet_b0") == fetched
    assert trained_folder("vgg16") is None


def test_random_networks_can_be_asked_for_and_are_made_once(clone, tmp_path, monkeypatch):
    given = ["random-efficientnet_b0", "efficientnet_b0", "random-efficientnet_b0", "bundled", str(clone)]
    names = scope_of(quick=True, networks=given, rounds=1, folder=tmp_path).networks
    assert networks.missing_networks(names, tmp_path) == ["efficientnet_b0"]
    shutil.copytree(TINY, tmp_path / "efficientnet_b0")
    assert networks.missing_networks(names, tmp_path) == ["efficientnet_b0"]  # not rounded in the range of each image
    monkeypatch.setattr(networks, "BY_IMAGE", ())
    assert networks.missing_networks(names, tmp_path) == []
    labels = []
    for name in names:
        model = networks.open_network(name, tmp_path)
        assert model.network == {"random-efficientnet_b0": "tiny", "bundled": "efficientnet_lite0"}.get(
            name, "efficientnet_b0"
        )
        labels.append(networks.label_of(name, model, labels))
    assert labels == [
        "random-efficientnet_b0",
        "efficientnet_b0",
        "efficientnet_lite0",
        f"efficientnet_b0 ({clone})",
    ]
    with pytest.raises(InputError, match="found 'vgg'"):
        networks.missing_networks(["random-vgg"], tmp_path)


def test_the_benchmark_takes_a_trained_network_before_a_random_one(clone, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    assert networks.missing_networks(["efficientnet_b0", "efficientnet_lite0"], tmp_path) == ["efficientnet_lite0"]
    model = networks.open_network("efficientnet_b0", tmp_path)
    found = networks.bench_network(model, "efficientnet_b0", rounds=1, samples=64, advance=lambda: None)
    assert found.name == "efficientnet_b0"
    assert set(found.naive) == set(found.one_pass) == {"xnnpack", "reference"}
    assert found.about == "Trained, images in 96 x 96."
    assert found.one_pass["xnnpack"].median > found.head.median  # the backbone, as there is no full.tflite
