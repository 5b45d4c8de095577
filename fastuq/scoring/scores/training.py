"""Statistics of training features put beside the model that they were taken with, ready for scores."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np

from fastuq.model.model import Model
from fastuq.scoring.scores.chunk import Chunk
from fastuq.scoring.scores.reference import Reference, Statistics

Made = TypeVar("Made")
SAMPLE = 5000
"""Most training samples that percentiles and the like are taken of."""


class Training:
    """A reference and its model.

    Attributes
    ----------
    reference : Reference
    sample : Chunk
        Some training samples, evenly spread.
    """

    def __init__(self, model: Model, reference: Reference) -> None:
        self.reference = reference
        some = np.unique(np.linspace(0, len(reference.rows) - 1, SAMPLE).astype(np.int64))
        self.sample = Chunk(model, reference.rows[some], some, self)
        self._made: dict[Hashable, Any] = {}

    @property
    def hidden(self) -> Statistics:
        """Of what the last dense layer takes."""
        return self.reference.hidden

    def statistics(self, kind: str) -> Statistics:
        """Return the statistics of ``hidden`` or ``features``."""
        return self.reference.hidden if kind == "hidden" else self.reference.features

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what `make` returns, made at the first call with `key` and kept."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
