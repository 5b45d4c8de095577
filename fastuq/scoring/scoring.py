"""Features + head -> result: moments, interval, decision, chunk by chunk."""

import time
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fastuq.errors import CacheError, InputError, ModelError
from fastuq.model.activations import activation_of
from fastuq.model.model import Model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.scoring.decisions import decide, interval, ternary_vector
from fastuq.scoring.options import Options
from fastuq.scoring.result import Result
from fastuq.util.checks import array_of

if TYPE_CHECKING:
    from fastuq.cache import FeatureCache

__all__ = ["Options", "Result", "Scorer", "predictive_entropy", "score"]

ROWS_AT_ONCE = 8192
_DETAILS = ("mean", "std", "plain")


def score(
    model: Model,
    features: "FeatureCache | np.ndarray",
    *,
    labels: Any = None,
    mutual_information: bool = False,
    details: bool = True,
    threads: int | None = None,
    **options: Any,
) -> Result:
    """Score features: which predictions to keep, and why.

    Parameters
    ----------
    model : Model
    features : FeatureCache or ndarray, (N, D), int8
        Features of the model's backbone; a cache is read by chunks.
    labels : array-like, (N,) of int, optional
        True classes; those of the cache by default.
    mutual_information : bool
        Also compute the mutual information, which costs extra in every iteration.
    details : bool
        Keep mean, std and plain pass of all classes. Without them memory stays small for any N.
    threads : int, optional
        Default: the processors this process may use. The result does not depend on it. The plain pass has the
        threads of NumPy's BLAS, on which its last bits do depend.
    **options
        The fields of `Options`.

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
    scorer = Scorer(model, mutual_information=mutual_information, threads=threads, **options)
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
        self, model: Model, *, mutual_information: bool = False, threads: int | None = None, **options: Any
    ) -> None:
        self.model, self.options = model, _options(options)
        self._run = MonteCarlo(
            model,
            num_iter=self.options.num_iter,
            seed=self.options.seed,
            masks=self.options.masks,
            precision=self.options.precision,
            entropy=mutual_information,
            threads=threads,
        )

    def __call__(self, features: "FeatureCache | np.ndarray", *, labels: Any = None, details: bool = True) -> Result:
        """Score the features of one data set."""
        began = time.perf_counter()
        if not isinstance(features, np.ndarray) and not hasattr(features, "model_sha256"):
            raise InputError(
                f"features: expected a FeatureCache or an int8 array (N, D), found {type(features).__name__}; "
                "make a cache of images with cache_features"
            )
        model, n = self.model, len(features)
        if not isinstance(features, np.ndarray) and features.model_sha256 != model.sha256:
            raise CacheError(
                f"feature cache: expected features of model {model.sha256[:12]}, "
                f"found those of {features.model_sha256[:12]}; score with the model that made the cache, "
                "or cache the features again"
            )
        if n == 0:
            raise InputError("score: expected at least one sample, found none")
        truth = _checked_labels(getattr(features, "labels", None) if labels is None else labels, n, model)
        seconds = {"features": 0.0, "compile": 0.0, "head": 0.0}
        columns: dict[str, np.ndarray] = {}
        for start, rows in _chunks(features, n, seconds):
            part = _score_rows(model, self._run, rows, start, self.options, seconds)
            for name, values in part.items():
                if name not in _DETAILS or details:
                    # One array per column, filled chunk by chunk: joining lists at the end would hold all twice.
                    columns.setdefault(name, np.empty((n, *values.shape[1:]), values.dtype))
                    columns[name][start : start + len(rows)] = values
        for name in _DETAILS:
            columns.setdefault(name, np.empty((0, model.head.num_classes), np.float32))
        seconds["total"] = time.perf_counter() - began
        return Result(
            options=self.options,
            labels=truth,
            seconds=seconds,
            model_sha256=model.sha256,
            data_fingerprint=getattr(features, "data_fingerprint", None),
            **columns,  # type: ignore[arg-type]
        )


def _options(given: dict[str, Any]) -> Options:
    known = [field.name for field in fields(Options)]
    for name in given:
        if name not in known:
            raise InputError(f"score: no option {name!r}; there are {', '.join(known)}")
    return Options(**given)


def _checked_labels(labels: Any, n: int, model: Model) -> np.ndarray | None:
    if labels is None:
        return None
    found, classes = array_of("labels", labels), model.head.num_classes
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise InputError(
            f"labels: expected {n} whole numbers, one per sample, found {found.dtype} {found.shape}; "
            "give the labels of these images in their order"
        )
    if found.min() < 0 or found.max() >= classes:
        raise InputError(
            f"labels: expected classes 0 to {classes - 1}, found {found.min()} to {found.max()}; "
            "the labels are of another data set than the model"
        )
    return found.astype(np.int64)


def _chunks(features: Any, n: int, seconds: dict[str, float]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows) and add the time of reading to `seconds`."""
    for start in range(0, n, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, n)
        began = time.perf_counter()
        rows = features[start:stop] if isinstance(features, np.ndarray) else features.read(start, stop)
        seconds["features"] += time.perf_counter() - began
        yield start, rows


def _score_rows(
    model: Model, run: MonteCarlo, rows: np.ndarray, start: int, options: Options, seconds: dict[str, float]
) -> dict[str, np.ndarray]:
    """Return the columns of samples `start` onwards."""
    began, compiling = time.perf_counter(), run.seconds_compiling
    found = run(rows, np.arange(start, start + len(rows), dtype=np.int64))
    compiling = run.seconds_compiling - compiling
    seconds["compile"] += compiling
    seconds["head"] += time.perf_counter() - began - compiling
    _check_finite(model, found.mean, found.std)
    lower, upper = interval(
        found.mean, found.std, options.conf_factor, kind=options.interval, num_iter=options.num_iter
    )
    decision = decide(ternary_vector(lower, upper, options.threshold), found.mean, mixed=options.mixed)
    plain = _plain(model, rows)
    each, predicted = np.arange(len(rows)), decision.prediction
    entropy = predictive_entropy(found.mean, model.head.blocks[-1].activation)
    columns = {
        "mean": found.mean,
        "std": found.std,
        "plain": plain,
        "keep": decision.keep,
        "reason": decision.reason,
        "prediction": predicted,
        "positive": decision.positive,
        "predicted_mean": found.mean[each, predicted],
        "predicted_lower": lower[each, predicted],
        "predicted_upper": upper[each, predicted],
        "top": found.mean.argmax(axis=1),
        "max_mean": found.mean.max(axis=1),
        "entropy": entropy.astype(np.float32),
        "plain_prediction": plain.argmax(axis=1),
    }
    if found.mean_entropy is not None:
        columns["mutual_information"] = (entropy - found.mean_entropy).astype(np.float32)
    return columns


def _plain(model: Model, rows: np.ndarray) -> np.ndarray:
    """Return the outputs of one pass without dropout; NumPy's float32, whose last bits depend on its BLAS."""
    with np.errstate(over="ignore", invalid="ignore"):
        plain = model.head.forward(model.dequantize(rows))
    _check_finite(model, plain)
    return plain


def _check_finite(model: Model, *outputs: np.ndarray) -> None:
    """Raise ModelError where outputs are NaN or infinite: finite weights can be so large that sums overflow."""
    if not all(np.isfinite(array).all() for array in outputs):
        raise ModelError(
            f"model {model.sha256[:12]}: its head gives NaN or infinity, expected finite numbers; its weights are far "
            "too large, make the model again"
        )


def predictive_entropy(mean: np.ndarray, activation: str) -> np.ndarray:
    """Return the entropy of mean outputs (N, C) in nats, as float64 (N,).

    -sum_c p_c ln p_c for a softmax head; else the classes are Bernoulli variables each, and their entropies
    -p ln p - (1 - p) ln(1 - p) add up. It is the formula of the kernels, so that the difference of the two is the
    mutual information.
    """
    from scipy.special import entr

    p = np.asarray(mean, np.float64)
    # A head without sigmoid or softmax can leave 0 to 1, where the logarithm of a negative number counts as 0.
    yes = entr(np.maximum(p, 0))
    return (yes if activation_of(activation).exclusive else yes + entr(np.maximum(1 - p, 0))).sum(axis=1)
