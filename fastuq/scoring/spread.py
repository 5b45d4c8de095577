"""The parts of a data set, found by the workers of a cluster."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.cluster.running import run
from fastuq.errors import InputError
from fastuq.scoring.parts import Part
from fastuq.scoring.reading import SETTLED_AT_ONCE

if TYPE_CHECKING:
    from fastuq.cluster.connection import Client

AT_ONCE = SETTLED_AT_ONCE
"""Samples of a task: whole chunks of any kind, as on one machine; the last bits of a product depend on their size."""


def spread(
    client: "Client",
    make: Callable[..., Any],
    views: Sequence[Any],
    labels: np.ndarray | None,
    details: bool,
) -> Iterator[Part]:
    """Yield the parts of a data set as `Scorer.parts` does, in any order; `make` makes the scorer, `views` are caches.

    Raises
    ------
    InputError
        The features are no caches.
    """
    if not all(isinstance(view, FeatureCache) for view in views):
        raise InputError("client: expected feature caches, which workers can open, found arrays; make a cache of them")
    count = len(views[0])
    ranges = [(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]
    pieces = [(start, stop, None if labels is None else labels[start:stop]) for start, stop in ranges]
    for _, parts in run(_Share(make, views, details), pieces, client=client, unit="piece"):
        yield from parts


@dataclass(frozen=True)
class _Share:
    make: Callable[..., Any]
    views: Sequence[FeatureCache]
    details: bool

    def __call__(self, piece: tuple[int, int, np.ndarray | None], *, threads: int | None) -> list[Part]:
        start, stop, labels = piece
        features, *others = (view.read(start, stop) for view in self.views)
        scorer = self.make(threads=threads)
        return list(scorer.parts(features, start, labels=labels, details=self.details, views=others))
