"""A scored data set for people: the per-sample table, and the summary as lines to read."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fastuq.report.tables import write_csv
from fastuq.scoring.decisions import Reason
from fastuq.scoring.result import Result

COLUMNS: tuple[tuple[str, Callable[[Result, tuple[str, ...]], Iterable[Any] | None], str], ...] = (
    ("index", lambda r, names: range(len(r)), ""),
    ("file", lambda r, names: r.files, ""),
    ("label", lambda r, names: _empty(r) if r.labels is None else r.labels, ""),
    ("label_name", lambda r, names: _empty(r) if r.labels is None else map(names.__getitem__, r.labels), ""),
    ("prediction", lambda r, names: r.prediction, ""),
    ("prediction_name", lambda r, names: map(names.__getitem__, r.prediction), ""),
    ("decision", lambda r, names: map(decision_word, r.keep), ""),
    ("reason", lambda r, names: (Reason(code).text for code in r.reason), ""),
    ("mean", lambda r, names: r.predicted_mean, ".6g"),
    ("lower", lambda r, names: r.predicted_lower, ".6g"),
    ("upper", lambda r, names: r.predicted_upper, ".6g"),
    ("max_mean", lambda r, names: r.max_mean, ".6g"),
    ("entropy", lambda r, names: r.entropy, ".6g"),
    ("mutual_information", lambda r, names: r.mutual_information, ".6g"),
    ("plain_prediction", lambda r, names: r.plain_prediction, ""),
)
"""The columns of the table: name, values of a result and its class names, and their format; without values, no column.

``mean``, ``lower`` and ``upper`` are of the predicted class, `Result` says what the others are.
"""


def write_sample_table(path: str | Path, result: Result, class_names: tuple[str, ...]) -> None:
    """Write one CSV row per sample to `path`, whole or not at all; its columns are `COLUMNS`.

    A name that a spreadsheet would take for a formula (``=1+1``) gets an apostrophe in front.
    """
    given = [(name, values(result, class_names), spec) for name, values, spec in COLUMNS]
    table = {name: _cells(values, spec) for name, values, spec in given if values is not None}
    write_csv(path, list(table), zip(*table.values(), strict=True))


def _cells(values: Iterable[Any], spec: str) -> Iterator[str]:
    return (format(value, spec) for value in values)


def _empty(result: Result) -> list[str]:
    return [""] * len(result)


def sample_name(result: Result, number: int) -> str:
    """Return what people call a sample: the name of its file, else its number."""
    return f"image {number}" if result.files is None else result.files[number]


def decision_word(keep: bool) -> str:
    """Return 'keep' or 'ignore'."""
    return "keep" if keep else "ignore"


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
            f"{n:4} {decision_word(result.keep[n]):6}  {predicted:{width}} {truth:{width}} "
            f"{result.predicted_mean[n]:5.2f}  {bounds}  {Reason(result.reason[n]).text}{wrong}"
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
