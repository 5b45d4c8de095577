"""The rule by scores: the plain prediction is kept where a score is large enough, and a second one does not object."""

from dataclasses import replace
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.decisions import Reason
from fastuq.scoring.metrics.checks import samples_of
from fastuq.scoring.options import SCORE, Options
from fastuq.scoring.scores.table import score_of


def with_score(options: Options, *, bank: bool) -> Options:
    """Return the options with the score that a rule by a score goes by; with a bank it has to be one of the bank."""
    if options.rule == "interval":
        return options
    name = options.score if options.score is not None else "bank" if bank else SCORE
    if "bank" not in score_of(name)[0].needs and bank:
        raise InputError(
            f"score {name}: expected a score of the bank that is given too, found one of the outputs without it; use "
            "--score bank, or leave --bank out"
        )
    return replace(options, score=name)


def prepare(part: dict[str, np.ndarray], scores: list[np.ndarray], z: float) -> None:
    """Put scores into the columns of some samples, and the plain prediction in the place of the interval's.

    Parameters
    ----------
    part : dict
        Columns of `Result`, with mean and std of all classes.
    scores : list of ndarray, (N,)
        Of ``options.score``, and of ``options.foreign`` where there is one.
    z : float
        Half width of the interval in standard deviations.
    """
    part |= dict(zip(("score", "foreign_score"), scores, strict=False))
    chosen = part["prediction"] = part["plain_prediction"]
    at = np.arange(len(chosen)), chosen
    mean, half = part["mean"][at], np.float32(z) * part["std"][at]
    part |= {"predicted_mean": mean, "predicted_lower": mean - half, "predicted_upper": mean + half}


def judge(columns: dict[str, Any], options: Options) -> None:
    """Decide about all samples: keep, reason, predicted classes, and the thresholds that were used."""
    score, foreign = columns["score"], columns.get("foreign_score")
    known = columns["reason"] != Reason.FOREIGN  # of a gate
    if foreign is not None:
        least = options.foreign_threshold
        if least is None:
            least = threshold_at(foreign, options.foreign_coverage, len(foreign))
        known, columns["foreign_threshold"] = known & (foreign >= least), least
    least = options.threshold
    if options.coverage is not None:
        least = threshold_at(score[known], options.coverage, len(score))
    assert least is not None, "no options are without both"
    keep = known & (score >= least)
    reason = np.where(known, np.where(keep, Reason.TRUSTED, Reason.PROBABLY_WRONG), Reason.FOREIGN)
    bits = np.zeros_like(columns["positive_bits"])
    at = columns["prediction"][keep]
    bits[np.flatnonzero(keep), at // 8] = np.uint8(1) << (at % 8).astype(np.uint8)
    columns |= {"keep": keep, "reason": reason.astype(np.int8), "positive_bits": bits, "score_threshold": float(least)}


def threshold_at(score: np.ndarray, coverage: float, count: int) -> float:
    """Return the largest threshold that keeps at least `coverage` of `count` samples, or all where these are too few.

    Of scores that are the same it keeps all. A promise keeps none of them (`calibration.risk.threshold_at_coverage`).

    Examples
    --------
    >>> import numpy as np
    >>> threshold_at(np.array([0.1, 0.4, 0.2, 0.3]), 0.5, 4)
    0.3
    """
    wanted = min(len(score), samples_of(coverage, count))
    if wanted == 0:
        return float("inf")
    return float(np.partition(score, len(score) - wanted)[len(score) - wanted])
