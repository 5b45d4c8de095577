"""Pictures: grids of images with their class names, and curves over the number of iterations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import MissingExtraError
from fastuq.util.files import atomic_path


@dataclass(frozen=True)
class Picture:
    """An image (H, W, 3) uint8, the names of its true and its predicted class, and a note to write above."""

    pixels: np.ndarray
    truth: str
    predicted: str
    note: str = ""


def require_plot() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("figures need matplotlib: pip install 'fastuq[plot]'")


def image_grid(path: Path, pictures: Sequence[Picture], title: str, *, columns: int = 5) -> None:
    """Write a PNG of pictures, each with its true class above and the predicted one below."""
    require_plot()
    from matplotlib.figure import Figure

    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(columns * 1.7, rows * 2.1 + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, picture in zip(axes, pictures, strict=False):
        ax.imshow(picture.pixels, interpolation="nearest")
        lines = [picture.note.replace("_", " ")] * bool(picture.note)
        lines += [f"true: {_words(picture.truth)}", f"predicted: {_words(picture.predicted)}"]
        ax.set_title("\n".join(lines), fontsize=7)
    _save(figure, path)


def disagreement_curve(path: Path, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write a PNG of the share of decisions that differ between two seeds, over the number of iterations."""
    require_plot()
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter, ScalarFormatter

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    ax = figure.subplots()
    for name, rows in curves.items():
        ax.plot(
            [row["num_iter"] for row in rows],
            [row["disagreement"] for row in rows],
            marker="o",
            label=_plain(name),
        )
    ax.axvline(50, color="grey", linewidth=0.8, linestyle=":")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_ylim(bottom=0)
    ax.set_xlabel("iterations T (the paper's 50 dotted)")
    ax.set_ylabel("keep/ignore decisions\nthat differ between two seeds")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    _save(figure, path)


def _words(name: str) -> str:
    return _plain(name.replace("_", " "))


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib reads what is between two $ as a formula


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as partial, partial.open("wb") as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
