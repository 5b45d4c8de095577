"""What a value from outside must be, a whole number, a finite number or a path: else InputError, before any work."""

import errno
import math
import os
import re
from collections.abc import Sequence
from numbers import Real
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastuq.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How an address begins, also once a `Path` has taken one of its slashes."""
MAX_SEED = 2**64 - 1


def whole_number(name: str, value: Any, least: int = -(2**63), most: int = 2**63 - 1) -> int:
    """Return a whole number as a plain int; NumPy's are taken, bool and 2.0 are not.

    Raises
    ------
    InputError
        It is no whole number, or below `least` or above `most`.
    """
    try:
        number = None if _is_bool(value) else index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise InputError(f"{name}: expected a whole number from {least} to {most}, found {shown(value)}")
    return number


def finite_number(
    name: str, value: Any, least: float = -math.inf, most: float = math.inf, *, open_ends: bool = False
) -> float:
    """Return a finite number as a plain float; NumPy's are taken, bool is not.

    Raises
    ------
    InputError
        It is no finite number, or below `least` or above `most`, or one of these where `open_ends` excludes them.
    """
    try:
        number = float(value) if isinstance(value, Real) and not _is_bool(value) else math.nan
    except OverflowError:  # 10**400
        number = math.nan
    inside = least < number < most if open_ends else least <= number <= most
    if inside and math.isfinite(number):
        return number
    if open_ends:
        expected = f"a number between {least:g} and {most:g}, both excluded"
    elif math.isinf(most):
        expected = "a finite number" if math.isinf(least) else f"a finite number from {least:g}"
    else:
        expected = f"a number from {least:g} to {most:g}"
    raise InputError(f"{name}: expected {expected}, found {shown(value)}")


def sides_of(name: str, value: Any) -> tuple[int, int]:
    """Return height and width as plain ints; raises InputError where they are none."""
    try:
        height, width = value
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected height and width, as in (224, 224), found {shown(value)}") from None
    return whole_number(name, height, 1, 65535), whole_number(name, width, 1, 65535)


def one_of(name: str, value: Any, known: Sequence[str]) -> str:
    """Return a value that is one of the known words; raises InputError where it is not."""
    if isinstance(value, str) and value in known:
        return value
    raise InputError(f"{name}: expected one of {', '.join(known)}, found {shown(value)}")


def checked_seed(value: Any, most: int = MAX_SEED) -> int:
    """Return a seed as a plain int; raises InputError where it is no whole number from 0 to `most`."""
    return whole_number("seed", value, 0, most)


def array_of(name: str, value: Any) -> "np.ndarray":
    """Return what NumPy makes of a value; raises InputError where that is no array, as of lists of several lengths."""
    import numpy as np

    try:
        return np.asarray(value)
    except Exception:  # whatever the __array__ of a class raises, too
        raise InputError(f"{name}: expected an array, found {shown(value)}, of which NumPy makes none") from None


def checked_path(path: Any) -> Path:
    """Return a path that the system can be asked for, whether something is there or not.

    Raises
    ------
    InputError
        It is neither text nor a path, has a NUL or a character that no file name can have, is too long, or leads
        through a folder that may not be entered.
    """
    found = named_path(path)
    try:
        os.stat(found)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EACCES):
            raise InputError(f"path {shown(str(found))}: {error.strerror}; check it") from None
    return found


def named_path(path: Any) -> Path:
    """Return a path; raises InputError where it is neither text nor a path, or has what no file name can have."""
    try:
        if isinstance(path, str | os.PathLike) and b"\0" not in os.fsencode(path):
            if _ADDRESS.match(os.fsdecode(path)):
                raise InputError(
                    f"{os.fsdecode(path)}: expected a path of this machine, found an address; images, feature caches, "
                    "tables and reports alone may lie at one"
                )
            return Path(path)
    except UnicodeEncodeError:
        pass
    raise InputError(f"path: expected text without NUL that can be the name of a file, found {shown(path)}")


def shown(value: Any) -> str:
    """Return how a value is quoted in an error: short, and never an error of its own."""
    try:
        text = repr(value)
    except Exception:  # whatever a class raises; int does from 4,301 digits on
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"
