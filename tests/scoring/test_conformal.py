"""Temperature, sets of classes and the shift alarm, against their definitions and in simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binom

from fastuq.errors import InputError
from fastuq.scoring.calibration.conformal import Sets, calibrated_sets
from fastuq.scoring.calibration.risk import split
from fastuq.scoring.calibration.shift import MOST, remembered, shift_alarm
from fastuq.scoring.calibration.temperature import fit_temperature, probabilities
from fastuq.scoring.metrics import nll


def drawn(rng, n, classes=6, heat=1.0):
    """Draw outputs of a softmax and labels that follow them at a temperature of `heat`."""
    logits = 2 * rng.standard_normal((n, classes))
    p = softmax(logits / heat, axis=1)
    return softmax(logits, axis=1), (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1), logits


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_of_the_labels_is_found(heat):
    outputs, labels, logits = drawn(np.random.default_rng(0), 5000, heat=heat)
    found = fit_temperature(outputs, labels)
    assert found == pytest.approx(heat, rel=0.1)
    assert np.allclose(probabilities(outputs, found), softmax(logits / found, axis=1), atol=1e-5)
    best = nll(probabilities(outputs, found), labels)
    assert all(best <= nll(probabilities(outputs, found * by), labels) + 1e-9 for by in (0.9, 1.1))


def test_outputs_of_a_sigmoid_are_divided_by_their_sum():
    outputs = np.array([[0.8, 0.8, 0.4], [0.0, 0.0, 0.0]])
    assert np.allclose(probabilities(outputs), [[0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    assert np.isfinite(probabilities(outputs, 0.02)).all()


@pytest.mark.parametrize("outputs", [np.zeros(3), np.array([[np.nan, 1]]), np.array([[-0.1, 1]]), np.zeros((2, 0))])
def test_outputs_that_are_no_probabilities_are_refused(outputs):
    with pytest.raises(InputError, match="temperature: expected outputs"):
        fit_temperature(outputs, np.zeros(len(outputs), int))


@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.8, 0.9]), st.sampled_from(["lac", "raps"]))
def test_the_limit_holds_as_many_of_the_proving_samples_as_it_must(seed, coverage, kind):
    outputs, labels, _ = drawn(np.random.default_rng(seed), 60)
    sets = calibrated_sets(outputs, labels, coverage, kind)
    proving = ~split(60)
    held = sets.of(outputs[proving])[np.arange(48), labels[proving]].sum()
    assert held >= np.ceil(49 * coverage - 1e-9)


@pytest.mark.parametrize("kind", ["lac", "raps"])
def test_sets_hold_the_true_class_as_often_as_they_say(kind):
    rng = np.random.default_rng(0)
    rounds, coverage, held = 120, 0.9, []
    for _ in range(rounds):
        outputs, labels, _ = drawn(rng, 260, heat=2)
        sets = calibrated_sets(outputs[:60], labels[:60], coverage, kind)
        held.append(sets.of(outputs[60:])[np.arange(200), labels[60:]].mean())
    error = np.std(held) / rounds**0.5
    assert np.mean(held) > coverage - 3 * error
    if kind == "lac":  # without ties it is 45 / 49
        assert abs(np.mean(held) - 45 / 49) < 3 * error


def test_sets_by_hand():
    outputs = np.array([[0.5, 0.2, 0.2, 0.1]])
    assert Sets("lac", 0.9, 1.0, 0.8).foreign(outputs) == pytest.approx(1 - outputs)
    raps = Sets("raps", 0.9, 1.0, 0.75, penalty=0.1, free_ranks=2)
    assert raps.foreign(outputs) == pytest.approx(np.array([[0.0, 0.5, 0.8, 1.1]]))
    assert raps.of(outputs).tolist() == [[True, True, False, False]]
    assert Sets("raps", 0.9, 1.0, 0.0).of(outputs).tolist() == [[True, False, False, False]]


def test_a_higher_coverage_makes_sets_no_smaller():
    outputs, labels, _ = drawn(np.random.default_rng(0), 500)
    for kind in ("lac", "raps"):
        sizes = [calibrated_sets(outputs, labels, c, kind).of(outputs).sum() for c in (0.6, 0.8, 0.9, 0.95)]
        assert sizes == sorted(sizes)


def test_sets_of_too_few_samples_are_refused():
    outputs, labels, _ = drawn(np.random.default_rng(0), 24)
    assert calibrated_sets(outputs, labels, 0.95)
    with pytest.raises(InputError, match="need at least 24 samples, found 23"):
        calibrated_sets(outputs[:23], labels[:23], 0.95)
    with pytest.raises(InputError, match="coverage of the sets: expected a number between 0 and 1"):
        calibrated_sets(outputs, labels, 1)
    with pytest.raises(InputError, match="sets: expected one of lac, raps"):
        calibrated_sets(outputs, labels, 0.9, "aps")


@pytest.mark.parametrize(("n", "m"), [(80, 5), (200, 200), (500, 60)])
@pytest.mark.parametrize("ties", [False, True])
def test_false_alarms_are_as_rare_as_they_say(n, m, ties):
    rng = np.random.default_rng(0)
    rounds, rate, alarms = 1000, 0.05, 0
    for _ in range(rounds):
        both = rng.random(n + m)
        both = np.round(both, 1) if ties else both
        alarms += shift_alarm(both[:n], both[n:], rate).sounds
    assert binom.sf(alarms - 1, rounds, rate) > 1e-3, alarms


def test_another_distribution_sets_the_alarm_off():
    rng = np.random.default_rng(0)
    alarm = shift_alarm(rng.random(1000), rng.random(1000) * 0.9)
    assert alarm.sounds
    assert alarm.gap == pytest.approx(0.1, abs=0.06)
    assert alarm.p_value < 0.01


def test_many_samples_are_remembered_by_some():
    assert remembered(5).tolist() == [0, 1, 2, 3, 4]
    some = remembered(3 * MOST)
    assert len(some) == MOST == len(set(some))
    assert np.mean(some) == pytest.approx(1.5 * MOST, rel=0.05)


def test_scores_that_are_nearly_the_same_sound_no_alarm():
    calibration = np.ones(113)
    calibration[0] = 0  # SciPy's exact value is a hair above 1 here
    assert shift_alarm(calibration, np.ones(113)) == (1 / 113, 1.0, False)
