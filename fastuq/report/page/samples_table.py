"""The table of the page: the least sure samples, to sort and filter; its columns are those of the CSV."""

from collections.abc import Iterable, Iterator
from itertools import compress
from typing import Any

import numpy as np

from fastuq.report.page.charts import histogram
from fastuq.report.page.markup import number, table, text
from fastuq.report.samples import least_sure
from fastuq.scoring.columns import COLUMNS
from fastuq.scoring.result import Result

ROWS = 2000
"""Rows on the page: as many as a browser sorts at once, and about a megabyte."""
LONG = 40
"""Characters of a name from which on it is wrapped."""
HEADINGS = {"index": "image", "label_name": "true class", "prediction_name": "predicted", "max_mean": "largest mean"}
EXPLAINED = {
    "mean": "Mean output of the predicted class over the iterations.",
    "lower": "Lower end of its interval.",
    "upper": "Upper end of its interval.",
    "max_mean": "The largest mean of all classes: the larger, the more trusted.",
    "entropy": "Entropy of the mean outputs, in nats: the smaller, the more trusted.",
    "mutual_information": "How far the iterations disagree, in nats: the smaller, the more trusted.",
    "score": "What decides: the larger, the more trusted.",
    "foreign_score": "What tells images of other kinds: the smaller, the more foreign.",
    "iterations": "How many the decision took to settle.",
    "flip": "The probability that another seed decides otherwise between keep and ignore.",
    "set": "The classes among which the true one is, as often as was asked for.",
}
"""What a column holds, where its name does not say it."""
_NUMBERS_OF_CLASSES = ("label", "prediction", "plain_prediction")
"""They stand in the CSV for programs; people read the names."""
_INTERVAL = ("mean", "lower", "upper")


def columns(result: Result, names: tuple[str, ...]) -> Iterator[tuple[str, Iterable[Any], str]]:
    """Yield name, values and format of the columns that people read."""
    for name, values_of, spec in COLUMNS:
        if name in _NUMBERS_OF_CLASSES or (name == "label_name" and result.labels is None):
            continue
        values = values_of(result, names)
        if name == "set" and result.sets is not None:
            values = (", ".join(names[c] for c in np.flatnonzero(row)) for row in result.sets)
        if values is not None:
            yield name, values, spec


def heading(name: str) -> str:
    """Return the name of a column in words."""
    return HEADINGS.get(name, name.replace("_", " "))


def samples_table(result: Result, names: tuple[str, ...]) -> str:
    """Return the table of the `ROWS` least sure samples, in that order."""
    order = least_sure(result)[:ROWS]
    chosen = np.zeros(len(result), bool)
    chosen[order] = True
    shown = {name: _cells(compress(values, chosen), spec) for name, values, spec in columns(result, names)}
    if result.labels is not None:
        right = compress(result.prediction == result.labels, chosen)
        shown["right"] = ["right" if yes else "wrong" for yes in right]
    ranked = _ranked(list(zip(*shown.values(), strict=True)), order)
    numeric = [name in ("index", "iterations") or bool(spec) for name, _, spec in columns(result, names)]
    numeric += [False] * (len(shown) - len(numeric))
    return table([text(heading(name)) for name in shown], ranked, numeric, ' id="samples"')


def _ranked(rows: list[tuple[str, ...]], order: np.ndarray) -> list[tuple[str, ...]]:
    """Return rows, which are in the order of the data set, in the order wanted."""
    place = {n: k for k, n in enumerate(np.sort(order).tolist())}
    return [rows[place[n]] for n in order.tolist()]


def _cells(values: Iterable[Any], spec: str) -> list[str]:
    return ["" if value is None else number(value) if spec else _wrapped(str(value)) for value in values]


def _wrapped(value: str) -> str:
    """Return a name as HTML, a long one in a column of its own width: it would push the others out of view."""
    return f'<span class="long">{text(value)}</span>' if len(value) > LONG else text(value)


def histograms(result: Result, names: tuple[str, ...]) -> str:
    """Return a histogram of each score among the columns."""
    return "".join(
        histogram(heading(name), EXPLAINED.get(name, ""), np.asarray(values), result.keep)
        for name, values, spec in columns(result, names)
        if spec and name not in _INTERVAL
    )


def glossary(result: Result, names: tuple[str, ...]) -> str:
    """Return what the columns hold."""
    named = [name for name, _, _ in columns(result, names) if name in EXPLAINED]
    return "".join(f"<dt>{text(heading(name))}</dt><dd>{text(EXPLAINED[name])}</dd>" for name in named)
