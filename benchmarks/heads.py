"""What more heads buy, and last-layer Laplace, beside one head: alone, with a bank, and with a mirrored view.

    python benchmarks/heads.py TRAIN.h5 [MIRRORED_TRAIN.h5] --test TEST.h5 [--mirror MIRRORED_TEST.h5] [--bank BANK]
        [--heads 2 5] [--plain-heads 3] [--work DIR] [--markdown FILE]

TRAIN and TEST are labelled feature caches of the bundled model, or of `--model`. Further heads are fitted on the
features of TRAIN as `fastuq train --heads` fits them: layout and recipe of the model, the next seeds; `--plain-heads`
are fitted without dropout. All of them stay in `--work`, where the next run finds them.

The two weights of the bank are fitted once more for every number of heads, on the samples that the bank was fitted on;
these are not reported on. Of the others, thresholds, temperatures and the prior of Laplace are chosen on one half and
reported on the other, over random halves. Intervals are paired bootstrap draws, less the figures of one head.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from fastuq.bench.score_data import halves
from fastuq.cache import FeatureCache
from fastuq.model.head import Head
from fastuq.model.model import load_model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.sampling import Sampling
from fastuq.montecarlo.together import heads_of
from fastuq.report.tables import markdown_table
from fastuq.scoring.bank import Bank
from fastuq.scoring.bank.fitting import fit
from fastuq.scoring.calibration.temperature import fit_temperature, probabilities
from fastuq.scoring.logits import plain_logits
from fastuq.scoring.metrics import aurc, auroc, nll
from fastuq.scoring.score_rule import threshold_at
from fastuq.scoring.scoring import Scorer
from fastuq.training.fitting import Recipe, Samples, fit_heads
from fastuq.training.head_check import rounded_heads
from fastuq.training.keras_heads import head_from_model, parse_layout
from fastuq.util.files import write_text

COVERAGE, NUM_ITER, SPLITS, RESAMPLES = 0.862, 50, 5, 500
PRIORS = 10.0 ** np.arange(-1, 5)


@dataclass(frozen=True)
class Row:
    """Outputs (N, C) by one way of scoring; several where a prior is to be chosen.

    Attributes
    ----------
    group : str
        What it is compared within: alone, or with a bank or views.
    name : str
    outputs : list of ndarray, (N, C)
    milliseconds : float or None
        Of processor time for each sample, beyond the backbone; None where it was not measured.
    """

    group: str
    name: str
    outputs: list[np.ndarray]
    milliseconds: float | None


def read(path, model):
    """Return the features and labels of a cache."""
    with FeatureCache.open(path, model) as cache:
        return cache.read(0, len(cache)), cache.labels


def more_heads(model, samples, layout, folder, *, count, first):
    """Return `count` heads, float32 and int8, fitted on the samples from seed `first` on, and seconds of each."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe, began = Recipe(**model.info["made"]["recipe"]), time.process_time()
    tops = fit_heads(parse_layout(layout, samples.num_classes), samples, recipe, seed=first, count=count, folder=folder)
    print(f"{count} heads of {layout}: {time.process_time() - began:.0f} s of processor time", flush=True)
    heads = [head_from_model(top) for top in tops]
    return rounded_heads(heads, samples.views[0], model.feature_scale, model.feature_zero_point)[0]


def without_dropout(layout):
    """Return a layout with rates 0."""
    words = layout.split(",")
    return ",".join(word if ":" not in word else "0:" + word.partition(":")[2] for word in words)


def scored(group, name, model, views, bank, *, dropout=True):
    """Return the rows of one model: by the mean over the iterations, where there are any, and by the plain pass."""
    scorer = Scorer(model, bank=bank, num_iter=NUM_ITER if dropout else 2)
    scorer(views[0][:64], views=[view[:64] for view in views[1:]])  # kernels are loaded, heads packed
    began = time.process_time()
    result = scorer(views[0], views=views[1:])
    cost = (time.process_time() - began) / len(views[0]) * 1e3
    plain = Row(group, name, [result.plain], None if dropout else cost)
    return [plain, Row(group, f"{name}, T = {NUM_ITER}", [result.mean], cost)] if dropout else [plain]


def groups(bank, mirrored):
    """Yield (name, whether with the bank, whether with the mirrored view)."""
    yield "alone", False, False
    if bank is not None:
        yield "bank", True, False
    if mirrored:
        yield "two views", False, True
    if bank is not None and mirrored:
        yield "bank, two views", True, True


def refitted(bank, model, features, labels):
    """Return the bank with the weights of the heads that the model has."""
    few = slice(0, bank.origin.held_out_samples)
    return replace(bank, weights=fit(plain_logits(model, features[few]), bank.similarities(features[few]), labels[few]))


def last_layer(head: Head, values):
    """Return what the last layer takes, with a 1 behind it for the bias (N, H + 1), and its logits."""
    hidden, last = head.hidden(values), head.blocks[-1]
    return np.hstack([hidden, np.ones((len(hidden), 1), np.float32)]), hidden @ last.weights + last.bias


def laplace(model, train, test):
    """Return the logits of TEST and, for each prior, their variances (N, C).

    The Gauss-Newton matrix of a sigmoid layer under binary cross-entropy falls into one block for each class, which is
    exact: the sum of p (1 - p) h h' over the training samples. The posterior is Gaussian with the inverse of that and
    the prior's precision.
    """
    h, z = last_layer(model.head, model.dequantize(train))
    of_test, logits = last_layer(model.head, model.dequantize(test))
    variances = [np.empty_like(logits) for _ in PRIORS]
    for c in range(logits.shape[1]):
        p = expit(z[:, c])
        eigenvalues, vectors = np.linalg.eigh(((h * (p * (1 - p))[:, None]).T @ h).astype(np.float64))
        turned = (of_test @ vectors) ** 2
        for prior, found in zip(PRIORS, variances, strict=True):
            found[:, c] = turned @ (1 / (np.maximum(eigenvalues, 0) + prior))
    return logits, variances


def laplace_rows(model, train, features, bank):
    """Return the rows of Laplace: sigmoid or softmax of logits that the probit approximation shrinks."""
    began = time.process_time()
    logits, variances = laplace(model, train, features)
    print(f"Laplace: {time.process_time() - began:.0f} s of processor time", flush=True)
    shrunk, name = [logits / np.sqrt(1 + np.pi / 8 * each) for each in variances], "one head, last-layer Laplace"
    rows = [Row("alone", name, [expit(each) for each in shrunk], None)]
    if bank is not None:
        similarities = bank.similarities(features)
        fused = [softmax(bank.fuse(each, similarities), axis=1) for each in shrunk]
        rows.append(Row("bank", name, fused, None))
    return rows


def monte_carlo_error(model, features, seeds=10):
    """Return how far means move with the seed (root mean square): heads under masks of their own, and all under one."""
    own, one = [], []
    for seed in range(seeds):
        sampling = Sampling(num_iter=NUM_ITER, seed=seed)
        own.append(np.mean([run(features).mean for run in heads_of(model, sampling)], axis=0))
        one.append(np.mean([MonteCarlo(each, sampling)(features).mean for each in model.members], axis=0))
    return [float(np.sqrt(np.var(each, axis=0, ddof=1).mean())) for each in (own, one)]


def figures(outputs, labels, choosing, reporting):
    """Return the figures of one half; temperature and threshold are those of the other."""
    score, right = outputs.max(axis=1), outputs.argmax(axis=1) == labels
    kept = score[reporting] >= threshold_at(score[choosing], COVERAGE, len(choosing))
    hot = fit_temperature(outputs[choosing], labels[choosing])
    return [
        100 * right[reporting].mean(),
        1000 * aurc(score[reporting], right[reporting]),
        100 * right[reporting][kept].mean(),
        100 * auroc(score[reporting], right[reporting]),
        nll(probabilities(outputs[reporting], hot), labels[reporting]),
    ]


def drawn(score, right, rows):
    """Return AURC and accuracy at coverage of some samples."""
    score, right = score[rows], right[rows]
    return [1000 * aurc(score, right), 100 * right[score >= threshold_at(score, COVERAGE, len(score))].mean()]


def measured(row, labels, pairs):
    """Return the means of the figures over all halves, and bootstrap draws of two of them."""
    rng, found, draws = np.random.default_rng(0), [], []  # the same samples are drawn for every row
    for choosing, reporting in pairs:
        losses = [0] if len(row.outputs) == 1 else [nll(each[choosing], labels[choosing]) for each in row.outputs]
        outputs = row.outputs[int(np.argmin(losses))]
        found.append(figures(outputs, labels, choosing, reporting))
        score, right = outputs.max(axis=1), outputs.argmax(axis=1) == labels
        some = [rng.choice(reporting, len(reporting)) for _ in range(RESAMPLES // len(pairs))]
        draws += [drawn(score, right, each) for each in some]
    return np.mean(found, axis=0), np.array(draws)


def table(rows, labels, first):
    """Return the table of all rows; the first of each group is what its others are compared with."""
    pairs, lines, bases = halves(len(labels), SPLITS, 0, first), [], {}
    for row in sorted(rows, key=lambda row: [each.group for each in rows].index(row.group)):
        (accuracy, area, kept, area_roc, loss), draws = measured(row, labels, pairs)
        spans = ["", ""]
        if row.group in bases:
            low, high = np.quantile(draws - bases[row.group], [0.025, 0.975], axis=0)
            spans = [f"{a:+.2f} to {b:+.2f}" for a, b in zip(low, high, strict=True)]
        bases.setdefault(row.group, draws)
        numbers = [f"{accuracy:.2f}", f"{area:.2f}", spans[0], f"{kept:.2f}", spans[1], f"{area_roc:.2f}"]
        cost = "" if row.milliseconds is None else f"{row.milliseconds:.3f}"
        lines.append([row.group, row.name, *numbers, f"{loss:.4f}", cost])
    columns = ["with", "decision by", "accuracy", "AURC x 1000", "less one head", f"right, of {COVERAGE:.1%} kept"]
    return markdown_table([*columns, "less one head", "AUROC", "NLL", "ms a sample"], lines, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="+")
    parser.add_argument("--test", required=True)
    parser.add_argument("--mirror")
    parser.add_argument("--bank", help="`bundled` for that of the bundled model")
    parser.add_argument("--heads", nargs="*", type=int, default=[2, 5])
    parser.add_argument("--plain-heads", type=int, default=3)
    parser.add_argument("--model")
    parser.add_argument("--work", default="out/heads", type=Path)
    parser.add_argument("--markdown")
    args = parser.parse_args()
    model = load_model(args.model)
    training = [read(path, model) for path in args.train]
    (features, labels), views = read(args.test, model), [] if args.mirror is None else [read(args.mirror, model)[0]]
    bank = Bank.load(None if args.bank == "bundled" else args.bank, model) if args.bank else None
    samples = Samples(
        [each for each, _ in training],
        training[0][1],
        len(model.class_names),
        model.feature_scale,
        model.feature_zero_point,
    )
    layout, seed = model.info["made"]["head"], model.info["made"]["seed"]
    folder, most = args.work, max(args.heads, default=1) - 1
    others = more_heads(model, samples, layout, folder / "dropout", count=most, first=seed + 1) if most else []
    models = [("one head", model, True)]
    models += [(f"{count} heads", replace(model, others=tuple(others[: count - 1])), True) for count in args.heads]
    if args.plain_heads:
        layout = without_dropout(layout)
        plain = more_heads(model, samples, layout, folder / "plain", count=args.plain_heads, first=seed)
        first = replace(model, head=plain[0][0], head_int8=plain[0][1])
        models.append(("one head without dropout", first, False))
        several = replace(first, others=tuple(plain[1:]))
        models.append((f"{args.plain_heads} heads without dropout", several, False))
    rows, errors = [], monte_carlo_error(models[len(args.heads)][1], features[:1000])
    print("Monte-Carlo error, masks of their own and the same: {:.5f} and {:.5f}".format(*errors), flush=True)
    for name, with_bank, with_views in groups(bank, views):
        seen = [features, *views] if with_views else [features]
        for which, each, dropout in models:
            own = refitted(bank, each, features, labels) if with_bank else None
            rows += scored(name, which, each, seen, own, dropout=dropout)
            print(name, which, flush=True)
    rows += laplace_rows(model, samples.views[0], features, bank)
    text = table(rows, labels, 0 if bank is None else bank.origin.held_out_samples)
    print(text)
    if args.markdown:
        write_text(args.markdown, text + "\n")


if __name__ == "__main__":
    main()
