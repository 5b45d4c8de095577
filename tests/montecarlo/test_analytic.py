"""Moments without sampling beside many iterations, and the decisions that go by them."""

import json

import caches
import numpy as np
import pytest
from commands import refusal
from heads import dequantize, model_of, random_features, random_head
from models import tiny_model
from places import TINY

from fastuq import cli
from fastuq.errors import InputError
from fastuq.model.activations import activation_of
from fastuq.montecarlo.analytic import _activated, analytic_moments
from fastuq.montecarlo.engine import moments
from fastuq.scoring.scoring import score

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "hard_silu", "tanh", "sigmoid", "softplus")


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "linear"])
def test_the_moments_of_an_activation_are_those_of_normal_values(activation):
    mean, std = np.array([-1.5, 0.0, 0.3, 2.0], np.float32), np.array([0.2, 1.0, 0.5, 0.0], np.float32)
    draws = mean + std * np.random.default_rng(0).standard_normal((200_000, 4)).astype(np.float32)
    values = activation_of(activation).forward(draws)
    first, second = _activated(mean, std, activation)
    assert np.allclose(first, values.mean(axis=0), atol=0.03)
    assert np.allclose(np.sqrt(second), values.std(axis=0), atol=0.05)


def test_one_dense_layer_is_exact():
    head = random_head([(30, 5, 0.3, "linear")])
    features = random_features(6, 30)
    found = analytic_moments(head, dequantize(features))
    expected = moments(model_of(head, features), features, num_iter=40_000, precision="float32")
    assert np.allclose(found[0], expected.mean, atol=5 * expected.std.max() / 200)
    assert np.allclose(found[1], expected.std, rtol=0.03)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_hidden_layer_is_nearer_than_a_few_iterations(activation):
    head = random_head([(60, 40, 0.2, activation), (40, 7, 0.4, "sigmoid")])
    features = random_features(40, 60)
    model = model_of(head, features)
    mean, std = analytic_moments(head, dequantize(features))
    many, few = (moments(model, features, num_iter=n, precision="float32") for n in (20_000, 20))
    assert np.abs(mean - many.mean).mean() < np.abs(few.mean - many.mean).mean()
    assert np.abs(std - many.std).mean() < np.abs(few.std - many.std).mean()


def test_decisions_have_no_seed_and_are_those_of_the_moments(capsys, workplace):
    model, rows = tiny_model(), caches.features()
    first, second = (score(model, rows, method="analytic", seed=seed) for seed in (0, 1))
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.keep, second.keep)
    assert np.array_equal(first.plain, score(model, rows).plain)
    many = score(model, rows, num_iter=3000, precision="float32")
    assert np.abs(first.mean - many.mean).mean() < 0.01
    assert (first.top == many.top).mean() > 0.8
    assert np.array_equal(first.positive.any(axis=1), first.keep)
    small = score(model, rows, method="analytic", details=False)
    assert np.array_equal(small.keep, first.keep)
    caches.write("c.h5")
    assert cli.main(["score", "--cache", "c.h5", "--model", str(TINY), "--method", "analytic"]) == 0
    assert "no iterations, conf_factor 0.7, threshold 0.5" in capsys.readouterr().out
    assert cli.main(["score", "--cache", "c.h5", "--model", str(TINY), "--method", "analytic", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == first.keep.sum()
    for option, value in (("--num-iter", "50"), ("--seed", "0"), ("--masks", "shared")):
        words = refusal(capsys, ["score", "--cache", "c.h5", "--method", "analytic", option, value])
        assert f"{option[2:].replace('-', '_')}: expected method sampling, found method analytic" in words


def test_what_needs_iterations_is_refused():
    model, rows = tiny_model(), caches.features()
    for options in ({"mutual_information": True}, {"interval": "sem"}, {"rule": "score", "coverage": 0.5}):
        with pytest.raises(InputError, match="method analytic: expected the rule of the interval"):
            score(model, rows, method="analytic", **options)
    head = random_head([(30, 5, 0.3, "softmax")])
    with pytest.raises(InputError, match="method analytic: expected activations of single units, found softmax"):
        analytic_moments(head, dequantize(random_features(2, 30)))
