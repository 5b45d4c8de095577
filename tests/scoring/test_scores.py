"""Scores from cached features, against their formulas one sample at a time; what is refused; one read of a cache."""

from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
from caches import write
from damage import damage
from heads import FEATURE_SCALE, ZERO_POINT, model_of, random_features, random_head, reference_outputs
from hypothesis import given
from hypothesis import strategies as st
from models import save_again
from places import ROOT
from score_oracles import ITERATION_ORACLES, ORACLES, World

import fastuq
from fastuq.cache import FeatureCache
from fastuq.errors import CacheError, FastUQError, InputError, ModelError
from fastuq.scoring import reading
from fastuq.scoring.metrics import auroc
from fastuq.scoring.scores import fit_reference, load_reference, scores
from fastuq.scoring.scores.compute import available
from fastuq.scoring.scores.neighbours import _largest
from fastuq.scoring.scores.table import SCORES, score_of

WIDTH, HIDDEN, CLASSES, TRAIN, TEST = 24, 18, 7, 300, 12


@cache
def world(activation):
    """Make a small head, a reference of random training features, and what the oracles need of them."""
    head = random_head([(WIDTH, HIDDEN, 0.2, "relu"), (HIDDEN, CLASSES, 0.4, activation)], seed=3)
    train, test = random_features(TRAIN, WIDTH, seed=1), random_features(TEST, WIDTH, seed=2)
    model = model_of(head, train)
    model.sha256, model.class_names = "0" * 64, tuple("abcdefg")
    labels = np.concatenate([np.arange(CLASSES), np.random.default_rng(0).integers(0, CLASSES, TRAIN - CLASSES)])
    reference = fit_reference(model, train, labels=labels, rows=60)
    rows = np.unique(np.linspace(0, TRAIN - 1, 60).astype(int))
    assert np.array_equal(reference.rows, train[rows])
    return model, reference, test, World(head, train, labels, test, rows, ZERO_POINT, FEATURE_SCALE)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_every_score_is_its_formula(activation):
    model, reference, test, known = world(activation)
    found = scores(model, test, list(ORACLES), reference=reference)
    for name, oracle in ORACLES.items():
        expected = np.array([oracle(known, n) for n in range(TEST)])
        size = max(1.0, np.abs(expected).max())
        assert np.abs(found[name] - expected).max() < 1e-5 * size, name
        assert found[name].dtype == np.float64
        assert np.ptp(expected) > 1e-3 * size or name == "odin", f"{name}: the samples do not differ"


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
def test_scores_of_iterations_are_their_formulas(masks):
    model, _, test, _ = world("sigmoid")
    options = {"num_iter": 30, "seed": 5, "masks": masks}
    outputs = reference_outputs(model, test, 30, 5, masks, "float32", np.arange(TEST))
    found = scores(model, test, [*ITERATION_ORACLES, "mutual_information"], precision="float32", **options)
    for name, oracle in ITERATION_ORACLES.items():
        expected = np.array([oracle(outputs[:, n].astype(float)) for n in range(TEST)])
        assert np.allclose(found[name], expected, rtol=1e-3, atol=1e-4), name
    p = np.clip(outputs.astype(float), 1e-30, 1 - 1e-16)  # where p ln p is 0
    entropies = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=2).mean(axis=0)
    mean = p.mean(axis=0)
    of_mean = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).sum(axis=1)
    assert np.allclose(found["mutual_information"], entropies - of_mean, atol=1e-4)


def bank_of(model):
    """Make what scores read of a bank: cosines to rows of each class, and how they are fused with logits."""

    def similarities(rows, threads=None):
        return np.abs(np.sin(np.outer(rows[:, 0], np.arange(1, CLASSES + 1)))).astype(np.float32)

    def check(given, fingerprint):
        assert (given.sha256, fingerprint) == (model.sha256, None)

    return SimpleNamespace(
        similarities=similarities,
        fuse=lambda z, s: np.float32(0.2) * z + 3 * s,
        check=check,
        projection=SimpleNamespace(codes=lambda rows: rows),
        codes=frozenset(),
        fitted=np.empty(0, np.uint64),
    )


BANKED = ["bank", "bank_logit", "bank_similarity"]


def test_scores_of_a_bank_are_their_formulas():
    model, _, test, known = world("sigmoid")
    bank = bank_of(model)
    found, likeness = scores(model, test, BANKED, bank=bank), bank.similarities(test)
    q = 0.2 * known.z + 3 * likeness
    expected = [[max(np.exp(v) / np.exp(v).sum()), max(v), max(s)] for v, s in zip(q, likeness, strict=True)]
    assert np.allclose(np.stack([found[name] for name in BANKED], axis=1), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="score bank: expected a bank of training features"):
        scores(model, test, BANKED)


def test_every_score_has_an_oracle():
    tested = {score_of(name)[0].name for name in (*ORACLES, *ITERATION_ORACLES, *BANKED, "mutual_information")}
    assert tested == set(SCORES)


def test_the_page_has_every_score():
    rows = [line[2:-2].split(" | ") for line in (ROOT / "docs" / "scores.md").read_text().splitlines()]
    page = {row[0]: row[1:] for row in rows if len(row) == 5}
    for name, score in SCORES.items():
        meant = "" if score.parameter is None else f"{score.parameter.meaning}: {score.parameter.default:g}"
        formula = score.formula.replace("|", "\\|")
        found = [cell.strip() for cell in page[f"`{name}`"]]
        assert found == [formula, meant, ", ".join(score.needs), score.source]


def test_the_needs_of_a_score_are_what_it_reads():
    """Without a reference, or with a head that has no iterations, the others are the same numbers."""
    model, reference, test, _ = world("sigmoid")
    everything = scores(model, test, reference=reference, bank=bank_of(model), num_iter=5)
    assert list(everything) == list(SCORES)
    without = scores(model, test, num_iter=5)
    assert (
        list(without)
        == available(model)
        == [name for name in SCORES if not {"reference", "bank"} & {*SCORES[name].needs}]
    )
    assert all(np.array_equal(without[name], everything[name]) for name in without)


def test_scores_do_not_depend_on_the_chunks(monkeypatch):
    model, reference, test, _ = world("softmax")
    whole = scores(model, test, reference=reference, num_iter=5, masks="per_sample")
    monkeypatch.setattr(reading, "ROWS_AT_ONCE", 5)
    for name, values in scores(model, test, reference=reference, num_iter=5, masks="per_sample").items():
        assert np.allclose(values, whole[name], rtol=1e-5, atol=1e-5), name


def test_a_reference_does_not_depend_on_the_chunks(monkeypatch):
    model, reference, _, known = world("sigmoid")
    train = np.rint(known.train_f / FEATURE_SCALE + ZERO_POINT).astype(np.int8)
    monkeypatch.setattr(reading, "ROWS_AT_ONCE", 77)
    again = fit_reference(model, train, labels=known.labels, rows=60)
    assert np.array_equal(again.rows, reference.rows)
    assert np.allclose(again.right_means, reference.right_means, atol=1e-5)
    for kind in ("hidden", "features"):
        mine, theirs = getattr(again, kind), getattr(reference, kind)
        assert np.allclose(mine.means, theirs.means, atol=1e-5)
        for name in ("whitener", "whitener_all"):  # eigenvectors may turn, what they come to does not
            square = [getattr(of, name).astype(float) @ getattr(of, name).T for of in (mine, theirs)]
            assert np.allclose(*square, rtol=1e-3, atol=1e-3 * np.abs(square[1]).max())


def test_a_head_of_one_layer_and_one_with_negative_hidden_units():
    for layout in ([(WIDTH, 5, 0.2, "sigmoid")], [(WIDTH, 9, 0.2, "tanh"), (9, 5, 0.1, "softmax", "affine")]):
        head = random_head(layout)
        train = random_features(60, WIDTH)
        model = model_of(head, train)
        model.sha256, model.class_names = "0" * 64, tuple("abcde")
        reference = fit_reference(model, train, labels=np.arange(60) % 5)
        shaped = ("ash_b", "ash_s", "scale")
        names = [name for name in available(model, reference) if name not in shaped]
        found = scores(model, train, names, reference=reference, num_iter=3)
        activation = head.forward(model.dequantize(train))
        assert np.allclose(found["max"], activation.max(axis=1), atol=1e-5)
        for name in shaped:
            with pytest.raises(InputError, match="hidden units from 0 up, as after a ReLU"):
                scores(model, train, [name])


def test_scores_of_a_cache_tell_right_from_wrong_and_read_it_once(workplace, monkeypatch):
    """Whatever the number of scores, every row is read once."""
    model = fastuq.load_model()
    images = fastuq.open_images("bundled")
    with fastuq.cache_features(images, model, "features.h5") as cache:
        reads = []
        monkeypatch.setattr(
            FeatureCache, "read", lambda self, a, b, read=FeatureCache.read: reads.append((a, b)) or read(self, a, b)
        )
        found = scores(model, cache, num_iter=5)
        assert reads == [(0, 20)]
        right = fastuq.plain_logits(model, cache).argmax(axis=1) == images.labels
    assert auroc(found["max"], right) > 0.5


def test_a_reference_comes_back_from_its_file(workplace):
    model, reference, test, _ = world("sigmoid")
    reference.save("reference.h5")
    again = load_reference("reference.h5")
    names = available(model, reference)
    one, other = (scores(model, test, names, reference=each, num_iter=3) for each in (reference, again))
    assert all(np.array_equal(one[name], other[name]) for name in names)
    assert repr(again) == repr(reference)
    size = (workplace / "reference.h5").stat().st_size
    for at in range(0, size, size // 23):
        damage("reference.h5", at)
        with pytest.raises(CacheError):
            load_reference("reference.h5")
        reference.save("reference.h5")


def test_what_does_not_fit_is_one_line():
    model, reference, test, _ = world("sigmoid")
    train, labels = reference.rows, np.arange(len(reference.rows)) % CLASSES

    def refused(match, kind, work):
        with pytest.raises(kind, match=match) as caught:
            work()
        assert isinstance(caught.value, FastUQError)
        assert "\n" not in str(caught.value)

    refused("expected one of max, margin", InputError, lambda: scores(model, test, ["nax"]))
    refused("expected one of max, margin", InputError, lambda: scores(model, test, [3]))
    refused("expected no parameter", InputError, lambda: scores(model, test, ["max(2)"]))
    refused("expected a percentile from 0 to 99.9, as in scale", InputError, lambda: scores(model, test, ["scale(x)"]))
    refused("expected a percentile from 0", InputError, lambda: scores(model, test, ["scale(nan)"]))
    refused("neighbour k, a whole number from 1", InputError, lambda: scores(model, test, ["knn(1.5)"]))
    few = replace(reference, rows=reference.rows[:20])
    for name in ("knn(21)", "sirc_knn(20)"):
        too_many = partial(scores, model, test, [name], reference=few)
        refused("neighbour k: expected at most 20, the rows", InputError, too_many)
    refused("score knn: expected a reference", InputError, lambda: scores(model, test, ["max", "knn"]))
    refused("fewer than 18 dimensions", InputError, lambda: scores(model, test, ["vim(18)"], reference=reference))
    for wrong in (test.astype(np.float32), test[:, :5], test[0]):
        refused("features: expected int8", InputError, lambda wrong=wrong: scores(model, wrong, ["max"]))
        refused("features: expected int8", InputError, lambda wrong=wrong: fit_reference(model, wrong))
    refused("at least one sample", InputError, lambda: scores(model, test[:0], ["max"]))
    refused("expected features with labels", InputError, lambda: fit_reference(model, train))
    refused("found none of c and 4 more; give", InputError, lambda: fit_reference(model, train, labels=labels % 2))
    only_c = np.where(labels == 2, 0, labels)
    refused("found none of c; give", InputError, lambda: fit_reference(model, train, labels=only_c))
    same = np.tile(train[:1], (len(train), 1))
    refused(
        "training features that differ, found the same", InputError, lambda: fit_reference(model, same, labels=labels)
    )
    refused("rows: expected a whole number", InputError, lambda: fit_reference(model, train, labels=labels, rows=0))
    other = type(model)(**{**vars(model), "sha256": "1" * 64})
    refused(
        "expected one of model 111111111111, found that of model 000000000000",
        CacheError,
        lambda: scores(other, test, ["knn"], reference=reference),
    )


def test_a_cache_of_another_model_is_refused(workplace, model):
    write("features.h5")
    other = save_again(model, workplace / "other", info={"made": "again"})
    with FeatureCache.open("features.h5") as cache:
        for work in (lambda: scores(other, cache, ["max"]), lambda: fit_reference(other, cache)):
            with pytest.raises(CacheError, match="expected features of model"):
                work()


def test_a_head_that_overflows_is_refused():
    from dataclasses import replace

    model, _, test, _ = world("sigmoid")
    last = model.head.blocks[-1]
    huge = replace(last, weights=np.full_like(last.weights, 1e30))
    head = replace(model.head, blocks=(model.head.blocks[0], huge), scale=np.full(WIDTH, 1e30, np.float32))
    broken = type(model)(**{**vars(model), "head": head})
    with np.errstate(all="ignore"), pytest.raises(ModelError, match="score energy is NaN or infinite"):
        scores(broken, test, ["energy"])


@pytest.mark.parametrize(("samples", "k"), [(2003, 1), (2003, 10), (2003, 150), (5, 5), (61, 60)])
def test_neighbours_among_many_rows_are_nearly_always_those_of_all(samples, k):
    """Whatever their number is, and where it fills no group of rows."""
    model, reference, test, _ = world("softmax")
    rng = np.random.default_rng(4)
    rows = random_features(samples, WIDTH, seed=4)
    test = np.concatenate(
        [test, np.clip(rows[rng.integers(0, samples, 700)] + rng.integers(-9, 9, (700, WIDTH)), -128, 127)]
    )
    test = test.astype(np.int8)
    f, all_f = (FEATURE_SCALE * (x.astype(float) - ZERO_POINT) for x in (test, rows))
    likeness = (f / np.linalg.norm(f, axis=1)[:, None]) @ (all_f / np.linalg.norm(all_f, axis=1)[:, None]).T
    expected = 2 * np.sort(likeness, axis=1)[:, -k] - 2
    found = scores(model, test, [f"knn({k})"], reference=replace(reference, rows=rows))[f"knn({k})"]
    assert (found < expected + 1e-5).all(), "nearer than it is"
    assert (found < expected - 1e-5).mean() < 0.01
    assert (found > expected - 0.01).all()


@pytest.mark.parametrize("k", [1, 10])
def test_neighbours_that_have_nearly_everything_in_common(k):
    """Of codes around a large common vector only the last bits would tell them apart."""
    model, reference, *_ = world("softmax")
    rng = np.random.default_rng(4)
    common = rng.integers(100, 120, WIDTH)
    rows, test = ((common + rng.integers(-8, 8, (count, WIDTH))).astype(np.int8) for count in (2003, 500))
    f, all_f = (FEATURE_SCALE * (x.astype(float) - ZERO_POINT) for x in (test, rows))
    likeness = (f / np.linalg.norm(f, axis=1)[:, None]) @ (all_f / np.linalg.norm(all_f, axis=1)[:, None]).T
    expected = 2 * np.sort(likeness, axis=1)[:, -k] - 2
    found = scores(model, test, [f"knn({k})"], reference=replace(reference, rows=rows))[f"knn({k})"]
    assert (np.abs(found - expected) < 1e-6).mean() > 0.95
    assert np.median(-expected) < 1e-3


@pytest.mark.parametrize("rows", [np.zeros((9, WIDTH), np.int8), np.full((9, WIDTH), ZERO_POINT, np.int8)])
def test_neighbours_that_are_all_the_same_or_nothing(rows):
    model, reference, test, _ = world("softmax")
    test = np.concatenate([test, rows[:1], np.full((1, WIDTH), ZERO_POINT, np.int8)])
    f, all_f = (FEATURE_SCALE * (x.astype(float) - ZERO_POINT) for x in (test, rows))
    lengths = (np.maximum(np.linalg.norm(x, axis=1), 1e-12) for x in (f, all_f))
    one, other = (x / length[:, None] for x, length in zip((f, all_f), lengths, strict=True))
    found = scores(model, test, ["knn(9)"], reference=replace(reference, rows=rows))["knn(9)"]
    np.testing.assert_allclose(found, 2 * (one @ other.T).min(axis=1) - 2, atol=1e-5)


@given(st.integers(1, 90), st.integers(1, 9), st.integers(0, 9))
def test_the_largest_of_many_are_found(columns, count, seed):
    values = np.random.default_rng(seed).integers(0, 50, (3, columns))
    count = min(count, columns)
    found = np.take_along_axis(values, _largest(values, count), axis=1)
    assert np.array_equal(np.sort(found, axis=1), np.sort(values, axis=1)[:, -count:])
    assert all(len(set(row)) == count for row in _largest(values, count).tolist())
