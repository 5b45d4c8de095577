"""Banks: what they hold and find, against plain NumPy; what they refuse."""

import dataclasses
import re

import h5py
import numpy as np
import pytest
from banks import CLASSES, WIDTH, bank, cached, embeddings, parts
from damage import damage
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize_scalar
from scipy.special import log_softmax, softmax

from fastuq.cache import FeatureCache
from fastuq.errors import CacheError, InputError
from fastuq.model.model import load_model
from fastuq.scoring.bank import Bank
from fastuq.scoring.bank.fitting import fit
from fastuq.scoring.bank.projection import Projection, principal
from fastuq.scoring.calibration.calibrate import calibrate
from fastuq.scoring.decisions import Reason
from fastuq.scoring.logits import plain_logits
from fastuq.scoring.scores import scores
from fastuq.scoring.scoring import Scorer, score


def features(cache):
    return cache.read(0, len(cache))


def cosines(given, rows, labels):
    """Return the largest cosine to a row of each class, (N, C), of vectors that are not rounded."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (given, rows))
    return np.stack([(a @ b[labels == c].T).max(axis=1) for c in range(CLASSES)], axis=1)


def test_similarities_are_cosines_of_principal_components():
    """All components keep all: what is left is the rounding of codes to whole numbers."""
    of, made = parts(), Bank.make(parts().model, parts().training, parts().held_out, components=WIDTH)
    mean = features(of.training).mean(axis=0)
    expected = cosines(features(of.other) - mean, features(of.training) - mean, of.training.labels)
    assert np.abs(made.similarities(features(of.other)) - expected).max() < 0.02


def test_kernels_find_what_the_codes_say():
    made, some = bank(), features(parts().other)
    products = made.projection.codes(some).astype(int) @ made.rows.astype(int).T
    expected = np.stack([products[:, made.labels == c].max(axis=1) for c in range(CLASSES)], axis=1)
    assert np.array_equal(made.similarities(some), expected.astype(np.int32) * np.float32(made.projection.step**-2))


def test_rows_are_the_training_samples_by_class():
    of, made = parts(), bank()
    assert np.array_equal(made.labels, np.sort(of.training.labels))
    assert np.array_equal(of.training.labels[made.samples], made.labels)
    assert np.array_equal(made.rows, made.projection.codes(features(of.training))[made.samples])
    assert made.counts.tolist() == [50] * CLASSES


def test_the_components_are_those_of_the_covariance():
    of = parts()
    found = principal(of.training, 5).weights.astype(float)
    centred = features(of.training) - features(of.training).mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:5]
    overlap = np.abs((found / np.linalg.norm(found, axis=0)).T @ directions.T)
    assert np.abs(overlap - np.eye(5)).max() < 0.02


@given(st.integers(1, 50), st.integers(1, 2100), st.integers(1, 8), st.integers(0, 5))
def test_codes_are_the_same_for_any_pieces(count, width, components, seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (width, components), np.int8)
    projection = Projection(weights, rng.integers(-9999, 9999, components), 150.0)
    some = rng.integers(-128, 128, (count, width), np.int8)
    found = projection.codes(some)
    y = some.astype(object) @ weights.astype(object) - projection.offset.astype(object)
    for row, codes in zip(y, found, strict=True):
        length = float(sum(v * v for v in row)) ** 0.5
        expected = [max(-127, min(127, round(150.0 / max(length, 1) * float(v)))) for v in row]
        assert np.abs(codes - np.array(expected)).max() <= 1  # a half may go either way
    assert np.array_equal(found, np.concatenate([projection.codes(row[None]) for row in some]))


def test_features_at_the_mean_are_like_nothing():
    projection = Projection(np.ones((3, 2), np.int8), np.array([6, 6]), 127.0)
    assert not projection.codes(np.full((1, 3), 2, np.int8)).any()


def test_the_weights_are_the_best_there_are():
    of, made = parts(), bank()
    z, s = plain_logits(of.model, of.held_out), made.similarities(features(of.held_out))
    every, labels = np.arange(len(z)), of.held_out.labels

    def loss(a, b):
        return -log_softmax(a * z.astype(float) + b * s, axis=1)[every, labels].mean()

    a, b = made.weights.logit, made.weights.similarity
    assert a > 0
    assert b > 0
    assert minimize_scalar(lambda x: loss(x, b), (0, 2 * a)).fun > loss(a, b) - 1e-6
    assert minimize_scalar(lambda x: loss(a, x), (0, 2 * b)).fun > loss(a, b) - 1e-6
    assert check_grad(lambda w: loss(*w), lambda w: np.zeros(2), np.array([a, b])) < 1e-3


def test_gates_are_quantiles_of_the_largest_logit():
    of, made = parts(), bank()
    largest = plain_logits(of.model, of.held_out).max(axis=1)
    assert made.weights.gate(0.5) == pytest.approx(np.median(largest))
    assert np.mean(largest < made.weights.gate(0.08)) == pytest.approx(0.08, abs=0.01)


def test_a_saved_bank_is_the_same(tmp_path):
    made = bank()
    made.save(tmp_path / "bank.h5")
    found = Bank.load(tmp_path / "bank.h5", parts().model)
    for name in ("rows", "counts", "samples", "fitted"):
        assert np.array_equal(getattr(found, name), getattr(made, name))
    assert (found.origin, found.projection.step, repr(found)) == (made.origin, made.projection.step, repr(made))
    some = features(parts().other)
    assert np.array_equal(found.similarities(some), made.similarities(some))
    made.save(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "bank.h5").read_bytes()
    with h5py.File(tmp_path / "bank.h5") as file:
        assert np.array_equal(file["rows"], made.rows)


def test_no_flipped_byte_goes_unseen(tmp_path):
    path = tmp_path / "bank.h5"
    bank().save(path)
    whole = path.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CacheError):
            Bank.load(path)
    path.write_bytes(whole[:-5])
    with pytest.raises(CacheError, match=r"expected .* bytes, found"):
        Bank.load(path)


def test_rows_come_and_go_without_fitting():
    made, of = bank(), parts()
    x, labels = features(of.other)[:20], of.other.labels[:20]
    more = made.with_rows(x, labels)
    assert len(more) == len(made) + 20
    assert more.weights is made.weights
    best = more.similarities(x)[np.arange(20), labels]
    assert np.abs(best - 1).max() < 0.05  # to themselves
    less = more.without_rows(np.arange(300, 320))
    assert np.array_equal(less.rows, made.rows)
    assert np.array_equal(less.samples, made.samples)


@given(st.sets(st.integers(0, 299), max_size=290))
def test_removing_and_adding_rows_gives_back_the_same_similarities(samples):
    made, of = bank(), parts()
    chosen = np.array(sorted(samples), int)
    if np.bincount(of.training.labels[np.setdiff1d(np.arange(300), chosen)], minlength=CLASSES).min() == 0:
        with pytest.raises(InputError, match="at least one row of every class"):
            made.without_rows(chosen)
        return
    rest = made.without_rows(chosen)
    assert len(rest) == 300 - len(chosen)
    if len(chosen):
        some = features(of.other)
        back = rest.with_rows(features(of.training)[chosen], of.training.labels[chosen])
        assert np.array_equal(back.similarities(some), made.similarities(some))
        assert (rest.similarities(some) <= made.similarities(some)).all()


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
def test_scores_are_softmax_of_both(masks):
    of, made = parts(), bank()
    found = score(of.model, of.other, bank=made, masks=masks)
    q = made.fuse(plain_logits(of.model, of.other), made.similarities(features(of.other)))
    assert np.abs(found.plain - softmax(q, axis=1)).max() < 1e-5
    assert np.array_equal(found.plain_prediction, q.argmax(axis=1))
    assert np.abs(found.mean.sum(axis=1) - 1).max() < 1e-5
    assert found.std.max() > 0.001
    assert found.summary()["bank"]["training_fingerprint"] == of.training.data_fingerprint
    plain = score(of.model, of.other, masks=masks)
    assert plain.summary()["bank"] is None
    right = [(each.plain_prediction == of.other.labels).mean() for each in (found, plain)]
    assert right[0] > right[1] + 0.2  # the head is random


def test_pieces_and_threads_give_the_same_bits():
    of, made = parts(), bank()
    some = features(of.other)
    whole = score(of.model, some, bank=made, threads=1)
    scorer = Scorer(of.model, bank=made, threads=3)
    assert np.array_equal(scorer(some).mean, whole.mean)
    assert np.array_equal(np.concatenate([scorer(some[i : i + 7]).mean for i in range(0, 70, 7)]), whole.mean)


def test_the_gate_keeps_out_what_has_no_large_logit():
    of, made = parts(), bank()
    open_, gated = (score(of.model, of.other, bank=made, gate=share, threshold=0.2) for share in (0, 0.5))
    closed = plain_logits(of.model, of.other).max(axis=1) < np.float32(made.weights.gate(0.5))
    assert 10 < closed.sum() < 60
    assert (gated.reason[closed] == Reason.FOREIGN).all()
    assert not gated.keep[closed].any()
    assert not gated.positive[closed].any()
    for name in ("keep", "reason", "positive", "prediction", "mean"):
        assert np.array_equal(getattr(gated, name)[~closed], getattr(open_, name)[~closed])
    assert open_.keep[closed].any()


@pytest.mark.parametrize(("doubles", "apart"), [(1, True), (2, False)])
def test_a_double_among_the_samples_is_no_training_data(doubles, apart):
    """One there may be, and 1 in 100; of 70 samples, two are more."""
    of, made, some = parts(), bank(), features(parts().other).copy()
    some[-doubles:] = features(of.training)[:doubles]
    for take in (lambda: score(of.model, some, bank=made), lambda: scores(of.model, some, ["bank"], bank=made)["bank"]):
        if apart:
            assert len(take()) == 70
        else:
            with pytest.raises(InputError, match=f"not among its rows, found {doubles} of 70 of them in"):
                take()
    assert len(scores(of.model, some, ["max"], bank=made)["max"]) == 70


def test_samples_of_the_fit_are_known_in_whatever_data_they_come(tmp_path):
    of, made = parts(), Bank.make(parts().model, parts().training, parts().held_out, held_out_samples=120)
    for _ in range(2):
        some = np.concatenate([features(of.other), features(of.held_out)[:122:-1], features(of.held_out)[:3]])
        found = score(of.model, some, bank=made)
        assert found.bank["fitted_among"] == 3, "the others of the held-out samples are not of the fit"
        made.save(tmp_path / "bank.h5")
        made = Bank.load(tmp_path / "bank.h5").without_rows(made.samples[:1])
    x, labels = embeddings(150, 2)
    for part, refusal in ((slice(119, None), None), (slice(118, None), "found 2 of 32 to be of these")):
        cache = cached(of.model, tmp_path / "part.h5", x[part], labels[part])
        if refusal is None:
            assert calibrate(of.model, cache, bank=made, risk=0.5).samples == 31
        else:
            with pytest.raises(InputError, match=f"calibration: expected other samples .*{refusal}"):
                calibrate(of.model, cache, bank=made, risk=0.5)


def other_model():
    return dataclasses.replace(parts().model, sha256="0" * 64)


def without_labels(folder):
    return cached(parts().model, folder / "none.h5", embeddings(150, 2)[0])


def test_the_bundled_bank_belongs_to_the_bundled_model():
    made = Bank.load(None, load_model())
    assert (made.rows.shape, made.origin.training, made.origin.held_out_samples) == (
        (50_000, 128),
        "cifar100/train",
        500,
    )
    assert (made.counts == 500).all()


def refused(folder):
    """Return calls, and what must be said of them."""
    of, made = parts(), bank()

    def make(training=of.training, held_out=of.held_out, model=of.model, **options):
        return lambda: Bank.make(model, training, held_out, **options)

    x, labels = embeddings(300, 1)
    five = cached(of.model, folder / "five.h5", x[labels > 0], labels[labels > 0])
    few = cached(of.model, folder / "few.h5", *embeddings(99, 4))
    same = cached(of.model, folder / "same.h5", x[:150], labels[:150])
    flat = cached(of.model, folder / "flat.h5", np.tile(x[:1], (300, 1)), labels)
    return [
        (make(model=other_model()), "training features of model 000000000000"),
        (make(training=without_labels(folder)), "training features with labels"),
        (make(held_out=without_labels(folder)), "held-out features with labels"),
        (make(training=five), "at least one row of every class, found none of class_0;"),
        (make(held_out=few), "at least 100 held-out samples .* found 99"),
        (make(held_out_samples=50), "at least 100 held-out samples .* found 50"),
        (make(held_out=of.training), "not among the training samples, found the same data"),
        (make(held_out=same), "found 150 of 150 of them in"),
        (make(training=flat), "training features that differ"),
        (make(components=41), "components: expected a whole number from 1 to 40"),
        (lambda: score(other_model(), features(of.other), bank=made), "bank: expected one of model 000000000000"),
        (lambda: score(of.model, of.training, bank=made), "other samples than those of the bank"),
        (lambda: scores(of.model, of.training, ["bank"], bank=made), "other samples than those of the bank"),
        (lambda: score(of.model, same, bank=made), "not among its rows, found 150 of 150 of them in"),
        (lambda: calibrate(of.model, same, bank=made), "not among its rows, found 150 of 150 of them in"),
        (lambda: score(of.model, of.other, gate=0.1), "gate: expected a bank"),
        (lambda: score(of.model, of.other, bank=made, gate=2), "gate: expected a number from 0 to 1"),
        (lambda: made.similarities(np.zeros((2, 3), np.int8)), r"features: expected int8 \(N, 40\)"),
        (lambda: made.with_rows(features(of.other)[:2], [0, 6]), "class numbers 0 to 5"),
        (lambda: made.with_rows(np.zeros((2, 3), np.int8), [0, 1]), r"features: expected int8 \(N, 40\)"),
        (lambda: made.with_rows([[0] * 40], [0]), r"features: expected int8 \(N, 40\), found list"),
        (lambda: made.with_rows(np.zeros((2, 40), np.float32), [0, 1]), "found float32"),
        (lambda: made.without_rows([300]), "numbers of rows of the bank"),
        (lambda: Bank.load(folder / "none"), "no such file; make it with `fastuq bank`"),
        (lambda: Bank.load(folder / "few.h5"), "expected a fastuq bank, found a foreign"),
    ]


def test_bad_input_is_said_in_one_line(tmp_path):
    for call, words in refused(tmp_path):
        with pytest.raises((InputError, CacheError)) as caught:
            call()
        assert re.search(words, str(caught.value)), caught.value
        assert "\n" not in str(caught.value)


def test_too_few_samples_or_another_shape_of_the_fit():
    with pytest.raises(InputError, match="found 0"):
        fit(np.empty((0, 2), np.float32), np.empty((0, 2), np.float32), np.empty(0, int))


def test_a_damaged_cache_makes_no_bank(tmp_path):
    of = parts()
    cached(of.model, tmp_path / "c.h5", *embeddings(300, 1)).close()
    damage(tmp_path / "c.h5")
    with FeatureCache.open(tmp_path / "c.h5") as broken, pytest.raises(CacheError, match="damaged"):
        Bank.make(of.model, broken, of.held_out, components=4)
