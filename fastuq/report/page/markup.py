"""What all parts of the page share: text from outside made harmless, numbers in words, tables, pictures as text."""

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from fastuq.errors import printable


def text(value: object) -> str:
    """Return any text as HTML that shows it and does nothing else; control characters are written out."""
    return escape(printable(value))


def percent(rate: float | None) -> str:
    """Return a fraction as per cent, or a dash for what there is not."""
    return "–" if rate is None else f"{rate:.1%}"


def number(value: float) -> str:
    """Return a score with as many decimals as help to compare it."""
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool], attributes: str = "") -> str:
    """Return a table of cells that are HTML already; numeric columns are aligned to the right."""
    kinds = [' class="num"' if kind else "" for kind in numeric]
    heads = "".join(f'<th scope="col"{kind}>{cell}</th>' for cell, kind in zip(header, kinds, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    ]
    return f"<table{attributes}><thead><tr>{heads}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table>"


def picture(pixels: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 as the address of a PNG that holds it.

    The format is written here because Pillow is an extra, which images in arrays do without.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # a filter byte, 0 for none, begins each row
    rows[:, 1:] = pixels.reshape(height, -1)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
