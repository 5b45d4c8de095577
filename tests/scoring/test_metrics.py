"""Figures of merit against scikit-learn, brute force over the orders of ties, closed forms and values by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from fastuq.errors import InputError
from fastuq.scoring.metrics import (
    accuracy,
    augrc,
    aurc,
    auroc,
    bootstrap_interval,
    brier,
    coverage_at_risk,
    e_aurc,
    ece,
    fpr_at_tpr,
    micro_f1,
    nll,
    reliability_bins,
    risk_at_coverage,
    risk_coverage_curve,
)

# Few distinct scores, so that ties are common.
SAMPLES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=7)
MORE = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=2, max_size=60)


def columns(samples):
    return np.array([score for score, _ in samples], np.float32) / 8, np.array([right for _, right in samples])


def orders(score):
    """Return every order of the samples, most trusted first, that the scores allow."""
    whole = range(len(score))
    return [o for o in itertools.permutations(whole) if all(score[a] >= score[b] for a, b in itertools.pairwise(o))]


def errors_accepted(correct, order):
    return np.cumsum([not correct[n] for n in order])


@given(SAMPLES)
@settings(max_examples=60)
def test_areas_are_the_expectation_over_the_orders_of_ties(samples):
    score, correct = columns(samples)
    n = len(score)
    counts = np.array([errors_accepted(correct, order) for order in orders(score)])
    k = np.arange(1, n + 1)
    coverage, risk = risk_coverage_curve(score, correct)
    np.testing.assert_allclose(coverage, k / n)
    np.testing.assert_allclose(risk, (counts / k).mean(axis=0))
    assert aurc(score, correct) == pytest.approx((counts / k).mean())
    before = np.concatenate([np.zeros((len(counts), 1)), counts[:, :-1]], axis=1)
    trapezoids = ((before + counts) / 2 / n).sum(axis=1) / n
    assert augrc(score, correct) == pytest.approx(trapezoids.mean())


@given(SAMPLES)
@settings(max_examples=60)
def test_e_aurc_is_the_excess_over_the_best_order(samples):
    score, correct = columns(samples)
    k = np.arange(1, len(score) + 1)
    best = min((errors_accepted(correct, order) / k).mean() for order in itertools.permutations(range(len(score))))
    assert e_aurc(score, correct) == pytest.approx(aurc(score, correct) - best, abs=1e-12)
    assert e_aurc(correct.astype(float), correct) == 0


@given(MORE)
def test_augrc_is_the_published_function_of_auroc_and_accuracy(samples):
    """AUGRC = (1 - AUROC) a (1 - a) + (1 - a)²/2 (Traub et al. 2024)."""
    score, correct = columns(samples)
    a = correct.mean()
    ranking = 0 if a in (0, 1) else (1 - sklearn_metrics.roc_auc_score(correct, score)) * a * (1 - a)
    assert augrc(score, correct) == pytest.approx(ranking + (1 - a) ** 2 / 2)


@given(MORE, st.floats(0.01, 1), st.floats(0, 1))
def test_operating_points_are_those_of_thresholds(samples, coverage, risk):
    score, correct = columns(samples)
    points = []
    for threshold in np.unique(score)[::-1]:
        kept = score >= threshold
        points.append((kept.mean(), (~correct[kept]).mean()))
    assert risk_at_coverage(score, correct, coverage) == next(r for c, r in points if c >= coverage - 1e-9)
    assert coverage_at_risk(score, correct, risk) == max([c for c, r in points if r <= risk + 1e-9], default=0)


@given(MORE)
def test_detection_against_scikit_learn(samples):
    score, positive = columns(samples)
    if positive.all() or not positive.any():
        assert math.isnan(auroc(score, positive))
        assert math.isnan(fpr_at_tpr(score, positive))
        return
    assert auroc(score, positive) == pytest.approx(sklearn_metrics.roc_auc_score(positive, score))
    fpr, tpr, _ = sklearn_metrics.roc_curve(positive, score, drop_intermediate=False)
    for level in (0.5, 0.8, 0.95, 1.0):
        assert fpr_at_tpr(score, positive, level) == pytest.approx(fpr[tpr >= level - 1e-9].min())


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 6))
def test_classification_against_scikit_learn(seed, n, classes):
    rng = np.random.default_rng(seed)
    labels, positive = rng.integers(0, classes, n), rng.random((n, classes)) < 0.4
    one_hot = np.eye(classes, dtype=bool)[labels]
    expected = sklearn_metrics.f1_score(one_hot, positive, average="micro", zero_division=0)
    assert micro_f1(positive, labels) == pytest.approx(expected)
    prediction = rng.integers(0, classes, n)
    assert accuracy(prediction, labels) == pytest.approx(sklearn_metrics.accuracy_score(labels, prediction))
    # One class per sample: micro-F1 is the accuracy.
    assert micro_f1(np.eye(classes, dtype=bool)[prediction], labels) == pytest.approx(accuracy(prediction, labels))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 6))
def test_nll_and_brier_against_scikit_learn(seed, n, classes):
    rng = np.random.default_rng(seed)
    labels, outputs = rng.integers(0, classes, n), rng.random((n, classes)) + 1e-3
    p = outputs / outputs.sum(axis=1, keepdims=True)
    known = range(classes)
    assert nll(outputs, labels) == pytest.approx(sklearn_metrics.log_loss(labels, p, labels=list(known)))
    one_hot = np.eye(classes)[labels]
    assert brier(outputs, labels) == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean())
    assert brier(outputs, labels) == pytest.approx(brier(p, labels))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 20))
def test_ece_bin_by_bin(samples, bins):
    confidence, correct = np.array([c for c, _ in samples]), np.array([r for _, r in samples])
    counts, right, confident = reliability_bins(confidence, correct, bins)
    expected = 0.0
    for b in range(bins):
        # The bin of a confidence on an edge follows the same product as in the code: c * bins, not c > b / bins.
        inside = (confidence * bins <= b + 1) & ((confidence * bins > b) | (b == 0))
        assert (counts[b], right[b]) == (inside.sum(), correct[inside].sum())
        assert confident[b] == pytest.approx(confidence[inside].sum())
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert ece(confidence, correct, bins) == pytest.approx(expected, abs=1e-9)


def test_values_by_hand():
    score, correct = [0.9, 0.8, 0.7, 0.6], np.array([True, False, True, True])
    # Errors among the first 1, 2, 3, 4: 0, 1, 1, 1.
    assert aurc(score, correct) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert e_aurc(score, correct) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4 - 1 / 16)
    assert augrc(score, correct) == pytest.approx((0 / 2 + 1 / 2 + 1 + 1) / 16)
    assert auroc(score, correct) == pytest.approx(1 / 3)
    assert fpr_at_tpr(score, correct) == 1
    assert fpr_at_tpr(score, correct, 1 / 3) == 0
    assert risk_at_coverage(score, correct, 0.5) == 0.5
    assert risk_at_coverage(score, correct, 0.51) == pytest.approx(1 / 3)
    assert coverage_at_risk(score, correct, 0.3) == 1
    assert coverage_at_risk(score, correct, 0.2) == 0.25
    assert coverage_at_risk(score[1:2], correct[1:2], 0.2) == 0
    assert micro_f1(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], bool), [0, 1, 2]) == pytest.approx(2 * 2 / (3 + 3))
    assert ece([0.95, 0.85, 0.45], np.array([True, False, True]), 2) == pytest.approx(1 / 3 * 0.55 + 2 / 3 * 0.4)
    assert ece([0.5, 0.6], np.array([False, True]), 2) == pytest.approx((0.5 + 0.4) / 2), "0.5 is in the first bin"
    assert nll([[0.5, 0.5], [0.2, 0.6]], [0, 1]) == pytest.approx((math.log(2) - math.log(0.75)) / 2)
    assert nll([[0.0, 1.0]], [0]) == pytest.approx(-math.log(np.finfo(np.float32).eps))
    assert nll([[0.0, 0.0]], [0]) == pytest.approx(math.log(2))
    assert brier([[0.5, 0.5], [0.2, 0.6]], [0, 1]) == pytest.approx((0.5 + 0.125) / 2)


def test_known_limits():
    """A perfect ranking approaches r + (1 - r) ln(1 - r) (Geifman et al. 2019); one that knows nothing, the risk r."""
    n, r = 20_000, 0.3
    correct = np.arange(n) >= r * n
    assert aurc(correct.astype(float), correct) == pytest.approx(r + (1 - r) * math.log(1 - r), abs=1e-4)
    assert aurc(np.zeros(n), correct) == pytest.approx(r)
    assert augrc(np.zeros(n), correct) == pytest.approx(r / 2)
    assert auroc(np.zeros(n), correct) == 0.5


@given(MORE, st.randoms())
def test_the_order_of_the_data_does_not_matter(samples, random):
    shuffled = list(samples)
    random.shuffle(shuffled)
    for figure in (aurc, e_aurc, augrc):
        assert figure(*columns(shuffled)) == pytest.approx(figure(*columns(samples)), abs=1e-12)


def test_bootstrap_covers_a_known_mean():
    covered = 0
    for seed in range(200):
        draws = np.random.default_rng(seed).random(60)
        low, high = bootstrap_interval(lambda x: float(x.mean()), draws, resamples=200, seed=seed)
        covered += low <= 0.5 <= high
    assert 180 <= covered <= 198


@pytest.mark.parametrize("figure", [aurc, auroc])
def test_bootstrap_is_that_of_scipy(figure):
    rng = np.random.default_rng(4)
    score, flags = rng.random(60), rng.random(60) < 0.5
    found = stats.bootstrap(
        (np.arange(60),),
        lambda rows: figure(score[rows], flags[rows]),
        n_resamples=100,
        confidence_level=0.9,
        vectorized=False,
        method="percentile",
        random_state=np.random.default_rng(3),
    )
    interval = bootstrap_interval(figure, score, flags, confidence=0.9, resamples=100, seed=3)
    assert interval == pytest.approx(tuple(found.confidence_interval))


def test_bootstrap_takes_percentiles_of_what_there_is():
    numbers = iter([float("nan"), *range(101)])
    assert bootstrap_interval(lambda x: float(next(numbers)), [1.0], resamples=102) == pytest.approx((2.5, 97.5))


def test_bootstrap_draws_columns_together_and_leaves_out_nan():
    low, high = bootstrap_interval(lambda a, b: float((a == b).mean()), np.arange(50), np.arange(50))
    assert (low, high) == (1, 1)
    same = np.ones(5, bool)
    assert all(math.isnan(end) for end in bootstrap_interval(auroc, np.arange(5.0), same, resamples=5))
    rng = np.random.default_rng(0)
    score, flags = rng.random(100), rng.random(100) < 0.5
    first = bootstrap_interval(auroc, score, flags, resamples=50)
    assert first == bootstrap_interval(auroc, score, flags, resamples=50)
    assert first != bootstrap_interval(auroc, score, flags, resamples=50, seed=1)
    assert first[0] < auroc(score, flags) < first[1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: aurc([], np.array([], bool)),
        lambda: aurc([0.1], [1]),
        lambda: aurc([0.1, 0.2], [True]),
        lambda: aurc([math.nan], [True]),
        lambda: aurc(["a"], [True]),
        lambda: micro_f1(np.array([[1, 0]]), [0]),
        lambda: micro_f1(np.array([[True, False]]), [2]),
        lambda: accuracy([1, 2], [1]),
        lambda: accuracy([], []),
        lambda: ece([1.1], [True]),
        lambda: ece([0.1], [True], 0),
        lambda: nll([[-0.1, 1]], [0]),
        lambda: nll([[0.1, math.nan]], [0]),
        lambda: brier([0.1], [0]),
        lambda: risk_at_coverage([0.1], [True], 0),
        lambda: coverage_at_risk([0.1], [True], 1.1),
        lambda: fpr_at_tpr([0.1], [True], 0),
        lambda: bootstrap_interval(aurc, [0.1], [True], confidence=1),
        lambda: bootstrap_interval(aurc, [0.1], [True, False]),
        lambda: bootstrap_interval(aurc),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(InputError):
        call()
