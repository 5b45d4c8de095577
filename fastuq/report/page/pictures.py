"""The pictures of the page: which are worth a look, and what the iterations say of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.report.page.markup import number, picture, text
from fastuq.report.samples import sample_name
from fastuq.scoring.bank import Bank
from fastuq.scoring.columns import decision_word
from fastuq.scoring.decisions import Reason
from fastuq.scoring.found import interval_of
from fastuq.scoring.result import Result
from fastuq.scoring.scoring import Scorer

SHOWN = 12
_CLASSES = 4
_SIDE = 128
"""Longest side of a thumbnail, in pixels; larger pictures are averaged down."""


@dataclass(frozen=True)
class Look:
    """Mean and interval of every class, (C,) float32 each, and the pixels (H, W, 3) uint8 where they are known."""

    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    pixels: np.ndarray | None


def confidently_wrong(result: Result) -> np.ndarray:
    """Return the samples whose prediction is not their label, the largest mean first; none without labels."""
    if result.labels is None:
        return np.empty(0, np.int64)
    wrong = np.flatnonzero(result.prediction != result.labels)
    return wrong[np.argsort(-result.predicted_mean[wrong], kind="stable")]


def looks(
    numbers: Iterable[int],
    result: Result,
    model: Model,
    views: Sequence[FeatureCache | np.ndarray],
    bank: Bank | None,
    images: ImageSet | None,
) -> dict[int, Look]:
    """Return what there is to see of some samples: they are scored again, which needs no array of all.

    Raises InputError where another bank or other views than those of the result give other numbers.
    """
    seen, scorer = {}, Scorer(model, result.options.by_interval, bank=bank)
    for n in sorted({int(n) for n in numbers}):
        row, *others = (v.read(n, n + 1) if isinstance(v, FeatureCache) else v[n : n + 1] for v in views)
        (part,) = scorer.parts(row, n, views=others)
        mean, std = part.columns["mean"], part.columns["std"]
        (lower,), (upper,) = interval_of(mean, std, result.options)
        pixels = None if images is None else thumbnail(images.read(n, n + 1)[0])
        seen[n] = Look(mean[0], lower, upper, pixels)
        _check_same(n, seen[n], result)
    return seen


def _check_same(n: int, look: Look, result: Result) -> None:
    """Raise InputError where the bars of a sample would not be those of its decision."""
    predicted = result.prediction[n]
    shown = (look.mean[predicted], look.lower[predicted], look.upper[predicted])
    decided = (result.predicted_mean[n], result.predicted_lower[n], result.predicted_upper[n])
    if not np.allclose(shown, decided, rtol=1e-4, atol=1e-5):
        raise InputError(
            f"report: expected the outputs that image {n} was decided by (mean {decided[0]:.4f}), found others "
            f"({shown[0]:.4f}); give the bank and the views that it was scored with"
        )


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return an image whose sides are at most 128 pixels: squares of pixels become their mean."""
    step = -(-max(pixels.shape[:2]) // _SIDE)
    down, across = (min(step, side) for side in pixels.shape[:2])
    height, width = pixels.shape[0] // down, pixels.shape[1] // across
    blocks = pixels[: height * down, : width * across].reshape(height, down, width, across, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def cards(numbers: Iterable[int], seen: dict[int, Look], result: Result, names: tuple[str, ...]) -> str:
    """Return a card for each sample: picture, name, decision, classes, and the bars of the largest means."""
    return '<ul class="cards">' + "".join(_card(int(n), seen[int(n)], result, names) for n in numbers) + "</ul>"


def _card(n: int, look: Look, result: Result, names: tuple[str, ...]) -> str:
    name, predicted = text(sample_name(result, n)), int(result.prediction[n])
    truth = None if result.labels is None else int(result.labels[n])
    word = decision_word(result.keep[n])
    verdict = f'<span class="badge {word}">{word}</span> {text(Reason(result.reason[n]).text)}'
    said = f"<dt>predicted</dt><dd>{text(names[predicted])}</dd>"
    if truth is not None:
        mark = "right" if truth == predicted else "wrong"
        said += f'<dt>true class</dt><dd>{text(names[truth])} <span class="{mark}">{mark}</span></dd>'
    heading = f'<h3 title="{name}">{name.replace("/", "/<wbr>")}</h3>'
    return (
        f'<li class="card"><div class="who">{_image(look, name)}'
        f"<div>{heading}<p>{verdict}</p><dl>{said}</dl></div></div>{_bars(look, predicted, truth, result, names)}</li>"
    )


def _image(look: Look, name: str) -> str:
    if look.pixels is None:
        return ""
    height, width, _ = look.pixels.shape
    coarse = ' class="coarse"' if max(height, width) < 64 else ""
    return f'<img{coarse} src="{picture(look.pixels)}" alt="picture {name}" width="{width}" height="{height}">'


def _bars(look: Look, predicted: int, truth: int | None, result: Result, names: tuple[str, ...]) -> str:
    """Return bars of the largest means; the predicted and the true class are always among them."""
    largest = np.argsort(-look.mean, kind="stable")[:_CLASSES].tolist()
    shown = largest + [c for c in dict.fromkeys((predicted, truth)) if c is not None and c not in largest]
    low, high = min(0.0, float(look.mean.min())), max(1.0, float(look.mean[shown].max()))
    lines = []
    for c in shown:
        name, mean, ends = text(names[c]), float(look.mean[c]), (float(look.lower[c]), float(look.upper[c]))
        role = " ".join(word for word, which in (("predicted", predicted), ("true", truth)) if which == c)
        marks = "<small>true</small>" if role == "true" else ""
        says = f"{names[c]}: mean {number(mean)}, interval {number(ends[0])} to {number(ends[1])}"
        lines.append(
            f'<li class="{role}"><span class="class" title="{name}"><span>{name}</span>{marks}</span>'
            f"{_track(mean, ends, (low, high), result.options.presence, says)}"
            f'<span class="value">{mean:.2f}</span></li>'
        )
    return f'<ul class="bars">{"".join(lines)}</ul>'


def _track(mean: float, ends: tuple[float, float], axis: tuple[float, float], threshold: float, says: str) -> str:
    def at(value: float) -> float:
        return round(100 * (min(max(value, axis[0]), axis[1]) - axis[0]) / (axis[1] - axis[0]), 2)

    left, right = sorted((at(0), at(mean)))
    low, high = at(ends[0]), at(ends[1])
    return (
        f'<svg viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label="{text(says)}">'
        f"<title>{text(says)}</title>"
        f'<rect class="track" x="0" y="2" width="100" height="10"/>'
        f'<rect class="mean" x="{left:g}" y="2" width="{right - left:g}" height="10"/>'
        f'<path class="threshold" d="M{at(threshold):g} 0V14"/>'
        f'<path class="whisker" d="M{low:g} 7H{high:g}M{low:g} 4V10M{high:g} 4V10"/></svg>'
    )
