"""The splits of CIFAR-100-C as Markdown: means per severity, means per corruption, every split."""

from collections.abc import Sequence
from typing import Any

from fastuq.report.tables import markdown_table, percent

COLUMNS = {
    "accuracy_plain": "accuracy, plain %",
    "f1_plain": "micro-F1, without UQ %",
    "f1_uq": "micro-F1, with UQ %",
    "accuracy_kept": "accuracy, kept %",
    "kept": "kept %",
    "ignored": "ignored %",
    "misclassified_ignored": "MI / I %",
    "aurc": "AURC",
    "auroc": "AUROC %",
}


def cifar100c_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the report of `fastuq.paper.cifar100c.score_cifar100c` as Markdown."""
    first = rows[0]
    severities = sorted({row["severity"] for row in rows})
    corruptions = list(dict.fromkeys(row["corruption"] for row in rows))
    parts = [
        "# CIFAR-100-C",
        f"{len(rows)} splits of {first['n']:,} images; T = {first['num_iter']}, conf_factor {first['conf_factor']}, "
        f"threshold {first['threshold']}, interval {first['interval']}, {first['masks'].replace('_', '-')} masks, "
        f"{first['precision']}, seed {first['seed']}; model {first['model_sha256'][:12]}, "
        f"fastuq {first['fastuq_version']}. MI / I: share of the ignored that the plain pass gets wrong. "
        "AURC and AUROC rank by the largest mean.",
        "## Mean over the corruptions, per severity",
        _table("severity", [(s, [row for row in rows if row["severity"] == s]) for s in severities]),
        "## Mean over the severities, per corruption",
        _table("corruption", [(c, [row for row in rows if row["corruption"] == c]) for c in corruptions]),
        "## Every split",
        _table("split", [(f"{row['corruption']} {row['severity']}", [row]) for row in rows]),
    ]
    return "\n\n".join(parts) + "\n"


def mean_row(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the means of the columns over splits, as fractions; splits where a figure does not exist are left out."""
    means: dict[str, float | None] = {}
    for key in COLUMNS:
        values = [row[key] / row["n"] if key in ("kept", "ignored") else row[key] for row in rows]
        there = [value for value in values if value is not None]
        means[key] = sum(there) / len(there) if there else None
    return means


def _table(title: str, groups: Sequence[tuple[Any, Sequence[dict[str, Any]]]]) -> str:
    return markdown_table([title, *COLUMNS.values()], [[name, *_cells(mean_row(rows))] for name, rows in groups])


def _cells(means: dict[str, float | None]) -> list[str]:
    return [
        "–" if value is None else f"{value:.4f}" if key == "aurc" else percent(value) for key, value in means.items()
    ]


def severity_lines(found: dict[str, Any]) -> list[str]:
    """Return the means per severity as lines to read, and what the run took."""
    rows = found["rows"]
    lines = ["severity  accuracy      F1  with UQ    kept  acc. kept  MI / I    AURC   AUROC"]
    for severity in sorted({row["severity"] for row in rows}):
        means = mean_row([row for row in rows if row["severity"] == severity])
        cell = {key: "none" if value is None else f"{value:.1%}" for key, value in means.items()}
        quality = f"{cell['accuracy_plain']:>8}  {cell['f1_plain']:>6}  {cell['f1_uq']:>7}  {cell['kept']:>6}"
        trust = f"{cell['accuracy_kept']:>9}  {cell['misclassified_ignored']:>6}  {means['aurc']:6.4f}"
        lines.append(f"{severity:8}  {quality}  {trust}  {cell['auroc']:>6}")
    lines.append(
        f"{len(rows)} splits in {found['seconds_total']:.1f} s, of which {found['seconds_features']:.1f} s "
        "for making the feature caches or checking them"
    )
    return lines
