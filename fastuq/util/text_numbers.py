"""Numbers as people type them."""

import math
import re

from fastuq.errors import InputError


def fraction(option: str, text: str) -> float:
    """Return a number or a fraction such as ``1/255``, which must be finite and above 0.

    Raises
    ------
    InputError
        The text is something else.

    Examples
    --------
    >>> fraction("--rescale", "1/4")
    0.25
    """
    try:
        above, _, below = text.partition("/")
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{option}: expected a number above 0 or a fraction such as 1/255, found {text!r}")
    return value


def image_size(option: str, text: str) -> tuple[int, int]:
    """Return height and width, 1 to 4096, of ``224`` or ``224x320``.

    Raises
    ------
    InputError
        The text is something else.

    Examples
    --------
    >>> image_size("--image-size", "224"), image_size("--image-size", "224x320")
    ((224, 224), (224, 320))
    """
    match = re.fullmatch(r"([0-9]{1,4})(?:x([0-9]{1,4}))?", text)
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(1 <= side <= 4096 for side in sides):
        raise InputError(f"{option}: expected a side or HEIGHTxWIDTH from 1 to 4096, found {text!r}")
    return sides


def rates(option: str, text: str) -> tuple[float, ...]:
    """Return dropout rates, 0 to 0.9 each, separated by commas.

    Raises
    ------
    InputError
        The text is something else.

    Examples
    --------
    >>> rates("--dropout", "0.2,0.4")
    (0.2, 0.4)
    """
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(0 <= value <= 0.9 for value in values):
        raise InputError(f"{option}: expected rates from 0 to 0.9 separated by commas, found {text!r}")
    return values
