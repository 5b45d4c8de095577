"""What the kernels are given of the options, and what they find, as arrays of `Result`."""

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import activation_of
from fastuq.model.model import Model
from fastuq.montecarlo.kernels.plan import Columns, Rules
from fastuq.scoring.decisions import half_width, interval
from fastuq.scoring.options import Options


def columns_of(model: Model, found: Columns) -> dict[str, np.ndarray]:
    """Return the arrays of `Result` that the kernels found; raises ModelError where a number is not finite."""
    predicted_mean, lower, upper, max_mean, finite = found.floats
    if not finite.all():  # finite weights can be so large that sums overflow
        raise ModelError(
            f"model {model.sha256[:12]}: its head gives NaN or infinity, expected finite numbers; its weights are far "
            "too large, make the model again"
        )
    keep, reason, prediction, top, plain_prediction = found.numbers
    columns = {
        "mean": found.mean,
        "std": found.std,
        "plain": found.plain,
        "keep": keep.astype(bool),
        "reason": reason.astype(np.int8),
        "prediction": prediction.astype(np.int64),
        "positive_bits": found.positive,
        "predicted_mean": predicted_mean,
        "predicted_lower": lower,
        "predicted_upper": upper,
        "top": top.astype(np.int64),
        "max_mean": max_mean,
        "entropy": found.entropy.astype(np.float32),
        "plain_prediction": plain_prediction.astype(np.int64),
    }
    if len(found.iterations):
        columns |= {"iterations": found.iterations, "flips": found.flips.astype(np.float32)}
    if len(found.entropies):
        columns["mutual_information"] = (found.entropy - found.entropies).astype(np.float32)
    return columns


def rules_of(options: Options) -> Rules:
    """Return what the kernels need of the options to decide."""
    z = half_width(options.conf_factor, kind=options.interval, num_iter=options.most.num_iter)
    floor = np.float32(-np.inf if options.doubt_floor is None else options.doubt_floor)
    return Rules(np.float32(z), np.float32(options.presence), options.mixed == "keep", floor)


def interval_of(mean: np.ndarray, std: np.ndarray, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of the intervals under these options."""
    return interval(mean, std, options.conf_factor, kind=options.interval, num_iter=options.most.num_iter)


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
