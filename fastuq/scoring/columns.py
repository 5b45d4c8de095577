"""What scoring says of each sample: the columns of a result, and how they follow from the moments and the plain pass.

A score that mean and standard deviation give is a field of `Columns` and its value in `columns_of`.
"""

from dataclasses import dataclass

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import activation_of
from fastuq.model.model import Model
from fastuq.montecarlo.engine import Moments
from fastuq.scoring.decisions import decide, interval, ternary_vector
from fastuq.scoring.options import Options

DETAILS = ("mean", "std", "plain")
"""The columns of all classes, which are left empty where only the others are asked for."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What scoring says of N samples of C classes, one row per sample.

    Attributes
    ----------
    mean, std : ndarray, (N, C), float32
        Moments over the iterations; (0, C) when scored with ``details=False``.
    plain : ndarray, (N, C), float32
        The plain pass: the quantized network once, without dropout; (0, C) when scored with ``details=False``. It is
        NumPy's float32: another BLAS, processor or number of samples may round its last bits otherwise.
    keep, reason, prediction, positive
        See `fastuq.scoring.decisions.Decision`.
    predicted_mean, predicted_lower, predicted_upper : ndarray, (N,), float32
        Mean and interval of the predicted class.
    top, max_mean : ndarray, (N,), int64 and float32
        The class of the largest mean, and that mean.
    entropy : ndarray, (N,), float32
        Predictive entropy of the mean, in nats.
    mutual_information : ndarray, (N,), float32, or None
        Entropy of the mean less the mean entropy of the iterations, in nats; None when not asked for.
    plain_prediction : ndarray, (N,), int64
        argmax of the plain pass; as good as its bits where the two largest outputs are within rounding of each other.
    """

    mean: np.ndarray
    std: np.ndarray
    plain: np.ndarray
    keep: np.ndarray
    reason: np.ndarray
    prediction: np.ndarray
    positive: np.ndarray
    predicted_mean: np.ndarray
    predicted_lower: np.ndarray
    predicted_upper: np.ndarray
    top: np.ndarray
    max_mean: np.ndarray
    entropy: np.ndarray
    mutual_information: np.ndarray | None = None
    plain_prediction: np.ndarray


def columns_of(model: Model, features: np.ndarray, moments: Moments, options: Options) -> Columns:
    """Return the columns of features (N, D) int8 and their moments; raises ModelError where a number is not finite."""
    mean, std = moments.mean, moments.std
    _check_finite(model, mean, std)
    lower, upper = interval_of(mean, std, options)
    decision = decide(ternary_vector(lower, upper, options.threshold), mean, mixed=options.mixed)
    predicted = np.arange(len(mean)), decision.prediction
    plain = _plain(model, features)
    entropy, each = predictive_entropy(mean, model.head.blocks[-1].activation), moments.mean_entropy
    return Columns(
        mean=mean,
        std=std,
        plain=plain,
        keep=decision.keep,
        reason=decision.reason,
        prediction=decision.prediction,
        positive=decision.positive,
        predicted_mean=mean[predicted],
        predicted_lower=lower[predicted],
        predicted_upper=upper[predicted],
        top=mean.argmax(axis=1),
        max_mean=mean.max(axis=1),
        entropy=entropy.astype(np.float32),
        mutual_information=None if each is None else (entropy - each).astype(np.float32),
        plain_prediction=plain.argmax(axis=1),
    )


def interval_of(mean: np.ndarray, std: np.ndarray, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of the intervals under these options."""
    return interval(mean, std, options.conf_factor, kind=options.interval, num_iter=options.num_iter)


def _plain(model: Model, features: np.ndarray) -> np.ndarray:
    """Return the outputs of one pass without dropout; NumPy's float32, whose last bits depend on its BLAS."""
    with np.errstate(over="ignore", invalid="ignore"):
        plain = model.head.forward(model.dequantize(features))
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
