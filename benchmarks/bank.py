"""What a bank buys: accuracy and selective risk by softmax(a z + b s) beside one plain pass, on held-out halves.

    python benchmarks/bank.py TRAIN.h5 TEST.h5 [--shifted FILE ...] [--foreign FILE ...] [--components 128 256]
        [--draws 6] [--gates 0.06 0.08 0.1] [--markdown FILE]

TRAIN, TEST and the shifted ones are labelled feature caches, the foreign ones need no labels. Each draw halves TEST: a,
b and the gate are fitted on one half and reported on the other, and the other way round. A shifted cache holds the
images of TEST once per severity, and counts with those that are in the half that is reported on.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from fastuq.cache import FeatureCache
from fastuq.model.model import load_model
from fastuq.report.tables import markdown_table
from fastuq.scoring.bank import Bank
from fastuq.scoring.bank.fitting import fit
from fastuq.scoring.logits import plain_logits
from fastuq.scoring.metrics import aurc
from fastuq.util.files import write_text

COVERAGE = 0.862
"""What the paper's rule keeps of the CIFAR-100 test images with the bundled model."""


def read(bank, model, path):
    """Return logits, similarities and labels of a cache."""
    with FeatureCache.open(path, model) as cache:
        features = cache.read(0, len(cache))
        return plain_logits(model, features), bank.similarities(features), cache.labels


def kept(score, right):
    """Return the accuracy among the share `COVERAGE` of the largest scores, and the least of them."""
    order = np.argsort(-score, kind="stable")[: round(COVERAGE * len(score))]
    return right[order].mean(), score[order[-1]]


def figures(output, labels):
    score, right = output.max(axis=1), output.argmax(axis=1) == labels
    return [100 * right.mean(), 1000 * aurc(score, right), 100 * kept(score, right)[0]]


def halves(count, draws):
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(count)
        yield from ((order[: count // 2], order[count // 2 :]), (order[count // 2 :], order[: count // 2]))


def probabilities(bank, z, s):
    return softmax(bank.fuse(z, s).astype(np.float64), axis=1)


def fitted_halves(bank, clean, draws):
    """Return (bank fitted on one half of TEST, the samples of the other) of all draws."""
    return [
        (replace(bank, weights=fit(clean[0][one], clean[1][one], clean[2][one])), other)
        for one, other in halves(len(clean[2]), draws)
    ]


def gate_row(fitted, clean, foreign, share):
    """Return accuracy of the kept, and the share kept of each foreign set, at equal coverage, `share` gated."""
    rows = []
    for bank, other in fitted:
        gate = bank.weights.gate(share)
        z, s, labels = (array[other] for array in clean)
        p = probabilities(bank, z, s)
        accuracy, least = kept(np.where(z.max(axis=1) >= gate, p.max(axis=1), -1), p.argmax(axis=1) == labels)
        tops = [(probabilities(bank, z, s).max(axis=1), z.max(axis=1)) for z, s, _ in foreign]
        rows.append([100 * accuracy, *(100 * np.mean((top >= least) & (logit >= gate)) for top, logit in tops)])
    return np.mean(rows, axis=0)


def plain_foreign(clean, foreign):
    """Return the same of the largest output of the plain pass."""
    z, _, labels = clean
    accuracy, least = kept(expit(z.max(axis=1)), z.argmax(axis=1) == labels)
    return [100 * accuracy, *(100 * np.mean(expit(each[0].max(axis=1)) >= least) for each in foreign)]


def both(fitted, z, s, labels):
    """Return the figures of the plain pass and of the bank, means over all halves."""
    found = []
    for bank, other in fitted:
        outputs = expit(z[other].astype(np.float64)), probabilities(bank, z[other], s[other])
        found.append([figures(output, labels[other]) for output in outputs])
    return np.mean(found, axis=0)


def shifted_rows(bank, model, fitted, paths):
    """Return the rows of each severity, means over the shifted caches, and a line on single splits."""
    by_severity, worse = {}, 0
    for path in paths:
        z, s, labels = read(bank, model, path)
        count = 2 * len(fitted[0][1])
        for number in range(len(labels) // count):
            part = slice(number * count, (number + 1) * count)
            found = both(fitted, z[part], s[part], labels[part])
            by_severity.setdefault(number + 1, []).append(found)
            worse += found[1][1] > found[0][1]
    rows = [row for number, found in by_severity.items() for row in lines(f"severity {number}", np.mean(found, axis=0))]
    splits = sum(map(len, by_severity.values()))
    return rows, f"AURC is larger with the bank in {worse} of {splits} splits."


def lines(name, found):
    return [[name, side, *(f"{v:.2f}" for v in values)] for side, values in zip(("plain", "bank"), found, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--shifted", nargs="*", default=[])
    parser.add_argument("--foreign", nargs="*", default=[])
    parser.add_argument("--components", nargs="*", type=int, default=[256])
    parser.add_argument("--gates", nargs="*", type=float, default=[0.06, 0.08, 0.1])
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--model")
    parser.add_argument("--markdown")
    args = parser.parse_args()
    model, text = load_model(args.model), []
    for components in args.components:
        with FeatureCache.open(args.train, model) as training, FeatureCache.open(args.test, model) as test:
            bank = Bank.make(model, training, test, components=components)
        clean = read(bank, model, args.test)
        fitted = fitted_halves(bank, clean, args.draws)
        rows, more = lines("clean", both(fitted, *clean)), ""
        if args.shifted:
            found, more = shifted_rows(bank, model, fitted, args.shifted)
            rows += found
        columns = ["images", "by", "accuracy", "AURC x 1000", f"right, of {COVERAGE:.1%} kept"]
        text += [f"{components} components", "", markdown_table(columns, rows, 2), "", more, ""]
        if args.foreign:
            foreign = [read(bank, model, path) for path in args.foreign]
            rows = [["plain", *(f"{value:.1f}" for value in plain_foreign(clean, foreign))]]
            for share in (0, *args.gates):
                found = gate_row(fitted, clean, foreign, share)
                rows.append([f"bank, gate {share:g}", *(f"{value:.1f}" for value in found)])
            columns = ["by", "right, of the kept", *(f"{Path(path).stem} kept" for path in args.foreign)]
            text += [markdown_table(columns, rows), ""]
        print("\n".join(text), flush=True)
    if args.markdown:
        write_text(args.markdown, "\n".join(text))


if __name__ == "__main__":
    main()
