"""The building blocks of the kernels against NumPy."""

from typing import NamedTuple

import numpy as np
import pytest
from building_blocks import call
from heads import model_of, random_features, random_head
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import entr, erf, expit

from fastuq.bench.peak import int8_peak
from fastuq.errors import ModelError
from fastuq.model.activations import ACTIVATIONS, SIGMOID_STEPS, Activation, SteppedCodes, activation_of
from fastuq.model.head import Block
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels import activating, coding, elementwise, lanes, memory, running_sums
from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.dots import lane_of
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.flatten import ACTIVATION_NUMBERS
from fastuq.montecarlo.kernels.ir import FLOATS, all_lanes, counting, load, plus, store
from fastuq.montecarlo.kernels.plan import Sums
from fastuq.montecarlo.kernels.plan import running_sums as room_for_sums
from fastuq.montecarlo.kernels.scratch import Lanes, lanes_scratch
from fastuq.montecarlo.kernels.targets import TARGETS, host_target


class Numbers(NamedTuple):
    x: np.ndarray
    out: np.ndarray


def mapped(emit, x):
    """Apply what emit(builder, vector) writes to numbers, vector by vector."""

    @in_ir()
    def loop(builder, x, out, vectors):
        with counting(builder, vectors) as i:
            store(builder, emit(builder, load(builder, plus(builder, x, i, 64), FLOATS)), plus(builder, out, i, 64))

    @kernel
    def run(frame):
        job = record_of(frame)
        loop(job.x, job.out, (len(job.x) + 15) // 16)

    padded = memory.filled(np.pad(x, (0, -len(x) % 16)), np.float32)
    out = memory.zeros(len(padded), np.float32)
    call(run, Numbers(padded, out))
    return out[: len(x)].astype(np.float64)


def test_exp_and_sigmoid_errors():
    x = np.linspace(-87, 87, 1_000_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(mapped(elementwise.exp_ir, x) / exact - 1) < 3e-7 + 8e-8 * np.abs(x))[np.abs(x) < 86].all()
    assert np.abs(mapped(elementwise.sigmoid_ir, x) - expit(x.astype(np.float64))).max() < 1e-6


def test_sigmoid_far_out():
    x = np.array([-1e30, -200, 200, 1e30], np.float32)
    assert np.array_equal(mapped(elementwise.sigmoid_ir, x).round(30), [0, 0, 1, 1])


@pytest.mark.parametrize("name", [name for name, function in elementwise.FORWARD.items() if function])
def test_what_is_no_number_stays_none(name):
    """A clipped NaN would pass for a sure output."""
    found = mapped(lambda builder, x: elementwise.FORWARD[name](builder, x, x), np.array([np.nan], np.float32))
    assert np.isnan(found).all()


@pytest.mark.parametrize("other", [False, True])
def test_entropy_terms(other):
    """Relative error, also of 1 - p where p is tiny: sure outputs have an entropy too."""
    tiny = np.geomspace(1e-30, 0.5, 200_001)
    p = np.concatenate([tiny, 1 - tiny, [0, 1, -0.5, 1.5, -3, 7]]).astype(np.float32)
    found = mapped(lambda builder, x: elementwise.surprise_ir(builder, x, other), p)
    q = 1 - p.astype(np.float64) if other else p.astype(np.float64)
    exact = (
        entr(np.maximum(q, 0))
        if not other
        else np.where(q > 0, -q * np.log1p(-p.astype(np.float64).clip(None, 1 - 1e-9)), 0)
    )
    exact = np.where(q > 0, exact, 0)
    assert (np.abs(found - exact) <= 4e-7 * np.abs(exact) + 1e-36).all()


class Sigmoids(NamedTuple):
    z: np.ndarray
    plan: tuple
    codes: np.ndarray


@kernel
def _encode(frame):
    job = record_of(frame)
    coding.encode(job.z, job.plan, 0, len(job.z), job.codes)


def test_sigmoid_codes_are_those_of_numpy_at_every_step():
    """At each step and the floats beside it, where rounding an approximate sigmoid would be off by one."""
    beside = [np.nextafter(SIGMOID_STEPS, np.float32(side)) for side in (-np.inf, np.inf)]
    z = np.concatenate([SIGMOID_STEPS, *beside, np.linspace(-9, 9, 10_007).astype(np.float32)])
    head = random_head([(8, 8, 0.2, "sigmoid"), (8, 2, 0.2, "sigmoid")])
    plan = MonteCarlo(model_of(head, random_features(9, 8)))._kernels.plan
    codes = np.zeros(len(z) + 16, np.uint8)
    call(_encode, Sigmoids(z, plan, codes))
    assert np.array_equal(codes[: len(z)], activation_of("sigmoid").codes.of(z))
    assert np.array_equal(activation_of("sigmoid").codes.of(z)[: len(SIGMOID_STEPS)], np.arange(1, 256))


class Turning(NamedTuple):
    features: np.ndarray
    first: int
    samples: int
    in_order: bool
    lanes: Lanes
    rows: np.ndarray


@kernel
def _turn(frame):
    job = record_of(frame)
    lanes.turn_features(
        job.features, job.first, job.samples, job.features.shape[1], job.in_order, job.lanes, job.rows
    )  # fmt: skip


@settings(max_examples=30)
@given(
    samples=st.integers(1, 130), width=st.integers(1, 200), first=st.integers(0, 129), in_order=st.booleans(),
    target=st.sampled_from(TARGETS),
)  # fmt: skip
def test_features_are_turned(samples, width, first, in_order, target):
    first = min(first, samples - 1)
    features = np.random.default_rng(width).integers(-128, 128, (samples, width), np.int8)
    rows, count = memory.empty(width * 64, np.int8), min(64, samples - first)
    call(_turn, Turning(features, first, count, in_order, lanes_scratch(target), rows))
    of_slot = [slot if in_order else lane_of(target.dot, slot) for slot in range(64)]
    expected = features[first + np.minimum(of_slot, count - 1)].T
    assert np.array_equal(rows.reshape(width, 64), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_slots_and_lanes_turn_back(target):
    lanes_ = [lane_of(target.dot, slot) for slot in range(64)]
    assert sorted(lanes_) == list(range(64))
    assert [lane_of(target.dot, lane) for lane in lanes_] == list(range(64))


EXACT = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": expit,
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    "relu6": lambda z: np.clip(z, 0, 6),
    "leaky_relu": lambda z: np.maximum(z, 0.2 * z),
    "elu": lambda z: np.maximum(z, 0) + np.expm1(np.minimum(z, 0)),
    "selu": lambda z: 1.0507009873554805 * (np.maximum(z, 0) + 1.6732632423543772 * np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
    "gelu_tanh": lambda z: z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) / 2,
    "silu": lambda z: z * expit(z),
    "hard_silu": lambda z: z * np.clip(z + 3, 0, 6) / 6,
    "tanh": np.tanh,
    "softplus": lambda z: np.logaddexp(0, z),
}


@pytest.mark.parametrize("name", [name for name in EXACT if name != "softmax"])
def test_errors_of_activations(name):
    """2e-6, and 2e-6 of the value; near 0 of the value alone, where differences of almost equal numbers would show."""
    tiny = np.geomspace(1e-20, 1, 20_001)
    x = np.concatenate([np.linspace(-100, 100, 200_001), tiny, -tiny, [-1e30, -1e4, 1e4, 1e30, 0]]).astype(np.float32)
    slope = activation_of(name).slope
    found = mapped(lambda builder, v: elementwise.FORWARD[name](builder, v, all_lanes(slope)), x)
    with np.errstate(over="ignore"):
        exact = EXACT[name](x.astype(np.float64))
    far = np.where((np.abs(x) <= 1) & (name != "sigmoid"), 0, 2e-6)
    assert (np.abs(found - exact) <= 2e-6 * np.abs(exact) + far).all()


class Absorbing(NamedTuple):
    z: np.ndarray
    iterations: int
    activation: int
    slope: np.float32
    classes: int
    state: Sums
    number: int


@kernel
def _absorb(frame):
    job = record_of(frame)
    outputs = job.classes * 64
    activating.activate_ahead(job.z, 0, outputs, job.iterations, job.activation, job.slope, job.classes, True)
    higher = len(job.state.sum3) > 0
    running_sums.absorb(
        job.z, 0, outputs, job.iterations, job.activation, job.classes, 4, job.state, 0, job.number, higher
    )


class Finishing(NamedTuple):
    state: Sums
    iterations: int
    mean: np.ndarray
    std: np.ndarray


@kernel
def _finish(frame):
    job = record_of(frame)
    running_sums.finish(job.state, 0, job.iterations, len(job.mean), job.mean, job.std)


def finished(state, total):
    mean, std = (np.empty(len(state.pivot), np.float32) for _ in range(2))
    call(_finish, Finishing(state, total, mean, std))
    return mean, std


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pieces", [[11], [8, 3], [64, 8, 64, 5]])
@pytest.mark.parametrize("higher", [False, True])
def test_absorbed_moments(activation, pieces, higher):
    rng = np.random.default_rng(3)
    classes, total, slope = 5, sum(pieces), np.float32(activation_of(activation).slope)
    z = (rng.standard_normal((total, classes * 64)) * 3).astype(np.float32)
    state = room_for_sums(classes * 64, higher=higher)
    for part in state:
        part[:] = np.nan
    start = 0
    for count in pieces:
        part = z[start : start + count].flatten()
        call(_absorb, Absorbing(part, count, ACTIVATION_NUMBERS[activation], slope, classes, state, start))
        start += count
    mean, std = finished(state, total)
    exact = EXACT[activation](z.astype(np.float64).reshape(total, classes, 64))  # a name that is not there fails
    size = max(1, np.abs(exact).max())
    assert np.abs(mean - exact.mean(axis=0).ravel()).max() < 2e-6 * size
    assert np.abs(std - exact.std(axis=0).ravel()).max() < 2e-6 * size
    for power, found in ((3, state.sum3), (4, state.sum4)):
        sums = ((exact - state.pivot.reshape(classes, 64)) ** power).sum(axis=0).ravel()
        assert not higher or np.abs(found - sums).max() < 1e-4 * max(1, np.abs(sums).max())


def test_moments_of_a_hundred_thousand_iterations_far_from_the_pivot():
    """One odd first iteration, then a tiny spread: float32 sums would lose it."""
    batch = np.full(64 * 64, 0.25, np.float32)
    batch[::2] += np.float32(2.0**-12)
    state, linear = room_for_sums(64), ACTIVATION_NUMBERS["linear"]
    first = np.concatenate([np.ones(64, np.float32), batch[64:]])
    call(_absorb, Absorbing(first, 64, linear, np.float32(0), 1, state, 0))
    for number in range(64, 100_032, 64):
        call(_absorb, Absorbing(batch.copy(), 64, linear, np.float32(0), 1, state, number))
    mean, std = finished(state, 100_032)
    values = np.concatenate([[1.0], np.full(100_031, float(batch[0]))])
    assert abs(mean[0] - values.mean()) < 1e-7
    assert abs(std[0] - values.std()) < 1e-7


@pytest.mark.skipif(host_target().lanes < 8, reason="this processor has no vectors of 256 bits")
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
