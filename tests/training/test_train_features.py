"""A head fitted on embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import refusal

from fastuq import cli
from fastuq.cache import Features
from fastuq.model.model import load_model
from fastuq.scoring.scoring import score

pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")


def clusters(count, seed):
    """Three classes about three points, in dimensions of very different sizes and places."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    centres = np.random.default_rng(99).standard_normal((3, 16))
    x = centres[labels] + 0.4 * rng.standard_normal((count, 16))
    return (x * np.geomspace(0.01, 100, 16) + 50).astype(np.float32), labels


def test_a_head_on_embeddings(workplace, capsys):
    x, labels = clusters(900, 0)
    np.save("x.npy", x)
    np.save("y.npy", labels)
    Path("names.txt").write_text("ape\nbear\ncat\n")
    command = ["train", "--features", "x.npy", "--labels", "y.npy", "--head", "0.2:24:relu,0.4:softmax"]
    options = ["--class-names", "names.txt", "--epochs", "6", "--holdout", "200", "--output", "m", "--json", "r.json"]
    assert cli.main([*command, *options, "--learning-rate", "0.01"]) == 0
    assert json.loads(Path("r.json").read_text())["report"]["accuracy_holdout"] > 0.95
    assert "accuracy holdout" in capsys.readouterr().out
    model = load_model("m")
    assert (model.class_names, model.head.rates) == (("ape", "bear", "cat"), (0.2, 0.4))
    fresh, truth = clusters(300, 1)
    result = score(model, Features.from_arrays(fresh, model=model).read(0, 300), labels=truth)
    assert (result.plain_prediction == truth).mean() > 0.95
    assert (result.top == truth).mean() > 0.95
    assert result.std.max() > 0.01


def test_several_heads_on_embeddings(workplace, capsys):
    x, labels = clusters(300, 0)
    np.savez("x.npz", features=x, labels=labels)
    command = ["train", "--features", "x.npz", "--head", "0:12:relu,0:softmax", "--epochs", "2", "--work", "w"]
    assert cli.main([*command, "--output", "one"]) == 0
    assert cli.main([*command, "--heads", "3", "--output", "three"]) == 0
    one, three = load_model("one"), load_model("three")
    assert (len(one.others), len(three.others), three.info["made"]["heads"]) == (0, 2, 3)
    first, *others = (each.head.blocks[0].weights for each in three.members)
    assert np.array_equal(first, one.head.blocks[0].weights)
    assert all(np.abs(each - first).max() > 0.01 for each in others)
    fresh, truth = clusters(200, 1)
    result = score(three, Features.from_arrays(fresh, model=three).read(0, 200), labels=truth, num_iter=2)
    assert result.std.max() > 0.01  # of the heads, which have no dropout
    assert "heads: expected a whole number" in refusal(capsys, [*command, "--heads", "0", "--output", "none"])


def test_refusals(workplace, capsys):
    np.save("x.npy", clusters(50, 0)[0])
    np.savez("labelled.npz", features=clusters(50, 0)[0], labels=clusters(50, 0)[1])
    output = ["--output", "m"]
    assert "training needs labels" in refusal(capsys, ["train", "--features", "x.npy", *output])
    assert "--labels: goes with --features" in refusal(capsys, ["train", "--labels", "y.npy", *output])
    command = ["train", "--features", "labelled.npz", *output]
    assert "--holdout: expected 0 to 49" in refusal(capsys, [*command, "--holdout", "50"])
    assert "expected sigmoid or softmax in the last block" in refusal(capsys, [*command, "--head", "0.2:relu"])
    np.save("y.npy", np.eye(4)[clusters(50, 0)[1]])
    Path("names.txt").write_text("ape\nbear\ncat\n")
    four = ["train", "--features", "x.npy", "--labels", "y.npy", *output, "--class-names", "names.txt"]
    assert "class names: expected 4" in refusal(capsys, four)
    Path("names.txt").write_text("ape\n")
    assert "class names: expected 3" in refusal(capsys, [*command, "--class-names", "names.txt"])
    assert not Path("m").exists()
