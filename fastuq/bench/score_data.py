"""Data sets for the benchmark of scores: every score of every sample, and what each score's own classifier predicts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.model.model import Model
from fastuq.scoring.options import Options
from fastuq.scoring.reading import chunks
from fastuq.scoring.scores.compute import ScoreSet
from fastuq.scoring.scores.table import SCORES, score_of
from fastuq.scoring.scoring import Scorer

SEVERITIES = 5
VIEWED = ("max", "top_alone", "entropy", "bank", "mean_max", "mean_top_alone")
"""Scores that are taken of several views too."""


@dataclass(frozen=True)
class Scored:
    """One data set with its scores.

    Attributes
    ----------
    name : str
    scores : dict of str to ndarray, (N,)
        By variant: a name with or without a parameter.
    predictions : dict of str to ndarray, (N,)
        Of the plain pass, of the mean over the iterations, of the bank: ``plain``, ``mean``, ``bank``.
    labels : ndarray, (N,), or None
    """

    name: str
    scores: dict[str, np.ndarray]
    predictions: dict[str, np.ndarray]
    labels: np.ndarray | None

    def right(self, variant: str) -> np.ndarray:
        """Return whether the prediction that a score judges is right, (N,) bool."""
        return self.predictions[judge(variant)] == self.labels

    def part(self, rows: np.ndarray | slice) -> "Scored":
        """Return some of the samples."""
        labels = None if self.labels is None else self.labels[rows]
        scores, predictions = (
            {name: values[rows] for name, values in given.items()} for given in (self.scores, self.predictions)
        )
        return Scored(self.name, scores, predictions, labels)

    def beside(self, other: "Scored", words: str) -> "Scored":
        """Return the scores of both, those of the other under names that end in ", `words`"."""
        scores, predictions = (
            {**own, **{f"{name}, {words}": values for name, values in theirs.items()}}
            for own, theirs in ((self.scores, other.scores), (self.predictions, other.predictions))
        )
        return Scored(self.name, scores, predictions, self.labels)


def judge(variant: str) -> str:
    """Return whose prediction a score judges."""
    name, *words = variant.split(", ", 1)
    needs = score_of(name)[0].needs
    return ", ".join(["bank" if "bank" in needs else "mean" if "iterations" in needs else "plain", *words])


def variants_of(name: str) -> list[str]:
    """Return a score as it is, and with other values of its parameter that are worth trying where it names none."""
    if name not in SCORES:
        return [name]
    parameter = SCORES[name].parameter
    return [name, *(f"{name}({value:g})" for value in (parameter.others if parameter else ()))]


def plain_scorer(model: Model, options: Options, threads: int | None) -> Scorer:
    """Return what predicts by the plain pass, in the precision of the options; no more iterations than it must run."""
    return Scorer(model, replace(options, num_iter=2), threads=threads)


def scored(
    name: str,
    scorer: ScoreSet,
    plain: Scorer,
    features: FeatureCache | np.ndarray,
    labels: np.ndarray | None,
    views: Sequence[FeatureCache] = (),
) -> Scored:
    """Score a data set, chunk by chunk, with other views of it or without; `plain` is a `plain_scorer`."""
    parts: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = []
    for start, rows in chunks(features):
        chunk = scorer.chunk(rows, start, [view.read(start, start + len(rows)) for view in views])
        found, predictions = scorer.of(chunk), dict[str, np.ndarray]()
        judges = {judge(variant) for variant in found}
        if "mean" in judges:
            predictions["mean"] = chunk.iterations.mean.argmax(axis=1)
        if "bank" in judges:
            predictions["bank"] = chunk.fused_probabilities.argmax(axis=1)
        parts.append((found, predictions))
    scores, predictions = (
        {key: np.concatenate([part[place][key] for part in parts]) for key in parts[0][place]} for place in (0, 1)
    )
    predictions["plain"] = plain(features, details=False, views=views).plain_prediction
    return Scored(name, scores, predictions, labels)


def severities(cache: FeatureCache, count: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (severity, features, labels) of a cache that holds severities of `count` samples in order."""
    assert cache.labels is not None
    for number, start in enumerate(range(0, len(cache), count), 1):
        yield number, cache.read(start, start + count), cache.labels[start : start + count]


def halves(free: np.ndarray, splits: int, seed: int) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Return pairs (to choose on, to report) of the samples `free`, half of them each, drawn for each pair."""
    rng = np.random.default_rng(seed)
    drawn = [free[rng.permutation(len(free))] for _ in range(splits)]
    return [(np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])) for order in drawn]
