"""Tables of plain values: CSV for programs, Markdown for people."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastuq.files import atomic_path


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line per row under the keys of the first, whole or not at all; None is an empty cell."""
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def flat_row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with inner mappings spread out: ``{"seconds": {"head": 1}}`` becomes ``{"seconds_head": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= {f"{key}_{inner}": v for inner, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; the first column is text, the others are aligned to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def percent(rate: float | None, digits: int = 1) -> str:
    """Return a fraction as per cent without the sign, or a dash for what there is not."""
    return "–" if rate is None else f"{100 * rate:.{digits}f}"


def _cell(value: Any) -> str:
    return "–" if value is None else str(value).replace("|", "\\|")
