"""Any order of affine, dropout, dense and activation folds into a head that does the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastuq.errors import InputError
from fastuq.model.activations import ACTIVATIONS, activation_of, leaky_relu_of
from fastuq.model.folding import Activate, Affine, Drop, Multiply, as_classifier, fold
from fastuq.model.head import Head

HIDDEN = sorted({*ACTIVATIONS} - {"softmax"})


def dense(rng, inputs, outputs, name="dense"):
    return Multiply(rng.normal(size=(inputs, outputs)) / np.sqrt(inputs), rng.normal(size=outputs), name)


def affine(rng, width):
    return Affine(rng.normal(size=width), rng.normal(size=width), "bn")


def run(steps, x, masks=None):
    """Do the steps one after the other; dropout with the masks given, else none."""
    masks = iter(masks or [])
    for step in steps:
        if isinstance(step, Affine):
            x = x * step.scale + step.shift
        elif isinstance(step, Multiply):
            x = x @ step.weights + step.bias
        elif isinstance(step, Activate):
            x = activation_of(step.activation).forward(x)
        elif (mask := next(masks, None)) is not None:
            x = x * mask / (1 - step.rate)
    return x


def drawn(data, rng):
    """A sequence of steps and its width."""
    width, steps = 5, []
    first = width
    for _ in range(data.draw(st.integers(1, 7))):
        kind = data.draw(st.sampled_from("aaddmmf"))
        if kind == "a":
            steps.append(affine(rng, width))
        elif kind == "d":
            steps.append(Drop(data.draw(st.sampled_from([0.0, 0.25, 0.5])), "dropout"))
        elif kind == "m":
            outputs = data.draw(st.integers(1, 6))
            steps.append(dense(rng, width, outputs))
            width = outputs
        else:
            steps.append(Activate(data.draw(st.sampled_from(HIDDEN)), "activation"))
    steps += [dense(rng, width, 3), Activate("softmax", "softmax")]
    return steps, first


@settings(max_examples=60)
@given(st.data())
def test_any_order_gives_the_same_outputs(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    steps, width = drawn(data, rng)
    keep = np.prod([1 - step.rate for step in steps if isinstance(step, Drop)])
    if keep < 0.1:
        return
    head = fold(steps, width)
    x = rng.normal(size=(7, width))
    np.testing.assert_allclose(head.forward(x), run(steps, x), atol=2e-5)
    again = Head.from_arrays(head.to_arrays())
    assert again.rates == head.rates
    np.testing.assert_array_equal(again.forward(x), head.forward(x))


@pytest.mark.parametrize("seed", range(12))
def test_any_order_gives_the_same_moments(seed):
    rng = np.random.default_rng(seed)
    pieces = [Drop(0.3, "a"), affine(rng, 6), Activate(HIDDEN[seed % len(HIDDEN)], "f"), Drop(0.4, "b"), affine(rng, 6)]
    middle = [pieces[number] for number in rng.permutation(5)]
    steps = [dense(rng, 4, 6), *middle, dense(rng, 6, 2), Drop(0.2, "c"), Activate("sigmoid", "end")]
    head, x, count = fold(steps, 4), rng.normal(size=(1, 4)), 40000
    widths = iter([6, 6, 2])
    masks = [rng.random((count, next(widths))) >= s.rate for s in steps if isinstance(s, Drop)]
    expected = run(steps, np.repeat(x, count, axis=0), masks)
    found = head.forward(
        np.repeat(x, count, axis=0), [rng.random((count, b.weights.shape[0])) >= b.rate for b in head.blocks]
    )
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), atol=0.012)
    np.testing.assert_allclose(found.std(axis=0), expected.std(axis=0), atol=0.012)


@pytest.mark.parametrize("name", [*HIDDEN, "leaky_relu(0.01)"])
def test_a_dropout_before_an_activation_acts_on_its_argument(name):
    rng = np.random.default_rng(0)
    steps = [dense(rng, 4, 6), Drop(0.5, "d"), Activate(name, "f"), dense(rng, 6, 2)]
    x, mask, all_units = rng.normal(size=(200, 4)), rng.random((200, 6)) < 0.5, np.ones((200, 6), bool)
    head = fold(steps, 4)
    masks = [all_units[:, :4], mask] if len(head.blocks) == 2 else [all_units[:, :4], mask, all_units]
    np.testing.assert_allclose(head.forward(x, masks), run(steps, x, [mask]), atol=1e-5)


def test_what_folds_takes_no_block_of_its_own():
    rng = np.random.default_rng(0)
    head = fold(
        [
            affine(rng, 4),
            Drop(0.2, "a"),
            affine(rng, 4),
            dense(rng, 4, 3),
            affine(rng, 3),
            Drop(0.5, "b"),
            Activate("relu", "r"),
            Drop(0.5, "c"),
            dense(rng, 3, 2),
            Activate("softmax", "s"),
        ],
        4,
    )
    assert [(b.rate, b.activation, b.scale is None) for b in head.blocks] == [
        (0.2, "relu", True),
        (0.75, "softmax", True),
    ]


def test_a_batchnorm_behind_an_activation_is_an_affine_of_the_next_block():
    rng = np.random.default_rng(0)
    normalise = affine(rng, 3)
    steps = [dense(rng, 4, 3), Activate("relu", "r"), normalise, Drop(0.5, "b"), dense(rng, 3, 2)]
    block = fold(steps, 4).blocks[1]
    np.testing.assert_allclose(block.scale, normalise.scale, rtol=1e-6)
    np.testing.assert_allclose(block.shift, normalise.shift, rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([Drop(0.95, "drop")], "layer drop: expected a dropout rate of 0 to 0.9, found 0.95"),
        ([Drop(0.7, "one"), Drop(0.7, "two")], "layer two: .* found 0.91"),
        ([Activate("softmax", "s"), Multiply(np.eye(4), np.zeros(4), "late")], "layer late: comes after a softmax"),
        ([], "at least one dense layer"),
    ],
)
def test_what_does_not_fold_is_refused_by_name(steps, words):
    with pytest.raises(InputError, match=words):
        fold(steps, 4)


def test_too_many_units_get_no_dense_layer_that_changes_nothing():
    with pytest.raises(InputError, match=r"layer act: .* 2000 units are too many"):
        fold([Drop(0.5, "drop"), Activate("tanh", "act")], 2000)


def test_one_sigmoid_unit_becomes_two_classes_exactly():
    rng = np.random.default_rng(1)
    one = fold([Drop(0.2, "d"), dense(rng, 5, 1), Activate("sigmoid", "s")], 5)
    two = as_classifier(one)
    x = rng.normal(size=(9, 5)).astype(np.float32)
    p = one.forward(x)[:, 0]
    np.testing.assert_allclose(two.forward(x), np.stack([1 - p, p], axis=1), atol=1e-6)
    assert two.blocks[-1].activation == "softmax"


def test_logits_are_asked_for():
    rng = np.random.default_rng(1)
    head = fold([dense(rng, 5, 3)], 5)
    with pytest.raises(InputError, match="--activation softmax"):
        as_classifier(head)
    for name in ("softmax", "sigmoid"):
        assert as_classifier(head, name).blocks[-1].activation == name
    with pytest.raises(InputError, match="ends in softmax already"):
        as_classifier(as_classifier(head, "softmax"), "sigmoid")
    with pytest.raises(InputError, match="3 units of tanh"):
        as_classifier(fold([dense(rng, 5, 3), Activate("tanh", "t")], 5))
    with pytest.raises(InputError, match="1 units of softmax"):
        as_classifier(fold([dense(rng, 5, 1)], 5), "softmax")


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.2, 0.3, 1e-7, 1.0, 1 / 3])
def test_slopes_go_through_their_name(slope):
    x = np.linspace(-3, 3, 7).astype(np.float32)
    found = activation_of(leaky_relu_of(slope))
    np.testing.assert_allclose(found.forward(x), np.where(x > 0, x, slope * x), atol=1e-6)
    assert found.slope == pytest.approx(slope, abs=1e-9)
