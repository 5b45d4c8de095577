import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from fastuq.errors import InputError
from fastuq.scoring.decisions import Reason, decide, interval, ternary_vector, z_value


def by_the_paper(vector, mean, mixed, floor):
    """Read the rules one sample at a time: (keep, reason, classes, prediction)."""
    ones = [c for c, value in enumerate(vector) if value == 1]
    doubts = [c for c, value in enumerate(vector) if value == -1]
    if ones and not doubts:
        keep, reason, classes = True, "certain", ones
    elif ones and doubts:
        keep, reason, classes = mixed == "keep", "mixed", ones
    elif not doubts:
        keep, reason, classes = False, "nothing present", []
    elif len(doubts) == 1 and (floor is None or mean[doubts[0]] >= floor):
        keep, reason, classes = True, "benefit of the doubt", doubts
    else:
        keep, reason, classes = False, "uncertain", []
    candidates = classes if keep else range(len(vector))
    best = max(candidates, key=lambda c: (mean[c], -c))
    return keep, reason, classes if keep else [], best


@st.composite
def vectors(draw):
    shape = (draw(st.integers(0, 6)), draw(st.integers(1, 6)))
    ternary = draw(arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 0, 0, 1])))
    mean = draw(arrays(np.float32, shape, elements=st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])))
    return ternary, mean


@given(vectors(), st.sampled_from(["ignore", "keep"]), st.sampled_from([None, -0.5, 0.25, 0.6]))
def test_rules_are_those_of_the_paper(data, mixed, floor):
    ternary, mean = data
    found = decide(ternary, mean, mixed=mixed, doubt_floor=floor)
    for n in range(len(ternary)):
        keep, reason, classes, prediction = by_the_paper(ternary[n].tolist(), mean[n].tolist(), mixed, floor)
        assert found.keep[n] == keep
        assert Reason(found.reason[n]).text == reason
        assert np.flatnonzero(found.positive[n]).tolist() == classes
        assert found.prediction[n] == prediction
    assert (found.keep.dtype, found.reason.dtype, found.prediction.dtype) == (bool, np.int8, np.int64)


@pytest.mark.parametrize(
    ("vector", "keep", "reason"),
    [
        ([1, 0, 0], True, Reason.CERTAIN),
        ([1, 1, 0], True, Reason.CERTAIN),
        ([0, 0, 0], False, Reason.NOTHING_PRESENT),
        ([0, -1, 0], True, Reason.BENEFIT_OF_THE_DOUBT),
        ([-1, -1, 0], False, Reason.UNCERTAIN),
        ([1, -1, 0], False, Reason.MIXED),
    ],
)
def test_each_rule_by_hand(vector, keep, reason):
    found = decide(np.array([vector], np.int8), np.zeros((1, 3), np.float32))
    assert (found.keep[0], found.reason[0]) == (keep, reason)


@given(
    arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=32)),
    arrays(np.float32, (4, 3), elements=st.floats(0, 0.5, width=32)),
    st.floats(0.01, 0.99),
    st.floats(0, 1, width=32),
)
def test_ternary_follows_the_interval(mean, std, conf_factor, threshold):
    lower, upper = interval(mean, std, conf_factor)
    z = norm.ppf((1 + conf_factor) / 2)
    np.testing.assert_allclose(lower, mean.astype(float) - z * std, atol=1e-6)
    np.testing.assert_allclose(upper, mean.astype(float) + z * std, atol=1e-6)
    for low, high, value in zip(lower.flat, upper.flat, ternary_vector(lower, upper, threshold).flat, strict=True):
        assert value == (1 if low > threshold else 0 if high < threshold else -1)


def test_an_interval_that_touches_the_threshold_is_open():
    half = np.full((1, 1), 0.5, np.float32)
    assert ternary_vector(half, half, 0.5) == -1
    assert ternary_vector(half, half + 1, 0.5) == -1
    assert ternary_vector(half - 1, half, 0.5) == -1


def test_standard_error_narrows_with_the_iterations():
    mean, std = np.full((1, 2), 0.5, np.float32), np.full((1, 2), 0.2, np.float32)
    lower, upper = interval(mean, std, 0.7, kind="sem", num_iter=16)
    wide_lower, wide_upper = interval(mean, std, 0.7)
    np.testing.assert_allclose((wide_upper - wide_lower) / (upper - lower), 4, rtol=1e-5)


@given(st.floats(1e-6, 1 - 1e-12))
def test_z_is_the_normal_quantile(conf_factor):
    assert z_value(conf_factor) == pytest.approx(norm.isf((1 - conf_factor) / 2), rel=1e-9)


def test_z_stays_finite_just_below_one():
    assert 8 < z_value(np.nextafter(1.0, 0)) < 9


@pytest.mark.parametrize("conf_factor", [0, 1, -0.1, 1.5, float("nan"), float("inf"), "0.7", None])
def test_conf_factor_outside_is_refused(conf_factor):
    with pytest.raises(InputError, match="conf_factor"):
        z_value(conf_factor)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), "half", None])
def test_threshold_must_be_finite(threshold):
    with pytest.raises(InputError, match="threshold"):
        ternary_vector(np.zeros((1, 1)), np.zeros((1, 1)), threshold)


@pytest.mark.parametrize(
    ("mean", "std", "options", "words"),
    [
        ([[0.5]], [[0.1]], {"kind": "range"}, "interval"),
        ([[0.5]], [[0.1]], {"kind": "sem"}, "num_iter"),
        ([[0.5]], [[0.1]], {"kind": "sem", "num_iter": 1}, "num_iter"),
        ([[np.nan]], [[0.1]], {}, "finite"),
        ([[0.5]], [[np.inf]], {}, "finite"),
        ([[0.5]], [[-0.1]], {}, "from 0"),
        ([[0.5]], [[0.1, 0.1]], {}, "one shape"),
        ([0.5], [0.1], {}, "one shape"),
    ],
)
def test_moments_that_do_not_fit_are_refused(mean, std, options, words):
    with pytest.raises(InputError, match=words):
        interval(np.array(mean), np.array(std), 0.7, **options)


def test_decide_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="mixed"):
        decide(np.zeros((1, 2)), np.zeros((1, 2)), mixed="maybe")
    with pytest.raises(InputError, match="one shape"):
        decide(np.zeros((1, 2)), np.zeros((1, 3)))
    with pytest.raises(InputError, match="one shape"):
        decide(np.zeros((1, 0)), np.zeros((1, 0)))
