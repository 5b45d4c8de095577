"""The plots of the page: SVG by hand, which follows the page's colours, in light and dark, and needs no extra."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fastuq.report.page.markup import number, percent, text
from fastuq.scoring.metrics import aurc, ece, reliability_bins, risk_coverage_curve
from fastuq.scoring.result import Result

WIDTH, HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 28, 44
_POINTS = 240
"""Points of a curve; more cannot be told apart."""
_BINS = 15
_BARS = 30

Mark = tuple[float, str]
"""A place on an axis, and what is written there."""


@dataclass(frozen=True)
class Frame:
    """The area of a plot, from its own units to those of the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """Return where a value lies from left to right."""
        low, high = self.x
        return round(_LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 2)

    def down(self, value: float) -> float:
        """Return where a value lies from top to bottom."""
        low, high = self.y
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 2)

    def line(self, xs: Iterable[float], ys: Iterable[float], kind: str) -> str:
        """Return a curve."""
        points = " ".join(f"{self.across(x)},{self.down(y)}" for x, y in zip(xs, ys, strict=True))
        return f'<polyline class="{kind}" points="{points}"/>'

    def bar(self, x: tuple[float, float], y: tuple[float, float], kind: str, says: str) -> str:
        """Return a bar from x to x and y to y, with what it says under the pointer."""
        left, right = self.across(x[0]), self.across(x[1])
        top, bottom = self.down(max(y)), self.down(min(y))
        gap = 0.5 if right - left > 3 else 0
        return (
            f'<rect class="{kind}" x="{left + gap:g}" y="{top:g}" width="{right - left - 2 * gap:g}" '
            f'height="{bottom - top:g}"><title>{text(says)}</title></rect>'
        )

    def note(self, x: float, y: float, words: str, kind: str, shift: tuple[int, int] = (0, 0)) -> str:
        """Return words at a place of the plot, moved by some of its pixels."""
        left, top = self.across(x) + shift[0], self.down(y) + shift[1]
        return f'<text class="{kind}" x="{left:g}" y="{top:g}">{text(words)}</text>'

    def axes(self, names: tuple[str, str], marks: Sequence[Sequence[Mark]]) -> str:
        """Return grid and ticks, the marks of x and of y, and the names of the axes."""
        middle, right = (_LEFT + WIDTH - _RIGHT) / 2, WIDTH - _RIGHT
        parts = [
            f'<text class="axis mid" x="{middle:g}" y="{HEIGHT - 7}">{text(names[0])}</text>',
            f'<text class="axis" x="0" y="12">{text(names[1])}</text>',
        ]
        for value, label in marks[1]:
            y = self.down(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:g}" y2="{y:g}"/>')
            parts.append(f'<text class="end" x="{_LEFT - 7}" y="{y + 4:g}">{text(label)}</text>')
        for value, label in marks[0]:
            parts.append(f'<text class="mid" x="{self.across(value):g}" y="{HEIGHT - 26}">{text(label)}</text>')
        return "".join(parts)


def figure(title: str, body: str, caption: str) -> str:
    """Return a plot with its title and, in words, what it shows."""
    return (
        f'<figure><h3>{text(title)}</h3><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">'
        f"{body}</svg><figcaption>{text(caption)}</figcaption></figure>"
    )


def risk_coverage(result: Result) -> str:
    """Return how many of the kept are wrong, over how many are kept, where labels are there."""
    assert result.labels is not None
    score, right = result.ranking
    coverage, risk = risk_coverage_curve(score, right)
    best = risk_coverage_curve(right.astype(np.float64), right)[1]
    some = np.unique(np.linspace(0, len(risk) - 1, _POINTS).astype(np.int64))
    shown = risk[min(len(risk) // 20, len(risk) - 1) :]  # of the first few, one error is a large share
    frame = Frame((0, 1), (0, _ceiling(float(max(shown.max(), risk[-1], 0.01)))))
    top = frame.y[1]
    parts = [
        frame.axes(("kept, the most trusted first", "wrong, of the kept"), (_shares((0, 1)), _shares(frame.y))),
        frame.line((0, 1), (risk[-1], risk[-1]), "chance"),
        frame.line(coverage[some], np.minimum(best[some], top), "ideal"),
        frame.line(coverage[some], np.minimum(risk[some], top), "curve"),
    ]
    largest = "mean" if result.score is None else "score"
    caption = (
        f"Blue: keep the predictions with the largest {largest} first. Dashed: a ranking that puts every error last. "
        f"Dotted: chance. The area below the blue line (AURC, smaller is better) is {aurc(score, right):.4f}."
    )
    if result.keep.any():
        kept = float(result.keep.mean())
        wrong = float((result.prediction != result.labels)[result.keep].mean())
        says = f"{percent(kept)} kept, {percent(wrong)} of them wrong"
        x, y = frame.across(kept), frame.down(min(wrong, top))
        parts.append(f'<circle class="point" cx="{x:g}" cy="{y:g}" r="5"><title>{says}</title></circle>')
        left = kept > 0.5
        parts.append(
            frame.note(kept, min(wrong, top), "this page", "here end" if left else "here", (-9 if left else 9, -5))
        )
        caption += f" The dot is the decision of this page: {says}."
    return figure("How many errors are kept", "".join(parts), caption)


def reliability(result: Result) -> str:
    """Return how often predictions of each confidence are right; a note where the outputs are no probabilities."""
    from scipy.special import betaincinv

    assert result.labels is not None
    confidence, right = result.confidence, result.top == result.labels
    if confidence is None:
        return ""
    counts, hits, _ = reliability_bins(confidence, right, _BINS)
    frame = Frame((0, 1), (0, 1))
    parts = [frame.axes(("confidence: the largest probability", "right"), (_shares(frame.x), _shares(frame.y)))]
    for place, (count, hit) in enumerate(zip(counts.tolist(), hits.tolist(), strict=True)):
        if count:
            low, high = betaincinv(hit + 0.5, count - hit + 0.5, [0.025, 0.975]).tolist()
            edges, middle = (place / _BINS, (place + 1) / _BINS), (place + 0.5) / _BINS
            says = f"confidence {edges[0]:.2f} to {edges[1]:.2f}: {hit:,.0f} of {count:,.0f} right ({hit / count:.1%})"
            parts.append(frame.bar(edges, (0, hit / count), "kept soft", says))
            parts.append(frame.line((middle, middle), (low, high), "whisker"))
    parts.append(frame.line((0, 1), (0, 1), "ideal"))
    caption = (
        "Bars that reach the dashed line are as often right as they claim; shorter ones claim too much. Thin lines: "
        f"95% intervals of the share. The mean distance (ECE, smaller is better) is {ece(confidence, right):.2%}. "
        "Probabilities are the means, made to sum to 1, at the temperature of the promise where there is one."
    )
    return figure("Is the confidence true?", "".join(parts), caption)


def histogram(name: str, explained: str, values: np.ndarray, keep: np.ndarray) -> str:
    """Return how a score is spread: the kept above the axis, the ignored below."""
    there = np.isfinite(values)
    values, keep = values[there].astype(np.float64), keep[there]
    if not len(values):
        return ""
    low, high = float(values.min()), float(values.max())
    if low == high:  # room beside the one value, not past 0 or 1 where it is not
        low, high = max(low - 0.5, min(low, 0.0)), min(high + 0.5, max(high, 1.0))
    edges = np.histogram_bin_edges(values, _BARS, (low, high))
    halves = {"kept": values[keep], "ignored": values[~keep]}
    frame = Frame((float(edges[0]), float(edges[-1])), (-1.3, 1.3))
    bars, marks = "", [(0.0, "0")]
    for sign, (word, some) in zip((1, -1), halves.items(), strict=True):
        counts = np.histogram(some, edges)[0]
        most = max(1, int(counts.max()))
        marks += [(sign * tick / most, f"{tick:,.0f}") for tick in _ticks(0, most, parts=3, least=1)[1:]]
        for left, right, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
            if count:
                says = f"{number(left)} to {number(right)}: {count:,} {word}"
                bars += frame.bar((left, right), (0, sign * count / most), word, says)
        note = f"{word}: {len(some):,}"
        bars += frame.note(frame.x[1], sign * 1.3, note, f"end {word}", (0, 12 if sign > 0 else -5))
    ticks = [(tick, f"{tick:g}") for tick in _ticks(*frame.x)]
    body = frame.axes((name, "images"), (ticks, marks)) + bars + frame.line(frame.x, (0, 0), "zero")
    caption = f"{explained} Above and below have scales of their own."
    if not there.all():
        caption += f" {(~there).sum():,} images without a finite value are left out."
    return figure(f"Kept and ignored, by {name}", body, caption.strip())


def _shares(ends: tuple[float, float]) -> list[Mark]:
    return [(tick, f"{100 * tick:.3g}%") for tick in _ticks(*ends)]


def _step(span: float, parts: int = 5) -> float:
    """Return the round number (1, 2 or 5, and zeros) that divides a span into about so many parts."""
    rough = span / parts
    power = 10.0 ** np.floor(np.log10(rough))
    return float(power * min((1, 2, 5, 10), key=lambda m: abs(m - rough / power)))


def _ticks(low: float, high: float, *, parts: int = 5, least: float = 0) -> list[float]:
    step = max(_step(high - low, parts), least)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [round(number * step, 12) for number in range(first, last + 1)]


def _ceiling(value: float) -> float:
    step = _step(value)
    return float(np.ceil(value / step) * step)
