"""The benchmark of scores and rules: clean, shifted and foreign data, nothing tuned on what it is reported on."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.bench.score_checks import check_data, check_shifted
from fastuq.bench.score_data import VIEWED, Scored, halves, plain_scorer, scored, severities, variants_of
from fastuq.bench.score_figures import (
    BASELINE,
    best_variants,
    chosen_variants,
    clean_figures,
    foreign_figures,
    group_figures,
    means,
    over_splits,
    paired_differences,
    shifted_figures,
)
from fastuq.bench.score_rules import GATES, PLAIN_RULES, Decided, interval_rules, rule_figures
from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.scoring.bank import Bank
from fastuq.scoring.options import Options
from fastuq.scoring.scores.compute import ScoreSet, available
from fastuq.scoring.scores.reference import Reference
from fastuq.scoring.scores.table import score_of
from fastuq.scoring.scoring import Scorer
from fastuq.scoring.settled import check_settling
from fastuq.scoring.views import checked_views
from fastuq.util.progress import progress_bar

SLOW = ("knn", "sirc_knn", "mahalanobis_features", "relative_mahalanobis_features")
"""Scores that take longer than all others: of shifted data, of which there may be a million, only where named."""
Groups = Mapping[str, Mapping[str, FeatureCache]]
"""Caches of foreign images by the name of their group, ``near`` and ``far``, and their own."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Attributes
    ----------
    names : sequence of str, or None
        Scores; None: all for which there is what they need.
    coverage : float or None
        What thresholds are to keep; None: what the rule by intervals keeps.
    splits, resamples, seed : int
        Random halves, bootstrap draws over all of them, and their seed.
    options : Options
        Of iterations and intervals.
    threads : int or None
    """

    names: Sequence[str] | None = None
    coverage: float | None = None
    splits: int = 10
    resamples: int = 500
    seed: int = 0
    options: Options = Options()  # noqa: RUF009
    threads: int | None = None


@dataclass(frozen=True)
class _Run:
    """A plan with what it is run on."""

    model: Model
    reference: Reference | None
    bank: Bank | None
    plan: Plan
    rules: Mapping[str, Scorer]
    plain: Scorer

    def score_set(self, names: Iterable[str]) -> ScoreSet:
        plan, given = self.plan, {"reference": self.reference, "bank": self.bank}
        return ScoreSet(self.model, list(names), **given, options=plan.options, threads=plan.threads)  # type: ignore[arg-type]

    def decided(self, features: FeatureCache) -> Decided:
        results = {name: scorer(features, details=False) for name, scorer in self.rules.items()}
        return {name: (result.keep, result.prediction) for name, result in results.items()}

    def cost_and_scores(self, cache: FeatureCache, names: Iterable[str]) -> tuple[dict[str, float], Scored]:
        """Return milliseconds by score and by what scores share, and the data set with its scores."""
        scorer = self.score_set(names)
        scorer.of(scorer.chunk(cache.read(0, min(len(cache), 64))))
        scorer.seconds.clear()  # what is made once does not count
        data = scored("clean", scorer, self.plain, cache, cache.labels)
        return {name: seconds / len(cache) * 1e3 for name, seconds in scorer.seconds.items()}, data


def benchmark_scores(
    model: Model,
    cache: FeatureCache,
    *,
    foreign: Groups,
    shifted: Sequence[FeatureCache],
    views: Sequence[FeatureCache] = (),
    reference: Reference | None,
    bank: Bank | None,
    plan: Plan,
) -> dict[str, Any]:
    """Measure scores and rules; docs/scores.md says what each figure is. Returns JSON values."""
    families = _families(model, plan, reference, bank)
    free = _check(model, cache, views, shifted, reference, bank, plan)
    rules = {name: Scorer(model, each, threads=plan.threads) for name, each in interval_rules(plan.options).items()}
    run = _Run(model, reference, bank, plan, rules, plain_scorer(model, plan.options, plan.threads))
    sets = {name: other for group in foreign.values() for name, other in group.items()}
    with progress_bar(2 + len(sets) + len(shifted), "benchmark", "cache") as bar:
        cost, clean = run.cost_and_scores(cache, (variant for variants in families.values() for variant in variants))
        decided = run.decided(cache)
        coverage = _coverage(plan, decided)
        bar.update()
        pairs = halves(free, plan.splits, plan.seed)
        chosen = chosen_variants(clean, pairs, families)
        found = _beside_baseline(run, clean, pairs, chosen, coverage)
        of_views = _view_figures(run, cache, views, clean, pairs, coverage)
        bar.update()
        strange = _of_foreign(run, sorted(_variants(chosen) | _of_rules(clean)), sets, bar)
        of_shifted = _of_shifted(run, len(cache), shifted, pairs, chosen, bar)
    of_foreign = {name: foreign_figures(clean, data, pairs, chosen, coverage) for name, (data, _) in strange.items()}
    best = best_variants(clean, pairs, chosen)
    groups = {group: [*names] for group, names in foreign.items() if names}
    return {
        "about": _about(run, cache, len(pairs[0][1]), coverage, groups, shifted),
        "shared_ms": {name: ms for name, ms in cost.items() if name not in _variants(families)},
        "scores": {
            name: {
                **_record(name),
                "ms": cost[name],
                "chosen": dict(Counter(chosen[name])),
                **found[name],
                **_foreign_records(of_foreign, groups, name),
                **_shifted_records(of_shifted, name),
            }
            for name in families
        },
        "views": of_views,
        "best_on_first_half": dict(Counter(best)),
        "rules": rule_figures(clean, decided, strange, pairs, best, coverage),
    }


def _check(
    model: Model,
    cache: FeatureCache,
    views: Sequence[FeatureCache],
    shifted: Sequence[FeatureCache],
    reference: Reference | None,
    bank: Bank | None,
    plan: Plan,
) -> np.ndarray:
    """Return the samples to report on; raises where the data or the options do not go together."""
    check_settling(plan.options, {"scores": True})
    free = check_data(cache, reference, bank, plan.threads)
    check_shifted(cache, shifted)
    checked_views(model, cache, views)
    return free


def _beside_baseline(
    run: _Run, clean: Scored, pairs: Sequence, chosen: dict[str, list[str]], coverage: float
) -> dict[str, Any]:
    """Return by score its figures on the second halves, with intervals of the differences to the baseline."""
    figures = clean_figures(clean, pairs, chosen, coverage)
    intervals = paired_differences(clean, pairs, chosen, coverage, run.plan.resamples, run.plan.seed)
    return {name: {**figures[name], "less_baseline": intervals[name]} for name in chosen}


def _view_figures(
    run: _Run, cache: FeatureCache, views: Sequence[FeatureCache], clean: Scored, pairs: Sequence, coverage: float
) -> dict[str, Any]:
    """Return by number of views, from 2 on, and by score the figures that the scores have of one view."""
    found = {}
    names = [name for name in VIEWED if name in clean.scores]
    for count in range(1, len(views) + 1):
        several = scored("views", run.score_set(names), run.plain, cache, cache.labels, views[:count])
        both = clean.beside(several, f"{count + 1} views")
        chosen = {BASELINE: [BASELINE] * len(pairs)}
        chosen |= {name: [name] * len(pairs) for name in both.scores if name not in clean.scores}
        figures = _beside_baseline(run, both, pairs, chosen, coverage)
        found[str(count + 1)] = {name.partition(",")[0]: figures[name] for name in chosen if name != BASELINE}
    return found


def _of_foreign(
    run: _Run, names: Sequence[str], sets: Mapping[str, FeatureCache], bar: Any
) -> dict[str, tuple[Scored, Decided]]:
    """Return scores and decisions of each foreign set."""
    scorer, found = run.score_set(names), {}
    for name, other in sets.items():
        found[name] = scored(name, scorer, run.plain, other, None), run.decided(other)
        bar.update()
    return found


def _foreign_records(
    of_foreign: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]], name: str
) -> dict[str, Any]:
    """Return what is said of a score on foreign sets, and of their means over each group."""
    return {
        "foreign": {key: figures[name] for key, figures in of_foreign.items()},
        "groups": {key: group_figures([of_foreign[each][name] for each in of]) for key, of in groups.items()},
    }


def _of_shifted(
    run: _Run, count: int, shifted: Sequence[FeatureCache], pairs: Sequence, chosen: dict[str, list[str]], bar: Any
) -> dict[str, list[dict[str, Any]]]:
    """Return by severity the figures of each shifted cache, without those of slow scores that nobody asked for."""
    left_out = () if run.plan.names else SLOW
    quick = {name: variants for name, variants in chosen.items() if name not in left_out}
    scorer, found = run.score_set(sorted(_variants(quick))), dict[str, list[dict[str, Any]]]()
    for other in shifted:
        for severity, rows, labels in severities(other, count):
            figures = shifted_figures(scored("shifted", scorer, run.plain, rows, labels), pairs, quick)
            found.setdefault(str(severity), []).append(figures)
        bar.update()
    return found


def _shifted_records(of_shifted: Mapping[str, Sequence[dict[str, Any]]], name: str) -> dict[str, Any]:
    """Return what is said of a score on shifted data; nothing where it was not taken of them."""
    if not of_shifted or name not in of_shifted["1"][0]:
        return {"shifted": {}, "over_splits": None}
    return {
        "shifted": {level: means([each[name] for each in some]) for level, some in of_shifted.items()},
        "over_splits": over_splits([each for some in of_shifted.values() for each in some], name),
    }


def _coverage(plan: Plan, decided: Decided) -> float:
    """Return the coverage to compare at; raises InputError where the rule by intervals names none."""
    coverage = plan.coverage or float(decided["interval"][0].mean())
    if coverage == 0:
        raise InputError("benchmark-scores: the rule by intervals keeps nothing here; give a --coverage to compare at")
    return coverage


def _record(name: str) -> dict[str, Any]:
    score = score_of(name)[0]
    return {"formula": score.formula, "source": score.source, "needs": list(score.needs)}


def _variants(chosen: Mapping[str, list[str]]) -> set[str]:
    """Return all that were chosen for some split."""
    return {variant for variants in chosen.values() for variant in variants}


def _of_rules(clean: Scored) -> set[str]:
    """Return the scores of the rules that are compared."""
    return {name for name in (BASELINE, *PLAIN_RULES, *(gate for gate, _ in GATES)) if name in clean.scores}


def _families(model: Model, plan: Plan, reference: Reference | None, bank: Bank | None) -> dict[str, list[str]]:
    names = available(model, reference, bank) if plan.names is None else [BASELINE, *plan.names]
    for name in names:
        score_of(name)  # raises where it is none
    return {name: variants_of(name) for name in names}


def _about(
    run: _Run,
    cache: FeatureCache,
    reported: int,
    coverage: float,
    foreign: Mapping[str, list[str]],
    shifted: Sequence[FeatureCache],
) -> dict[str, Any]:
    plan, reference, bank = run.plan, run.reference, run.bank
    return {
        "model_sha256": run.model.sha256,
        "network": run.model.network,
        "images": cache.provenance["images"],
        "samples": len(cache),
        "reported": reported,
        "splits": plan.splits,
        "resamples": plan.resamples,
        "seed": plan.seed,
        "num_iter": plan.options.num_iter,
        "coverage": coverage,
        "reference": None if reference is None else {"images": reference.images, "rows": len(reference.rows)},
        "bank": None if bank is None else {"images": bank.origin.training, "rows": len(bank)},
        "foreign": foreign,
        "shifted": [each.provenance["images"] for each in shifted],
        "fastuq_version": __version__,
    }
