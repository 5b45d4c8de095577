"""Decisions that settle: how many another seed changes, predicted and observed, and what they cost beside T = 5,000.

    python benchmarks/settled.py CACHE [--seeds 100] [--samples 10000] [--rounds 3] [--picture FILE]

Every sample is scored with `num_iter="auto"` under each seed. For each seed the probability that another one decides
otherwise is held against the share of the other seeds that do. Processor time is of one thread, both sides in turn.

    python benchmarks/settled.py CACHE --settings [--first 3000] [--samples 2000] [--seeds 24] [--truth 500]

The same under other options, a row each. Of the first samples, as many as `--truth` says, decisions that settled are
held against those of T = 20,000, where two seeds agree.
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

import fastuq
from fastuq.report.tables import markdown_table
from fastuq.scoring.decisions import decide, interval, ternary_vector

EDGES = (0, 1e-6, 1e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 1)
FIXED, TRUTH = 5000, 20_000
SETTINGS = (
    {},
    {"threshold": 0.1},
    {"threshold": 0.3},
    {"threshold": 0.8},
    {"conf_factor": 0.9},
    {"conf_factor": 0.95},
    {"threshold": 0.3, "conf_factor": 0.95},
    {"masks": "per_sample"},
    {"bank": None},
)


def timed(model, features, **options):
    """Return the result and its processor time."""
    began = time.process_time()
    result = fastuq.score(model, features, details=False, threads=1, **options)
    return result, time.process_time() - began


def disagreement(keep):
    """Return the share of decisions (seeds, N) that differ between two seeds, over all pairs of seeds."""
    seeds, share = len(keep), keep.mean(axis=0)
    return (2 * share * (1 - share)).mean() * seeds / (seeds - 1)


def reliability(flips, keep):
    """Return (from, to, decisions a seed, predicted, observed) of each range of predicted probabilities."""
    others = np.where(keep, (~keep).sum(axis=0), keep.sum(axis=0)) / (len(keep) - 1)
    rows, at = [], np.digitize(flips, EDGES[1:-1])
    for number, bounds in enumerate(pairwise(EDGES)):
        those = at == number
        if those.any():
            rows.append((*bounds, those.sum() / len(keep), flips[those].mean(), others[those].mean()))
    return rows


def worst(rows):
    """Return, of ranges with at least 5 decisions a seed, the one observed most beyond its prediction, as text."""
    low, high, _, predicted, observed = max(
        (row for row in rows if row[2] >= 5), key=lambda row: (row[4] + 2e-4) / (row[3] + 2e-4)
    )
    return f"{low:g} to {high:g}: {predicted:.3%}, {observed:.3%}"


def settings(model, features, args):
    """Print predicted against observed under other options."""
    few, truth = features[: args.truth], []
    if len(few):
        truth = [fastuq.score(model, few, num_iter=TRUTH, seed=seed) for seed in (10**6, 10**6 + 1)]
    columns = ["options", "predicted", "observed", "iterations", "at the most", "worst range", "settled, wrong"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for options in SETTINGS:
        known = {"bank": fastuq.Bank.load(None, model)} if "bank" in options else {}
        results = [
            fastuq.score(model, features, num_iter="auto", seed=seed, details=False, **options | known)
            for seed in range(args.seeds)
        ]
        keep, flips, taken = (np.array([getattr(r, name) for r in results]) for name in ("keep", "flips", "iterations"))
        most = taken == results[0].options.max_iter
        wrong = "" if known or not len(few) else against(truth, keep, most, options)
        text = ", ".join(f"{name} {value}" for name, value in options.items()) or "default"
        cells = [text, f"{flips.mean():.3%}", f"{disagreement(keep):.3%}", f"{taken.mean():,.0f}", f"{most.mean():.2%}"]
        print("| " + " | ".join([*cells, worst(reliability(flips, keep)), wrong]) + " |", flush=True)


def against(truth, keep, most, options):
    """Return how many settled decisions differ from those of many iterations, of samples that these agree on."""
    conf, level = options.get("conf_factor", 0.7), options.get("threshold", 0.5)
    intervals = [(interval(result.mean, result.std, conf), result.mean) for result in truth]
    one, other = (decide(ternary_vector(*bounds, level), mean).keep for bounds, mean in intervals)
    settled = (one == other) & ~most[:, : len(one)]
    return f"{(settled & (keep[:, : len(one)] != one)).sum() / settled.sum():.3%}"


def draw(rows, path):
    """Draw observed over predicted probabilities."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    shown = [row for row in rows if row[3] >= 1e-4]
    axes.plot([1e-4, 0.6], [1e-4, 0.6], color="0.7", linewidth=1)
    axes.plot([row[3] for row in shown], [row[4] for row in shown], "o")
    axes.set(xscale="log", yscale="log", xlabel="predicted", ylabel="observed share of the other seeds")
    axes.set_title("Another seed decides otherwise")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="sample to begin with")
    parser.add_argument("--settings", action="store_true")
    parser.add_argument("--truth", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3, help="seeds that T = 5,000 is run with too")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    model = fastuq.load_model()
    with fastuq.FeatureCache.open(args.cache, model) as cache:
        features = cache.read(args.first, min(args.first + args.samples, len(cache)))
    if args.settings:
        settings(model, features, args)
        return
    fastuq.score(model, features[:200], num_iter="auto", threads=1)  # kernels are loaded apart
    fastuq.score(model, features[:10], num_iter="auto", threads=1)
    keep, flips, taken, seconds, fixed, long = [], [], [], [], [], []
    for seed in range(args.seeds):
        result, spent = timed(model, features, num_iter="auto", seed=seed)
        for into, value in ((keep, result.keep), (flips, result.flips), (taken, result.iterations), (seconds, spent)):
            into.append(value)
        if seed < args.rounds:
            result, spent = timed(model, features, num_iter=FIXED, seed=seed)
            fixed.append(result.keep)
            long.append(spent)
    keep, flips, taken = map(np.array, (keep, flips, taken))
    columns = ["predicted", "decisions a seed", "mean prediction", "observed"]
    rows = reliability(flips, keep)
    cells = [[f"{a:g} to {b:g}", f"{n:,.0f}", f"{p:.5f}", f"{o:.5f}"] for a, b, n, p, o in rows]
    print(markdown_table(columns, cells))
    print(f"\n{len(features):,} samples, {args.seeds} seeds: {disagreement(keep):.3%} of decisions differ between two")
    print(f"predicted {flips.mean():.3%}; {taken.mean():,.0f} iterations on average, {keep.mean():.2%} kept")
    ends, counts = np.unique(taken, return_counts=True)
    print(", ".join(f"{end}: {count / taken.size:.2%}" for end, count in zip(ends, counts, strict=True)))
    if args.rounds:
        print(f"processor seconds: {np.median(seconds[: args.rounds]):.2f}, T = {FIXED:,}: {np.median(long):.2f}")
        print(f"T = {FIXED:,}: {disagreement(np.array(fixed)):.3%} differ between two of {args.rounds} seeds")
    if args.picture:
        draw(rows, args.picture)


if __name__ == "__main__":
    main()
