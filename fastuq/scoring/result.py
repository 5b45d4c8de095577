"""What scoring comes to: the options it ran with, every sample's figures, and their summary."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.scoring.columns import Columns, interval_of
from fastuq.scoring.decisions import ternary_vector
from fastuq.scoring.metrics import accuracy, aurc, micro_f1
from fastuq.scoring.options import Options


@dataclass(frozen=True, kw_only=True)
class Result(Columns):
    """What scoring N samples of C classes came to: the columns of `fastuq.scoring.columns.Columns`, and about them all.

    Attributes
    ----------
    options : Options
    labels : ndarray, (N,), int64, or None
    seconds : dict
        ``features`` (reading them), ``compile`` (kernels compiled, or loaded: once per process), ``head`` (all
        iterations), ``total``.
    model_sha256 : str
    data_fingerprint : str or None
        Of the images that a cache was made of; None for an array.

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
    labels: np.ndarray | None
    seconds: dict[str, float]
    model_sha256: str
    data_fingerprint: str | None

    def __len__(self) -> int:
        return len(self.keep)

    def __repr__(self) -> str:
        return f"Result({len(self)} samples, {int(self.keep.sum())} kept, {self.options})"

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
        return ternary_vector(*self._interval(), self.options.threshold)

    def _interval(self) -> tuple[np.ndarray, np.ndarray]:
        return interval_of(self.mean, self.std, self.options)

    def summary(self) -> dict[str, Any]:
        """Return the figures of the run, ready for JSON.

        Rates are fractions; what needs labels is None without them, and so is a rate over no samples at all.
        `misclassified_ignored` is the share of the ignored that the plain pass gets wrong (the paper's MI / I);
        `aurc` ranks the samples by `max_mean`.
        """
        return {
            "n": len(self),
            **asdict(self.options),
            **self._quality(),
            "kept": int(self.keep.sum()),
            "ignored": int((~self.keep).sum()),
            "seconds": {key: round(value, 6) for key, value in self.seconds.items()},
            "model_sha256": self.model_sha256,
            "data_fingerprint": self.data_fingerprint,
            "fastuq_version": __version__,
        }

    def _quality(self) -> dict[str, float | None]:
        names = ("accuracy_plain", "f1_plain", "f1_uq", "accuracy_kept", "misclassified_ignored", "aurc")
        quality: dict[str, float | None] = dict.fromkeys(names)
        if self.labels is None:
            return quality
        labels, keep = self.labels, self.keep
        one_hot = self.plain_prediction[:, None] == np.arange(self.positive.shape[1])
        quality["accuracy_plain"] = float(accuracy(self.plain_prediction, labels))
        quality["f1_plain"] = float(micro_f1(one_hot, labels))
        quality["aurc"] = float(aurc(self.max_mean, self.top == labels))
        if keep.any():
            quality["f1_uq"] = float(micro_f1(self.positive[keep], labels[keep]))
            quality["accuracy_kept"] = float(accuracy(self.prediction[keep], labels[keep]))
        if not keep.all():
            quality["misclassified_ignored"] = 1 - float(accuracy(self.plain_prediction[~keep], labels[~keep]))
        return quality
