"""A scored data set for people: the per-sample table, and the summary as lines to read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastuq.report.tables import write_csv
from fastuq.scoring.decisions import Reason
from fastuq.scoring.result import Result


def write_sample_table(path: str | Path, result: Result, class_names: tuple[str, ...]) -> None:
    """Write one CSV row per sample to `path`, whole or not at all.

    Columns: index, label, label_name (empty without labels), prediction, prediction_name, decision, reason, the mean,
    lower and upper end of the predicted class, max_mean, entropy (nats), mutual_information (nats, where it was asked
    for), plain_prediction. A name that a spreadsheet would take for a formula (``=1+1``) gets an apostrophe in front.
    """
    header = ["index", "label", "label_name", "prediction", "prediction_name", "decision", "reason"]
    header += ["mean", "lower", "upper", "max_mean", "entropy"]
    if result.mutual_information is not None:
        header.append("mutual_information")
    header.append("plain_prediction")
    write_csv(path, header, _rows(result, class_names))


def _rows(result: Result, names: tuple[str, ...]) -> Iterator[list[Any]]:
    figures = [result.predicted_mean, result.predicted_lower, result.predicted_upper, result.max_mean, result.entropy]
    if result.mutual_information is not None:
        figures.append(result.mutual_information)
    for n in range(len(result)):
        label = None if result.labels is None else int(result.labels[n])
        prediction = int(result.prediction[n])
        yield [
            n,
            "" if label is None else label,
            "" if label is None else names[label],
            prediction,
            names[prediction],
            decision_word(result, n),
            Reason(result.reason[n]).text,
            *(f"{column[n]:.6g}" for column in figures),
            int(result.plain_prediction[n]),
        ]


def decision_word(result: Result, n: int) -> str:
    """Return 'keep' or 'ignore' of sample `n`."""
    return "keep" if result.keep[n] else "ignore"


def readable_rows(result: Result, class_names: tuple[str, ...]) -> list[str]:
    """Return a table of all samples as lines: decision and reason, predicted and true class, mean and interval."""
    width = max(len(name) for name in class_names)
    lines = [f"{'':>4} {'':6}  {'predicted':{width}} {'true class':{width}} {'mean':>5}  interval       reason"]
    for n in range(len(result)):
        truth = "" if result.labels is None else class_names[result.labels[n]]
        predicted = class_names[result.prediction[n]]
        wrong = "" if truth in ("", predicted) else "  (wrong)"
        bounds = f"{result.predicted_lower[n]:5.2f} to {result.predicted_upper[n]:4.2f}"
        lines.append(
            f"{n:4} {decision_word(result, n):6}  {predicted:{width}} {truth:{width}} {result.predicted_mean[n]:5.2f}"
            f"  {bounds}  {Reason(result.reason[n]).text}{wrong}"
        )
    return lines


def summary_lines(summary: dict[str, Any], title: str) -> list[str]:
    """Return the summary of `Result.summary` as lines to read."""
    n, kept, ignored = (summary[key] for key in ("n", "kept", "ignored"))
    seconds = summary["seconds"]
    lines = [
        f"{title}: {n:,} images, T = {summary['num_iter']}, conf_factor {summary['conf_factor']}, "
        f"threshold {summary['threshold']}, {summary['masks'].replace('_', '-')} masks, {summary['precision']}",
        f"  kept      {kept:>7,}  {kept / n:6.1%}",
        f"  ignored   {ignored:>7,}  {ignored / n:6.1%}",
    ]
    if summary["accuracy_plain"] is not None:
        lines += [
            f"  accuracy  plain pass, all images {_percent(summary['accuracy_plain'])}; "
            f"kept images {_percent(summary['accuracy_kept'])}",
            f"  micro-F1  without UQ {_percent(summary['f1_plain'])}; with UQ {_percent(summary['f1_uq'])}",
            f"  ignored that the plain pass gets wrong (MI / I) {_percent(summary['misclassified_ignored'])}; "
            f"AURC {summary['aurc']:.4f}",
        ]
    lines.append(
        f"  seconds   features {seconds['features']:.2f}, head {seconds['head']:.3f} "
        f"({seconds['head'] / n * 1e3:.4f} ms/image), loading kernels {seconds['compile']:.2f}, "
        f"total {seconds['total']:.2f}"
    )
    return lines


def _percent(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:.2%}"
