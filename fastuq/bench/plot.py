"""One picture of the benchmark: time per sample on a logarithmic axis."""

from pathlib import Path
from typing import Any

from fastuq.bench.tables import BASELINES, label_of
from fastuq.report.plotting import require_plot
from fastuq.util.files import atomic_path


def write_plot(path: str | Path, figures: dict[str, Any]) -> None:
    """Draw time per sample of the paper, the naive loop, Keras and fastuq to a PNG, whole or not at all."""
    require_plot()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = plotted(figures)
    figure = Figure(figsize=(8, 0.8 + 0.32 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = {"paper": "#9a9a9a", "naive": "#d98b4a", "baseline": "#c9b04a", "fastuq": "#3d7ab5"}
    places = range(len(bars))
    axes.barh(places, [ms for _, ms, _ in bars], color=[colours[kind] for _, _, kind in bars])
    axes.set_yticks(places, [label.replace("$", r"\$") for label, _, _ in bars])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(ms for _, ms, _ in bars) / 3, max(ms for _, ms, _ in bars) * 6)
    for place, (_, ms, _) in zip(places, bars, strict=True):
        axes.text(ms * 1.15, place, f"{ms:,.0f} ms" if ms >= 10 else f"{ms:.3g} ms", va="center", fontsize=8)
    axes.set_title(f"{figures['machine_class']}, {figures['machine']['processor']}", fontsize=9)
    axes.set_xlabel(f"milliseconds per sample, T = {figures['settings']['num_iter']}")
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=150)


def plotted(figures: dict[str, Any]) -> list[tuple[str, float, str]]:
    """Return the bars: label, milliseconds per sample, kind."""
    naive = figures["naive_ms_per_sample"]
    bars = [
        (f"paper, {network}, naive loop", float(paper["naive_ms_per_sample"]), "paper")
        for network, paper in figures["paper"].items()
    ]
    for network, cold in figures["cold_ms_per_sample"].items():
        bars.append((f"{network}, naive loop, LiteRT's own kernels", naive["reference"][network], "naive"))
        bars.append((f"{network}, naive loop, XNNPACK", naive["xnnpack"][network], "naive"))
        bars.append((f"{network}, fastuq, backbone once + head", cold, "fastuq"))
    bars += [(f"head, {BASELINES[name]}", ms, "baseline") for name, ms in figures["baseline_ms_per_sample"].items()]
    for kind, ms in figures["head_ms_per_sample"].items():
        bars.append((f"head, fastuq, {label_of(kind)}", ms, "fastuq"))
    return bars
