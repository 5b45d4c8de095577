"""Decisions by moments without sampling, in the columns that the kernels give of iterations."""

import numpy as np

from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.montecarlo.analytic import analytic_moments
from fastuq.montecarlo.together import moments_together
from fastuq.scoring.decisions import decide, ternary_vector
from fastuq.scoring.found import interval_of, predictive_entropy
from fastuq.scoring.options import Options


def check_analytic(options: Options, *, others: bool) -> None:
    """Raise InputError where options ask for what only iterations have."""
    if others or options.rule != "interval" or options.interval != "std":
        raise InputError(
            "method analytic: expected the rule of the interval of the outputs' spread, without a bank or mutual "
            "information, found others, which need iterations; use the method sampling"
        )


def analytic_columns(model: Model, features: np.ndarray, options: Options) -> dict[str, np.ndarray]:
    """Return the columns of `Result` that moments decide about, of features (N, D) int8."""
    values = model.dequantize(features)
    mean, std = moments_together(*zip(*(analytic_moments(each.head, values) for each in model.members), strict=True))
    lower, upper = interval_of(mean, std, options)
    ternary = ternary_vector(lower, upper, options.presence)
    decision = decide(ternary, mean, mixed=options.mixed, doubt_floor=options.doubt_floor)
    at = np.arange(len(mean)), decision.prediction
    return {
        "mean": mean,
        "std": std,
        "keep": decision.keep,
        "reason": decision.reason,
        "prediction": decision.prediction,
        "positive_bits": np.packbits(decision.positive, axis=1, bitorder="little"),
        "predicted_mean": mean[at],
        "predicted_lower": lower[at],
        "predicted_upper": upper[at],
        "top": mean.argmax(axis=1).astype(np.int64),
        "max_mean": mean.max(axis=1),
        "entropy": predictive_entropy(mean, model.head.blocks[-1].activation).astype(np.float32),
    }
