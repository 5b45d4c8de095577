"""The plots of the page, as SVG by hand: a few lines and bars that follow the page's colours, with no extra to install."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fastuq.report.page.markup import number, percent, text
from fastuq.scoring.metrics import aurc, ece, reliability_bins, risk_coverage_curve
from fastuq.scoring.result import Result

WIDTH, HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 14, 44
_POINTS = 240
"""Points of a curve; more cannot be told apart."""
_BINS = 15
_BARS = 30

Format = Callable[[float], str]


@dataclass(frozen=True)
class Frame:
    """The area of a plot, from its own units to those of the picture."""

    x: tuple[float, float]
    y: tuple[float, float]
    least: float = 0
    """The smallest step between ticks of y."""

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

    def note(self, x: float, y: float, words: str, kind: str = "note", shift: tuple[int, int] = (0, 0)) -> str:
        """Return words at a place of the plot."""
        return f'<text class="{kind}" x="{self.across(x) + shift[0]:g}" y="{self.down(y) + shift[1]:g}">{text(words)}</text>'

    def axes(self, names: tuple[str, str], formats: tuple[Format, Format]) -> str:
        """Return grid, ticks and the names of the axes."""
        parts = []
        for tick in _ticks(*self.y, self.least):
            y = self.down(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text class="tick end" x="{_LEFT - 7}" y="{y + 4:g}">{text(formats[1](tick))}</text>')
        for tick in _ticks(*self.x):
            parts.append(f'<text class="tick mid" x="{self.across(tick)}" y="{HEIGHT - 26}">{text(formats[0](tick))}</text>')
        middle = (_TOP + HEIGHT - _BOTTOM) / 2
        parts.append(f'<text class="axis mid" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 7}">{text(names[0])}</text>')
        parts.append(
            f'<text class="axis mid" transform="translate(11 {middle}) rotate(-90)">{text(names[1])}</text>'
        )
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
    right = result.top == result.labels
    coverage, risk = risk_coverage_curve(result.max_mean, right)
    best = risk_coverage_curve(right.astype(np.float64), right)[1]
    some = np.unique(np.linspace(0, len(risk) - 1, _POINTS).astype(np.int64))
    shown = risk[min(len(risk) // 20, len(risk) - 1) :]  # of the first few, one error is a large share
    frame = Frame((0, 1), (0, _ceiling(float(max(shown.max(), risk[-1], 0.01)))))
    top = frame.y[1]
    parts = [
        frame.axes(("kept, the most trusted first", "wrong, of the kept"), (_whole, _whole)),
        frame.line((0, 1), (risk[-1], risk[-1]), "chance"),
        frame.line(coverage[some], np.minimum(best[some], top), "ideal"),
        frame.line(coverage[some], np.minimum(risk[some], top), "curve"),
    ]
    caption = (
        f"Blue: keep the predictions with the largest mean first. Dashed: a ranking that puts every error last. Dotted: "
        f"chance. The area below the blue line (AURC, smaller is better) is {aurc(result.max_mean, right):.4f}."
    )
    if result.keep.any():
        kept = float(result.keep.mean())
        wrong = float((result.prediction != result.labels)[result.keep].mean())
        says = f"{percent(kept)} kept, {percent(wrong)} of them wrong"
        x, y = frame.across(kept), frame.down(min(wrong, top))
        parts.append(f'<circle class="point" cx="{x}" cy="{y}" r="5"><title>{says}</title></circle>')
        caption += f" The dot is the decision of this page: {says}."
    return figure("How many errors are kept", "".join(parts), caption)


def reliability(result: Result) -> str:
    """Return how often predictions of each confidence are right; a note where the outputs are no probabilities."""
    from scipy.special import betaincinv

    assert result.labels is not None
    confidence, right = result.max_mean, result.top == result.labels
    if confidence.min() < 0 or confidence.max() > 1:
        return ""
    counts, hits, _ = reliability_bins(confidence, right, _BINS)
    frame = Frame((0, 1), (0, 1))
    parts = [frame.axes(("confidence: the largest mean", "right"), (_whole, _whole))]
    for place, (count, hit) in enumerate(zip(counts.tolist(), hits.tolist(), strict=True)):
        if count:
            low, high = betaincinv(hit + 0.5, count - hit + 0.5, [0.025, 0.975]).tolist()
            edges, middle = (place / _BINS, (place + 1) / _BINS), (place + 0.5) / _BINS
            says = f"confidence {edges[0]:.2f} to {edges[1]:.2f}: {hit:,.0f} of {count:,.0f} right ({hit / count:.1%})"
            parts.append(frame.bar(edges, (0, hit / count), "kept soft", says))
            parts.append(frame.line((middle, middle), (low, high), "whisker"))
    parts.append(frame.line((0, 1), (0, 1), "ideal"))
    caption = (
        "Bars that reach the dashed line are as often right as they claim; shorter ones claim too much. Thin lines: where "
        f"the true share lies with 95% confidence. The mean distance (ECE, smaller is better) is {ece(confidence, right):.3f}."
    )
    return figure("Is the confidence true?", "".join(parts), caption)


def histogram(name: str, explained: str, values: np.ndarray, keep: np.ndarray) -> str:
    """Return how a score is spread: the kept above the axis, the ignored below."""
    there = np.isfinite(values)
    values, keep = values[there].astype(np.float64), keep[there]
    if not len(values):
        return ""
    edges = np.histogram_bin_edges(values, _BARS)
    up, down = np.histogram(values[keep], edges)[0], np.histogram(values[~keep], edges)[0]
    frame = Frame((float(edges[0]), float(edges[-1])), (-_margin(down), _margin(up)), least=1)
    names, formats = (name, "images"), (_short, lambda value: f"{abs(value):,.0f}")
    parts = [frame.axes(names, formats)]
    for left, right, kept, ignored in zip(edges[:-1], edges[1:], up.tolist(), down.tolist(), strict=True):
        says = f"{number(left)} to {number(right)}: {kept:,} kept, {ignored:,} ignored"
        parts.append(frame.bar((left, right), (0, kept), "kept", says))
        parts.append(frame.bar((left, right), (0, -ignored), "ignored", says))
    parts.append(frame.line(frame.x, (0, 0), "zero"))
    middle = (edges[0] + edges[-1]) / 2
    parts.append(frame.note(middle, frame.y[1], f"kept ({len(values[keep]):,})", "note mid kept", (0, 12)))
    parts.append(frame.note(middle, frame.y[0], f"ignored ({len(values[~keep]):,})", "note mid ignored", (0, -5)))
    left_out = "" if there.all() else f" {(~there).sum():,} images without a finite value are left out."
    return figure(f"Kept and ignored by {name}", "".join(parts), explained + left_out)


def _margin(counts: np.ndarray) -> float:
    return max(1.0, float(counts.max()) * 1.18)


def _whole(value: float) -> str:
    return f"{value:.0%}"


def _short(value: float) -> str:
    return f"{value:g}"


def _step(span: float) -> float:
    """Return the round number (1, 2 or 5, and zeros) that divides a span into about five."""
    rough = span / 5
    power = 10.0 ** np.floor(np.log10(rough))
    return float(power * min((1, 2, 5, 10), key=lambda m: abs(m - rough / power)))


def _ticks(low: float, high: float, least: float = 0) -> Sequence[float]:
    step = max(_step(high - low), least)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [round(number * step, 12) for number in range(first, last + 1)]


def _ceiling(value: float) -> float:
    step = _step(value)
    return float(np.ceil(value / step) * step)
