"""The tables of a TFLite file, read without trust by the classes that flatc generated for the format."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from fastuq.errors import ModelError
from fastuq.model.folder import MAX_NETWORK_BYTES
from fastuq.util.checks import checked_path
from fastuq.util.npy import open_regular

MAX_TABLES = 100_000
"""Tables of a file that are read: each becomes a Python object."""
_TABLE_BYTES = 8
"""What a table takes at least, with the offset that leads to it."""


def read_file(path: str | Path) -> bytes:
    """Return the content of a file; raises ModelError where it cannot be read or is too large."""
    try:
        with open(open_regular(checked_path(path)), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_NETWORK_BYTES:
                raise ModelError(f"{path}: expected a network of at most {MAX_NETWORK_BYTES} bytes, found {size}")
            return file.read(size)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}); check the path") from error


def unpacked(content: bytes) -> Any:
    """Return a TFLite file as the objects of the format's Python API; what a hostile file raises is not one kind.

    That API reads every table as often as it is listed, and a file can list one a million times. So they are counted
    first: as many must fit in the file.
    """
    if content[4:8] != b"TFL3":
        raise ValueError("no identifier TFL3")
    room = [min(MAX_TABLES, len(content) // _TABLE_BYTES), 4 * len(content)]
    _measure(schema().Model.GetRootAs(content, 0), room)
    return schema().ModelT.InitFromPackedBuf(content, 0)


def _measure(table: Any, room: list[int]) -> None:
    room[0] -= 1
    vectors, singles = _accessors(type(table))  # type: ignore[arg-type]
    for name in vectors:
        count = getattr(table, f"{name}Length")()
        _take(room, count)
        if count and hasattr(getattr(table, name)(0), "_tab"):
            for number in range(count):
                _measure(getattr(table, name)(number), room)
    for name in singles:
        found = getattr(table, name)()
        if isinstance(found, bytes):
            _take(room, len(found))
        elif name == "BuiltinOptions" and found is not None:
            options = getattr(schema(), names_of("BuiltinOptions")[table.BuiltinOptionsType()])()
            options.Init(found.Bytes, found.Pos)
            _measure(options, room)
        elif hasattr(found, "_tab"):
            _measure(found, room)
        elif hasattr(found, "Bytes"):
            raise ValueError(f"{name} are not read")


def _take(room: list[int], count: int) -> None:
    room[1] -= count
    if min(room) < 0:
        raise ValueError("more tables than a network has")


@cache
def _accessors(kind: Any) -> tuple[list[str], list[str]]:
    """Return the names of a generated class's vectors, and of what else it has: tables, texts, numbers."""
    methods = {name: value for name, value in vars(kind).items() if callable(value) and name[0].isupper()}
    vectors = [name.removesuffix("Length") for name in methods if name.endswith("Length")]
    derived = {f"{name}{end}" for name in vectors for end in ("Length", "IsNone", "AsNumpy")}
    singles = [
        name
        for name, value in methods.items()
        if name not in (*derived, *vectors, "Init") and value.__code__.co_argcount == 1
    ]
    return vectors, singles


@cache
def names_of(enum: str) -> dict[int, str]:
    """Return the names of an enumeration of the format by number."""
    return {value: name for name, value in vars(getattr(schema(), enum)).items() if isinstance(value, int)}


def schema() -> Any:
    """Return the classes that flatc generated for the format; LiteRT brings them."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated
