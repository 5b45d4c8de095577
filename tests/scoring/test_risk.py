"""Promises of a risk: exact bounds, thresholds that keep them, and how often they are broken in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fastuq.errors import InputError
from fastuq.scoring.calibration.risk import (
    LEAST_SCORE,
    samples_needed,
    split,
    threshold_at_coverage,
    threshold_at_risk,
    upper_bound,
)

RATES = st.sampled_from([0.01, 0.05, 0.1, 0.3])


def drawn(rng, n, ties=0):
    """Draw scores and whether predictions are right: the chance to be wrong falls from 1/2 to 0 with the score."""
    score = rng.random(n)
    if ties:
        score = np.floor(score * ties) / ties
    return score, rng.random(n) >= 0.5 * (1 - score) ** 2


def true_risk(threshold, ties=0):
    """Return the risk of what a threshold keeps of `drawn`."""
    levels = np.arange(ties) / ties if ties else np.linspace(0, 1, 20_001)[:-1] + 0.5 / 20_000
    kept = levels[levels >= threshold]
    return float((0.5 * (1 - kept) ** 2).mean()) if len(kept) else 0.0


@given(st.integers(0, 60), st.integers(1, 60), RATES)
def test_the_bound_is_the_exact_one(errors, kept, delta):
    errors = min(errors, kept)
    bound = upper_bound(errors, kept, delta)
    if errors == kept:
        assert bound == 1
    else:
        # By hand: the rate at which so few errors, or fewer, have a chance of delta.
        chance = sum(math.comb(kept, k) * bound**k * (1 - bound) ** (kept - k) for k in range(errors + 1))
        assert chance == pytest.approx(delta, rel=1e-6)
        assert bound >= errors / kept


@given(st.integers(0, 30), st.integers(31, 80), RATES)
def test_the_bound_grows_with_errors_and_shrinks_with_samples_and_delta(errors, kept, delta):
    bound = upper_bound(errors, kept, delta)
    assert upper_bound(errors + 1, kept, delta) > bound
    assert upper_bound(errors, kept + 1, delta) < bound
    assert upper_bound(errors, kept, delta / 2) > bound


@given(RATES, RATES)
def test_the_fewest_samples_are_just_enough(risk, delta):
    needed = samples_needed(risk, delta)
    for n, enough in ((needed, True), (needed - 1, False)):
        assert (binom.cdf(0, (~split(n)).sum(), risk) <= delta * (1 + 1e-12)) == enough


@given(st.integers(0, 2**32), st.sampled_from([0, 5, 50]), RATES, RATES)
def test_a_threshold_is_proved_by_the_samples_that_did_not_choose(seed, ties, risk, delta):
    score, right = drawn(np.random.default_rng(seed), 400, ties)
    try:
        chosen = threshold_at_risk(score, right, risk, delta)
    except InputError:
        return
    proving = ~split(400)
    keep = score[proving] >= chosen.threshold
    assert chosen.risk == risk
    assert (chosen.tested, chosen.kept) == (320, keep.sum())
    assert chosen.errors == (keep & ~right[proving]).sum()
    assert upper_bound(chosen.errors, chosen.kept, delta) <= risk * (1 + 1e-9)


@given(st.integers(0, 2**32))
def test_a_higher_risk_keeps_as_many_or_more_where_both_begin_at_one_threshold(seed):
    score, right = drawn(np.random.default_rng(seed), 600)
    right |= score > 0.3
    low, high = (threshold_at_risk(score, right, risk, 0.1) for risk in (0.1, 0.12))
    assert high.kept >= low.kept


@pytest.mark.parametrize(("n", "ties", "risk", "delta"), [(300, 0, 0.1, 0.1), (300, 8, 0.1, 0.1), (900, 0, 0.05, 0.2)])
def test_promises_are_broken_as_seldom_as_they_say(n, ties, risk, delta):
    rng = np.random.default_rng(0)
    broken, promised, rounds = 0, 0, 1000
    for _ in range(rounds):
        try:
            chosen = threshold_at_risk(*drawn(rng, n, ties), risk, delta)
        except InputError:
            continue
        promised += 1
        broken += true_risk(chosen.threshold, ties) > risk
    assert promised > rounds / 2
    assert binom.sf(broken - 1, rounds, delta) > 1e-3, broken
    assert broken > 0, "the promise gives away more than it has to"


@pytest.mark.parametrize("ties", [0, 8])
def test_the_risk_of_a_coverage_is_exceeded_as_seldom_as_it_says(ties):
    rng = np.random.default_rng(1)
    exceeded, rounds, delta = 0, 2000, 0.1
    for _ in range(rounds):
        chosen = threshold_at_coverage(*drawn(rng, 120, ties), 0.6, delta)
        exceeded += true_risk(chosen.threshold, ties) > chosen.risk
    assert binom.sf(exceeded - 1, rounds, delta) > 1e-3, exceeded
    assert exceeded > rounds * delta / 4


def test_a_coverage_is_that_of_the_samples():
    score, right = drawn(np.random.default_rng(0), 1000)
    for coverage in (0.07, 0.5, 0.999):
        assert threshold_at_coverage(score, right, coverage, 0.05).kept == round(coverage * 1000)
    everything = threshold_at_coverage(score, right, 1, 0.05)
    assert (everything.kept, everything.threshold) == (1000, LEAST_SCORE)
    tied = threshold_at_coverage(np.repeat([0.0, 1.0], 500), np.arange(1000) % 5 > 0, 0.7, 0.05)
    assert tied.kept == 500  # those of one score go together


def test_the_samples_that_choose_are_a_fifth_and_the_same_each_time():
    assert split(1000).sum() == 200
    assert (split(1000) == split(1000)).all()
    assert split(1000)[:100].any()
    assert not split(1000)[:100].all()


@pytest.mark.parametrize(
    ("n", "wrong", "arguments", "words"),
    [
        (73, 10, (0.05, 0.05), "at least 74 samples are needed to promise a risk of 0.05 at delta 0.05, found 73"),
        (500, 0, (0.05, 0.05), "not one of 500 predictions is wrong"),
        (500, 250, (0.05, 0.05), "no threshold keeps a risk of 0.05"),
        (500, 50, (0, 0.05), "risk: expected a number between 0 and 1, both excluded, found 0"),
        (500, 50, (0.05, 1), "delta: expected a number between 0 and 1"),
        (500, 50, (0.05, "x"), "delta: expected a number"),
    ],
)
def test_what_cannot_be_promised_is_refused(n, wrong, arguments, words):
    right = np.random.default_rng(0).permutation(n) >= wrong
    with pytest.raises(InputError, match=words):
        threshold_at_risk(np.random.default_rng(1).random(n), right, *arguments)


def test_a_coverage_that_proves_nothing_is_refused():
    with pytest.raises(InputError, match="0 of 100 samples are above the threshold"):
        threshold_at_coverage(np.ones(100), np.arange(100) > 0, 0.5, 0.05)
    with pytest.raises(InputError, match="coverage: expected a number"):
        threshold_at_coverage(np.ones(100), np.arange(100) > 0, 0, 0.05)
