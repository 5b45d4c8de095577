"""A scored data set for people: the per-sample table, and the summary as lines to read."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

import numpy as np

from fastuq.errors import printable
from fastuq.report.moments_tables import GROUP, PARQUET, check_suffix
from fastuq.report.tables import write_csv
from fastuq.scoring.columns import COLUMNS, decision_word
from fastuq.scoring.decisions import Reason
from fastuq.scoring.options import AUTO
from fastuq.scoring.result import Result
from fastuq.util.files import atomic_path

ENDLESS = 10_000
LOOKED_AT = 5
"""How many of the least sure are shown."""
_NAME, _CLASS = 32, 12
"""Characters of the names of a file and a class for which other columns give way."""


def write_sample_table(path: str | Path, result: Result, class_names: tuple[str, ...]) -> None:
    """Write one row per sample to `path`, whole or not at all; its columns are `COLUMNS`.

    As CSV, or as Parquet (needs pyarrow) where `path` ends so. In a CSV, a name that a spreadsheet would take for a
    formula (``=1+1``) gets an apostrophe in front.
    """
    given = [(name, values(result, class_names), spec) for name, values, spec in COLUMNS]
    there = [(name, values, spec) for name, values, spec in given if values is not None]
    if Path(path).suffix == PARQUET:
        _write_parquet(path, there)
    else:
        table = {name: _cells(values, spec) for name, values, spec in there}
        write_csv(path, list(table), zip(*table.values(), strict=True))


def _write_parquet(path: str | Path, columns: Sequence[tuple[str, Iterable[Any], str]]) -> None:
    """Write columns with their formats, `GROUP` rows at a time; every page lies under a checksum."""
    check_suffix(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        name: pa.float32() if spec else pa.int64() if _are_whole(name, values) else pa.string()
        for name, values, spec in columns
    }
    cells = [map(_value, values) for _, values, _ in columns]
    schema = pa.schema(kinds)
    with atomic_path(path) as partial, pq.ParquetWriter(partial, schema, write_page_checksum=True) as writer:
        while any(group := [list(islice(column, GROUP)) for column in cells]):
            writer.write_table(pa.table(group, schema=schema))


def _are_whole(name: str, values: Iterable[Any]) -> bool:
    """Return whether a column is of whole numbers; labels are, also where there are none."""
    array = isinstance(values, np.ndarray) and values.dtype.kind in "iu"
    return name == "label" or isinstance(values, range) or array


def _value(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value  # as in the CSV


def _cells(values: Iterable[Any], spec: str) -> Iterator[str]:
    return ("" if value is None else format(value, spec) for value in values)


def sample_name(result: Result, number: int) -> str:
    """Return what people call a sample: the name of its file, else its number."""
    return f"image {number}" if result.files is None else result.files[number]


def least_sure(result: Result) -> np.ndarray:
    """Return the samples in the order of their largest mean or of the score that decides, the smallest first."""
    return np.argsort(result.max_mean if result.score is None else result.score, kind="stable")


def readable_rows(result: Result, class_names: tuple[str, ...], width: int = ENDLESS) -> list[str]:
    """Return a table of all samples as lines: decision and reason, predicted and true class, mean and interval.

    Names are cut so that a line has at most `width` characters, where that leaves them any.
    """
    rows = []
    for n in range(len(result)):
        truth = "" if result.labels is None else class_names[result.labels[n]]
        predicted = class_names[result.prediction[n]]
        wrong = "" if truth in ("", predicted) else "  (wrong)"
        end = "  ".join(_findings(result, n)) + wrong
        rows.append((f"{n:4} {decision_word(result.keep[n]):6}", predicted, truth, end))
    fixed = max(len(start) + len(end) for start, *_, end in rows) + 4
    most = min(max(map(len, class_names)), (width - fixed) // 2)
    header = ("", "predicted", "true class", f"{'mean':>5}  interval       reason")
    return [
        f"{start:11}  {shortened(predicted, most):{most}} {shortened(truth, most):{most}} {end}"
        for start, predicted, truth, end in [header, *rows]
    ]


def verdict_lines(result: Result, class_names: tuple[str, ...], width: int = ENDLESS) -> list[str]:
    """Return what a person asked: how many predictions to trust, and which to look at first.

    A line has at most `width` characters: the reason and the interval give way to the names of files, whose folders
    are cut first, and then these and the classes are cut.
    """
    kept, shown = int(result.keep.sum()), list(map(int, least_sure(result)[:LOOKED_AT]))
    files = [printable(sample_name(result, n)) for n in shown]
    predicted = [printable(class_names[result.prediction[n]]) for n in shown]
    names, classes = (max(map(len, column)) for column in (files, predicted))
    name = min(max(len(file.rpartition("/")[2]) for file in files) + 2, _NAME)
    class_ = min(classes, _CLASS)
    for parts in (3, 2, 1):
        ends = ["  ".join(_findings(result, n)[:parts]) for n in shown]
        room = max(width - max(map(len, ends)) - 6, 2)
        if room >= name + class_:
            break
    classes = min(classes, max(min(room // 2, max(room - name, class_)), room - names))
    names = min(names, room - classes)
    rows = zip(files, predicted, ends, strict=True)
    withdrawn = result.promise is not None and result.promise["withdrawn"]
    verb, end = ("Kept", ", with no promise") if withdrawn else ("Trust", "")
    return [
        f"{verb} {kept:,} of {len(result):,} predictions{end}. The least sure, to look at first:",
        *(f"  {_short_path(file, names):{names}}  {shortened(of, classes):{classes}}  {end}" for file, of, end in rows),
    ]


def _short_path(path: str, width: int) -> str:
    """Return a path of at most `width` characters, its folders left out first."""
    name = path.rpartition("/")[2]
    if len(path) <= width:
        return path
    return f"…{path[len(path) - width + 1 :]}" if len(name) < width else shortened(name, width)


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters (at least one), its middle left out for an ellipsis."""
    text = printable(text)
    if len(text) <= width:
        return text
    end = max(width - 1, 0) // 2
    return f"{text[: max(width - 1 - end, 0)]}…{text[len(text) - end :]}"


def _findings(result: Result, n: int) -> tuple[str, str, str]:
    """Return mean, interval and reason of a sample in words."""
    bounds = f"{result.predicted_lower[n]:5.2f} to {result.predicted_upper[n]:4.2f}"
    return f"{result.predicted_mean[n]:5.2f}", bounds, Reason(result.reason[n]).text


def summary_lines(summary: dict[str, Any], title: str, width: int = ENDLESS) -> list[str]:
    """Return the summary of `Result.summary` as lines to read, those of more than `width` characters wrapped."""
    wrapper = TextWrapper(max(width, 40), subsequent_indent=" " * 12, break_on_hyphens=False)
    return [part for line in _summary_lines(summary, title) for part in wrapper.wrap(printable(line))]


def _summary_lines(summary: dict[str, Any], title: str) -> list[str]:
    n, kept, ignored = (summary[key] for key in ("n", "kept", "ignored"))
    seconds = summary["seconds"]
    lines = [
        f"{title}: {n:,} images, {_how(summary)}",
        f"  kept      {kept:>7,}  {kept / n:6.1%}",
        f"  ignored   {ignored:>7,}  {ignored / n:6.1%}",
    ]
    if summary["foreign"]:
        strange = summary["ignored_as_foreign"]
        lines += [
            f"            {ignored - strange:>7,}  {(ignored - strange) / n:6.1%}  probably wrong",
            f"            {strange:>7,}  {strange / n:6.1%}  foreign",
        ]
    if summary["num_iter"] == AUTO:
        lines.append(
            f"  settled   in {summary['iterations']:,.0f} iterations on average; {summary['at_max_iter']:,} images "
            f"took {summary['max_iter']:,}. Another seed would change {summary['flips']:.2%} of the decisions"
        )
    if summary["bank"] is not None:
        bank = summary["bank"]
        among = f"; {bank['fitted_among']:,} of these images are among them" if bank["fitted_among"] else ""
        lines.append(
            f"  bank      {bank['rows']:,} rows of {bank['training']}; fitted on the first "
            f"{bank['held_out_samples']:,} of {bank['held_out']}{among}"
        )
    if summary["accuracy_plain"] is not None:
        lines += [
            f"  accuracy  plain pass, all images {_percent(summary['accuracy_plain'])}; "
            f"kept images {_percent(summary['accuracy_kept'])}",
            f"  micro-F1  without UQ {_percent(summary['f1_plain'])}; with UQ {_percent(summary['f1_uq'])}",
            f"  ignored that the plain pass gets wrong (MI / I) {_percent(summary['misclassified_ignored'])}; "
            f"AURC {summary['aurc']:.4f}",
        ]
    if summary["ece"] is not None:
        lines.append(
            f"  outputs   as probabilities: ECE {_percent(summary['ece'])}, NLL {summary['nll']:.3f}, "
            f"Brier score {summary['brier']:.3f}"
        )
    if "promise" in summary:
        lines.append(f"  {summary['promise']['words']}")
    lines.append(
        f"  seconds   features {seconds['features']:.2f}, head {seconds['head']:.3f} "
        f"({seconds['head'] / n * 1e3:.4f} ms/image), loading kernels {seconds['compile']:.2f}, "
        f"total {seconds['total']:.2f}"
    )
    return lines


def _how(summary: dict[str, Any]) -> str:
    if summary["method"] == "analytic":
        return f"no iterations, {_rule(summary)}"
    masks = summary["masks"].replace("_", "-")
    most = f" to {summary['max_iter']:,}" if summary["num_iter"] == AUTO else ""
    heads = f" of each of {summary['heads']} heads" if summary["heads"] > 1 else ""
    return f"T = {summary['num_iter']}{most}{heads}, {_rule(summary)}, {masks} masks, {summary['precision']}"


def _rule(summary: dict[str, Any]) -> str:
    if summary["rule"] == "interval":
        return f"conf_factor {summary['conf_factor']}, threshold {summary['threshold']}"
    text = f"{summary['score']} from {summary['score_threshold']}"  # all digits: it can be given back
    if summary["foreign"]:
        text += f" and {summary['foreign']} from {summary['foreign_score_threshold']}"
    return text


def _percent(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:.2%}"
