"""Largest dot products by class: the same whole numbers on every target as plain NumPy finds."""

import numpy as np
import pytest
from heads import PATHS
from hypothesis import given
from hypothesis import strategies as st

from fastuq.montecarlo.nearest import Nearest


def codes(rng, count, width):
    return rng.integers(-127, 128, (count, width), np.int8)


def largest(given, rows, counts):
    """Return what `Nearest` must find, in whole numbers of 64 bits and one sum at a time."""
    products = np.einsum("nk,mk->nm", given.astype(np.int64), rows.astype(np.int64))
    ends = np.cumsum(counts)
    return np.stack([products[:, end - count : end].max(axis=1) for end, count in zip(ends, counts, strict=True)], 1)


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize(
    ("samples", "width", "counts"),
    [(130, 64, [5, 6, 7, 13]), (1, 3, [1]), (17, 5, [1, 1, 2]), (64, 33, [40, 1]), (40, 256, [12, 3, 100])],
)
def test_the_largest_products_are_exact(target, samples, width, counts):
    rng = np.random.default_rng(samples)
    rows, some = codes(rng, sum(counts), width), codes(rng, samples, width)
    found = Nearest(rows, np.array(counts), target=target)(some)
    assert found.dtype == np.int32
    assert np.array_equal(found, largest(some, rows, counts))


@pytest.mark.parametrize("target", PATHS)
def test_the_largest_and_smallest_codes_do_not_overflow(target):
    rows = np.full((7, 1000), 127, np.int8)
    rows[3:] = -127
    found = Nearest(rows, np.array([3, 4]), target=target)(rows[[0, 3]])
    assert np.array_equal(found, np.array([[1, -1], [-1, 1]]) * 127**2 * 1000)


@given(st.integers(1, 80), st.integers(1, 40), st.lists(st.integers(1, 20), min_size=1, max_size=9), st.integers(1, 5))
def test_any_shape_and_any_threads(samples, width, counts, threads):
    rng = np.random.default_rng(samples * width)
    rows, some = codes(rng, sum(counts), width), codes(rng, samples, width)
    found = Nearest(rows, np.array(counts))(some, threads)
    assert np.array_equal(found, largest(some, rows, counts))


def test_no_samples_no_products():
    assert Nearest(np.ones((2, 4), np.int8), np.array([1, 1]))(np.empty((0, 4), np.int8)).shape == (0, 2)
