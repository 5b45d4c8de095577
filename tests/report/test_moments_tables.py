"""Moments for other programs: the same numbers as in the sealed file, whatever the suffix."""

import csv
import json

import numpy as np
import pytest
from commands import refusal

from fastuq import cli
from fastuq.datasets import open_images
from fastuq.model.backbone import Backbone
from fastuq.report import moments_tables
from fastuq.report.moments_file import load_moments, save_moments
from fastuq.scoring.logits import plain_logits
from fastuq.scoring.scoring import score


@pytest.fixture(scope="module")
def scored(model):
    images = open_images("bundled")
    features = Backbone(model.read_backbone())(images.read(0, 20))
    labels = np.arange(20) % len(model.class_names)
    return score(model, features, labels=labels, num_iter=20), plain_logits(model, features)


@pytest.fixture
def sealed(scored, tmp_path):
    save_moments(tmp_path / "m.h5", scored[0], logits=scored[1])
    return load_moments(tmp_path / "m.h5")


def arrays_of(found):
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}


def test_the_logits_are_what_the_last_activation_is_taken_of(model, scored):
    result, logits = scored
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    kind = model.head.blocks[-1].activation
    expected = expected / expected.sum(axis=1, keepdims=True) if kind == "softmax" else 1 / (1 + np.exp(-logits))
    assert np.abs(expected - result.plain).max() < 1e-6


def test_numpy(tmp_path, scored, sealed):
    save_moments(tmp_path / "m.npz", scored[0], logits=scored[1])
    with np.load(tmp_path / "m.npz") as found:
        about = json.loads(str(found["about"]))
        assert set(found.files) == {*arrays_of(sealed), "about"}
        for name, array in arrays_of(sealed).items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)
    assert about == {key: sealed[key] for key in ("options", "model_sha256", "data_fingerprint")}


def test_csv(tmp_path, scored, sealed, monkeypatch):
    monkeypatch.setattr(moments_tables, "_ROWS", 7)
    save_moments(tmp_path / "m.csv", scored[0], logits=scored[1])
    header, *rows = csv.reader((tmp_path / "m.csv").read_text().splitlines())
    assert len(rows) == 20
    table = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    for name, array in arrays_of(sealed).items():
        columns = [name] if array.ndim == 1 else [f"{name}_{number}" for number in range(array.shape[1])]
        found = np.array([table.pop(column) for column in columns], np.float32 if array.dtype.kind == "f" else int).T
        assert np.array_equal(found.reshape(array.shape), array)
    assert not table


def test_parquet(tmp_path, scored, sealed):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'fastuq[parquet]'")
    save_moments(tmp_path / "m.parquet", scored[0], logits=scored[1])
    table = parquet.read_table(tmp_path / "m.parquet")
    assert set(table.column_names) == set(arrays_of(sealed))
    for name, array in arrays_of(sealed).items():
        assert np.array_equal(np.array(table[name].to_pylist(), array.dtype), array)
    assert json.loads(table.schema.metadata[b"fastuq"])["model_sha256"] == sealed["model_sha256"]


def test_without_pyarrow_nothing_is_scored(workplace, capsys, monkeypatch):
    monkeypatch.setattr(moments_tables, "find_spec", lambda name: None)
    assert "Parquet files need pyarrow" in refusal(capsys, ["score", "bundled", "--moments", "m.parquet"], workplace)


def test_the_command(workplace, capsys):
    assert cli.main(["score", "bundled", "--moments", "m.npz", "--num-iter", "5"]) == 0
    with np.load("m.npz") as found:
        assert found["mean"].shape == found["logits"].shape == found["plain"].shape == (20, 100)
