"""The benchmark's figures as tables, on the screen and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastuq.report.tables import markdown_table
from fastuq.util.defaults import RANDOM
from fastuq.util.files import write_text

BASELINES = {
    "keras_repeated_batch": "Keras, T-fold repeated batch",
    "plain_numba": "plain Numba, int8, shared masks",
    "numpy_batched": "NumPy, batched",
}
SPREAD = "lowest to highest"


@dataclass(frozen=True)
class Table:
    """A titled table of text, its first `left` columns aligned to the left and the others to the right."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    left: int = 1


def heading(figures: dict[str, Any]) -> list[str]:
    """Return the lines that come before the tables: the class of the machine, the machine, the versions."""
    return [_title(figures), _versions(figures)]


def markdown(figures: dict[str, Any]) -> str:
    """Return the tables as a Markdown page."""
    parts = [f"# {_title(figures)}", _versions(figures), *map(_markdown, tables(figures))]
    return "\n\n".join(parts) + "\n"


def write_markdown(path: str | Path, figures: dict[str, Any]) -> None:
    """Write the page of `markdown`, whole or not at all."""
    write_text(path, markdown(figures))


def tables(figures: dict[str, Any]) -> list[Table]:
    """Return all tables of the benchmark, in the order in which they are measured."""
    networks = [network(figures, name) for name in figures["cold_ms_per_sample"]]
    return [heads(figures), small_head(figures), grid(figures), start_and_cache(figures), *networks]


def heads(figures: dict[str, Any]) -> Table:
    """Return the table of the paper's head: baselines and fastuq."""
    baseline, spread = figures["baseline_ms_per_sample"], figures["head_spread"]
    keras = baseline["keras_repeated_batch"]
    entries = [(BASELINES[name], name, ms) for name, ms in baseline.items()]
    entries += [(f"fastuq {label_of(kind)}", kind, ms) for kind, ms in figures["head_ms_per_sample"].items()]
    rows = [(label, _ms(ms), _range(spread[name]), _times(keras / ms)) for label, name, ms in entries]
    peak, settings = figures["peak"], figures["settings"]
    return Table(
        f"Head on cached features, D = {settings['num_features']}, T = {settings['num_iter']}, "
        f"N = {settings['samples']}, {figures['machine']['cores']} threads, ms per sample",
        ("head", "median", SPREAD, "times Keras"),
        rows,
        f"int8, shared masks: {peak['reached_gops']:.0f} of {peak['int8_gops']:.0f} GOP/s that a register-only int8 "
        f"loop reaches, {peak['share']:.0%}. Baselines take 1,024 samples at most, here and below.",
    )


def small_head(figures: dict[str, Any]) -> Table:
    """Return the table of the head of one layer."""
    found = figures["small_head"]
    columns = {"keras_repeated_batch": "Keras", "numpy_batched": "NumPy", "int8.shared": "fastuq int8"}
    rows = [
        (
            f"{row['n']:,}",
            *(text for name in columns for text in (_ms(row["ms_per_sample"][name]), _range(row["spread"][name]))),
            _times(row["times_faster_than_keras"]),
        )
        for row in found["rows"]
    ]
    return Table(
        f"Head of one layer: dropout 0.2, dense {found['num_features']} x 100, softmax, "
        f"T = {figures['settings']['num_iter']}, shared masks, ms per sample",
        ("N", *(text for name in columns.values() for text in (name, SPREAD)), "times Keras"),
        rows,
    )


def grid(figures: dict[str, Any]) -> Table:
    """Return the table of the paper's head by number of iterations and of samples."""
    found = {(row["kind"], row["num_iter"], row["n"]): row for row in figures["head_grid"]}
    kinds = list(dict.fromkeys(kind for kind, _, _ in found))
    rows = []
    for num_iter, n in dict.fromkeys((num_iter, n) for _, num_iter, n in found):
        here = [found[kind, num_iter, n] for kind in kinds]
        texts = (text for row in here for text in (_ms(row["ms_per_sample"]), _range(row["spread"])))
        shared, per_sample = (row["ms_per_sample"] for row in here)
        rows.append((f"{num_iter:,}", f"{n:,}", *texts, _times(per_sample / shared)))
    return Table(
        "Head by number of iterations and of samples, ms per sample",
        ("T", "N", *(text for kind in kinds for text in (label_of(kind), SPREAD)), "per-sample over shared"),
        rows,
        "Masks were drawn and heads packed beforehand, which the tables above include.",
        left=0,
    )


def start_and_cache(figures: dict[str, Any]) -> Table:
    """Return the table of starting, of scoring a cache, and of memory."""
    start, cache = figures["compile_seconds"], figures["cache"]
    rows = [
        ("first run: start, compile, result (once), s", f"{start['first_run']:.1f}", ""),
        ("later runs: start, result, s", f"{start['later_run']:.2f}", _range(start["later_run_spread"])),
        *(
            (f"{what}, ms/sample", _ms(cache[f"{name}_ms_per_sample"]), _range(cache["spread"][name]))
            for name, what in (
                ("read", "reading and verifying features from HDF5"),
                ("score", f"scoring {cache['samples']:,} cached samples"),
                ("head", "the head alone on as many"),
            )
        ),
        ("scoring over the head alone, times", f"{figures['score_over_head']:.2f}", ""),
        ("peak memory of scoring, MB", f"{figures['peak_rss_mb']:.0f}", ""),
    ]
    return Table("Start, cache and memory", ("what", "median", SPREAD), rows)


def network(figures: dict[str, Any], name: str) -> Table:
    """Return the table of a whole network."""
    paper, spread = figures["paper"].get(name.removeprefix(RANDOM), {}), figures["network_spread"][name]
    backbone, naive = figures["backbone_ms_per_image"][name], figures["naive_ms_per_sample"]["xnnpack"][name]
    best = backbone["best_batch"]

    def row(what: str, ms: float, key: str, faster: bool = False) -> tuple[str, ...]:
        return (what, "", "", "", _ms(ms), _range(spread[key]), _times(naive / ms) if faster else "")

    def both(what: str, key: str, figure: str, faster: str = "") -> tuple[str, ...]:
        ways = (("reference", f"{key}_reference"), ("xnnpack", f"{key}_xnnpack"))
        texts = (text for way, kept in ways for text in (_ms(figures[figure][way][name]), _range(spread[kept])))
        return (what, _ms(paper[figure]) if figure in paper else "", *texts, faster)

    settings = figures["settings"]
    num_iter, timed = settings["num_iter"], settings["naive_iterations_timed"]
    return Table(
        f"Whole network {name}, T = {num_iter}, ms per sample",
        ("what", "paper", "LiteRT's own kernels", SPREAD, "XNNPACK", SPREAD, "speed-up"),
        [
            both("one quantized pass", "one_pass", "one_pass_ms"),
            both("naive loop", "naive", "naive_ms_per_sample", "1"),
            row("backbone once, batch 1", backbone["batch_1"], "backbone_batch_1"),
            *([row(f"backbone once, batch {best}", backbone["best"], "backbone")] if best > 1 else []),
            row("fastuq, a single image: backbone once + head", figures["one_image_ms"][name], "one_image", True),
            row("fastuq, cold: backbone once + head", figures["cold_ms_per_sample"][name], "cold", True),
            row("fastuq, from cache: head", figures["network_head_ms_per_sample"][name], "head", True),
        ],
        f"{figures['networks'][name]} Of the naive loop {timed} of the {num_iter} iterations were timed, times "
        f"{num_iter / timed:g}: they are alike, and none depends on another. Speed-up over the naive loop with XNNPACK."
        + (" The paper's column is its own machine, from arXiv 2403.01076." if paper else ""),
    )


def label_of(kind: str) -> str:
    """Return a kind such as ``int8.per_sample`` in words."""
    return kind.replace(".", ", ").replace("_", "-") + " masks"


def _title(figures: dict[str, Any]) -> str:
    machine = figures["machine"]
    return f"Benchmark: {figures['machine_class']}, {machine['processor']}, {machine['cores']} cores"


def _versions(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in figures["versions"].items() if number)


def _ms(value: float) -> str:
    """Write milliseconds with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _times(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _range(spread: Sequence[float]) -> str:
    low, high = spread
    return f"{_ms(low)} to {_ms(high)}"


def text(table: Table) -> list[str]:
    """Return a table as lines of aligned text."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    aligned = [
        "  ".join(
            f"{cell:{'<' if column < table.left else '>'}{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "  ".join("-" * width for width in widths)
    return [table.title, aligned[0], rule, *aligned[1:], *([table.note] if table.note else [])]


def _markdown(table: Table) -> str:
    parts = [f"## {table.title}", markdown_table(table.header, table.rows, table.left), table.note]
    return "\n\n".join(part for part in parts if part)
