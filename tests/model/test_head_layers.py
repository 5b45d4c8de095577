"""Heads of the layers of PyTorch and Keras, read by attribute."""

import numpy as np
import pytest
from torch_likes import BatchNorm1d, Dropout, Identity, LayerNorm, Linear, ReLU, Sequential, Sigmoid, Softmax

from fastuq.errors import FastUQError, InputError
from fastuq.model.head_layers import head_from_layers

RNG = np.random.default_rng(5)


def lin(inputs, outputs, **options):
    return Linear(inputs, outputs, RNG, **options)


def norm(width, **options):
    return BatchNorm1d(width, RNG, **options)


PLAIN = {
    "dropout and linear": ([Dropout(0.2), lin(6, 4), Softmax()], (0.2,)),
    "the paper's": ([norm(6), Dropout(0.2), lin(6, 5), ReLU(), Dropout(0.4), lin(5, 4), Sigmoid()], (0.2, 0.4)),
    "batch norm after linear": (
        [Dropout(0.1), lin(6, 5), norm(5), ReLU(), Dropout(0.3), lin(5, 4), Softmax()],
        (0.1, 0.3),
    ),
    "batch norm after relu": ([Dropout(0.1), lin(6, 5), ReLU(), norm(5), lin(5, 4), Softmax()], (0.1, 0)),
    "dropout before batch norm": ([lin(6, 5), ReLU(), Dropout(0.5), norm(5), lin(5, 4), Softmax()], (0, 0.5)),
    "two dropouts": ([Dropout(0.5), Dropout(0.2), lin(6, 4), Softmax()], (0.6,)),
    "dropout before relu": ([lin(6, 5), Dropout(0.2), ReLU(), lin(5, 4), Softmax()], (0, 0.2)),
    "dropout after batch norm": ([lin(6, 5), ReLU(), norm(5), Dropout(0.2), lin(5, 4), Softmax()], (0, 0.2)),
    "relu first": ([ReLU(), Dropout(0.2), lin(6, 4), Softmax()], (0, 0.2)),
    "nested": (
        [Sequential(Dropout(0.2), Identity()), Sequential(Sequential(lin(6, 4, bias=False)), Softmax())],
        (0.2,),
    ),
    "two batch norms": ([norm(6), norm(6, affine=False), Dropout(0.2), norm(6), norm(6), lin(6, 4), Softmax()], (0.2,)),
}


@pytest.mark.parametrize(("layers", "rates"), PLAIN.values(), ids=PLAIN)
def test_a_head_gives_what_the_layers_give(layers, rates):
    x = RNG.standard_normal((50, 6)).astype(np.float32)
    network = Sequential(*layers)
    for given in (network, list(layers)):
        head = head_from_layers(given)
        assert head.rates == rates
        assert np.abs(head.forward(x) - network(x)).max() < 2e-6


def test_masks_act_where_the_dropout_was():
    """Dropout, then a BatchNorm: what is dropped comes out of it as its shift, not as nothing."""
    dense, after = lin(6, 4), norm(6)
    head = head_from_layers([Dropout(0.5), after, dense, Softmax()])
    x, mask = RNG.standard_normal((20, 6)).astype(np.float32), RNG.random((20, 6)) < 0.5
    assert np.abs(head.forward(x, [mask]) - Softmax()(dense(after(x * mask / 0.5)))).max() < 2e-6


def test_one_sigmoid_unit_is_two_classes():
    dense = lin(6, 1)
    head = head_from_layers([Dropout(0.2), dense, Sigmoid()])
    x = RNG.standard_normal((9, 6)).astype(np.float32)
    expected = Sigmoid()(dense(x))
    assert np.abs(head.forward(x) - np.concatenate([1 - expected, expected], axis=1)).max() < 1e-6


def test_logits_get_the_activation_that_is_named():
    layers = [Dropout(0.2), lin(6, 4)]
    x = RNG.standard_normal((9, 6)).astype(np.float32)
    head = head_from_layers(layers, activation="softmax")
    assert np.abs(head.forward(x) - Softmax()(layers[1](x))).max() < 1e-6


def test_rates_given_by_hand():
    layers = [lin(6, 5), ReLU(), lin(5, 4), Softmax()]
    assert head_from_layers(layers, dropout=[0, 0.5]).rates == (0, 0.5)
    with pytest.raises(InputError, match="expected 2 dropout rates"):
        head_from_layers(layers, dropout=[0.5])


REFUSED = {
    "found no dropout, and without it": [lin(6, 4), Softmax()],
    "ends in 4 logits, which no threshold suits": [Dropout(0.2), lin(6, 4)],
    r"layer 1 \(LayerNorm\) cannot be part of a head": [Dropout(0.2), LayerNorm()],
    "comes after a softmax": [Dropout(0.2), lin(6, 4), Softmax(), Dropout(0.2)],
    "its layers do not fit each other": [lin(6, 5), norm(4)],
    "expected 5 inputs, found 4": [Dropout(0.2), lin(6, 5), ReLU(), lin(4, 3), Softmax()],
    r"layer 0 \(Dropout\): expected a dropout rate of 0 to 0.9": [Dropout(0.95), lin(6, 4), Softmax()],
    "expected Linear or Dense layers, found none": [],
    "found 1 units of softmax": [Dropout(0.2), lin(6, 1), Softmax()],
}


@pytest.mark.parametrize(("message", "layers"), REFUSED.items())
def test_layers_that_are_no_head_are_refused_by_name(message, layers):
    with pytest.raises(FastUQError, match=message):
        head_from_layers(layers)


def test_what_is_no_list_of_layers():
    with pytest.raises(InputError, match=r"expected a torch\.nn\.Sequential"):
        head_from_layers(3)


class Dense:
    def __init__(self, weights, bias, activation):
        self.name, self.kernel, self.bias, self.activation = "dense_7", weights, bias, activation


class BatchNormalization:
    name, epsilon, scale, center = "bn", 1e-3, True, True

    def __init__(self, *arrays):
        self._arrays = arrays

    def get_weights(self):
        return list(self._arrays)


def test_keras_layers():
    def relu(x):
        return np.maximum(x, 0)

    def softmax(x):
        return x

    gamma, beta, mean, variance = RNG.uniform(0.5, 2, (4, 6))
    first, last = RNG.standard_normal((6, 5)), RNG.standard_normal((5, 3))
    norm = BatchNormalization(gamma, beta, mean, variance)
    drop = type("Dropout", (), {"rate": 0.3, "name": "drop"})()
    layers = [norm, drop, Dense(first, np.ones(5), relu), drop, Dense(last, np.zeros(3), softmax)]
    head = head_from_layers(type("Sequential", (), {"layers": layers})())
    x = RNG.standard_normal((9, 6)).astype(np.float32)
    hidden = relu((gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta) @ first + 1)
    assert np.abs(head.forward(x) - Softmax()(hidden @ last)).max() < 1e-5
    with pytest.raises(InputError, match="comes after a softmax"):
        head_from_layers([*layers, drop])


def like(kind, **attributes):
    return type(kind, (), {"name": "odd", **attributes})()


@pytest.mark.parametrize(
    "layer",
    [
        like("Dropout", rate=0.5, noise_shape=(None, 1)),
        like("ReLU", max_value=None, negative_slope=0.0, threshold=1.0),
        like("ReLU", max_value=6.0, negative_slope=0.0, threshold=0.5),
        like("Softmax", axis=0),
        like("Softmax", dim=0),
        like("Dropout1d", p=0.5),  # of rows, where it is given (N, D)
        like("Dense", quantization_mode="int8"),
    ],
)
def test_layers_that_only_look_like_those_of_a_head(layer):
    with pytest.raises(InputError, match=rf"\({type(layer).__name__}\) cannot be part of a head"):
        head_from_layers([Dropout(0.2), lin(6, 4), layer])


def test_other_classes_may_do_anything_with_their_layers():
    network = type("Functional", (), {"layers": [Dropout(0.2), lin(6, 4), Softmax()]})()
    with pytest.raises(InputError, match="found Functional"):
        head_from_layers(network)
