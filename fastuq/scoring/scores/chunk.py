"""Some samples, and what scores are made of, each worked out once and only where a score asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from fastuq.errors import InputError
from fastuq.model.activations import activation_of
from fastuq.model.model import Model
from fastuq.montecarlo.engine import Moments, MonteCarlo
from fastuq.montecarlo.together import moments_together
from fastuq.scoring.bank import Bank

if TYPE_CHECKING:
    from fastuq.scoring.scores.training import Training


@dataclass(eq=False)
class Chunk:
    """Samples whose scores are taken, of one view.

    Its attributes are what `Score.needs` names. Features, hidden units, logits and outputs are of one pass of the
    float32 head without dropout; of several heads logits and outputs are the mean of theirs.

    Attributes
    ----------
    model : Model
    rows : ndarray, (N, D), int8
    ids : ndarray, (N,), int64
        Number of each sample in its data set, which per-sample masks depend on.
    reference : Training or None
        Statistics of training features.
    bank : Bank or None
        Training features themselves.
    threads : int or None
        For what is compiled.
    run : MonteCarlo or None
        What runs them; None where no score needs iterations.
    """

    model: Model
    rows: np.ndarray
    ids: np.ndarray
    reference: "Training | None" = None
    run: MonteCarlo | None = None
    bank: Bank | None = None
    threads: int | None = None

    @property
    def views(self) -> "Sequence[Chunk]":
        """The views one by one."""
        return (self,)

    @cached_property
    def features(self) -> np.ndarray:
        """Real values of the features, (N, D) float32."""
        values = self.model.dequantize(self.rows)
        coding = getattr(self.model, "coding", None)
        return values if coding is None else values * coding.scale + coding.offset

    @cached_property
    def hidden(self) -> np.ndarray:
        """What the last dense layer takes, (N, H) float32; of the first head."""
        return self.model.head.hidden(self.model.dequantize(self.rows))

    @cached_property
    def logits(self) -> np.ndarray:
        """What the last activation takes, (N, C) float32."""
        return np.mean(self._logits_by_head, axis=0)

    @cached_property
    def _logits_by_head(self) -> np.ndarray:
        others = (replace(self, model=each) for each in self.model.members[1:])
        return np.stack([self.logits_of(self.hidden), *(each.logits_of(each.hidden) for each in others)])

    @property
    def training(self) -> "Training":
        """The statistics of training features; raises InputError where there are none."""
        if self.reference is None:
            raise InputError("scores: expected a reference, found none; make one with `fastuq fit-reference`")
        return self.reference

    def logits_of(self, hidden: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the logits of other hidden units, or through other weights."""
        last = self.model.head.blocks[-1]
        return hidden @ (last.weights if weights is None else weights) + last.bias

    @cached_property
    def outputs(self) -> np.ndarray:
        """What the last activation gives, (N, C) float64."""
        activation = activation_of(self.model.head.blocks[-1].activation)
        return np.mean([activation.forward(each.astype(np.float64)) for each in self._logits_by_head], axis=0)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, (N, C) float64, whatever the last activation is."""
        return self.softened(1.0)

    def softened(self, temperature: float) -> np.ndarray:
        """Return softmax(z / temperature), (N, C) float64."""
        return softmax(self.logits.astype(np.float64) / temperature, axis=1)

    @cached_property
    def iterations(self) -> Moments:
        """What the iterations come to."""
        if self.run is None:
            raise InputError("scores: expected iterations, found none")
        return self.run(self.rows, self.ids)

    @cached_property
    def similarities(self) -> np.ndarray:
        """Largest cosine to a row of each class in the bank, (N, C) float32."""
        if self.bank is None:
            raise InputError("scores: expected a bank, found none; make one with `fastuq bank`")
        return self.bank.similarities(self.rows, threads=self.threads)

    @cached_property
    def fused(self) -> np.ndarray:
        """Logits and similarities together, (N, C) float32."""
        similarities = self.similarities
        assert self.bank is not None
        return self.bank.fuse(self.logits, similarities)

    @cached_property
    def fused_probabilities(self) -> np.ndarray:
        """Softmax of these, (N, C) float64."""
        return softmax(self.fused.astype(np.float64), axis=1)


def _mean_of(name: str) -> "cached_property[np.ndarray]":
    return cached_property(lambda self: np.mean([getattr(view, name) for view in self.views], axis=0))


class Pooled(Chunk):
    """Several views of the same samples: logits, outputs and what else scores may take of it are means over the views.

    Hidden units and features are not: these stay those of each of the `views`.
    """

    logits = _mean_of("logits")
    outputs = _mean_of("outputs")
    similarities = _mean_of("similarities")
    fused = _mean_of("fused")
    fused_probabilities = _mean_of("fused_probabilities")

    def __init__(self, views: Sequence[Chunk]) -> None:
        super().__init__(**{field.name: getattr(views[0], field.name) for field in fields(Chunk)})
        self._views = views

    @property
    def views(self) -> Sequence[Chunk]:
        """The views one by one."""
        return self._views

    def softened(self, temperature: float) -> np.ndarray:
        """Return the mean over the views of softmax(z / temperature), (N, C) float64."""
        return np.mean([view.softened(temperature) for view in self.views], axis=0)

    @cached_property
    def iterations(self) -> Moments:
        """What the iterations of all views come to."""
        found = [view.iterations for view in self.views]
        mean, std = moments_together([each.mean for each in found], [each.std for each in found])
        entropies = [each.mean_entropy for each in found if each.mean_entropy is not None]
        votes = [each.votes for each in found if each.votes is not None]
        entropy = np.mean(entropies, axis=0) if entropies else None
        return Moments(mean, std, entropy, np.sum(votes, axis=0) if votes else None)


def two_largest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest and the second largest of each row (N, C); raises InputError for a single class."""
    if values.shape[1] < 2:
        raise InputError(
            "scores: expected at least two classes for a score of the two largest, found one; take another"
        )
    largest = np.partition(values, -2, axis=1)
    return largest[:, -1], largest[:, -2]


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows (N, D) scaled to length 1; rows of zeros stay zeros."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
