"""Features + head -> result: moments, interval, decision, chunk by chunk."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import CacheError, InputError
from fastuq.model.model import Model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels.plan import Columns
from fastuq.scoring.options import Options, options_of
from fastuq.scoring.result import DETAILS, Result, columns_of, rules_of
from fastuq.util.labels import checked_labels

ROWS_AT_ONCE = 8192


def score(
    model: Model,
    features: FeatureCache | np.ndarray,
    options: Options | None = None,
    *,
    labels: Any = None,
    mutual_information: bool = False,
    details: bool = True,
    threads: int | None = None,
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
    mutual_information : bool
        Also compute the mutual information, which costs extra in every iteration.
    details : bool
        Keep mean, std and plain pass of all classes. Without them memory stays small for any N.
    threads : int, optional
        Default: the processors this process may use. The result does not depend on it.
    **single
        Fields of `Options`, which go before those of `options`.

    Raises
    ------
    InputError
        An option is out of range, there are no samples, or features or labels do not fit the model.
    CacheError
        The cache is damaged or was made with another model.

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
    scorer = Scorer(model, options, mutual_information=mutual_information, threads=threads, **single)
    return scorer(features, labels=labels, details=details)


class Scorer:
    """Model and options made ready to score several data sets; arguments and errors as in `score`.

    Heads thinned for shared masks are packed once and serve all of them.

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
        mutual_information: bool = False,
        threads: int | None = None,
        **single: Any,
    ) -> None:
        self.model, self.options = model, options_of(options, single)
        self._rules = rules_of(self.options)
        self._run = MonteCarlo(model, self.options.sampling, entropy=mutual_information, threads=threads)

    def __call__(self, features: FeatureCache | np.ndarray, *, labels: Any = None, details: bool = True) -> Result:
        """Score the features of one data set."""
        began = time.perf_counter()
        truth = self._checked_labels(features, labels)
        seconds = {"features": 0.0, "compile": 0.0, "head": 0.0}
        columns: dict[str, np.ndarray] = {}
        for start, rows in _chunks(features, seconds):
            part = columns_of(self.model, self._found(rows, start, details, seconds))
            _fill(columns, part, start, len(features), details)
        seconds["total"] = time.perf_counter() - began
        return Result(
            options=self.options,
            class_names=self.model.class_names,
            labels=truth,
            seconds=seconds,
            model_sha256=self.model.sha256,
            data_fingerprint=features.data_fingerprint if isinstance(features, FeatureCache) else None,
            files=features.files if isinstance(features, FeatureCache) else None,
            **columns,  # type: ignore[arg-type]
        )

    def _checked_labels(self, features: FeatureCache | np.ndarray, labels: Any) -> np.ndarray | None:
        """Return the labels to score with; raises InputError or CacheError where the features do not fit either."""
        if isinstance(features, FeatureCache):
            if features.model_sha256 != self.model.sha256:
                raise CacheError(
                    f"feature cache: expected features of model {self.model.sha256[:12]}, "
                    f"found those of {features.model_sha256[:12]}; score with the model that made the cache, "
                    "or cache the features again"
                )
            labels = features.labels if labels is None else labels
        elif not isinstance(features, np.ndarray):
            raise InputError(
                f"features: expected a FeatureCache or an int8 array (N, D), found {type(features).__name__}; "
                "make a cache of images with cache_features"
            )
        if len(features) == 0:
            raise InputError("score: expected at least one sample, found none")
        if labels is None:
            return None
        way_out = "the labels are of other samples, or of another data set than the model"
        return checked_labels("labels", labels, len(features), self.model.head.num_classes, way_out)

    def _found(self, rows: np.ndarray, start: int, details: bool, seconds: dict[str, float]) -> Columns:
        """Return what the kernels find of samples `start` onwards, and add the time that they take to `seconds`."""
        began, compiling = time.perf_counter(), self._run.seconds_compiling
        ids = np.arange(start, start + len(rows), dtype=np.int64)
        found = self._run.decide(rows, ids, self._rules, details=details)
        compiling = self._run.seconds_compiling - compiling
        seconds["compile"] += compiling
        seconds["head"] += time.perf_counter() - began - compiling
        return found


def _chunks(features: FeatureCache | np.ndarray, seconds: dict[str, float]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows) and add the time of reading to `seconds`."""
    n = len(features)
    for start in range(0, n, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, n)
        began = time.perf_counter()
        rows = features.read(start, stop) if isinstance(features, FeatureCache) else features[start:stop]
        seconds["features"] += time.perf_counter() - began
        yield start, rows


def _fill(columns: dict[str, np.ndarray], part: dict[str, np.ndarray], start: int, n: int, details: bool) -> None:
    """Put the columns of samples `start` onwards into those of all n; joining them at the end would hold all twice."""
    for name, values in part.items():
        size = n if details or name not in DETAILS else 0
        if name not in columns:
            columns[name] = np.empty((size, *values.shape[1:]), values.dtype)
        columns[name][start : start + len(values)] = values[:size]
