"""JSON read without trust."""

import json
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 4 * 2**20
"""Largest JSON file that is read."""
MAX_JSON_LISTS = 100_000
"""Lists and objects in it, each of which takes thirty times the memory of its two characters."""


def read_json(path: str | Path, most: int = MAX_JSON_BYTES) -> Any:
    """Return what a JSON file says, read without trust: at most 4 MiB and 100,000 lists, each key once, no NaN.

    Raises
    ------
    ValueError
        The file is too large, not UTF-8, no such JSON, or nested too deeply.
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(most + 1)
    return parse_json(data, most)


def parse_json(data: bytes, most: int = MAX_JSON_BYTES) -> Any:
    """Return what JSON text says, read in the same way; raises ValueError."""
    if len(data) > most:
        raise ValueError(f"more than {most} bytes")
    if data.count(b"[") + data.count(b"{") > MAX_JSON_LISTS:
        raise ValueError(f"more than {MAX_JSON_LISTS} lists and objects")
    try:
        return json.loads(data.decode(), object_pairs_hook=_each_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
