"""Largest dot products by class: the same whole numbers on every target as plain NumPy finds."""

import numpy as np
import pytest
from heads import PATHS
from hypothesis import given
from hypothesis import strategies as st

from fastuq.montecarlo.nearest import Nearest


def projected(rng, width, components, step=150.0):
    """Return weights, offset and step of a projection."""
    weights = rng.integers(-127, 128, (width, components), np.int8)
    return weights, rng.integers(-999, 1000, components), step


def codes(features, weights, offset, step):
    """Return the codes of features, with the whole numbers of Python."""
    found = []
    for y in features.astype(object) @ weights.astype(object) - offset.astype(object):
        factor = step / max(1.0, float(sum(v * v for v in y)) ** 0.5)
        found.append([min(127, max(-127, round(float(v) * factor))) for v in y])  # ties to even
    return np.array(found, np.int64).reshape(len(features), len(offset))


def largest(given, rows, counts):
    """Return the largest products, in whole numbers of 64 bits."""
    products, ends = given @ rows.astype(np.int64).T, np.cumsum(counts)
    return np.stack([products[:, end - count : end].max(axis=1) for end, count in zip(ends, counts, strict=True)], 1)


def check(samples, width, components, counts, step=150.0, threads=None, target=None):
    rng = np.random.default_rng(samples * width + components)
    projection = projected(rng, width, components, step)
    rows = rng.integers(-127, 128, (sum(counts), components), np.int8)
    features = rng.integers(-128, 128, (samples, width), np.int8)
    found = Nearest(*projection, rows, np.array(counts), target=target)(features, threads)
    assert found.dtype == np.int32
    assert np.array_equal(found, largest(codes(features, *projection), rows, counts))


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize(
    ("samples", "width", "components", "counts"),
    [
        (130, 100, 64, [5, 6, 7, 13]),
        (1, 3, 3, [1]),
        (17, 70, 5, [1, 1, 2]),
        (64, 3, 33, [40, 1]),
        (40, 300, 256, [12, 3, 100]),
    ],
)
def test_the_largest_products_are_exact(target, samples, width, components, counts):
    check(samples, width, components, counts, target=target)


@pytest.mark.parametrize("target", PATHS)
def test_the_largest_and_smallest_numbers_do_not_overflow(target):
    weights = np.full((65536, 2), 127, np.int8)
    features = np.full((2, 65536), 127, np.int8)
    features[1] = -128
    projection, rows = (weights, np.array([0, -1_000_000_000]), 1000.0), np.full((2, 2), 127, np.int8)
    found = Nearest(*projection, rows, np.array([1, 1]), target=target)(features)
    assert np.array_equal(found, largest(codes(features, *projection), rows, [1, 1]))


@pytest.mark.parametrize("target", PATHS)
def test_many_codes_do_not_overflow(target):
    rows = np.full((7, 1000), 127, np.int8)
    rows[3:] = -127
    projection = np.full((1, 1000), 1, np.int8), np.zeros(1000, int), 1e9
    found = Nearest(*projection, rows, np.array([3, 4]), target=target)(np.array([[1], [-1], [0]], np.int8))
    assert np.array_equal(found, np.array([[1, -1], [-1, 1], [0, 0]]) * 127**2 * 1000)


@given(
    st.integers(1, 80),
    st.integers(1, 70),
    st.integers(1, 40),
    st.lists(st.integers(1, 20), min_size=1, max_size=9),
    st.floats(1, 1000),
    st.integers(1, 5),
)
def test_any_shape_and_any_threads(samples, width, components, counts, step, threads):
    check(samples, width, components, counts, step, threads)


def test_no_samples_no_products():
    projection = projected(np.random.default_rng(0), 4, 2)
    rows = np.ones((2, 2), np.int8)
    assert Nearest(*projection, rows, np.array([1, 1]))(np.empty((0, 4), np.int8)).shape == (0, 2)
