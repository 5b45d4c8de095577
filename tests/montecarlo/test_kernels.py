"""The building blocks of the kernels against NumPy."""

import numpy as np
import pytest
from heads import model_of, random_features, random_head
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import types
from scipy.special import expit

from fastuq.bench.peak import int8_peak
from fastuq.errors import ModelError
from fastuq.model.activations import ACTIVATIONS, SIGMOID_STEPS, Activation, SteppedCodes, activation_of
from fastuq.model.head import Block
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels import elementwise, lanes, memory, running_sums
from fastuq.montecarlo.kernels.compiled import has_vnni, kernel
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import quad_of_byte


@in_ir(types.float32)
def exp32(builder, x):
    return elementwise.exp_ir(builder, x)


@kernel
def exp_of(x, out):
    for i in range(len(x)):
        out[i] = exp32(x[i])


@kernel
def sigmoid_of(x, out):
    for i in range(len(x)):
        out[i] = elementwise.sigmoid32(x[i])


def mapped(function, x):
    out = np.empty(len(x), np.float32)
    function(x, out)
    return out.astype(np.float64)


def test_exp_and_sigmoid_errors():
    x = np.linspace(-87, 87, 1_000_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(mapped(exp_of, x) / exact - 1) < 3e-7 + 8e-8 * np.abs(x))[np.abs(x) < 86].all()
    assert np.abs(mapped(sigmoid_of, x) - expit(x.astype(np.float64))).max() < 1e-6


def test_sigmoid_far_out():
    x = np.array([-1e30, -200, 200, 1e30], np.float32)
    assert np.array_equal(mapped(sigmoid_of, x).round(30), [0, 0, 1, 1])


def test_sigmoid_codes_are_those_of_numpy_at_every_step():
    """At each step and the floats beside it, where rounding an approximate sigmoid would be off by one."""
    beside = [np.nextafter(SIGMOID_STEPS, np.float32(side)) for side in (-np.inf, np.inf)]
    z = np.concatenate([SIGMOID_STEPS, *beside, np.linspace(-9, 9, 10_007).astype(np.float32)])
    codes = np.empty(len(z), np.uint8)
    elementwise.encode(z, 0, (False, np.float32(0), 0), len(z), codes, 0)
    assert np.array_equal(codes, activation_of("sigmoid").codes.of(z))
    assert np.array_equal(activation_of("sigmoid").codes.of(z)[: len(SIGMOID_STEPS)], np.arange(1, 256))


@settings(max_examples=30)
@given(samples=st.integers(1, 130), width=st.integers(1, 200), first=st.integers(0, 129))
def test_transpose(samples, width, first):
    first = min(first, samples - 1)
    features = np.random.default_rng(width).integers(-128, 128, (samples, width), np.int8)
    rows = memory.empty(width * 64, np.int8)
    lanes.transpose(features, first, rows.view(np.int32), lanes.transpose_scratch())
    count = min(64, samples - first)
    assert np.array_equal(rows.reshape(width, 64)[:, :count], features[first : first + count].T)


def test_quads_turn_back():
    assert [quad_of_byte(quad_of_byte(p)) for p in range(64)] == list(range(64))


EXACT = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": expit,
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pieces", [[11], [3, 8], [1, 1, 9]])
def test_absorbed_moments(activation, pieces):
    rng = np.random.default_rng(3)
    classes, total = 5, sum(pieces)
    z = (rng.standard_normal((total, classes * 64)) * 3).astype(np.float32)
    kinds = (np.float32, np.float64, np.float64)
    state = running_sums.Sums(*(np.full(classes * 64, np.nan, kind) for kind in kinds))
    start = 0
    for count in pieces:
        part, number = z[start : start + count].flatten(), elementwise.NUMBERS[activation]
        running_sums.absorb(part, classes * 64, count, number, classes, state, 0, start == 0)
        start += count
    mean, std = np.empty((3, classes), np.float32), np.empty((3, classes), np.float32)
    places = np.random.default_rng(4).permutation(64)
    running_sums.finish(state, 0, total, classes, places, mean, std, 0, 3)
    exact = z.astype(np.float64).reshape(total, classes, 64)
    exact = EXACT[activation](exact)  # a name that is not there fails
    assert np.abs(mean - exact.mean(axis=0)[:, places[:3]].T).max() < 2e-6
    assert np.abs(std - exact.std(axis=0)[:, places[:3]].T).max() < 2e-6


def test_moments_of_a_hundred_thousand_iterations_far_from_the_pivot():
    """One odd first iteration, then a tiny spread: float32 sums would lose it."""
    z = np.full(2 * 64, 0.25, np.float32)
    z[64:] += np.float32(2.0**-12)
    state = running_sums.Sums(*(np.empty(64, kind) for kind in (np.float32, np.float64, np.float64)))
    running_sums.absorb(np.ones(64, np.float32), 64, 1, elementwise.NUMBERS["linear"], 1, state, 0, True)
    for _ in range(50_000):
        running_sums.absorb(z, 64, 2, elementwise.NUMBERS["linear"], 1, state, 0, False)
    mean, std = np.empty((1, 1), np.float32), np.empty((1, 1), np.float32)
    running_sums.finish(state, 0, 100_001, 1, np.arange(64), mean, std, 0, 1)
    values = np.concatenate([[1.0], np.tile(z[::64].astype(np.float64), 50_000)])
    assert abs(mean[0, 0] - values.mean()) < 1e-7
    assert abs(std[0, 0] - values.std()) < 1e-7


@pytest.mark.skipif(not has_vnni(), reason="this processor has no AVX512-VNNI")
def test_peak_is_measured():
    assert int8_peak(1, seconds=0.001) > 1e9


def test_kernels_and_numpy_know_the_same_activations():
    assert elementwise.FORWARD.keys() == ACTIVATIONS.keys()


def test_an_activation_that_one_side_lacks_is_refused(monkeypatch):
    """It must not pass as another one, on both sides alike."""
    head = random_head([(20, 8, 0.2, "relu"), (8, 3, 0.2, "softmax")])
    features = random_features(70, 20)
    model = model_of(head, features)
    with pytest.raises(ModelError, match="activation: expected one of"):
        Block(0.2, np.ones((2, 2), np.float32), np.ones(2, np.float32), "nosuch")
    other = Activation("nosuch", np.tanh, SteppedCodes(np.linspace(-1, 1, 255).astype(np.float32)))
    monkeypatch.setitem(ACTIVATIONS, "nosuch", other)
    other = random_head([(20, 8, 0.2, "nosuch"), (8, 3, 0.2, "softmax")])
    for precision in ("int8", "float32"):
        with pytest.raises(ModelError, match="activation nosuch: there is no"):
            MonteCarlo(model_of(other, features), precision=precision)
    MonteCarlo(model)


@pytest.mark.parametrize("name", [name for name, entry in ACTIVATIONS.items() if entry.codes])
def test_codes_stand_for_the_outputs(name):
    """A record whose codes are those of another function would be wrong in NumPy and in the kernels alike."""
    entry = ACTIVATIONS[name]
    z = (np.random.default_rng(0).standard_normal((4000, 3)) * [1, 3, 20]).astype(np.float32)
    outputs = entry.forward(z)
    step = entry.codes.step(outputs)
    codes = entry.codes.of(z if step is None else z / step)
    unit = np.float32(1 / 255) if step is None else step
    assert (codes == np.rint(codes)).all()
    assert np.ptp(codes) <= 255
    within = np.abs(codes * unit - outputs) <= 0.501 * unit
    assert (within | (np.abs(outputs) > np.percentile(np.abs(outputs), 99.9, axis=0))).all()
