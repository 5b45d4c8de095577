"""Features + head -> result: moments, interval, decision, chunk by chunk."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.montecarlo.kernels.plan import Columns
from fastuq.scoring.analytic import analytic_columns, check_analytic
from fastuq.scoring.bank.apart import check_apart, doubles_of
from fastuq.scoring.bank.bank import Bank
from fastuq.scoring.bank.gate import Gate
from fastuq.scoring.calibration.conformal import Sets
from fastuq.scoring.calibration.temperature import probabilities
from fastuq.scoring.found import columns_of, rules_of
from fastuq.scoring.metrics.calibration import per_sample
from fastuq.scoring.options import Options, options_of
from fastuq.scoring.parts import Part, joined
from fastuq.scoring.reading import ROWS_AT_ONCE, SETTLED_AT_ONCE, chunks
from fastuq.scoring.result import DETAILS, Result
from fastuq.scoring.score_rule import judge, prepare, with_score
from fastuq.scoring.scores.chunk import Chunk
from fastuq.scoring.scores.compute import ScoreSet
from fastuq.scoring.scores.reference import Reference
from fastuq.scoring.settled import runs_of
from fastuq.scoring.spread import spread
from fastuq.scoring.views import Views, checked_samples, taken_together

if TYPE_CHECKING:
    from fastuq.cluster.connection import Client


def score(
    model: Model,
    features: FeatureCache | np.ndarray,
    options: Options | None = None,
    *,
    labels: Any = None,
    reference: Reference | None = None,
    mutual_information: bool = False,
    details: bool = True,
    threads: int | None = None,
    bank: Bank | None = None,
    gate: float = 0.0,
    views: Views = (),
    client: "Client | None" = None,
    **single: Any,
) -> Result:
    """Score features: which predictions to keep, and why.

    Parameters
    ----------
    model : Model
    features : FeatureCache or ndarray, (N, D), int8
        Features of the model's backbone; a cache is read by chunks.
    options : Options, optional
    labels : array-like, (N,) of int, optional
        True classes; those of the cache by default.
    reference : Reference, optional
        For a rule by a score that needs one.
    mutual_information : bool
        Also compute the mutual information, which costs extra in every iteration.
    details : bool
        Keep mean, std and plain pass of all classes. Without them memory stays small for any N.
    threads : int, optional
        Default: the processors this process may use. The result does not depend on it.
    bank : Bank, optional
        Score the softmax of a z + b s, logits z and similarities s to the rows of the bank, in place of the model's own
        outputs, in every iteration and in the plain pass.
    gate : float
        With a bank: keep none whose largest logit of the plain pass is less than this share (0 to 1) of its held-out
        samples has (of several views: the mean of theirs). Images of other kinds tend to be; see docs/bank.md.
    views : sequence of FeatureCache or ndarray
        Features of other views of the same samples, in the same order (`ImageSet.mirrored`): moments are taken over the
        iterations of all views, and the plain pass is the mean of theirs.
    client : distributed.Client, optional
        Of a Dask cluster whose workers score a cache, which they find under the same name.
    **single
        Fields of `Options`, which go before those of `options`.

    Raises
    ------
    InputError
        An option is out of range, there are no samples, features or labels do not fit the model, or the samples are
        among the rows of the bank.
    CacheError
        The cache is damaged or was made with another model, or the bank was.

    Examples
    --------
    >>> import fastuq
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     result = fastuq.score(model, cache, num_iter=100)
    >>> result.mean.shape, result.keep.shape
    ((20, 100), (20,))
    >>> model.class_names[result.prediction[3]], fastuq.Reason(result.reason[3]).text
    ('mushroom', 'certain')

    An int8 array of features will do in place of a cache, and then labels are given by hand:

    >>> features = fastuq.Backbone(model.read_backbone())(images.read(0, 20))
    >>> again = fastuq.score(model, features, labels=images.labels, num_iter=100)
    >>> bool((again.mean == result.mean).all())
    True
    """
    scorer = Scorer(
        model,
        options,
        reference=reference,
        mutual_information=mutual_information,
        threads=threads,
        bank=bank,
        gate=gate,
        client=client,
        **single,
    )
    return scorer(features, labels=labels, details=details, views=views)


class Scorer:
    """Model and options made ready to score several data sets; arguments and errors as in `score`.

    Heads thinned for shared masks are packed once and serve all of them. At `temperature` outputs are taken for
    probabilities where labels tell how good these are, and `sets` makes sets of classes of them.

    Examples
    --------
    >>> import fastuq
    >>> model = fastuq.load_model()
    >>> scorer = fastuq.Scorer(model, conf_factor=0.9)
    >>> backbone = fastuq.Backbone(model.read_backbone())
    >>> images = fastuq.open_images("bundled")
    >>> for part in (images.subset(0, 10), images.subset(10, 20)):
    ...     result = scorer(backbone(part.read(0, 10)), labels=part.labels)
    ...     print(len(result), result.options.conf_factor)
    10 0.9
    10 0.9
    """

    def __init__(
        self,
        model: Model,
        options: Options | None = None,
        *,
        reference: Reference | None = None,
        mutual_information: bool = False,
        threads: int | None = None,
        bank: Bank | None = None,
        gate: float = 0.0,
        temperature: float = 1.0,
        sets: Sets | None = None,
        client: "Client | None" = None,
        **single: Any,
    ) -> None:
        self.model, self.options = model, with_score(options_of(options, single), bank=bank is not None)
        if reference is not None and self.options.rule == "interval":
            raise InputError("reference: expected rule score, found rule interval, which needs none; leave it out")
        self._temperature, self._sets = temperature, sets
        self._rules, self._bank = rules_of(self.options), bank
        names = self.options.score_names
        self._scores = ScoreSet(model, names, reference=reference, bank=bank, options=self.options, threads=threads)
        self._gate: Gate | None = None
        if gate and bank is not None:
            self._gate = Gate(model, bank.weights, gate, self.options.precision, threads)
        elif gate:
            raise InputError("gate: expected a bank, whose held-out samples say what is usual, found none; give one")
        sampling = self.options.most
        if self.options.method == "analytic":
            check_analytic(self.options, others=bank is not None or mutual_information)
            sampling = replace(sampling, num_iter=2)  # the kernels are left the plain pass
        judged = model if bank is None else bank.fused(model)
        self._activation = judged.head.blocks[-1].activation
        self._runs = runs_of(judged, self.options, sampling, entropy=mutual_information, threads=threads)
        self._client = client
        bare = bank and replace(bank)  # without what it has made of itself
        given: dict[str, Any] = {"mutual_information": mutual_information, "temperature": temperature, "sets": sets}
        self._make = partial(Scorer, model, self.options, reference=reference, bank=bare, gate=gate, **given)

    def __call__(
        self,
        features: FeatureCache | np.ndarray,
        *,
        labels: Any = None,
        details: bool = True,
        views: Views = (),
    ) -> Result:
        """Score the features of one data set."""
        truth = checked_samples(self.model, self.options, features, labels, views)
        parts = self.parts(features, labels=labels, details=details, views=views)
        if self._client is not None:
            parts = spread(self._client, self._make, (features, *views), truth, details)
        return self.whole(parts, features, 1 + len(views))

    def parts(
        self,
        features: FeatureCache | np.ndarray,
        first: int = 0,
        *,
        labels: Any = None,
        details: bool = True,
        views: Views = (),
    ) -> Iterator[Part]:
        """Yield what is said of samples `first` onwards, some at a time; arguments and errors as in `score`."""
        truth = checked_samples(self.model, self.options, features, labels, views)
        began = time.perf_counter()
        rows = SETTLED_AT_ONCE if self.options.settles else ROWS_AT_ONCE
        for piece in zip(*(chunks(each, rows) for each in (features, *views)), strict=True):
            seconds = {"features": time.perf_counter() - began, "compile": 0.0, "head": 0.0}
            start, seen = piece[0][0], [rows for _, rows in piece]
            known = None if truth is None else truth[start : start + len(seen[0])]
            yield self._part(seen, first + start, known, details, seconds)
            began = time.perf_counter()

    def whole(self, parts: Iterable[Part], features: FeatureCache | np.ndarray, views: int = 1) -> Result:
        """Return the result of a data set from its parts, in any order, judged by all of them together."""
        began = time.perf_counter()
        cache = features if isinstance(features, FeatureCache) else None
        if self._bank is not None and cache is not None:
            self._bank.check(self.model, cache.data_fingerprint)
        found = joined(parts, len(features))
        columns: dict[str, Any] = {"labels": None, **found.columns}
        if self._bank is not None:
            check_apart(self._bank, found.doubles[0], len(features) * views)
        if self.options.score_names:
            judge(columns, self.options)
        return Result(
            options=self.options,
            class_names=self.model.class_names,
            seconds={**found.seconds, "total": time.perf_counter() - began},
            model_sha256=self.model.sha256,
            data_fingerprint=None if cache is None else cache.data_fingerprint,
            files=None if cache is None else cache.files,
            bank=None if self._bank is None else self._bank.summary() | {"fitted_among": int(found.doubles[1])},
            views=views,
            heads=len(self._runs),
            **columns,
        )

    def _part(
        self, seen: list[np.ndarray], first: int, labels: np.ndarray | None, details: bool, seconds: dict[str, float]
    ) -> Part:
        """Return what there is to say of samples `first` onwards, of features (N, D) in every view."""
        by_scores = bool(self.options.score_names)
        several = len(seen) * len(self._runs) > 1
        wanted = details or by_scores or several or labels is not None or self._sets is not None
        chunk = self._scores.chunk(seen[0], first, seen[1:])
        by_view, doubles = zip(*(self._found(view, wanted, seconds) for view in chunk.views), strict=True)
        every = [found for view in by_view for found in view]
        columns = columns_of(self.model, taken_together(every, self._rules, self._activation))
        if self.options.method == "analytic":
            began = time.perf_counter()
            columns |= analytic_columns(self.model, seen[0], self.options)
            seconds["head"] += time.perf_counter() - began
        columns |= self._of_means(columns["mean"], labels)
        if by_scores:
            scores = self._scores.of(chunk)
            prepare(columns, [scores[name] for name in self.options.score_names], float(self._rules.z))
        if self._gate is not None:
            self._gate.close(seen, columns)
        if labels is not None:
            columns["labels"] = labels
        if not details:
            columns |= {name: columns[name][:0] for name in DETAILS}
        return Part(first, columns, sum(doubles), seconds)

    def _of_means(self, mean: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return the columns that means (N, C) give: how good they are as probabilities, and sets of classes."""
        found: dict[str, np.ndarray] = {}
        if labels is not None and (mean >= 0).all():  # logits are no probabilities
            found |= per_sample(probabilities(mean, self._temperature), labels)
        if self._sets is not None:
            found["set_bits"] = np.packbits(self._sets.of(mean), axis=1, bitorder="little")
        return found

    def _found(self, view: Chunk, details: bool, seconds: dict[str, float]) -> tuple[list[Columns], Any]:
        """Return what each head finds of some samples, in how many `seconds`, and `doubles_of` the bank."""
        began, compiling = time.perf_counter(), self._compiling()
        addend, doubles = None, np.zeros(2, np.int64)
        if self._bank is not None:
            doubles = doubles_of(self._bank, view.rows, view.similarities)
            addend = self._bank.addend(view.similarities)
        found = [run.decide(view.rows, view.ids, self._rules, details=details, addend=addend) for run in self._runs]
        compiling = self._compiling() - compiling
        seconds["compile"] += compiling
        seconds["head"] += time.perf_counter() - began - compiling
        return found, doubles

    def _compiling(self) -> float:
        return sum(run.seconds_compiling for run in self._runs)
