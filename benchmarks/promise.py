"""How promises keep: broken how often, how much they keep, and when the shift alarm sounds.

Usage: python benchmarks/promise.py TEST_CACHE [CORRUPTED_CACHE ...] [--bank BANK] [--rounds 1000]

TEST_CACHE is a feature cache of labelled test images (`fastuq cache-features cifar100`), CORRUPTED_CACHE one corruption
of CIFAR-100-C with its five severities one after the other (`fastuq score-cifar100c` leaves them in out/cifar100c).

The test images are taken for all there is, so that every risk is known. A round draws samples from them, with
replacement, calibrates, and looks up the true risk of the threshold.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import fastuq
from fastuq.errors import InputError
from fastuq.scoring.calibration.conformal import KINDS, calibrated_sets
from fastuq.scoring.calibration.risk import threshold_at_risk
from fastuq.scoring.calibration.shift import shift_alarm
from fastuq.scoring.calibration.temperature import fit_temperature, probabilities
from fastuq.scoring.metrics import brier, ece, nll

NAMES = ("max", "top_alone", "entropy", "mean_top_alone")
RISKS, DELTA = (0.05, 0.08, 0.1), 0.05
SEVERITIES = 5


def judged(path, model, bank=None, names=NAMES, mirror=None):
    """Return scores by name, and which predictions are right; without the samples that the bank was fitted on.

    `mirror` is the cache of the mirrored images, which go in as another view.
    """
    given = {name: {} for name in names} | ({} if bank is None else {"bank": {"bank": bank}})
    found = {}
    with ExitStack() as opened:
        cache = opened.enter_context(fastuq.FeatureCache.open(path, model))
        views = [opened.enter_context(fastuq.FeatureCache.open(mirror, model))] if mirror else []
        fitted = bank is not None and bank.origin.held_out_fingerprint == cache.data_fingerprint
        first = bank.origin.held_out_samples if fitted else 0
        for name, options in given.items():
            how = {"rule": "score", "score": name, "coverage": 1.0, "details": False}
            result = fastuq.score(model, cache, views=views, **how, **options)
            found[name] = (result.score[first:], (result.prediction == result.labels)[first:])
    return found


def oracle(score, right, risk):
    """Return the largest coverage of a threshold whose risk, were it known, is at most `risk`."""
    order = np.argsort(-score, kind="stable")
    risks = np.cumsum(~right[order]) / np.arange(1, len(score) + 1)
    within = np.flatnonzero(risks <= risk)
    return (within[-1] + 1) / len(score) if len(within) else 0.0


def kept(score, right, threshold):
    """Return coverage and risk of what a threshold keeps."""
    keep = score >= threshold
    return keep.mean(), (~right[keep]).mean() if keep.any() else 0.0


def threshold_of(score, right, risk):
    try:
        return threshold_at_risk(score, right, risk, DELTA).threshold
    except InputError:
        return np.inf


def promises(found, samples, rounds):
    print("\n| score | risk | broken | nothing promised | coverage | oracle | other half above the risk |")
    print("|---|---|---|---|---|---|---|")
    for name, (score, right) in found.items():
        for risk in RISKS:
            rng = np.random.default_rng(0)
            rows, halves = np.empty((rounds, 2)), np.empty(rounds)
            for place in range(rounds):
                drawn = rng.integers(0, len(score), samples)
                rows[place] = kept(score, right, threshold_of(score[drawn], right[drawn], risk))
                order = rng.permutation(len(score))
                here, there = order[: len(order) // 2], order[len(order) // 2 :]
                halves[place] = kept(score[there], right[there], threshold_of(score[here], right[here], risk))[1]
            coverage, true = rows.T
            print(
                f"| {name} | {risk:.0%} | {(true > risk).mean():.1%} | {(coverage == 0).mean():.1%} | "
                f"{coverage.mean():.1%} | {oracle(score, right, risk):.1%} | {(halves > risk).mean():.1%} |",
                flush=True,
            )


def alarms(found, corrupted, rounds):
    """Print how often the alarm sounds; `corrupted` has the scores of every corruption, severity by severity."""
    sizes, rng = (100, 500, 2000), np.random.default_rng(0)
    score, right = found["max"]
    threshold = threshold_of(score, right, RISKS[0])

    def shares(other, times):
        """Return the share of alarms for each size; `other` is None for the clean images of the other half."""
        sounded = np.zeros(len(sizes))
        for _ in range(times):
            order = rng.permutation(len(score))
            here, there = score[order[: len(order) // 2]], score[order[len(order) // 2 :]]
            scored = there if other is None else rng.permutation(other)
            sounded += [shift_alarm(here, scored[:size]).sounds for size in sizes]
        return sounded / times

    def row(name, values, error):
        print(f"| {name} | {' | '.join(f'{value:.1%}' for value in values)} | {error:.1%} |", flush=True)

    print("\n| alarm, score max | " + " | ".join(f"{size} images" for size in sizes) + " | error of those kept |")
    print("|---|" + "---|" * (len(sizes) + 1))
    row("clean", shares(None, rounds), kept(score, right, threshold)[1])
    broken = []
    for severity in range(SEVERITIES):
        parts = [[np.array_split(column, SEVERITIES)[severity] for column in pair] for pair in corrupted.values()]
        errors = [kept(*part, threshold)[1] for part in parts]
        heard = [shares(part[0], rounds // 10) for part in parts]
        row(f"severity {severity + 1}", np.mean(heard, axis=0), np.mean(errors))
        broken += [(*each, error) for each, error in zip(heard, errors, strict=True) if error > RISKS[0]]
    if broken:
        *mean, error = np.mean(broken, axis=0)
        row(f"the {len(broken)} with an error above {RISKS[0]:.0%}", mean, error)


def outputs(path, model, bank, rounds):
    """Print how good outputs are as probabilities, and how large sets are: fitted on a half, looked up on the other."""
    print("| outputs | temperature | ECE | NLL | Brier score | sets | hold the true class | classes |")
    print("|---|---|---|---|---|---|---|---|")
    for name, given in {"head": {}, "head and bank": {"bank": bank}}.items():
        if given == {"bank": None}:
            continue
        with fastuq.FeatureCache.open(path, model) as cache:
            result = fastuq.score(model, cache, **given)
        rows = {}
        for seed in range(rounds):
            order = np.random.default_rng(seed).permutation(len(result))
            here, there = order[: len(order) // 2], order[len(order) // 2 :]
            mean, labels, right = result.mean[there], result.labels[there], (result.top == result.labels)[there]
            fitted = fit_temperature(result.mean[here], result.labels[here])
            for temperature in (1.0, fitted):
                p = probabilities(mean, temperature)
                figures = temperature, ece(p.max(axis=1), right), nll(p, labels), brier(p, labels)
                rows.setdefault("before" if temperature == 1 else "after", []).append(figures)
            for kind in KINDS:
                for coverage in (0.9, 0.95):
                    sets = calibrated_sets(result.mean[here], result.labels[here], coverage, kind).of(mean)
                    held = sets[np.arange(len(sets)), labels].mean()
                    rows.setdefault(f"{kind.upper()} {coverage:.0%}", []).append((held, sets.sum(axis=1).mean()))
        for key, values in rows.items():
            mean = np.mean(values, axis=0)
            if len(mean) == 4:
                print(f"| {name}, {key} | {mean[0]:.2f} | {mean[1]:.1%} | {mean[2]:.3f} | {mean[3]:.3f} | | | |")
            else:
                print(f"| {name} | | | | | {key} | {mean[0]:.1%} | {mean[1]:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", type=Path)
    parser.add_argument("corrupted", type=Path, nargs="*")
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--mirror", type=Path, help="cache of the mirrored test images: every score is of both")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5000)
    args = parser.parse_args()
    model = fastuq.load_model()
    bank = fastuq.Bank.load(args.bank, model) if args.bank else None
    outputs(args.test, model, bank, min(args.rounds, 20))
    found = judged(args.test, model, bank, mirror=args.mirror)
    promises(found, args.samples, args.rounds)
    if args.mirror:
        return
    alarms(found, {path: judged(path, model, names=["max"])["max"] for path in args.corrupted}, args.rounds)


if __name__ == "__main__":
    main()
