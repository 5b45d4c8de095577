"""Every score, one record each: what it is, where it is from, what it needs. Larger means more to be trusted."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.scoring.scores import banked, distances, hidden, iterations, outputs
from fastuq.scoring.scores.chunk import Chunk
from fastuq.util.checks import shown


@dataclass(frozen=True)
class Parameter:
    """The one number that a score may have, as in ``react(95)``.

    Attributes
    ----------
    meaning : str
    default : float
    low, high : float
        Between which it lies, both included.
    others : tuple of float
        Values worth trying beside the default.
    whole : bool
        Whether it is a whole number.
    """

    meaning: str
    default: float
    low: float
    high: float
    others: tuple[float, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Score:
    """One score.

    Attributes
    ----------
    name, formula : str
    source : str
        arXiv number of the paper, or another way to find it; empty where there is none to name.
    needs : tuple of str
        Of ``outputs``, ``logits``, ``hidden``, ``features``, ``reference``, ``iterations``, ``bank``.
    function : callable
        (chunk, parameter) -> (N,), larger is more to be trusted.
    parameter : Parameter or None
    """

    name: str
    formula: str
    source: str
    needs: tuple[str, ...]
    function: Callable[[Chunk, Any], np.ndarray]
    parameter: Parameter | None = None

    @property
    def pooled(self) -> bool:
        """Whether it is taken of several views together; of features and hidden units it is the mean of theirs."""
        return not {"hidden", "features"} & set(self.needs)


_TEMPERATURE = Parameter("temperature T", 1, 0.01, 1e6, (0.5, 2, 5))
_PERCENTILE = Parameter("percentile", 90, 0, 99.9, (65, 80, 85, 95, 99))
_GAMMA = Parameter("exponent", 0.1, 1e-3, 10, (0.01, 0.5, 1))
_DIM_HIDDEN = Parameter("dimensions left out: a share of all, or a number", 0.5, 1e-3, 1e6, (0.2, 0.8))
_DIM = Parameter("dimensions left out: a share of all, or a number", 0.2, 1e-3, 1e6, (0.1, 0.4))
_NEIGHBOURS = Parameter("neighbour k", 10, 1, 1e6, (1, 5, 50), whole=True)

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("max", "max p", "1610.02136", ("outputs",), outputs.largest_output),
        Score("margin", "p1 - p2", "", ("outputs",), outputs.margin),
        Score("top_alone", "p1 (1 - p2)", "", ("outputs",), outputs.top_alone),
        Score("msp", "max softmax(z/T)", "1610.02136", ("logits",), outputs.largest_probability, _TEMPERATURE),
        Score(
            "odin",
            "max softmax(z/T), without ODIN's noise",
            "1706.02690",
            ("logits",),
            outputs.largest_probability,
            Parameter("temperature T", 1000, 0.01, 1e6, (10, 100)),
        ),
        Score("entropy", "sum p ln p, p = softmax(z)", "", ("logits",), outputs.entropy),
        Score("max_logit", "max z", "1911.11132", ("logits",), outputs.max_logit),
        Score("energy", "T logsumexp(z/T)", "2010.03759", ("logits",), outputs.energy, _TEMPERATURE),
        Score("joint_energy", "sum ln(1 + exp z)", "2109.14162", ("logits",), outputs.joint_energy),
        Score("gen", "-sum of (p (1 - p))^g over the 100 largest p = softmax(z)", "GEN, CVPR 2023", ("logits",),
              outputs.gen, _GAMMA),
        Score("gen_outputs", "the same of the outputs as they are", "GEN, CVPR 2023", ("outputs",),
              outputs.gen_outputs, _GAMMA),
        Score("grad_norm", "|h|_1 sum |1 - C softmax(z)|", "2110.00218", ("hidden", "logits"), outputs.grad_norm),
        Score("react", "logsumexp(W' min(h, c) + b), c a percentile of training h", "2111.12797",
              ("hidden", "reference"), hidden.react, _PERCENTILE),
        Score("dice", "logsumexp((W o M)' h + b), M = W o mean h above its percentile", "2111.09805",
              ("hidden", "reference"), hidden.dice, _PERCENTILE),
        Score("ash_b", "energy of the k largest h, each set to sum h / k", "2209.09858", ("hidden",), hidden.ash_b,
              _PERCENTILE),
        Score("ash_s", "energy of the k largest h times exp(sum h / their sum)", "2209.09858", ("hidden",),
              hidden.ash_s, _PERCENTILE),
        Score("scale", "energy of h exp(sum h / sum of the k largest)", "2310.00227", ("hidden",), hidden.scale,
              Parameter("percentile", 85, 0, 99.9, (65, 75, 90, 95))),
        Score("fdbd", "sum |z_y - z_c| / |w_y - w_c|, over |h - mean h|; y = argmax z", "2312.11536",
              ("hidden", "logits", "reference"), hidden.fdbd),
        Score("she", "h . mean h of the training samples of class y that are right", "SHE, ICLR 2023",
              ("hidden", "logits", "reference"), hidden.she),
        Score("nnguide", "energy times the mean of the k largest cos(h, h_i) energy_i", "2309.14888",
              ("hidden", "logits", "reference"), hidden.nnguide, _NEIGHBOURS),
        Score("knn", "-|f - f_(k)|^2, all scaled to length 1", "2204.06507", ("features", "reference"), distances.knn,
              _NEIGHBOURS),
        Score("mahalanobis", "max_c -(h - m_c)' S^-1 (h - m_c)", "1807.03888", ("hidden", "reference"),
              distances.mahalanobis),
        Score("mahalanobis_features", "the same of f", "1807.03888", ("features", "reference"),
              distances.mahalanobis_features),
        Score("relative_mahalanobis", "max_c (d_0 - d_c) of h", "2106.09022", ("hidden", "reference"),
              distances.relative_mahalanobis),
        Score("relative_mahalanobis_features", "the same of f", "2106.09022", ("features", "reference"),
              distances.relative_mahalanobis_features),
        Score("vim", "logsumexp(z) - a |N'(h - u)|, u = -pinv(W') b", "2203.10807",
              ("hidden", "logits", "reference"), distances.vim, _DIM_HIDDEN),
        Score("vim_features", "the same with |N'(f - mean f)|", "2203.10807", ("features", "logits", "reference"),
              distances.vim_features, _DIM),
        Score("residual", "-|N'(h - u)|", "2203.10807", ("hidden", "reference"), distances.residual, _DIM_HIDDEN),
        Score("residual_features", "-|N'(f - mean f)|", "2203.10807", ("features", "reference"),
              distances.residual_features, _DIM),
        Score("sirc", "-(1 - p1)(1 + exp(-b (s - a))), s = |h|_1", "2207.07506", ("outputs", "hidden", "reference"),
              distances.sirc),
        Score("sirc_residual", "the same, s = residual_features", "2207.07506",
              ("outputs", "features", "reference"), distances.sirc_residual, _DIM),
        Score("sirc_knn", "the same, s = knn", "2207.07506", ("outputs", "features", "reference"),
              distances.sirc_knn, _NEIGHBOURS),
        Score("bank", "max softmax(q), q = a z + b s; its own prediction argmax q", "docs/bank.md",
              ("bank", "logits"), banked.bank),
        Score("bank_logit", "max q", "docs/bank.md", ("bank", "logits"), banked.bank_logit),
        Score("bank_similarity", "max s, the largest cosine to a training row", "docs/bank.md", ("bank",),
              banked.bank_similarity),
        Score("mean_max", "max m, m the mean over the iterations", "1506.02142", ("iterations",), iterations.mean_max),
        Score("mean_top_alone", "m1 (1 - m2)", "", ("iterations",), iterations.mean_top_alone),
        Score("mutual_information", "mean of H(iteration) - H(mean)", "1112.5745", ("iterations",),
              iterations.mutual_information),
        Score("vote_share", "share of the iterations that most agree on a class", "", ("iterations",),
              iterations.vote_share),
        Score("gap", "m1 - m2 - z sqrt(s1^2 + s2^2)", "", ("iterations",), iterations.gap,
              Parameter("half width z", 1.0364, 0, 100, (0.0, 2.0))),
        Score("gap_deviations", "(m1 - m2) / sqrt(s1^2 + s2^2)", "", ("iterations",), iterations.gap_deviations),
    )
}  # fmt: skip
"""By name."""


def score_of(name: Any) -> tuple[Score, float | None]:
    """Return the score that a name like ``max`` or ``react(95)`` means, and its parameter.

    Raises
    ------
    InputError
        There is no such score, or its parameter is out of range.

    Examples
    --------
    >>> score, percentile = score_of("react(95)")
    >>> score.formula, percentile
    ("logsumexp(W' min(h, c) + b), c a percentile of training h", 95.0)
    """
    found = re.fullmatch(r"(\w+)(?:\((.*)\))?", name) if isinstance(name, str) else None
    score = SCORES.get(found[1]) if found else None
    if found is None or score is None:
        raise InputError(f"score: expected one of {', '.join(SCORES)}, found {shown(name)}")
    if score.parameter is None:
        if found[2] is not None:
            raise InputError(f"score {score.name}: expected no parameter, found {shown(name)}")
        return score, None
    return score, score.parameter.default if found[2] is None else _number(score, score.parameter, found[2])


def _number(score: Score, parameter: Parameter, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not parameter.low <= value <= parameter.high or (parameter.whole and value % 1):
        number = ", a whole number" * parameter.whole
        raise InputError(
            f"score {score.name}: expected a {parameter.meaning}{number} from {parameter.low:g} to "
            f"{parameter.high:g}, as in {score.name}({parameter.default:g}), found {shown(text)}"
        )
    return value
