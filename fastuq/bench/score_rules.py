"""Rules side by side: what each keeps, how right that is, and what the largest output would have kept right."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastuq.bench.score_data import Scored, judge
from fastuq.bench.score_figures import BASELINE, Halves, means, share
from fastuq.scoring.options import Options
from fastuq.scoring.score_rule import threshold_at

FLOORS = (0.4, 0.5)
GATES = (("max_logit", 0.94), ("max_logit", 0.9), ("vim_features", 0.95))
"""Second scores of a rule by two, and the share of the samples that each leaves in."""
PLAIN_RULES = ("top_alone", "gap", "gap(0)", "bank")
"""Scores that rules go by, beside the baseline and the best one."""
Decided = dict[str, tuple[np.ndarray, np.ndarray]]
"""By rule: keep and prediction of every sample."""


def interval_rules(options: Options) -> dict[str, Options]:
    """Return the rules by the interval that are compared."""
    rules = {"interval": options, "interval, mixed kept": replace(options, mixed="keep")}
    for floor in FLOORS:
        rules[f"interval, mixed kept, floor {floor}"] = replace(options, mixed="keep", doubt_floor=floor)
    return rules


def rule_figures(
    clean: Scored,
    decided: Decided,
    foreign: Mapping[str, tuple[Scored, Decided]],
    halves: Halves,
    best: list[str],
    coverage: float,
) -> dict[str, Any]:
    """Return by rule its coverage, what of it is right, the same of the baseline at that coverage, and foreign kept.

    Parameters
    ----------
    clean, decided, foreign
        Data sets, and what the rules by intervals decide of them.
    halves : sequence of (choosing, reporting)
    best : list of str
        The score that was best on the first half, for each split.
    coverage : float
        Of the rules by scores.
    """
    found = {}
    for name in decided:
        found[name] = _interval_figures(clean, decided, foreign, halves, name)
    scores = {f"score {BASELINE}": [BASELINE] * len(halves), "score, the best": best}
    scores |= {f"score {name}": [name] * len(halves) for name in PLAIN_RULES if name in clean.scores}
    for name, variants in scores.items():
        found[name] = _score_figures(clean, foreign, halves, variants, coverage, None)
    for second, left in GATES:
        for name in ("top_alone", "bank"):
            if {name, second} <= set(clean.scores):
                both = f"{name} and {second}({left:g} left in)"
                found[both] = _score_figures(clean, foreign, halves, [name] * len(halves), coverage, (second, left))
    return found


def _figures(data: Scored, keep: np.ndarray, prediction: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    kept, right = keep[rows], prediction[rows] == data.labels[rows]  # type: ignore[index]
    coverage, accuracy = float(kept.mean()), share(right[kept])
    base, base_right = data.scores[BASELINE][rows], data.right(BASELINE)[rows]
    baseline = share(base_right[base >= threshold_at(base, coverage, len(base))])
    return {"coverage": coverage, "accuracy_kept": accuracy, "baseline": baseline, "gain": accuracy - baseline}


def _interval_figures(
    clean: Scored, decided: Decided, foreign: Mapping[str, tuple[Scored, Decided]], halves: Halves, name: str
) -> dict[str, Any]:
    rows = [_figures(clean, *decided[name], reporting) for _, reporting in halves]
    return {**means(rows), "foreign_kept": {key: float(of[name][0].mean()) for key, (_, of) in foreign.items()}}


def _score_figures(
    clean: Scored,
    foreign: Mapping[str, tuple[Scored, Decided]],
    halves: Halves,
    variants: list[str],
    coverage: float,
    gate: tuple[str, float] | None,
) -> dict[str, Any]:
    rows, kept = [], []
    for (choosing, reporting), variant in zip(halves, variants, strict=True):
        second, least = gate[0] if gate else variant, -np.inf
        if gate:
            least = threshold_at(clean.scores[second][choosing], gate[1], len(choosing))
        known = clean.scores[second][choosing] >= least
        first = threshold_at(clean.scores[variant][choosing][known], coverage, len(choosing))

        def keep(data: Scored, ends: tuple = (variant, first, second, least)) -> np.ndarray:
            name, lowest, other, other_least = ends
            return (data.scores[name] >= lowest) & (data.scores[other] >= other_least)

        rows.append(_figures(clean, keep(clean), clean.predictions[judge(variant)], reporting))
        kept.append({name: float(keep(data).mean()) for name, (data, _) in foreign.items()})
    return {**means(rows), "foreign_kept": means(kept)}
