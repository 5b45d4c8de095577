"""Figures of every score: parameters and thresholds are chosen on one half of the data, figures are of the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastuq.bench.score_data import Scored
from fastuq.scoring.metrics import augrc, aurc, auroc, fpr_at_tpr
from fastuq.scoring.score_rule import threshold_at

BASELINE = "max"
Halves = Sequence[tuple[np.ndarray, np.ndarray]]


def chosen_variants(clean: Scored, halves: Halves, families: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return for each score the variant with the least AURC on the first half, split by split."""
    chosen: dict[str, list[str]] = {name: [] for name in families}
    for choosing, _ in halves:
        part = clean.part(choosing)
        for name, variants in families.items():
            areas = [aurc(part.scores[each], part.right(each)) if len(variants) > 1 else 0 for each in variants]
            chosen[name].append(variants[int(np.argmin(areas))])
    return chosen


def best_variants(clean: Scored, halves: Halves, chosen: dict[str, list[str]]) -> list[str]:
    """Return for each split the variant of all scores that has the least AURC on the first half."""
    best = []
    for place, (choosing, _) in enumerate(halves):
        part, variants = clean.part(choosing), [chosen_of[place] for chosen_of in chosen.values()]
        areas = [aurc(part.scores[variant], part.right(variant)) for variant in variants]
        best.append(variants[int(np.argmin(areas))])
    return best


def clean_figures(clean: Scored, halves: Halves, chosen: dict[str, list[str]], coverage: float) -> dict[str, Any]:
    """Return by score the figures of the second halves, each the mean over the splits."""
    found = {}
    for name, variants in chosen.items():
        rows = []
        for (choosing, reporting), variant in zip(halves, variants, strict=True):
            part, right = clean.part(reporting), clean.right(variant)[reporting]
            values = part.scores[variant]
            kept = values >= threshold_at(clean.scores[variant][choosing], coverage, len(choosing))
            rows.append(
                {
                    "aurc": aurc(values, right),
                    "augrc": augrc(values, right),
                    "auroc": auroc(values, right),
                    "coverage": kept.mean(),
                    "accuracy_kept": share(right[kept]),
                    "accuracy_at_coverage": _accuracy_at(values, right, coverage),
                    "accuracy": right.mean(),
                }
            )
        found[name] = means(rows)
    return found


def foreign_figures(
    clean: Scored, foreign: Scored, halves: Halves, chosen: dict[str, list[str]], coverage: float
) -> dict[str, Any]:
    """Return by score how well it tells foreign samples, and the share of these that it keeps.

    The convention is OpenOOD's: foreign samples are the positives, and FPR95 is the share of the known ones that are
    called foreign where 95% of the foreign ones are.
    """
    found = {}
    for name, variants in chosen.items():
        rows = []
        for (choosing, reporting), variant in zip(halves, variants, strict=True):
            known, strange = clean.scores[variant][reporting], foreign.scores[variant]
            both, is_strange = np.concatenate([known, strange]), np.arange(len(known) + len(strange)) >= len(known)
            least = threshold_at(clean.scores[variant][choosing], coverage, len(choosing))
            rows.append(
                {
                    "auroc": auroc(-both, is_strange),
                    "fpr95": fpr_at_tpr(-both, is_strange),
                    "kept": (strange >= least).mean(),
                }
            )
        found[name] = means(rows)
    return found


def group_figures(sets: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the means over the sets of a group, as OpenOOD does, of AUROC and FPR95."""
    return means([{key: each[key] for key in ("auroc", "fpr95")} for each in sets])


def over_splits(splits: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return what the AURC of a score comes to over all splits of shifted data, beside the baseline's."""
    areas, base = (np.array([each[of]["aurc"] for each in splits]) for of in (name, BASELINE))
    return {
        "aurc": float(areas.mean()),
        "relative": float(areas.mean() / base.mean() - 1),
        "worse": int((areas > base).sum()),
        "splits": len(splits),
    }


def shifted_figures(shifted: Scored, halves: Halves, chosen: dict[str, list[str]]) -> dict[str, Any]:
    """Return by score AURC and accuracy on the second halves of shifted data, whose samples are those of the clean."""
    found = {}
    for name, variants in chosen.items():
        rows = []
        for (_, reporting), variant in zip(halves, variants, strict=True):
            right = shifted.right(variant)[reporting]
            rows.append({"aurc": aurc(shifted.scores[variant][reporting], right), "accuracy": right.mean()})
        found[name] = means(rows)
    return found


def paired_differences(
    clean: Scored, halves: Halves, chosen: dict[str, list[str]], coverage: float, resamples: int, seed: int
) -> dict[str, dict[str, list[float]]]:
    """Return by score the 95% bootstrap intervals of AURC and accuracy at coverage, less those of the baseline.

    Samples are drawn with replacement from the second halves, as many draws from each split.
    """
    rng, differences = np.random.default_rng(seed), {name: [] for name in chosen}  # type: ignore[var-annotated]
    for place, (_, reporting) in enumerate(halves):
        for _ in range(max(1, resamples // len(halves))):
            drawn = reporting[rng.integers(0, len(reporting), len(reporting))]
            base = _pair(clean, chosen[BASELINE][place], drawn, coverage)
            for name, variants in chosen.items():
                differences[name].append(_pair(clean, variants[place], drawn, coverage) - base)
    found = {}
    for name, rows in differences.items():
        low, high = np.quantile(rows, [0.025, 0.975], axis=0)
        found[name] = {key: [float(low[n]), float(high[n])] for n, key in enumerate(("aurc", "accuracy_at_coverage"))}
    return found


def means(rows: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Return the mean of each key; None where one of its values does not exist."""
    found = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return {key: None if np.isnan(value) else value for key, value in found.items()}


def share(flags: np.ndarray) -> float:
    """Return the share of flags that are set; NaN where there are none."""
    return float(flags.mean()) if len(flags) else float("nan")


def _pair(data: Scored, variant: str, rows: np.ndarray, coverage: float) -> np.ndarray:
    values, right = data.scores[variant][rows], data.right(variant)[rows]
    return np.array([aurc(values, right), _accuracy_at(values, right, coverage)])


def _accuracy_at(values: np.ndarray, right: np.ndarray, coverage: float) -> float:
    return float(right[values >= threshold_at(values, coverage, len(values))].mean())
