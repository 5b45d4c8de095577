"""The paper's tables: its values as printed, and ours against measuring each of them directly."""

import csv
import json
import pickle
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from commands import refusal
from PIL import Image
from places import TINY
from sklearn.metrics import roc_auc_score

from fastuq import cli
from fastuq.cli.reproduce import TITLES, _write
from fastuq.datasets import open_images
from fastuq.datasets.corruptions import corrupt
from fastuq.datasets.published import CIFAR100C
from fastuq.model.backbone import Backbone
from fastuq.model.folder import identity
from fastuq.paper import printed as paper
from fastuq.paper.run import Reproduction
from fastuq.paper.stability import ITERATIONS, seed_disagreement
from fastuq.paper.trust_scores import failure_detection, mean_shift_detection, shift_detection, trust_scores
from fastuq.report.plotting import Picture
from fastuq.scoring.metrics import aurc
from fastuq.scoring.scoring import score

pytest.importorskip("cv2", reason="needs the corruptions: pip install 'fastuq[corrupt]'")
pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install 'fastuq[plot]'")

# The tiny model's outputs are all high; with these, some samples are kept and some are not.
OPTIONS = {"threshold": 0.95, "mixed": "keep", "num_iter": 15}
ARGV = ["--model", str(TINY), "--threshold", "0.95", "--mixed", "keep", "--num-iter", "15"]
COUNT = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The full run on 12 test images and a CIFAR-100-C of 12 images, made once; the folder with its output."""
    folder, rng = tmp_path_factory.mktemp("full"), np.random.default_rng(5)
    (folder / "cifar-100-python").mkdir()
    labels = [int(n) for n in rng.integers(0, 100, COUNT)]
    test = {b"data": rng.integers(0, 256, (COUNT, 3072), np.uint8), b"fine_labels": labels}
    (folder / "cifar-100-python" / "test").write_bytes(pickle.dumps(test, protocol=2))
    (folder / "CIFAR-100-C").mkdir()
    for name in CIFAR100C:
        pixels = rng.integers(0, 256, (5 * COUNT, 32, 32, 3), np.uint8)
        np.save(folder / "CIFAR-100-C" / f"{name}.npy", pixels)
    np.save(folder / "CIFAR-100-C" / "labels.npy", np.tile(np.array(labels, np.uint8), 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTUQ_DATA", str(folder))
        patch.chdir(folder)
        patch.setattr("fastuq.bench.trained.trained_folder", {}.get)
        assert cli.main(["reproduce", "--full", "--output", "out", "--json", "all.json", *ARGV]) == 0
    return folder


@pytest.fixture(scope="module")
def found(made):
    return json.loads((made / "all.json").read_text())


@pytest.fixture
def data(made, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(made))


def table_row(result):
    wrong = result.plain_prediction != result.labels
    return {"ignored": int((~result.keep).sum()), "misclassified": int((wrong & ~result.keep).sum()), "n": len(result)}


def chosen(row, keys):
    return {key: row[key] for key in keys}


def test_the_paper_as_printed():
    for severity in (1, 5):
        for table in paper.CORRUPTED[severity].values():
            assert set(table) == set(CIFAR100C) - {"spatter"}
            for without, with_uq, ignored in table.values():
                assert without % 5 == 0  # 20 samples, one class each: a whole number of them
                assert 0 <= with_uq <= 100
                assert 5 <= ignored <= 19
    assert paper.CORRUPTED[5][paper.EFFICIENTNET_B0] == paper.CORRUPTED[1][paper.RESNET50]
    assert paper.CORRUPTED[1][paper.EFFICIENTNET_B0]["contrast"] == (50, 41.67, 8)
    assert paper.CORRUPTED[5][paper.RESNET50]["saturate"] == (20, 60, 15)
    assert paper.GRID_F1[0.9][paper.NUM_ITERS.index(20)] == 92.06


def test_networks_without_a_model_are_not_run(found, made):
    assert found["networks"]["ResNet50"] == {"not_run": "not run: no model here"}
    assert found["networks"]["EfficientNet-B0"] == {"not_run": "not run: no model here"}
    text = (made / "out" / "reproduction.md").read_text()
    assert "| ResNet50 | 92.1 | 23.7 | not run: no model here | – | – |" in text
    assert "| ResNet50 | 243 | 7000 | not run: no model here |" in text


def test_grid_and_clean_figures(found, model, data):
    ours = found["networks"]["tiny"]
    images = open_images("cifar100")
    features = Backbone(model.backbone_path)(np.asarray(images.images))
    for size in ("small", "full"):  # both are the 12 test images here
        assert len(ours[size]["grid"]) == 9
        for row in ours[size]["grid"]:
            options = {**OPTIONS, "num_iter": row["num_iter"], "conf_factor": row["conf_factor"]}
            result = score(model, features, labels=images.labels, **options)
            assert chosen(row, ("ignored", "misclassified", "n")) == table_row(result)
            assert row["f1_uq"] == result.summary()["f1_uq"]
        result = score(model, features, labels=images.labels, **OPTIONS)
        assert chosen(ours[size]["clean"], ("ignored", "misclassified", "n")) == table_row(result)
        first = np.argsort(-result.plain.max(axis=1))[: result.keep.sum()]
        right = (result.plain_prediction == images.labels)[first]
        assert ours[size]["clean"]["accuracy_kept_plain"] == pytest.approx(right.mean())
    assert len({row["ignored"] for row in ours["small"]["grid"]}) > 1, "the grid must differ"


def test_corrupted_figures_of_both_sizes(found, model, data):
    ours, first20 = found["networks"]["tiny"], open_images("bundled")
    network, keys = Backbone(model.backbone_path), ("ignored", "misclassified", "n")
    assert set(ours["small"]["corrupted"]) == {"1", "5"}
    assert set(ours["full"]["corrupted"]) == {"1", "2", "3", "4", "5"}
    for severity in (1, 5):
        assert list(ours["small"]["corrupted"][str(severity)]) == list(CIFAR100C)
        for name in ("fog", "gaussian_noise"):
            pixels = corrupt(np.asarray(first20.images), name, severity)
            result = score(model, network(pixels), labels=first20.labels, **OPTIONS)
            assert chosen(ours["small"]["corrupted"][str(severity)][name], keys) == table_row(result)
            images = open_images(f"cifar100c/{name}/{severity}")
            result = score(model, network(np.asarray(images.images)), labels=images.labels, **OPTIONS)
            assert chosen(ours["full"]["corrupted"][str(severity)][name], keys) == table_row(result)


def test_output(made, found):
    names = {path.name for path in (made / "out").iterdir()}
    pictures = {"seeds.png", "ignored-model-wrong.png", "ignored-model-severity-5.png"}
    assert {"reproduction.md", "reproduction.json", "cifar100c-model.csv", *pictures} <= names
    assert json.loads((made / "out" / "reproduction.json").read_text()) == found
    text = (made / "out" / "reproduction.md").read_text()
    assert "| brightness | 15 / 55.55 / 11 | 30 / 46.15 / 7 |" in text
    for table in ("I", "II", "III and IV", "V", "VI and VII", "VIII and IX", "X and XI", "XII and XIII", "XIV"):
        assert f" {table}: " in text
    for name in names:
        if name.endswith(".png"):
            assert f"({name})" in text
            with Image.open(made / "out" / name) as picture:
                picture.load()
                assert picture.width > 300


def test_each_split_has_a_row(made, found):
    with (made / "out" / "cifar100c-model.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 95
    splits = found["networks"]["tiny"]["full"]["corrupted"]
    for row in rows:
        split = splits[row["severity"]][row["corruption"]]
        assert (int(row["kept"]), float(row["f1_plain"])) == (split["kept"], split["f1_plain"])


def test_pictures_and_rows_of_each_network_go_to_its_own_files(found, tmp_path):
    ours = found["networks"]["tiny"]
    figures = {**found, "networks": {"ResNet50": ours, "EfficientNet-B0": ours, "tiny": ours}}
    colours = {"ResNet50": (250, 0, 0), "EfficientNet-B0": (0, 250, 0), "tiny": (0, 0, 250)}
    made = Reproduction(figures)
    for number, (name, colour) in enumerate(colours.items()):
        picture = Picture(np.tile(np.uint8(colour), (32, 32, 1)), "a", "b")
        made.pictures[name] = {group: [picture] for group in TITLES}
        made.splits[name] = [{"corruption": "fog", "kept": number}]
    _write(made, tmp_path)
    text = (tmp_path / "reproduction.md").read_text()
    for number, (option, name) in enumerate(zip(("resnet50", "efficientnet-b0", "model"), colours, strict=True)):
        assert (tmp_path / f"cifar100c-{option}.csv").read_text() == f"corruption,kept\nfog,{number}\n"
        for group, title in TITLES.items():
            file = f"ignored-{option}-{group}.png"
            with Image.open(tmp_path / file) as shown:
                assert colours[name] in {colour for _, colour in shown.convert("RGB").getcolors(10**6)}
            assert f"![{name}: {title}]({file})" in text


def named(folder, network):
    """Make the tiny model again under another name of its network."""
    shutil.copytree(TINY, folder)
    about = {**json.loads((folder / "model.json").read_text()), "network": network}
    (folder / "model.json").write_text(json.dumps({**about, "sha256": identity(about)}))
    return str(folder)


def test_files_and_figures_of_two_networks_are_apart(workplace, monkeypatch):
    monkeypatch.setattr("fastuq.bench.trained.trained_folder", {}.get)
    both = ["--resnet50", named(Path("paper"), "resnet50"), "--model", named(Path("ours"), "ResNet50")]
    assert cli.main(["reproduce", "--output", "o", *ARGV[2:], *both]) == 0
    found = json.loads(Path("o/reproduction.json").read_text())["networks"]
    assert list(found) == ["ResNet50", "EfficientNet-B0", "ResNet50 (--model)"]
    assert found["ResNet50"]["small"] == found["ResNet50 (--model)"]["small"]
    text = Path("o/reproduction.md").read_text()
    for group in ("wrong", "severity-1"):
        pictures = [f"ignored-{option}-{group}.png" for option in ("resnet50", "model")]
        assert all(Path("o", name).is_file() and f"({name})" in text for name in pictures)


def test_from_the_bundled_images_alone(workplace, capsys, monkeypatch):
    monkeypatch.setattr("fastuq.bench.trained.trained_folder", {}.get)
    assert cli.main(["reproduce", "--output", "o", *ARGV]) == 0
    assert "o/reproduction.md" in capsys.readouterr().out
    found = json.loads(Path("o/reproduction.json").read_text())
    assert found["clean_images"] == "bundled"
    assert found["networks"]["tiny"]["full"] is None
    assert found["networks"]["tiny"]["small"]["clean"]["n"] == 20
    assert refusal(capsys, ["reproduce", "--full", "--output", "p", *ARGV], workplace)


def test_another_network_in_the_place_of_resnet50_is_refused(workplace, capsys):
    said = refusal(capsys, ["reproduce", "--resnet50", str(TINY), *ARGV], workplace)
    assert "expected a model of network resnet50, found tiny" in said


@pytest.fixture(scope="module")
def scored(model):
    rng = np.random.default_rng(6)
    features = Backbone(model.backbone_path)(rng.integers(0, 256, (120, 32, 32, 3), np.uint8))
    labels = model.head.forward(model.dequantize(features)).argmax(axis=1)
    labels[::2] = rng.integers(0, 100, 60)
    return score(model, features, labels=labels, mutual_information=True, **OPTIONS)


def test_scores_one_by_one(scored):
    found = trust_scores(scored)
    n = np.arange(len(scored))
    np.testing.assert_allclose(found["plain_max"], scored.plain[n, scored.plain_prediction])
    np.testing.assert_allclose(found["max_mean"], scored.mean.max(axis=1))
    p = scored.mean.astype(np.float64)
    np.testing.assert_allclose(found["entropy"], (p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1), rtol=1e-5)
    assert (found["mutual_information"] < 1e-5).all()
    np.testing.assert_allclose(found["predicted_std"], -scored.std[n, scored.mean.argmax(axis=1)])
    np.testing.assert_allclose(found["mean_width"], -(scored.upper - scored.lower).mean(axis=1))


def test_failure_and_shift_detection(scored, model):
    found = failure_detection(scored, resamples=30)
    right = scored.top == scored.labels
    score_, low, high = found["entropy"]["auroc"]
    assert score_ == pytest.approx(roc_auc_score(right, -scored.entropy))
    assert low < score_ < high
    assert found["max_mean"]["aurc"][0] == pytest.approx(aurc(scored.max_mean, right))
    assert found["plain_max"]["accuracy"] == pytest.approx((scored.plain_prediction == scored.labels).mean())
    clean = {name: values + 0.001 for name, values in trust_scores(scored).items()}
    shifts = shift_detection(clean, scored)
    both = np.concatenate([clean["max_mean"], scored.max_mean])
    assert shifts["max_mean"]["auroc"] == pytest.approx(roc_auc_score(np.arange(240) < 120, both))
    other = {name: {"auroc": 0.5, "fpr95": 1.0} for name in shifts}
    means = mean_shift_detection([shifts, other])
    assert means["max_mean"]["auroc"][0] == pytest.approx((shifts["max_mean"]["auroc"] + 0.5) / 2)


def test_disagreement_between_seeds_is_counted_over_all_pairs(model, scored):
    features = Backbone(model.backbone_path)(np.random.default_rng(7).integers(0, 256, (90, 32, 32, 3), np.uint8))
    options = {"threshold": 0.95, "mixed": "keep"}
    rows = seed_disagreement(model, features, iterations=(5, 40), **options)
    for row in rows:
        kept = [score(model, features, num_iter=row["num_iter"], seed=s, **options).keep for s in range(3)]
        assert row["disagreement"] == pytest.approx(np.mean([np.mean(a ^ b) for a, b in combinations(kept, 2)]))
        assert row["kept"] == pytest.approx(np.mean(kept))
    assert rows[0]["disagreement"] > 0
    assert (min(ITERATIONS), max(ITERATIONS)) == (10, 5000)
