"""One picture of all corruptions at all severities, to be looked at."""

from pathlib import Path

import numpy as np

from fastuq.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupt, require_extra
from fastuq.util.files import atomic_path

TEXT_WIDTH, TEXT_HEIGHT, GAP, SCALE = 110, 14, 3, 2


def contact_sheet(images: np.ndarray, path: Path, *, seed: int = 0) -> None:
    """Write a PNG: a row per corruption; the clean images first, then severities 1 to 5.

    Parameters
    ----------
    images : (N, 32, 32, 3) uint8
        One or two images, side by side in each cell.
    path : Path
        PNG to write.
    seed : int
        Seed of the draws.

    Raises
    ------
    MissingExtraError
        The extra ``corrupt`` is not installed.
    """
    require_extra()
    from PIL import Image, ImageDraw

    cell = 32 * SCALE
    wide = len(images) * cell + GAP
    size = (TEXT_WIDTH + wide * (1 + len(SEVERITIES)), TEXT_HEIGHT + len(CORRUPTIONS) * (cell + GAP))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(("clean", *map(str, SEVERITIES))):
        pen.text((TEXT_WIDTH + column * wide, 1), title, fill="black")
    for row, name in enumerate(CORRUPTIONS):
        top = TEXT_HEIGHT + row * (cell + GAP)
        pen.text((2, top + cell // 2 - 6), name, fill="black")
        cells = [images, *(corrupt(images, name, severity, seed=seed) for severity in SEVERITIES)]
        for column, pixels in enumerate(cells):
            strip = Image.fromarray(np.concatenate(list(pixels), axis=1))
            strip = strip.resize((strip.width * SCALE, strip.height * SCALE), Image.Resampling.NEAREST)
            sheet.paste(strip, (TEXT_WIDTH + column * wide, top))
    with atomic_path(path) as partial, partial.open("wb") as file:
        sheet.save(file, "PNG", optimize=True)
