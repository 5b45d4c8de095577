"""What scoring comes to: the options it ran with, every sample's figures, and their summary.

The kernels find all that is said of a sample (`fastuq.montecarlo.kernels.deciding`); `fastuq.scoring.decisions` says it
in NumPy.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.scoring.columns import frame_of
from fastuq.scoring.decisions import Reason, ternary_vector
from fastuq.scoring.found import interval_of
from fastuq.scoring.metrics import accuracy, aurc, ece
from fastuq.scoring.options import Options
from fastuq.scoring.settled import settled_figures

DETAILS = ("mean", "std", "plain")
"""The arrays of all classes, which are left empty where only the others are asked for."""
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
"""How many bits of a byte are set."""


@dataclass(frozen=True)
class Result:
    """What scoring N samples of C classes came to.

    Attributes
    ----------
    options : Options
    mean, std : ndarray, (N, C), float32
        Moments over the iterations; (0, C) when scored with ``details=False``.
    plain : ndarray, (N, C), float32
        The plain pass: the quantized network once, without dropout, its head in the precision of the options; (0, C)
        when scored with ``details=False``.
    keep, reason, prediction
        See `fastuq.scoring.decisions.Decision`.
    positive_bits : ndarray, (N, ceil(C / 8)), uint8
        The predicted classes, eight to a byte from the lowest bit on; `positive` has them as bool (N, C).
    class_names : tuple of str
        Those of the model.
    predicted_mean, predicted_lower, predicted_upper : ndarray, (N,), float32
        Mean and interval of the class that the interval predicts.
    top, max_mean : ndarray, (N,), int64 and float32
        The class of the largest mean, and that mean.
    entropy : ndarray, (N,), float32
        Predictive entropy of the mean, in nats.
    mutual_information : ndarray, (N,), float32, or None
        Entropy of the mean less the mean entropy of the iterations, in nats; None when not asked for.
    plain_prediction : ndarray, (N,), int64
        argmax of the plain pass.
    score, foreign_score : ndarray, (N,), float64, or None
        Of ``options.score`` and ``options.foreign``, where the rule goes by them.
    score_threshold, foreign_threshold : float or None
        The least of each that is kept.
    labels : ndarray, (N,), int64, or None
    confidence, log_loss, squares : ndarray, (N,), float32, or None
        Of the means as probabilities: the largest, -ln of that of the true class, and the sum over classes of
        (p - y)²; None without labels, and where outputs are below 0.
    iterations : ndarray, (N,), int64, or None
        That each sample took, with ``num_iter="auto"``.
    flips : ndarray, (N,), float32, or None
        Then, the probability that another seed decides otherwise between keep and ignore.
    set_bits : ndarray, (N, ceil(C / 8)), uint8, or None
        Classes of the conformal sets, as `positive_bits`; None when not asked for.
    seconds : dict
        ``features`` (reading them), ``compile`` (kernels compiled, or loaded: once per process), ``head`` (all
        iterations), ``total``.
    model_sha256 : str
    data_fingerprint : str or None
        Of the images that a cache was made of; None for an array.
    files : sequence of str, or None
        The file of each sample, relative to the folder of images; None where samples are not files.
    bank : dict or None
        What was said by the bank that it was scored with.
    views, heads : int
        Views of each sample, and heads that looked at each view, T iterations of each.
    promise : dict or None
        What was promised of the kept, and whether it stands; see `fastuq.keep_by_promise`.

    Examples
    --------
    >>> import fastuq
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     result = fastuq.score(model, cache)
    >>> summary = result.summary()
    >>> summary["n"], summary["kept"] + summary["ignored"]
    (20, 20)
    >>> bool((result.lower <= result.mean).all() and (result.mean <= result.upper).all())
    True
    >>> [fastuq.Reason(code).text for code in result.reason[3:6]]
    ['certain', 'certain', 'uncertain']
    """

    options: Options
    mean: np.ndarray
    std: np.ndarray
    plain: np.ndarray
    keep: np.ndarray
    reason: np.ndarray
    prediction: np.ndarray
    positive_bits: np.ndarray
    predicted_mean: np.ndarray
    predicted_lower: np.ndarray
    predicted_upper: np.ndarray
    top: np.ndarray
    max_mean: np.ndarray
    entropy: np.ndarray
    plain_prediction: np.ndarray
    class_names: tuple[str, ...]
    labels: np.ndarray | None
    seconds: dict[str, float]
    model_sha256: str
    data_fingerprint: str | None
    mutual_information: np.ndarray | None = None
    files: Sequence[str] | None = None
    bank: dict[str, Any] | None = None
    views: int = 1
    heads: int = 1
    promise: dict[str, Any] | None = None
    score: np.ndarray | None = None
    foreign_score: np.ndarray | None = None
    score_threshold: float | None = None
    foreign_threshold: float | None = None
    confidence: np.ndarray | None = None
    log_loss: np.ndarray | None = None
    squares: np.ndarray | None = None
    set_bits: np.ndarray | None = None
    iterations: np.ndarray | None = None
    flips: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keep)

    def __repr__(self) -> str:
        return f"Result({len(self)} samples, {int(self.keep.sum())} kept, {self.options})"

    @property
    def positive(self) -> np.ndarray:
        """The predicted classes, (N, C) bool: none for an ignored sample, more than one where several are certain."""
        return self._classes(self.positive_bits)

    @property
    def sets(self) -> np.ndarray | None:
        """The classes of the conformal sets, (N, C) bool; None when not asked for."""
        return None if self.set_bits is None else self._classes(self.set_bits)

    def _classes(self, bits: np.ndarray) -> np.ndarray:
        return np.unpackbits(bits, axis=1, count=len(self.class_names), bitorder="little").astype(bool)

    @property
    def lower(self) -> np.ndarray:
        """Lower ends of the intervals, (N, C) float32."""
        return self._interval()[0]

    @property
    def upper(self) -> np.ndarray:
        """Upper ends of the intervals, (N, C) float32."""
        return self._interval()[1]

    @property
    def ternary(self) -> np.ndarray:
        """Ternary vectors, (N, C) int8."""
        return ternary_vector(*self._interval(), self.options.presence)

    @property
    def ranking(self) -> tuple[np.ndarray, np.ndarray]:
        """What ranks the samples, the most trusted largest, and whether each prediction ranked so is right; (N,)."""
        if self.score is None:
            return self.max_mean, self.top == self.labels
        return self.score, self.plain_prediction == self.labels

    def _interval(self) -> tuple[np.ndarray, np.ndarray]:
        return interval_of(self.mean, self.std, self.options)

    def to_frame(self, library: str = "pandas") -> Any:
        """Return a data frame with a row for each sample and the columns of the CSV; what there is not is null.

        Parameters
        ----------
        library : {'pandas', 'polars'}

        Raises
        ------
        InputError
            It is another library.
        MissingExtraError
            It is not installed.
        """
        return frame_of(self, library)

    def summary(self) -> dict[str, Any]:
        """Return the figures of the run, ready for JSON.

        Rates are fractions; what needs labels is None without them, and so is a rate over no samples at all.
        `misclassified_ignored` is the share of the ignored that the plain pass gets wrong (the paper's MI / I);
        `aurc` ranks the samples by `max_mean`, or by the score that the rule goes by; `ece`, `nll` and `brier` are of
        the means. With ``num_iter="auto"``, `iterations` is the mean over samples, `at_max_iter` how many reached the
        most, and `flips` the expected share of decisions that another seed changes.
        """
        return {
            "n": len(self),
            **asdict(self.options),
            **({} if self.options.coverage is None else {"threshold": None}),
            **self._quality(),
            **settled_figures(self.iterations, self.flips, self.options.max_iter),
            "kept": int(self.keep.sum()),
            "ignored": int((~self.keep).sum()),
            "ignored_as_foreign": int((self.reason == Reason.FOREIGN).sum()),
            "score_threshold": self.score_threshold,
            "foreign_score_threshold": self.foreign_threshold,
            "seconds": {key: round(value, 6) for key, value in self.seconds.items()},
            "model_sha256": self.model_sha256,
            "data_fingerprint": self.data_fingerprint,
            "bank": self.bank,
            "views": self.views,
            "heads": self.heads,
            "fastuq_version": __version__,
        }

    def _quality(self) -> dict[str, float | None]:
        shares = ("accuracy_plain", "f1_plain", "f1_uq", "accuracy_kept", "misclassified_ignored")
        quality: dict[str, float | None] = dict.fromkeys((*shares, "aurc", "ece", "nll", "brier"))
        if self.labels is None:
            return quality
        labels, keep = self.labels, self.keep
        quality["accuracy_plain"] = float(accuracy(self.plain_prediction, labels))
        quality["f1_plain"] = quality["accuracy_plain"]  # what micro-F1 is where each sample gets one class
        quality["aurc"] = float(aurc(*self.ranking))
        if self.confidence is not None and self.log_loss is not None and self.squares is not None:
            quality["ece"] = ece(self.confidence, self.top == labels)
            quality["nll"] = float(self.log_loss.mean(dtype=np.float64))
            quality["brier"] = float(self.squares.mean(dtype=np.float64))
        if keep.any():
            quality["f1_uq"] = self._micro_f1(keep)
            quality["accuracy_kept"] = float(accuracy(self.prediction[keep], labels[keep]))
        if not keep.all():
            quality["misclassified_ignored"] = 1 - float(accuracy(self.plain_prediction[~keep], labels[~keep]))
        return quality

    def _micro_f1(self, chosen: np.ndarray) -> float:
        """Return `micro_f1` of the chosen samples from the bits of their classes, which are much less memory."""
        assert self.labels is not None
        bits, labels = self.positive_bits[chosen], self.labels[chosen]
        hits = bits[np.arange(len(bits)), labels // 8] >> (labels % 8).astype(np.uint8) & 1
        return 2 * int(hits.sum()) / (int(_BITS[bits].sum()) + len(bits))
