"""Embeddings from anywhere: their codes, the model of them, and the cache that is sealed like one of images."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from commands import refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from fastuq import cli
from fastuq.cache import FeatureCache, Features, cache_embeddings
from fastuq.errors import CacheError, FastUQError, InputError, ModelError
from fastuq.model.coding import Coding, _float32
from fastuq.model.head import Block, Head
from fastuq.model.head_file import load_head, save_head
from fastuq.model.model import load_model
from fastuq.scoring.scoring import score
from fastuq.training.embedding_model import embedding_model
from fastuq.util.npy import NpyArray

WIDTH, CLASSES = 24, 5


def head(seed=0, width=WIDTH):
    rng = np.random.default_rng(seed)
    first = Block(0.2, rng.standard_normal((width, 12)).astype("f4") / 5, np.zeros(12, "f4"), "relu")
    last = Block(0.4, rng.standard_normal((12, CLASSES)).astype("f4"), np.zeros(CLASSES, "f4"), "softmax")
    return Head((first, last), np.ones(width, "f4"), np.zeros(width, "f4"))


def embeddings(count=1000, seed=0, width=WIDTH):
    """Dimensions of sizes from 0.01 to 100, one of which is constant, some far from zero."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, width)) * np.geomspace(0.01, 100, width) + rng.permutation(width)
    x[:, 3] = 7.25
    return x.astype(np.float32)


def scaled_head():
    """Make a head whose first affine gives every dimension of `embeddings` a size of about 1."""
    x = embeddings()
    size = np.where(np.ptp(x, axis=0) > 0, x.std(axis=0), 1)
    return Head(head().blocks, (1 / size).astype("f4"), (-x.mean(axis=0) / size).astype("f4"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_code_is_within_half_a_step(dtype):
    x = embeddings().astype(dtype)
    features = Features.from_arrays(x)
    codes = features.read(0, len(x))
    assert (codes.dtype, codes.shape) == (np.int8, x.shape)
    assert codes.min() == -127
    assert codes.max() == 127
    real = features.coding.scale * codes.astype(np.float64) + features.coding.offset
    step = features.coding.scale.astype(np.float64)
    assert (np.abs(real - x.astype(np.float64)) <= 0.502 * step + 1e-6 * np.abs(features.coding.offset)).all()
    assert (real[:, 3] == 7.25).all()


def test_int8_is_taken_as_it_is():
    x = np.random.default_rng(0).integers(-128, 128, (50, WIDTH)).astype(np.int8)
    features = Features.from_arrays(x)
    assert np.array_equal(features.read(0, 50), x)
    assert (features.coding.scale == 1).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=64))
def test_half_precision_is_widened_exactly(bits):
    values = np.array(bits, np.uint16).view(np.float16)[None]
    out = np.empty(values.shape, np.float32)
    if np.isfinite(values).all():
        assert np.array_equal(_float32(values, out), values.astype(np.float32))
    else:
        with pytest.raises(InputError, match="found NaN, infinity or huge"):
            _float32(values, out)


def test_pieces_and_files_give_the_same(tmp_path):
    x = embeddings()
    np.save(tmp_path / "x.npy", x)
    of_file, of_array = Features.from_arrays(NpyArray(tmp_path / "x.npy")), Features.from_arrays(x)
    assert of_file.fingerprint() == of_array.fingerprint() == Features.from_arrays(np.asfortranarray(x)).fingerprint()
    whole = of_array.read(0, 1000)
    assert np.array_equal(np.concatenate([of_file.read(n, min(n + 37, 1000)) for n in range(0, 1000, 37)]), whole)
    assert np.array_equal(of_file.rows(np.array([5, 900])), whole[[5, 900]])


def test_the_fingerprint_is_of_every_value_and_label():
    x, labels = embeddings(50), np.arange(50) % 3
    prints = {Features.from_arrays(x).fingerprint(), Features.from_arrays(x, labels).fingerprint()}
    for row, column in ((0, 0), (49, WIDTH - 1), (20, 7)):
        changed = x.copy()
        changed[row, column] = np.nextafter(changed[row, column], np.float32(1e9))
        prints.add(Features.from_arrays(changed).fingerprint())
    prints.add(Features.from_arrays(x, labels[::-1].copy()).fingerprint())
    prints.add(Features.from_arrays(x.astype(np.float64)).fingerprint())
    assert len(prints) == 7


@pytest.mark.parametrize("batch_size", [64, 300])
def test_values_that_change_after_the_fingerprint_are_refused(tmp_path, made, batch_size):
    _, model = made
    np.save(tmp_path / "x.npy", embeddings())
    features = Features.from_arrays(NpyArray(tmp_path / "x.npy"), model=model)
    with cache_embeddings(features, model, tmp_path / "good.h5", batch_size=batch_size) as cache:
        assert np.array_equal(cache.read(0, 1000), model.coding.codes(embeddings()))
    writable = np.load(tmp_path / "x.npy", mmap_mode="r+")
    writable[700, 5] += np.float32(1)
    del writable
    assert np.array_equal(features.read(0, 500), model.coding.codes(embeddings()[:500]))
    with pytest.raises(InputError, match="others than when the fingerprint was taken of them"):
        cache_embeddings(features, model, tmp_path / "bad.h5", batch_size=batch_size)


@pytest.fixture
def made(tmp_path):
    features = Features.from_arrays(embeddings(), np.arange(1000) % CLASSES)
    return features, embedding_model(tmp_path / "model", scaled_head(), features)


def test_scoring_from_the_cache(tmp_path, made):
    features, model = made
    with cache_embeddings(features, model, tmp_path / "x.h5", batch_size=64) as cache:
        assert (cache.computed, cache.num_samples, cache.num_features) == (1000, 1000, WIDTH)
        assert np.array_equal(cache.labels, features.labels)
        result = score(model, cache, num_iter=200)
        again = score(model, features.read(0, 1000), labels=features.labels, num_iter=200)
    assert np.array_equal(result.mean, again.mean)
    assert result.std.max() > 0.01
    assert np.abs(result.plain - model.head_int8.forward(features.read(0, 1000))).max() < 1e-5
    plain = scaled_head().forward(embeddings())
    float32 = score(model, features.read(0, 1000), num_iter=200, precision="float32")
    assert np.abs(float32.plain - plain).max() < 0.05
    assert (float32.plain_prediction == plain.argmax(axis=1)).mean() > 0.99
    assert np.abs(result.mean - float32.mean).max() < 0.06


def test_a_scale_for_each_dimension_is_worth_it(made):
    """With one scale for all, small dimensions would be zero; the head gives each the same weight."""
    features, _ = made
    x, plain = embeddings(), scaled_head().forward(embeddings())
    one = np.rint(x / (np.abs(x).max() / 127)) * (np.abs(x).max() / 127)
    each = features.coding.scale * features.read(0, 1000) + features.coding.offset
    agree = [(scaled_head().forward(v.astype("f4")).argmax(1) == plain.argmax(1)).mean() for v in (one, each)]
    assert agree[0] < 0.9 < 0.99 < agree[1]


def test_a_cache_goes_on_and_is_verified(tmp_path, made):
    features, model = made
    path = tmp_path / "x.h5"
    cache_embeddings(features, model, path, batch_size=64).close()
    whole = path.read_bytes()
    with cache_embeddings(features, model, path) as cache:
        assert cache.reused
    place = whole.rindex(features.read(320, 384).tobytes())
    damaged = bytearray(whole)
    damaged[place + 5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CacheError, match="batch 5"), FeatureCache.open(path, model) as cache:
        cache.read(0, 1000)
    with cache_embeddings(features, model, path, threads=1) as cache:
        assert cache.computed == 64
    assert path.read_bytes() == whole
    other = Features.from_arrays(embeddings(seed=1), model=model)
    with pytest.raises(CacheError, match="data fingerprint"):
        cache_embeddings(other, model, path)


def test_data_to_be_scored_are_coded_by_the_models_scales(made):
    _, model = made
    x = embeddings(100, seed=3) * 2
    features = Features.from_arrays(x, model=load_model(model.path))
    assert np.array_equal(features.coding.scale, model.coding.scale)
    assert np.array_equal(features.read(0, 100), model.coding.codes(x))
    assert (features.read(0, 100) == 127).mean() > 0.02, "what lies beyond is cut off"


def test_a_model_of_embeddings_takes_no_images(made, workplace, capsys):
    _, model = made
    assert (model.input_shape, sorted(model.info["parts"])) == (None, ["features.npz", "head.npz", "head_int8.npz"])
    assert "24 features" in repr(model)
    with pytest.raises(ModelError, match="expected a model of images, found one of embeddings"):
        model.read_backbone()
    for command in (["score", "bundled"], ["cache-features", "bundled"]):
        assert "has no backbone" in refusal(capsys, [*command, "--model", str(model.path)])


@pytest.mark.parametrize("part", ["features.npz", "head.npz"])
def test_a_damaged_part_is_refused(made, part):
    _, model = made
    content = bytearray((model.path / part).read_bytes())
    content[len(content) // 2] ^= 4
    (model.path / part).write_bytes(content)
    with pytest.raises(ModelError, match=part):
        load_model(model.path)


WRONG = {
    r"expected \(N, D\) of float16.*found float32 \(5,\)": lambda: Features.from_arrays(np.zeros(5, "f4")),
    r"found int64 \(5, 2\)": lambda: Features.from_arrays(np.zeros((5, 2), np.int64)),
    r"found float32 \(0, 2\)": lambda: Features.from_arrays(np.zeros((0, 2), "f4")),
    "found NaN, infinity or huge": lambda: Features.from_arrays(np.full((5, 2), np.nan, "f4")),
    "found NaN, infinity or huge ones": lambda: Features.from_arrays(np.full((5, 2), 1e300)),
    "expected 5 whole numbers": lambda: Features.from_arrays(np.zeros((5, 2), "f4"), [1, 2]),
    "scores images": lambda: Features.from_arrays(np.zeros((5, 2), "f4"), model=load_model()),
    "embeddings have 3": lambda: embedding_model("m", head(), Features.from_arrays(np.ones((9, 3), "f4"))),
    "expected finite float32 scales": lambda: Coding(np.full(3, np.nan, "f4"), np.zeros(3, "f4")),
    "as many offsets as scales above 0": lambda: Coding(np.zeros(3, "f4"), np.zeros(3, "f4")),
}


@pytest.mark.parametrize(("message", "call"), WRONG.items())
def test_what_does_not_fit_is_refused(workplace, message, call):
    with pytest.raises(FastUQError, match=message):
        call()


def test_a_value_that_is_not_finite_is_refused_with_its_place(tmp_path):
    x = embeddings(20_000, width=4)
    x[19_001, 2] = np.inf  # beyond the rows that scales are chosen of
    with pytest.raises(InputError, match=r"arrays of samples 19000 to 19099: embeddings: expected finite values"):
        Features.from_arrays(x).read(19_000, 19_100)


def test_the_command(workplace, capsys):
    np.save("x.npy", embeddings().astype(np.float16))
    np.save("y.npy", np.arange(1000) % CLASSES)
    Path("names.txt").write_text("ape\nbear\ncat\ndog\nemu\n")
    save_head("head.npz", scaled_head())
    assert repr(load_head("head.npz")) == "Head(24, 12 -> 5)"
    first = ["import-features", "x.npy", "--head", "head.npz", "--labels", "y.npy", "--class-names", "names.txt"]
    assert cli.main([*first, "--model", "m", "--output", "x.h5", "--json", "done.json"]) == 0
    said = json.loads(Path("done.json").read_text())
    assert (said["computed"], said["num_features"], said["labelled"]) == (1000, WIDTH, True)
    assert load_model("m").class_names == ("ape", "bear", "cat", "dog", "emu")
    np.savez("test.npz", features=embeddings(50, seed=1), labels=np.arange(50) % CLASSES)
    assert cli.main(["import-features", "test.npz", "--model", "m", "--output", "test.h5"]) == 0
    assert cli.main(["score", "--cache", "test.h5", "--model", "m", "--csv", "test.csv", "--num-iter", "5"]) == 0
    assert len(Path("test.csv").read_text().splitlines()) == 51
    assert cli.main(["cache", "verify", "x.h5", "test.h5", "--model", "m"]) == 0
    capsys.readouterr()
    assert cli.main([*first]) == 0
    assert "score them: fastuq score --model out/model-x --cache out/features-file-x.npy-" in capsys.readouterr().out


def test_one_hot_labels_are_of_as_many_classes_as_the_model(workplace):
    x, three = embeddings(50), np.eye(3)[np.arange(50) % 3]
    model = embedding_model("m", scaled_head(), Features.from_arrays(x, np.eye(CLASSES)[np.arange(50) % CLASSES]))
    for made in (
        lambda: Features.from_arrays(x, three, model=model),
        lambda: embedding_model("n", scaled_head(), Features.from_arrays(x, three)),
    ):
        with pytest.raises(InputError, match="one-hot labels of 5 classes, as the model has, found 3"):
            made()


REFUSED = {
    "give --head HEAD.npz to make a model, or --model": ["x.npy"],
    "--model DIR alone": ["x.npy", "--model", "m", "--class-names", "names.txt"],
    "no such file": ["none.npy", "--head", "head.npz"],
    "expected an .npz of a head": ["x.npy", "--head", "x.npy"],
    "takes 24 features, the embeddings have 3": ["narrow.npy", "--head", "head.npz"],
    "expected a .npy or .npz file": ["names.txt", "--head", "head.npz"],
    "expected an array named features, found a, b": ["two.npz", "--head", "head.npz"],
    "expected labels 0 to 4": ["x.npy", "--head", "head.npz", "--labels", "many.npy"],
    "one-hot labels of 5 classes, as the model has, found 3": ["x.npy", "--head", "head.npz", "--labels", "three.npy"],
    "class names: expected 5, one for each class, found 2": [
        "x.npy",
        "--head",
        "head.npz",
        "--class-names",
        "names.txt",
    ],
    "class names: expected 5": ["x.npy", "--head", "head.npz", "--class-names", "one.txt"],
}


@pytest.mark.parametrize(("message", "arguments"), REFUSED.items())
def test_a_mistake_is_one_line(workplace, capsys, message, arguments):
    np.save("x.npy", embeddings(50))
    np.save("narrow.npy", embeddings(50, width=4)[:, :3])
    np.save("many.npy", np.arange(50))
    np.savez("two.npz", a=np.ones(3), b=np.ones(3))
    np.save("three.npy", np.eye(3)[np.arange(50) % 3])
    Path("names.txt").write_text("ape\nape\n")
    Path("one.txt").write_text("ape\n")
    save_head("head.npz", head())
    assert message in refusal(capsys, ["import-features", *arguments])
    assert not os.path.exists("out") or "labels" in message
