"""Progress bars for work that lasts: on a terminal only, and only past two seconds."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(total: int, description: str, unit: str = "image", initial: int = 0) -> "tqdm[Any]":
    """Return a tqdm bar that stays silent when stderr is no terminal or the work ends within 2 s.

    Parameters
    ----------
    total : int
        Number of units of the whole work.
    description, unit : str
        Words shown beside the bar.
    initial : int
        Units already done (a resumed run).
    """
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        delay=2,
        disable=sys.stderr is None or not sys.stderr.isatty(),
        dynamic_ncols=True,
    )
