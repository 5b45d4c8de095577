"""Tables of plain values: CSV for programs, Markdown for people."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastuq.errors import printable
from fastuq.util.files import atomic_path

_FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
"""What begins a formula in a spreadsheet, as full-width signs too."""


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV, whole or not at all; None is an empty cell.

    Control characters of a text are written out, and one that a spreadsheet would take for a formula gets an
    apostrophe in front.
    """
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_csv_cell(value) for value in row] for row in rows)


def flat_row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with inner mappings spread out: ``{"seconds": {"head": 1}}`` becomes ``{"seconds_head": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= {f"{key}_{inner}": v for inner, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> str:
    """Return a Markdown table; the first `left` columns are text, the others are aligned to the right."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def percent(rate: float | None, digits: int = 1) -> str:
    """Return a fraction as per cent without the sign, or a dash for what there is not."""
    return "–" if rate is None else f"{100 * rate:.{digits}f}"


def _cell(value: Any) -> str:
    """Return a value as a cell of a Markdown table; a dash for what there is not."""
    return "–" if value is None else printable(value).replace("|", "\\|")


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(tuple(_FORMULA)) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
