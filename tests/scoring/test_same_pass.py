"""Decisions that the kernels make in the pass over the iterations, against `decisions` and the NumPy heads."""

from dataclasses import replace

import numpy as np
import pytest
from heads import LAYOUTS, dequantize, model_of, random_features, random_head
from hypothesis import given, settings
from hypothesis import strategies as st

from fastuq.errors import ModelError
from fastuq.montecarlo import engine
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels.flatten import packed_bytes
from fastuq.scoring.decisions import decide, interval, ternary_vector
from fastuq.scoring.found import columns_of, predictive_entropy, rules_of
from fastuq.scoring.options import Options


def check(model, features, found, options):
    """Compare the columns with what NumPy makes of the moments, and the plain pass with the NumPy head."""
    lower, upper = interval(
        found.mean, found.std, options.conf_factor, kind=options.interval, num_iter=options.num_iter
    )
    expected = decide(
        ternary_vector(lower, upper, options.threshold),
        found.mean,
        mixed=options.mixed,
        doubt_floor=options.doubt_floor,
    )
    columns = columns_of(model, found)
    for name in ("keep", "reason", "prediction"):
        assert np.array_equal(columns[name], getattr(expected, name)), name
    classes = found.mean.shape[1]
    bits = np.unpackbits(columns["positive_bits"], axis=1, bitorder="little")
    assert np.array_equal(bits[:, :classes], expected.positive)
    assert not bits[:, classes:].any()
    at = np.arange(len(features)), expected.prediction
    for name, values in (("predicted_mean", found.mean), ("predicted_lower", lower), ("predicted_upper", upper)):
        assert np.array_equal(columns[name], values[at]), name
    assert np.array_equal(columns["top"], found.mean.argmax(axis=1))
    assert np.array_equal(columns["max_mean"], found.mean.max(axis=1))
    assert np.array_equal(columns["plain_prediction"], found.plain.argmax(axis=1))
    entropy = predictive_entropy(found.mean, model.head.blocks[-1].activation)
    terms = np.abs(found.mean).max() + 1  # where outputs are no probabilities, terms of both signs cancel
    assert np.allclose(found.entropy, entropy, rtol=2e-6, atol=2e-7 * classes * terms**2 if terms > 2 else 1e-12)
    if options.precision == "int8":
        plain = model.head_int8.forward(features)
    else:
        plain = model.head.forward(dequantize(features))
    assert np.abs(found.plain - plain).max() <= 1e-5 * max(1, np.abs(plain).max())
    return expected


def found_by(model, features, options, details=True):
    run = MonteCarlo(model, options.sampling)
    ids = np.arange(len(features))
    return run.decide(features, ids, rules_of(options), details=details)


@settings(max_examples=60)
@given(data=st.data())
def test_any_decision_is_that_of_numpy(data):
    classes, samples = data.draw(st.integers(1, 70)), data.draw(st.sampled_from([1, 7, 16, 17, 33, 64, 65, 130]))
    last = data.draw(st.sampled_from(["sigmoid", "softmax", "linear"]))
    head = random_head([(20, 12, 0.2, "relu"), (12, classes, 0.3, last)], seed=data.draw(st.integers(0, 99)))
    features = random_features(samples, 20, seed=data.draw(st.integers(0, 99)))
    options = Options(
        num_iter=data.draw(st.integers(2, 9)),
        conf_factor=data.draw(st.floats(0.01, 0.99)),
        threshold=data.draw(st.one_of(st.floats(-0.5, 1.5), st.sampled_from([0.0, 0.5, 1.0]))),
        interval=data.draw(st.sampled_from(["std", "sem"])),
        mixed=data.draw(st.sampled_from(["ignore", "keep"])),
        doubt_floor=data.draw(st.one_of(st.none(), st.floats(-0.5, 1.0, width=32))),
        masks=data.draw(st.sampled_from(["shared", "per_sample"])),
        precision=data.draw(st.sampled_from(["int8", "float32"])),
    )
    model = model_of(head, features)
    model.sha256 = "0" * 64
    check(model, features, found_by(model, features, options), options)


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_path_gives_the_same_columns(name, precision, monkeypatch):
    """One by one and in blocks, in one round and in several: the plain pass and all that is decided, bit for bit."""
    head = random_head(LAYOUTS[name])
    features = random_features(70, head.num_features)
    model, options = model_of(head, features), Options(num_iter=19, precision=precision, threshold=0.3)
    model.sha256 = "0" * 64
    whole = found_by(model, features, options)
    check(model, features, whole, options)
    for setting, value in (("FEW_SAMPLES", 100), ("PACKED_BYTES", 8 * packed_bytes(MonteCarlo(model)._kernels.plan))):
        monkeypatch.setattr(engine, setting, value)
        other = found_by(model, features, options)
        for field in whole._fields:
            assert np.array_equal(getattr(other, field), getattr(whole, field)), field
        monkeypatch.undo()
    few = found_by(model, features, options, details=False)
    assert few.mean.size == few.plain.size == 0
    assert np.array_equal(few.floats, whole.floats)
    assert np.array_equal(few.numbers, whole.numbers)


def test_all_reasons_are_met():
    """The test above would see nothing if samples were all decided in one way."""
    head = random_head([(32, 24, 0.1, "relu"), (24, 10, 0.1, "sigmoid")])
    last = head.blocks[-1]
    head = replace(head, blocks=(head.blocks[0], replace(last, weights=last.weights * 3, bias=last.bias - 4)))
    features = random_features(90, 32)
    model, options = model_of(head, features), Options(num_iter=20, conf_factor=0.5, threshold=0.6, seed=4)
    model.sha256 = "0" * 64
    expected = check(model, features, found_by(model, features, options), options)
    assert set(expected.reason.tolist()) == set(range(5))


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
def test_outputs_that_are_not_finite_are_refused(masks):
    head = random_head([(20, 3, 0.2, "linear")])
    huge = replace(
        head,
        blocks=(replace(head.blocks[0], weights=np.full((20, 3), 1e30, np.float32)),),
        scale=np.full(20, 1e30, np.float32),
    )
    features = random_features(70, 20)
    model = model_of(head, features)
    model.head, model.sha256 = huge, "0" * 64
    found = found_by(model, features, Options(precision="float32", masks=masks))
    with pytest.raises(ModelError, match="NaN or infinity"):
        columns_of(model, found)
