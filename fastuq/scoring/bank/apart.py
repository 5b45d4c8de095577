"""Whether samples are apart from those of a bank: its rows, and those that its weights were fitted on."""

from typing import TYPE_CHECKING

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.digests import digests

if TYPE_CHECKING:
    from fastuq.scoring.bank.bank import Bank

_DOUBLES = 0.01
"""Share of samples that may be known already: data sets have doubles."""
_LEAST = 0.95
"""Cosine that a row has to itself, but for a few: codes are rounded. What is less like a row is not looked up."""


def doubles_of(bank: "Bank", features: np.ndarray, similarities: np.ndarray) -> np.ndarray:
    """Return how many samples have the very codes of a row, and how many the very features of a sample of the fit.

    Parameters
    ----------
    bank : Bank
    features : ndarray, (N, D), int8
    similarities : ndarray, (N, C), float32
        Of the samples to the bank.

    Returns
    -------
    ndarray, (2,), int64
        Those of several pieces add up.
    """
    near = similarities.max(axis=1) >= _LEAST
    rows = sum(code.tobytes() in bank.codes for code in bank.projection.codes(features[near]))
    return np.array([rows, np.isin(digests(features), bank.fitted).sum()], np.int64)


def check_apart(bank: "Bank", rows: int, count: int) -> None:
    """Raise InputError where so many of the samples are among the rows that these are not held out."""
    if too_many(rows, count):
        raise InputError(
            f"bank: expected samples that are not among its rows, found {rows} of {count} of them in "
            f"{bank.origin.training}; similarities to themselves say nothing: give other data"
        )


def too_many(doubles: int, count: int) -> bool:
    """Return whether more of `count` samples are known already than doubles in a data set explain."""
    return doubles > max(1, _DOUBLES * count)
