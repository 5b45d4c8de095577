"""The top of the page, and its end: how many to trust, for which reasons, and how it was scored."""

from dataclasses import asdict
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.datasets import ImageSet
from fastuq.model.model import Model
from fastuq.report.page.markup import percent, table, text
from fastuq.scoring.decisions import Reason
from fastuq.scoring.result import Result

MEANS = {
    Reason.CERTAIN: "The whole interval of a class lies above the threshold, and no other class is open.",
    Reason.BENEFIT_OF_THE_DOUBT: "One class may be present, and no other.",
    Reason.MIXED: "One class is certain while another is open.",
    Reason.UNCERTAIN: "Two classes or more may be present.",
    Reason.NOTHING_PRESENT: "No class reaches the threshold.",
    Reason.TRUSTED: "The score is large enough.",
    Reason.PROMISE_WITHDRAWN: "The score is large enough, but nothing is promised of these images.",
    Reason.PROBABLY_WRONG: "The score is too small.",
    Reason.FOREIGN: "Not of the kind that the model knows: below the gate of a bank, or by a second score.",
}

LEFT_OUT = 50
"""Most files that are named of those that could not be read."""


def headline(result: Result) -> str:
    """Return the answer as one line."""
    kept, n = int(result.keep.sum()), len(result)
    if result.promise is not None and result.promise["withdrawn"]:
        return f"{kept:,} of {n:,} predictions kept, with no promise"
    return f"{kept:,} of {n:,} predictions to trust"


def promise(result: Result) -> str:
    """Return what is promised of the kept, or that nothing is, where there is a promise."""
    return "" if result.promise is None else f'<p class="remark">{text(result.promise["words"])}</p>'


def settled(summary: dict[str, Any]) -> str:
    """Return how many iterations decisions took to settle, and how well they are, where each image took its own."""
    if summary["iterations"] is None:
        return ""
    return (
        f'<p class="remark">Settled in {summary["iterations"]:,.0f} iterations on average; '
        f"{summary['at_max_iter']:,} images took {summary['max_iter']:,}. Another seed would change "
        f"{summary['flips']:.2%} of the decisions.</p>"
    )


def lead(summary: dict[str, Any]) -> str:
    """Return what there is to say below the headline."""
    ignored = summary["ignored"]
    look = f"The other {ignored:,} need a look." if ignored else "None needs a look."
    if summary["accuracy_plain"] is None:
        return f"{look} The images have no labels, so how many predictions are right is not known."
    if summary["accuracy_kept"] is None:
        return f"{look} Of all predictions {percent(summary['accuracy_plain'])} are right by one plain pass."
    return (
        f"Of the kept, {percent(summary['accuracy_kept'])} are right; of all, by one plain pass, "
        f"{percent(summary['accuracy_plain'])}. {look}"
    )


def tiles(result: Result, summary: dict[str, Any]) -> str:
    """Return the figures of the run, large."""
    n = summary["n"]
    figures = [
        ("kept", percent(summary["kept"] / n), f"{summary['kept']:,} images"),
        ("ignored", percent(summary["ignored"] / n), f"{summary['ignored']:,} images"),
    ]
    if summary["accuracy_plain"] is not None:
        figures += [
            ("right, of the kept", percent(summary["accuracy_kept"]), "the predictions kept"),
            ("right, of all", percent(summary["accuracy_plain"]), "by the plain pass"),
            ("wrong, of the ignored", percent(summary["misclassified_ignored"]), "by the plain pass"),
        ]
    if summary["ece"] is not None:
        also = f"NLL {summary['nll']:.3f}, Brier score {summary['brier']:.3f}"
        figures.append(("calibration error (ECE)", percent(summary["ece"]), also))
    if result.sets is not None:
        sizes = result.sets.sum(axis=1)
        held = None if result.labels is None else float(result.sets[np.arange(n), result.labels].mean())
        figures.append(
            (
                "classes in a set",
                f"{sizes.mean():.2f}",
                "on average" if held is None else f"{percent(held)} hold the true one",
            )
        )
    return "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in figures)


def reasons(result: Result) -> str:
    """Return the reasons with their counts, the kept ones first, and a bar of their shares."""
    rows, bar, at = [], "", 0.0
    for reason, means in MEANS.items():
        chosen = result.reason == reason
        count, kept = int(chosen.sum()), bool(result.keep[chosen].any())
        if not count:
            continue
        share, word = count / len(result), "keep" if kept else "ignore"
        bar += f'<rect class="{word} {reason.name.lower()}" x="{at:.3f}" width="{100 * share:.3f}" height="10"/>'
        at += 100 * share
        badge, why = f'<span class="badge {word}">{word}</span>', f"{text(reason.text)}<small>{text(means)}</small>"
        row = [badge, why, f"{count:,}", percent(share)]
        if result.labels is not None:
            row.append(percent(float((result.prediction == result.labels)[chosen].mean())))
        rows.append(row)
    header = ["decision", "reason", "images", "share", "right"][: len(rows[0])]
    numeric = [False, False, True, True, True][: len(header)]
    picture = f'<svg class="shares" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{bar}</svg>'
    return picture + f'<div class="scroll reasons">{table(header, rows, numeric)}</div>'


def left_out(images: ImageSet | None) -> str:
    """Return what there is to say of the images: notes, and the files that could not be read."""
    if images is None:
        return ""
    parts = [f'<p class="remark">{text(note)}</p>' for note in images.notes]
    if images.skipped:
        lines = "".join(f"<li>{text(why)}</li>" for _, why in images.skipped[:LEFT_OUT])
        more = len(images.skipped) - LEFT_OUT
        lines += f"<li>and {more:,} more, all of which <code>--json</code> names</li>" if more > 0 else ""
        said = f"{len(images.skipped):,} files could not be read and are left out"
        parts.append(f'<details class="remark"><summary>{said}</summary><ul>{lines}</ul></details>')
    return "".join(parts)


def origin(result: Result, model: Model) -> str:
    """Return how it was scored: options, model, data."""
    words = {
        "num_iter": "iterations, T",
        "conf_factor": "confidence of the interval",
        "interval": "half width of the interval",
        "mixed": "a certain class beside an open one",
        "precision": "precision of the head",
        "seed": "seed of the masks",
    }
    given = {words.get(name, name): str(value).replace("_", "-") for name, value in asdict(result.options).items()}
    given |= {
        "bank": "none" if result.bank is None else f"{result.bank['rows']:,} rows of {result.bank['training']}",
        "views": str(result.views),
        "heads": str(result.heads),
        "network": model.network,
        "classes": f"{len(model.class_names):,}",
        "model (SHA-256)": result.model_sha256,
        "data (fingerprint)": result.data_fingerprint or "none: scored from an array",
        "fastuq": __version__,
    }
    return "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in given.items())
