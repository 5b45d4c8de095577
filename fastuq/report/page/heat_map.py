"""CIFAR-100-C as heat maps: one cell for each corruption and severity, of the table that `score-cifar100c` writes."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastuq.errors import InputError, short
from fastuq.report.page.markup import text
from fastuq.util.checks import checked_path
from fastuq.util.npy import open_regular

MAX_BYTES = 2**22
"""Largest table that is read; that of all splits has 32 kB."""
FIGURES = {
    "accuracy_plain": "Right, of all",
    "kept": "Kept",
    "accuracy_kept": "Right, of the kept",
}
_OPTIONS = {"T =": "num_iter", "conf_factor": "conf_factor", "threshold": "threshold", "seed": "seed"}
Row = Mapping[str, str]


def read_splits(path: str | Path, model_sha256: str) -> list[Row]:
    """Return the rows of a table that ``fastuq score-cifar100c --csv`` wrote.

    Raises
    ------
    InputError
        It is no such table, or one of another model.
    """
    try:
        with open(open_regular(checked_path(path)), "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        rows: list[Row] = list(csv.DictReader(data.decode().splitlines(), strict=True))
        if not rows:
            raise ValueError("no rows")
        for row in rows:
            _check(row)
    except (OSError, ArithmeticError, ValueError, KeyError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or short(error)
        raise InputError(
            f"CIFAR-100-C {path}: expected a table of `fastuq score-cifar100c --csv`, found another file ({reason})"
        ) from None
    others = {row["model_sha256"] for row in rows} - {model_sha256}
    if others:
        raise InputError(
            f"CIFAR-100-C {path}: expected splits scored with model {model_sha256[:12]}, found those of "
            f"{short(min(others), 12)}; run `fastuq score-cifar100c --csv` with the model of this report"
        )
    return rows


def _check(row: Row) -> None:
    """Raise KeyError or ValueError where a row is none of a split."""
    if None in row or None in row.values():
        raise ValueError("a row longer or shorter than the header")
    if int(row["n"]) < 1 or not 1 <= int(row["severity"]) <= 5 or not row["corruption"] + row["model_sha256"]:
        raise ValueError(f"a split of {row['n']} images of severity {row['severity']}")
    for figure in FIGURES:
        value = _value(row, figure)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{figure} {row[figure]}")


def _value(row: Row, figure: str) -> float | None:
    """Return a figure of a split as a fraction; None where there is none, as of the right among none kept."""
    if row[figure] == "":
        return None
    return int(row[figure]) / int(row["n"]) if figure == "kept" else float(row[figure])


def heat_maps(rows: Sequence[Row]) -> str:
    """Return a heat map of each figure."""
    corruptions = sorted({row["corruption"] for row in rows})
    severities = sorted({int(row["severity"]) for row in rows})
    return "".join(
        _heat_map(
            title, {(r["corruption"], int(r["severity"])): _value(r, name) for r in rows}, corruptions, severities
        )
        for name, title in FIGURES.items()
    )


def _heat_map(
    title: str,
    values: Mapping[tuple[str, int], float | None],
    corruptions: Sequence[str],
    severities: Sequence[int],
) -> str:
    there = [value for value in values.values() if value is not None]
    low, high = (min(there), max(there)) if there else (0.0, 1.0)
    span = high - low if high > low else math.inf
    head = "".join(f'<th scope="col">{severity}</th>' for severity in severities)
    lines = []
    for corruption in corruptions:
        cells = ""
        for severity in severities:
            value = values.get((corruption, severity))
            cells += (
                "<td>–</td>"
                if value is None
                else (f'<td style="--heat:{(value - low) / span:.0%}">{100 * value:.1f}</td>')
            )
        lines.append(f'<tr><th scope="row">{text(corruption.replace("_", " "))}</th>{cells}</tr>')
    return (
        f'<table class="heat"><caption>{text(title)}, %</caption><thead><tr><th scope="col">severity</th>{head}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table>"
    )


def heat_caption(rows: Sequence[Row]) -> str:
    """Return what the heat maps were scored with, as HTML."""
    first = rows[0]
    given = (f"{name} {first[key]}" for name, key in _OPTIONS.items() if first.get(key))
    return f"{len(rows)} splits of {int(first['n']):,} images; {text(', '.join(given))}."
