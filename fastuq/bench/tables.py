"""The benchmark's figures as tables, on the screen and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastuq.report.tables import markdown_table

BASELINES = {
    "keras_repeated_batch": "Keras, T-fold repeated batch",
    "plain_numba": "plain Numba, int8, shared masks",
    "numpy_batched": "NumPy, batched",
}


@dataclass(frozen=True)
class Table:
    """A titled table of text, its first `left` columns aligned to the left and the others to the right."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    left: int = 1


def readable(figures: dict[str, Any]) -> list[str]:
    """Return the tables as lines of aligned text."""
    return [_machine_line(figures), *(line for table in tables(figures) for line in ["", *_text(table)])]


def markdown(figures: dict[str, Any]) -> str:
    """Return the tables as a Markdown page."""
    return "\n\n".join(["# Benchmark", _machine_line(figures), *map(_markdown, tables(figures))]) + "\n"


def tables(figures: dict[str, Any]) -> list[Table]:
    """Return all tables of the benchmark."""
    return [_networks(figures), _heads(figures), _grid(figures), _others(figures)]


def _networks(figures: dict[str, Any]) -> Table:
    rows = []
    for network, cold in figures["cold_ms_per_sample"].items():
        paper = figures["paper"].get(network, {})
        naive, one_pass = figures["naive_ms_per_sample"], figures["one_pass_ms"]
        backbone, speedup = figures["backbone_ms_per_image"][network], figures["speedup"]
        head = figures["network_head_ms_per_sample"][network]
        rows += [
            (network, "one quantized pass", _paper(paper, "one_pass_ms"), _ms(one_pass["reference"][network]),
             _ms(one_pass["xnnpack"][network]), ""),
            ("", "naive loop", _paper(paper, "naive_ms_per_sample"), _ms(naive["reference"][network]),
             _ms(naive["xnnpack"][network]), "1"),
            ("", "backbone once, batch 1", "", "", _ms(backbone["batch_1"]), ""),
            ("", f"backbone once, batch {backbone['best_batch']}", "", "", _ms(backbone["best"]), ""),
            ("", "fastuq, cold: backbone once + head", "", "", _ms(cold), _times(speedup["cold"][network])),
            ("", "fastuq, from cache: head", "", "", _ms(head), _times(speedup["cached"][network])),
        ]  # fmt: skip
    iterations = figures["settings"]["num_iter"]
    return Table(
        f"Whole networks, T = {iterations}, ms per sample",
        ("network", "what", "paper", "LiteRT's own kernels", "XNNPACK", "speed-up"),
        rows,
        "Speed-up over the naive loop with XNNPACK. The paper's column is its own machine, from arXiv 2403.01076.",
        left=2,
    )


def _heads(figures: dict[str, Any]) -> Table:
    baseline, spread = figures["baseline_ms_per_sample"], figures["head_spread"]
    keras = baseline["keras_repeated_batch"]
    entries = [(BASELINES[name], name, ms) for name, ms in baseline.items()]
    entries += [(f"fastuq {label_of(kind)}", kind, ms) for kind, ms in figures["head_ms_per_sample"].items()]
    rows = [
        (label, _ms(ms), f"{_ms(spread[name][0])} to {_ms(spread[name][1])}", _times(keras / ms))
        for label, name, ms in entries
    ]
    peak, settings = figures["peak"], figures["settings"]
    return Table(
        f"Head on cached features, D = {settings['num_features']}, T = {settings['num_iter']}, "
        f"N = {settings['samples']}, {figures['machine']['cores']} threads, ms per sample",
        ("head", "median", "lowest to highest", "times Keras"),
        rows,
        f"int8, shared masks: {peak['reached_gops']:.0f} of {peak['int8_gops']:.0f} GOP/s that a register-only int8 "
        f"loop reaches, {peak['share']:.0%}.",
    )


def _grid(figures: dict[str, Any]) -> Table:
    found = {(row["kind"], row["num_iter"], row["n"]): row["ms_per_sample"] for row in figures["head_grid"]}
    sizes = sorted({n for _, _, n in found})
    lines = sorted({(kind, t) for kind, t, _ in found}, key=lambda line: (line[0] != "int8.shared", line[1]))
    rows = [
        (label_of(kind), str(t), *(_ms(found[kind, t, n]) if (kind, t, n) in found else "" for n in sizes))
        for kind, t in lines
    ]
    return Table(
        "Head by number of iterations and of samples, ms per sample",
        ("head", "T", *(f"N = {n}" for n in sizes)),
        rows,
    )


def label_of(kind: str) -> str:
    """Return a kind such as ``int8.per_sample`` in words."""
    return kind.replace(".", ", ").replace("_", "-") + " masks"


def _others(figures: dict[str, Any]) -> Table:
    start, cache = figures["compile_seconds"], figures["cache"]
    rows = [
        ("first run: start, compile, result", f"{start['first_run']:.1f} s"),
        ("later runs: start, result", f"{start['later_run']:.2f} s"),
        ("reading and verifying features from HDF5", f"{_ms(cache['read_ms_per_sample'])} ms/sample"),
        (f"scoring {cache['samples']:,} cached samples", f"{_ms(cache['score_ms_per_sample'])} ms/sample"),
        ("peak memory of that", f"{figures['peak_rss_mb']:.0f} MB"),
    ]
    return Table("Start, cache and memory", ("what", "figure"), rows)


def _machine_line(figures: dict[str, Any]) -> str:
    machine, versions = figures["machine"], figures["versions"]
    vnni = "with" if machine["avx512_vnni"] else "without"
    packages = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    return f"{machine['processor']}, {machine['cores']} cores, {vnni} AVX512-VNNI; {packages}"


def _ms(value: float) -> str:
    """Write milliseconds with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _times(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _paper(paper: dict[str, float], key: str) -> str:
    return _ms(paper[key]) if key in paper else ""


def _text(table: Table) -> list[str]:
    lines = [table.header, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    aligned = [
        "  ".join(
            f"{text:{'<' if column < table.left else '>'}{width}}"
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "  ".join("-" * width for width in widths)
    return [table.title, aligned[0], rule, *aligned[1:], *([table.note] if table.note else [])]


def _markdown(table: Table) -> str:
    parts = [f"## {table.title}", markdown_table(table.header, table.rows, table.left), table.note]
    return "\n\n".join(part for part in parts if part)
