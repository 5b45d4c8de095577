"""What is said of every sample, as named columns: of the CSV, and of data frames."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fastuq.errors import MissingExtraError, printable
from fastuq.scoring.decisions import Reason
from fastuq.util.checks import one_of

if TYPE_CHECKING:
    from fastuq.scoring.result import Result

FRAMES = ("pandas", "polars")

COLUMNS: tuple[tuple[str, Callable[["Result", tuple[str, ...]], Iterable[Any] | None], str], ...] = (
    ("index", lambda r, names: range(len(r)), ""),
    ("file", lambda r, names: r.files, ""),
    ("label", lambda r, names: _none(r) if r.labels is None else r.labels, ""),
    ("label_name", lambda r, names: _none(r) if r.labels is None else map(names.__getitem__, r.labels), ""),
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
    ("score", lambda r, names: r.score, ".6g"),
    ("foreign_score", lambda r, names: r.foreign_score, ".6g"),
    ("plain_prediction", lambda r, names: r.plain_prediction, ""),
    ("iterations", lambda r, names: r.iterations, ""),
    ("flip", lambda r, names: r.flips, ".6g"),
    ("set", lambda r, names: _sets(r), ""),
)
"""The columns of the table: name, values of a result and its class names, and their format; without values, no column.

``mean``, ``lower`` and ``upper`` are of the predicted class, ``set`` has the numbers of the classes of a conformal set,
`Result` says what the others are.
"""


def frame_of(result: "Result", library: str) -> Any:
    """Return the columns of a result as a data frame of 'pandas' or 'polars'; what there is not is null."""
    try:
        frames = import_module(one_of("library", library, FRAMES))
    except ImportError:
        raise MissingExtraError(f"to_frame: needs {library}: pip install {library}") from None
    given = ((name, values(result, result.class_names)) for name, values, _ in COLUMNS)
    return frames.DataFrame({name: _array(values) for name, values in given if values is not None})


def _sets(result: "Result") -> Iterable[str] | None:
    sets = result.sets
    return None if sets is None else (" ".join(map(str, np.flatnonzero(row))) for row in sets)


def decision_word(keep: bool) -> str:
    """Return 'keep' or 'ignore'."""
    return "keep" if keep else "ignore"


def _array(values: Iterable[Any]) -> Any:
    if isinstance(values, np.ndarray | range):
        return values
    return [printable(value) if isinstance(value, str) else value for value in values]  # as in the CSV


def _none(result: "Result") -> list[None]:
    return [None] * len(result)
