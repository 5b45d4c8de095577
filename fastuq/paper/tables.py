"""The paper's tables beside ours, as Markdown."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

from fastuq.paper import printed as paper
from fastuq.report.tables import markdown_table, percent
from fastuq.scoring.options import Options

Figures = dict[str, Any]

SCORES = {
    "plain_max": "largest output of the plain pass",
    "max_mean": "largest mean",
    "entropy": "predictive entropy",
    "mutual_information": "mutual information",
    "predicted_std": "std of the predicted class",
    "mean_width": "width of the interval, mean over classes",
}
_SAID = ("num_iter", "conf_factor", "threshold", "interval", "mixed", "masks", "precision", "seed")
"""Options that the paper's figures depend on; others are said where they are not the default."""


class Source(NamedTuple):
    """One network on one size of data."""

    name: str
    title: str
    figures: Figures


def reproduction_markdown(figures: Figures, pictures: dict[str, str]) -> str:
    """Return the figures of `fastuq.paper.run.reproduce` as Markdown.

    Parameters
    ----------
    figures : dict
    pictures : dict
        Title and file of the pictures to show.
    """
    defaults = asdict(Options())
    chosen = {key: each for key, each in figures["options"].items() if key in _SAID or each != defaults.get(key)}
    said = ", ".join(f"{key} {value}" for key, value in chosen.items())
    parts = [
        "# The tables of the paper beside ours",
        "Written by `fastuq reproduce`; not edited by hand. Paper: arXiv 2403.01076, values as printed. Ours: "
        f"{said} (Tables III and IV vary num_iter and conf_factor); fastuq {figures['fastuq_version']}. Per cent "
        "unless a unit stands there; – where there is nothing to divide by or nothing printed.",
        *_not_run(figures),
        *_sizes_and_accuracy(figures),
        *_clean(figures),
        *_corrupted(figures),
        *_times(figures),
        *_beside_plain(figures),
        *_scores(figures),
        *_stability(figures),
        *(f"## {title}\n\n![{title}]({file})" for title, file in pictures.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _at_hand(figures: Figures) -> dict[str, Figures]:
    return {name: found for name, found in figures["networks"].items() if "not_run" not in found}


def _sources(figures: Figures) -> list[Source]:
    """Return every network at hand in both sizes, titled by the number of clean images."""
    return [
        Source(name, f"{name}, {found[size]['clean']['n']:,} images", found[size])
        for name, found in _at_hand(figures).items()
        for size in ("small", "full")
        if found[size]
    ]


def _not_run(figures: Figures) -> Iterator[str]:
    for name, found in figures["networks"].items():
        if "not_run" in found:
            yield f"{name} here: {found['not_run']}."


def _sizes_and_accuracy(figures: Figures) -> Iterator[str]:
    sizes, accuracies = [], []
    for name, found in figures["networks"].items():
        printed = [*paper.SIZES_MB.get(name, (None, None)), *paper.ACCURACY.get(name, (None, None))]
        if "not_run" in found:
            sizes.append([name, *printed[:2], found["not_run"], None, None])
            accuracies.append([name, *printed[2:], found["not_run"], None, None])
            continue
        recorded, full = found["recorded"], found["full"]
        before, after = recorded.get("bytes_float32"), recorded.get("bytes_int8")
        ours = [before, after, before / after] if before and after else [None] * 3
        sizes.append([name, *printed[:2], *(_scaled(value) for value in ours[:2]), _round(ours[2])])
        small = found["small"]["clean"]
        cells = [percent(recorded.get("accuracy_float32")), f"{percent(small['accuracy_plain'])} of {small['n']}"]
        cells.append(f"{percent(full['clean']['accuracy_plain'])} of {full['clean']['n']:,}" if full else "–")
        accuracies.append([name, *printed[2:], *cells])
    yield "## Table I: size in MB"
    header = ["network", "paper float32", "paper int8", "ours float32", "ours int8", "ratio"]
    yield markdown_table(header, sizes)
    yield "## Table II: accuracy of the plain pass"
    header = ["network", "paper float32", "paper int8", "ours float32, whole test set", "ours int8", "ours int8, full"]
    yield markdown_table(header, accuracies)


def _clean(figures: Figures) -> Iterator[str]:
    sources = _sources(figures)
    yield "## Tables III and IV: micro-F1 / ignored, by conf_factor and num_iter"
    yield markdown_table(
        ["conf_factor, num_iter", "paper ResNet50, 100 images", *(source.title for source in sources)],
        [
            [
                f"{conf_factor}, {num_iter}",
                f"{paper.GRID_F1[conf_factor][column]} / {paper.GRID_IGNORED[conf_factor][column]}",
                *(_grid_cell(source.figures["grid"], num_iter, conf_factor) for source in sources),
            ]
            for conf_factor in paper.CONF_FACTORS
            for column, num_iter in enumerate(paper.NUM_ITERS)
        ],
    )
    rows: list[list[Any]] = [
        [f"paper {name}, 100 images", ignored, wrong, ignored - wrong, percent(wrong / ignored)]
        for name, (ignored, wrong) in paper.IGNORED.items()
    ]
    for _, title, found in sources:
        ignored, wrong = found["clean"]["ignored"], found["clean"]["misclassified"]
        rows.append([title, ignored, wrong, ignored - wrong, percent(found["clean"]["misclassified_ignored"])])
    yield "## Table V: ignored samples that the plain pass gets wrong and right"
    yield markdown_table(["", "ignored", "misclassified", "correctly classified", "MI / I"], rows)


def _grid_cell(grid: list[Figures], num_iter: int, conf_factor: float) -> str:
    found = next(row for row in grid if (row["num_iter"], row["conf_factor"]) == (num_iter, conf_factor))
    return f"{percent(found['f1_uq'], 2)} / {percent(found['ignored'] / found['n'])}"


def _corrupted(figures: Figures) -> Iterator[str]:
    for severity, tables in ((1, "VI and VII"), (5, "X and XI")):
        printed = paper.CORRUPTED[severity]
        sources = _corrupted_sources(figures, severity)
        yield f"## Tables {tables}: severity {severity}, micro-F1 without UQ / with UQ / ignored"
        yield "A split that keeps nothing has no micro-F1 with UQ, and the mean leaves it out."
        header = ["corruption", *(f"paper {name} ({paper.TABLE_OF[severity, name]}), of 20" for name in printed)]
        rows = []
        for corruption in _corruptions(printed):
            values = [table.get(corruption) for table in printed.values()]
            cells = ["–" if value is None else " / ".join(map(str, value)) for value in values]
            cells += [_corrupted_cell(source.figures[corruption]) for source in sources]
            rows.append([corruption, *cells])
        rows.append(["mean", *map(_printed_mean, printed.values()), *(_mean(source.figures) for source in sources)])
        yield markdown_table([*header, *(source.title for source in sources)], rows)
        yield f"## Tables {paper.IGNORED_TABLES[severity]}: severity {severity}, misclassified of the ignored"
        yield "The paper's values are not in the text at hand."
        yield markdown_table(
            ["corruption", *(source.title for source in sources)],
            [
                [corruption, *(_ignored_cell(source.figures[corruption]) for source in sources)]
                for corruption in paper.IGNORED_CORRUPTIONS
            ],
        )


def _corrupted_sources(figures: Figures, severity: int) -> list[Source]:
    sources = []
    for name, found in _at_hand(figures).items():
        for size in ("small", "full"):
            if found[size]:
                rows = found[size]["corrupted"][str(severity)]
                sources.append(Source(name, f"{name}, of {next(iter(rows.values()))['n']:,}", rows))
    return sources


def _corruptions(printed: dict[str, dict]) -> list[str]:
    """Return the corruptions in the paper's order, then the one that it leaves out."""
    return [*next(iter(printed.values())), "spatter"]


def _corrupted_cell(found: Figures) -> str:
    ignored = found["ignored"] if found["n"] <= 100 else f"{percent(found['ignored'] / found['n'])}%"
    return f"{percent(found['f1_plain'])} / {percent(found['f1_uq'])} / {ignored}"


def _ignored_cell(found: Figures) -> str:
    return f"{found['misclassified']:,} of {found['ignored']:,} ({percent(found['misclassified_ignored'])})"


def _printed_mean(table: dict[str, tuple]) -> str:
    return " / ".join(f"{sum(column) / len(column):.1f}" for column in zip(*table.values(), strict=True))


def _mean(rows: dict[str, Figures]) -> str:
    """Return the mean cell over all corruptions; a split that keeps nothing has no micro-F1 with UQ and is left out."""
    splits = list(rows.values())
    mean = {
        "n": splits[0]["n"],
        "f1_plain": _mean_of(splits, "f1_plain"),
        "f1_uq": _mean_of(splits, "f1_uq"),
        "ignored": round(sum(row["ignored"] for row in rows.values()) / len(rows), 1),
    }
    return _corrupted_cell(mean)


def _times(figures: Figures) -> Iterator[str]:
    rows = []
    for name, found in figures["networks"].items():
        printed = paper.TIMES_MS.get(name, (None, None))
        if "not_run" in found:
            rows.append([name, *printed, found["not_run"], None, None, None, None])
            continue
        ms = found["one_image_ms"]
        cells = [f"{ms[key]:.2f}" for key in ("plain", "naive", "fast", "head")]
        rows.append([name, *printed, *cells, f"{ms['naive'] / ms['fast']:.0f}"])
    header = ["network", "paper, plain pass", "paper, with UQ", "ours, plain pass", "ours, naive loop"]
    header += ["fastuq", "fastuq from cache", "naive / fastuq"]
    yield "## Table XIV: milliseconds for one image, T = 50"
    yield markdown_table(header, rows)


def _beside_plain(figures: Figures) -> Iterator[str]:
    yield "## The paper's rule beside the plain pass"
    yield (
        "Accuracy over the kept samples, and where as many are kept by the largest output of the plain pass alone, "
        "which costs one pass. Corrupted: means over the corruptions."
    )
    rows = []
    for name, _, found in _sources(figures):
        groups = {"clean": [found["clean"]]}
        groups |= {f"severity {level}": list(splits.values()) for level, splits in found["corrupted"].items()}
        for group, splits in groups.items():
            kept = percent(sum(row["kept"] / row["n"] for row in splits) / len(splits))
            accuracies = [_mean_of(splits, key) for key in ("accuracy_plain", "accuracy_kept", "accuracy_kept_plain")]
            rows.append([f"{name}, {group}, {splits[0]['n']:,} images", kept, *map(percent, accuracies)])
    header = ["", "kept", "accuracy of all", "accuracy kept, the paper's rule", "accuracy kept, plain pass"]
    yield markdown_table(header, rows)


def _mean_of(rows: list[Figures], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return sum(values) / len(values) if values else None


def _scores(figures: Figures) -> Iterator[str]:
    yield "## Scores that tell right from wrong predictions"
    yield (
        "Clean images; each score with its own classifier; 95% bootstrap intervals over images. The width of the "
        "predicted class's interval is a fixed multiple of its std, so it ranks alike."
    )
    for _, title, found in _sources(figures):
        rows = [
            [SCORES[name], percent(row["accuracy"]), *(_with_interval(row[key]) for key in ("aurc", "auroc", "fpr95"))]
            for name, row in found["scores"].items()
        ]
        yield f"{title}:"
        yield markdown_table(["score", "accuracy", "AURC", "AUROC", "FPR95"], rows)
    yield "## Scores that tell clean from corrupted images"
    yield "Means over the 19 corruptions; 95% bootstrap intervals over corruptions."
    for name, network in _at_hand(figures).items():
        for size in ("small", "full"):
            for severity, found in (network[size] or {"shift": {}})["shift"].items():
                n = network[size]["corrupted"][severity]["fog"]["n"]
                yield f"{name}, severity {severity}, {n:,} images each:"
                rows = [
                    [SCORES[key], _with_interval(row["auroc"]), _with_interval(row["fpr95"])]
                    for key, row in found.items()
                ]
                yield markdown_table(["score", "AUROC", "FPR95"], rows)


def _stability(figures: Figures) -> Iterator[str]:
    sources = _sources(figures)
    yield "## Decisions that differ between two seeds"
    yield "Mean over the pairs of three seeds; in brackets the share kept."
    counts = [row["num_iter"] for row in sources[0].figures["stability"]]
    yield markdown_table(
        ["iterations T", *(source.title for source in sources)],
        [
            [f"{count:,}", *(_stability_cell(source.figures["stability"][n]) for source in sources)]
            for n, count in enumerate(counts)
        ],
    )


def _stability_cell(row: Figures) -> str:
    return f"{percent(row['disagreement'], 2)} ({percent(row['kept'])})"


def _with_interval(values: list[float | None]) -> str:
    value, low, high = (percent(number) for number in values)
    return f"{value} [{low}, {high}]"


def _scaled(size: float | None) -> str | None:
    return None if size is None else f"{size / 1e6:.1f}"


def _round(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.2f}"
