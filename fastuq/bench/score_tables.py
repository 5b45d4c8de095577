"""The benchmark of scores as Markdown, and as one CSV row per score."""

from collections.abc import Iterable
from typing import Any

from fastuq.report.tables import markdown_table, percent


def score_markdown(found: dict[str, Any]) -> str:
    """Return the whole benchmark as Markdown."""
    about = found["about"]
    parts = ["# Scores and rules, measured", _intro(found), "## Right from wrong", _clean_table(found["scores"])]
    for count, rows in found["views"].items():
        parts += [f"## {count} views", _VIEWS, _clean_table(rows)]
    if about["foreign"]:
        parts += ["## Foreign images", _FOREIGN, _foreign_table(found)]
    if about["shifted"]:
        parts += ["## Corrupted images", _shifted_intro(found), _shifted_table(found)]
    parts += ["## Rules", _rules_intro(found), _rules_table(found)]
    return "\n\n".join(parts) + "\n"


def score_rows(found: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield one flat row per score."""
    for name, row in found["scores"].items():
        flat = {"score": name, **{key: row[key] for key in ("needs", "ms", *_PLAIN)}}
        flat["needs"], flat["chosen"] = " ".join(row["needs"]), _chosen(name, row)
        for key, (low, high) in row["less_baseline"].items():
            flat |= {f"{key}_less_max_low": low, f"{key}_less_max_high": high}
        flat |= {f"{part}_{key}": value for part, of in row["groups"].items() for key, value in of.items()}
        for kind in ("foreign", "shifted"):
            flat |= {f"{kind}_{part}_{key}": value for part, of in row[kind].items() for key, value in of.items()}
        yield flat | {f"over_splits_{key}": value for key, value in (row["over_splits"] or {}).items()}


_PLAIN = ("aurc", "augrc", "auroc", "accuracy", "accuracy_at_coverage", "coverage", "accuracy_kept")
_FOREIGN = (
    "AUROC / FPR95, foreign images the positives (OpenOOD's convention: the share of known images that are called "
    "foreign where 95% of the foreign ones are), and in brackets the share of the foreign images that is kept at the "
    "threshold of the coverage. All in per cent. Near and far: means over the sets of the group."
)
_VIEWS = "Scores of all views together; the column less max is against plain max of one view."


def _intro(found: dict[str, Any]) -> str:
    about = found["about"]
    lines = [
        f"{about['samples']:,} samples of {about['images']}, model {about['model_sha256'][:12]} ({about['network']}). "
        f"{about['splits']} random splits in halves: parameters and thresholds are chosen on the first, the figures "
        f"are means over the second ({about['reported']:,} samples). Intervals: 95% of {about['resamples']} paired "
        f"bootstrap draws, less plain max. Coverage {percent(about['coverage'])}% is what the rule by intervals keeps "
        f"(T = {about['num_iter']}) unless another one was asked for. AURC and AUGRC are times 1000, the rest per "
        "cent. Milliseconds are processor time per sample, beyond what scores share: "
        + ", ".join(f"{name} {ms:.4f}" for name, ms in found["shared_ms"].items())
        + "."
    ]
    made = [what for what in ("reference", "bank") if about[what]]
    lines += [f"{what.capitalize()}: {about[what]['rows']:,} rows of {about[what]['images']}." for what in made]
    return " ".join(lines)


def _clean_table(scores: dict[str, Any]) -> str:
    header = ["score", "AURC", "less max", "AUGRC", "right at coverage", "less max", "AUROC", "right of all", "ms"]
    rows = []
    for name, row in scores.items():
        less = row["less_baseline"]
        rows.append(
            [
                _chosen(name, row),
                f"{1000 * row['aurc']:.1f}",
                "{:+.1f} to {:+.1f}".format(*(1000 * end for end in less["aurc"])),
                f"{1000 * row['augrc']:.1f}",
                percent(row["accuracy_at_coverage"], 2),
                "{:+.2f} to {:+.2f}".format(*(100 * end for end in less["accuracy_at_coverage"])),
                percent(row["auroc"]),
                percent(row["accuracy"], 2),
                f"{row['ms']:.4f}" if "ms" in row else None,
            ]
        )
    return markdown_table(header, rows)


def _foreign_table(found: dict[str, Any]) -> str:
    groups = found["about"]["foreign"]
    rows = []
    for name, row in found["scores"].items():
        each = [row["foreign"][of] for names in groups.values() for of in names]
        cells = [f"{percent(of['auroc'])} / {percent(of['fpr95'])} ({percent(of['kept'], 0)})" for of in each]
        mean = [f"{percent(row['groups'][group][key])}" for group in groups for key in ("auroc", "fpr95")]
        rows.append([_chosen(name, row), *cells, *mean])
    header = [f"{name} ({group})" for group, names in groups.items() for name in names]
    return markdown_table(["score", *header, *(f"{of} {key}" for of in groups for key in ("AUROC", "FPR95"))], rows)


def _shifted_intro(found: dict[str, Any]) -> str:
    slow = [name for name, row in found["scores"].items() if not row["over_splits"]]
    left_out = f" Not taken here, since they are slow: {', '.join(slow)}." if slow else ""
    return (
        f"AURC x 1000, means over {', '.join(found['about']['shifted'])}. All: over all splits (a corruption at a "
        "severity), with the difference to plain max in per cent, and in how many of them the score is worse than that."
        f"{left_out}"
    )


def _shifted_table(found: dict[str, Any]) -> str:
    taken = {name: row for name, row in found["scores"].items() if row["over_splits"]}
    levels = list(next(iter(taken.values()))["shifted"])
    rows = []
    for name, row in taken.items():
        whole = row["over_splits"]
        cells = [f"{1000 * row['shifted'][level]['aurc']:.1f}" for level in levels]
        all_of_them = [f"{1000 * whole['aurc']:.1f}", f"{100 * whole['relative']:+.1f}", f"{whole['worse']}"]
        rows.append([_chosen(name, row), *cells, *all_of_them])
    splits = next(iter(taken.values()))["over_splits"]["splits"]
    header = [*(f"severity {level}" for level in levels), "all", "less max, %", f"worse, of {splits}"]
    return markdown_table(["score", *header], rows)


def _rules_intro(found: dict[str, Any]) -> str:
    best = ", ".join(f"{name} ({count})" for name, count in found["best_on_first_half"].items())
    return (
        "What each rule keeps of the second halves, how right that is, and how right as many are by plain max. The "
        f"best score on the first halves was: {best}."
    )


def _rules_table(found: dict[str, Any]) -> str:
    names = [name for of in found["about"]["foreign"].values() for name in of]
    rows = [
        [
            name,
            percent(row["coverage"]),
            percent(row["accuracy_kept"], 2),
            percent(row["baseline"], 2),
            None if row["gain"] is None else f"{100 * row['gain']:+.2f}",
            *(percent(row["foreign_kept"][each], 0) for each in names),
        ]
        for name, row in found["rules"].items()
    ]
    return markdown_table(["rule", "kept", "right", "max", "gain", *(f"{name} kept" for name in names)], rows)


def _chosen(name: str, row: dict[str, Any]) -> str:
    """Return the variants of a score that were chosen, the most frequent first."""
    variants = sorted(row.get("chosen", [name]), key=row.get("chosen", {}).get, reverse=True)
    return variants[0] if len(variants) == 1 else f"{variants[0]} and others"
