"""All scores that are asked for, from one read of a feature cache."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import InputError, ModelError
from fastuq.model.model import Model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.scoring.bank import Bank
from fastuq.scoring.bank.apart import check_apart, doubles_of
from fastuq.scoring.options import Options, options_of
from fastuq.scoring.reading import checked_truth, chunks
from fastuq.scoring.scores.chunk import Chunk, Pooled
from fastuq.scoring.scores.reference import MADE_BY, Reference
from fastuq.scoring.scores.table import SCORES, score_of
from fastuq.scoring.scores.training import Training
from fastuq.scoring.views import Views, checked_views

_SHARED = {
    "hidden": ("hidden",),
    "logits": ("hidden", "logits"),
    "outputs": ("hidden", "logits", "outputs"),
    "features": ("features",),
    "reference": (),
    "iterations": ("iterations",),
    "bank": ("hidden", "logits", "similarities", "fused"),
}
"""What of a chunk each need takes, in the order in which one is made of the other."""
_OF_ONE_HEAD = {"hidden", "reference", "iterations"}
"""What several heads do not have in common."""


def scores(
    model: Model,
    features: FeatureCache | np.ndarray,
    names: Sequence[str] | None = None,
    *,
    reference: Reference | None = None,
    bank: Bank | None = None,
    options: Options | None = None,
    threads: int | None = None,
    views: Views = (),
    **single: Any,
) -> dict[str, np.ndarray]:
    """Return scores of every sample; docs/scores.md says what they are.

    Features are read once, by chunks, whatever the number of scores.

    Parameters
    ----------
    model : Model
    features : FeatureCache or ndarray, (N, D), int8
    names : sequence of str, optional
        Names from the table of scores, with a parameter in brackets where another than the usual one is wanted, as in
        ``react(95)``. Default: all for which there is what they need.
    reference : Reference, optional
        Of the same model; distances and training statistics need it.
    bank : Bank, optional
        Of the same model; the scores that fuse logits and likeness to training features need it.
    options : Options, optional
        Of the iterations, for the scores that need them.
    threads : int, optional
        For the iterations. Default: the processors this process may use.
    views : sequence of FeatureCache or ndarray
        Features of other views of the same samples, in the same order, as in `fastuq.score`.
    **single
        Fields of `Options`, which go before those of `options`.

    Returns
    -------
    dict of str to ndarray, (N,), float64
        By the names as they were given; larger is more to be trusted.

    Raises
    ------
    InputError
        A name is not known, there is no reference or bank for a score that needs it, or the samples are among the rows
        of the bank.
    CacheError
        The cache is damaged, or cache, reference or bank are of another model.

    Examples
    --------
    >>> import fastuq
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     found = fastuq.scores(model, cache, ["max", "energy", "gen(0.5)"])
    >>> {name: values.shape for name, values in found.items()}
    {'max': (20,), 'energy': (20,), 'gen(0.5)': (20,)}
    """
    wanted = available(model, reference, bank) if names is None else list(names)
    scorer = ScoreSet(model, wanted, reference=reference, bank=bank, options=options, threads=threads, **single)
    checked_truth(model, features, None)
    banked = bank is not None and any("bank" in score_of(name)[0].needs for name in wanted)
    if bank is not None and isinstance(features, FeatureCache):
        bank.check(model, features.data_fingerprint)
    others = [chunks(view) for view in checked_views(model, features, views)]
    found, doubles = {name: np.empty(len(features)) for name in wanted}, 0
    for start, rows in chunks(features):
        chunk = scorer.chunk(rows, start, [next(view)[1] for view in others])
        for name, values in scorer.of(chunk).items():
            found[name][start : start + len(rows)] = values
        if bank is not None and banked:
            doubles += sum(doubles_of(bank, view.rows, view.similarities)[0] for view in chunk.views)
    if bank is not None:
        check_apart(bank, doubles, len(features) * (1 + len(others)))
    return found


def available(model: Model, reference: Reference | None = None, bank: Bank | None = None) -> list[str]:
    """Return the names of the scores that need nothing else."""
    missing = {name for name, given in (("reference", reference), ("bank", bank)) if given is None}
    missing |= _OF_ONE_HEAD if model.others else set()
    return [name for name, score in SCORES.items() if not missing & set(score.needs)]


class ScoreSet:
    """Scores made ready for features that come in pieces; arguments and errors as in `scores`.

    Attributes
    ----------
    seconds : dict of str to float
        Processor time of each score, and of what they share, by the names of attributes of `Chunk`.
    """

    def __init__(
        self,
        model: Model,
        names: Sequence[str],
        *,
        reference: Reference | None = None,
        bank: Bank | None = None,
        options: Options | None = None,
        threads: int | None = None,
        **single: Any,
    ) -> None:
        self._model, options = model, options_of(options, single)
        self._bank, self._threads = bank, threads
        self._scores = {name: score_of(name) for name in names}
        self._check_needs(reference, bank)
        self._training = None if reference is None else Training(model, reference)
        asked = {score.name for score, _ in self._scores.values()}
        self._run: MonteCarlo | None = None
        if any("iterations" in score.needs for score, _ in self._scores.values()):
            entropy, votes = "mutual_information" in asked, "vote_share" in asked
            self._run = MonteCarlo(model, options.sampling, entropy=entropy, votes=votes, threads=threads)
        self.seconds: dict[str, float] = {}

    def chunk(self, rows: np.ndarray, start: int = 0, others: Sequence[np.ndarray] = ()) -> Chunk:
        """Return samples `start` onwards, whose features (n, D) int8 these are, and those of `others` views of them."""
        ids = np.arange(start, start + len(rows), dtype=np.int64)
        made_with = self._training, self._run, self._bank, self._threads
        views = [Chunk(self._model, view, ids, *made_with) for view in (rows, *others)]
        return Pooled(views) if others else views[0]

    def of(self, chunk: Chunk) -> dict[str, np.ndarray]:
        """Return the scores of a chunk."""
        found = {}
        for name, (score, parameter) in self._scores.items():
            for shared in (each for need in score.needs for each in _SHARED[need]):
                for view in chunk.views:
                    self._timed(shared, partial(getattr, view, shared))
            of = [chunk] if score.pooled else chunk.views
            values = np.mean([self._timed(name, partial(score.function, each, parameter)) for each in of], axis=0)
            found[name] = np.asarray(values, np.float64)
            if not np.isfinite(found[name]).all():
                raise ModelError(
                    f"model {self._model.sha256[:12]}: score {name} is NaN or infinite, expected finite numbers; the "
                    "weights of its head are far too large, make the model again"
                )
        return found

    def _check_needs(self, reference: Reference | None, bank: Bank | None) -> None:
        """Raise InputError, ModelError or CacheError where a score lacks what it needs, or that is of another model."""
        for name, (score, _) in self._scores.items():
            if _OF_ONE_HEAD & set(score.needs):
                self._model.check_one_head(f"score {name}")
        for need, given, made_by in (("reference", reference, MADE_BY), ("bank", bank, "fastuq bank")):
            asking = [name for name, (score, _) in self._scores.items() if need in score.needs]
            if asking and given is None:
                raise InputError(
                    f"score {asking[0]}: expected a {need} of training features, found none; make one with `{made_by}`"
                )
        if reference is not None:
            reference.check_model(self._model)
        if bank is not None:
            bank.check(self._model, None)

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        made = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began
        return made
