"""What is added to the outputs of the last block of every iteration, other numbers for every sample."""

import numpy as np
import pytest
from heads import LAYOUTS, dequantize, model_of, random_features, random_head, reference_outputs
from scipy.special import softmax

from fastuq.errors import InputError
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels.plan import Rules

RULES = Rules(np.float32(1), np.float32(0.5), False)


def model_with(layout, activation):
    blocks = [*LAYOUTS[layout][:-1], (*LAYOUTS[layout][-1][:3], activation)]
    head = random_head(blocks)
    return model_of(head, random_features(70, head.num_features))


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize(
    ("layout", "samples", "num_iter"), [("awkward", 70, 9), ("four blocks", 20, 9), ("one block", 1, 600)]
)
def test_it_goes_before_the_last_activation(layout, samples, num_iter, masks, precision):
    linear, model = (model_with(layout, activation) for activation in ("linear", "softmax"))
    features, ids = random_features(samples, model.head.num_features), np.arange(samples) * 3
    addend = np.random.default_rng(1).normal(size=(samples, model.head.num_classes)).astype(np.float32) * 4
    outputs = reference_outputs(linear, features, num_iter, 5, masks, precision, ids)
    expected = softmax((outputs + addend).astype(np.float64), axis=2)
    run = MonteCarlo(model, num_iter=num_iter, seed=5, masks=masks, precision=precision, threads=2)
    found = run.decide(features, ids, RULES, details=True, addend=addend)
    assert np.abs(found.mean - expected.mean(axis=0)).max() < 1e-5
    assert np.abs(found.std - expected.std(axis=0)).max() < 1e-5
    logits = linear.head_int8.forward(features) if precision == "int8" else linear.head.forward(dequantize(features))
    assert np.abs(found.plain - softmax((logits + addend).astype(np.float64), axis=1)).max() < 1e-5


def test_one_of_another_shape_is_refused():
    model = model_with("no dropout", "linear")
    with pytest.raises(InputError, match=r"addend: expected \(3, 2\) numbers, found \(2, 2\)"):
        MonteCarlo(model)(random_features(3, 5), addend=np.zeros((2, 2), np.float32))
