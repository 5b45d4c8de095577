"""What lies where in a tar file: its pictures and their labels, from its headers alone."""

import json
import os
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from fastuq.datasets.picture import SUFFIXES
from fastuq.errors import InputError, short
from fastuq.util.json_reading import parse_json

JUNK = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir")
"""What systems put into folders, in small letters; what begins with a dot is hidden, and passed over too."""
_LABELS = ("cls", "json")
_MAX_LABEL = 2**20
"""Longest member that is read for a label."""
_MAX_PADDING = 2**16
"""Most zeros behind the end of a tar file: writers pad it to 10 kB, or to more where they are told to."""


@dataclass
class TarIndex:
    """The pictures of one tar file, in its order.

    Attributes
    ----------
    names : list of str
    places : list of (int, int)
        First byte and length of each.
    labels : list of str or None
        What the ``.cls`` or ``.json`` of the same key says of each.
    others : Counter
        Kinds of members that were passed over.
    """

    names: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def read_index(stream: BinaryIO, path: str) -> TarIndex:
    """Return what lies where in an open tar file that is called `path`.

    Raises
    ------
    InputError
        It is cut, damaged or no tar file; two pictures have one key, or a label is there without its picture.
    """
    index, keys, told = TarIndex(), dict[str, str](), dict[tuple[str, str], tuple[str, str | None]]()
    for member in _members(stream, path):
        name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
        folder, _, base = name.rpartition("/")
        if any(part.startswith(".") or part.casefold() in JUNK for part in name.split("/")):
            continue
        stem, _, kind = base.partition(".")
        key, kind = f"{folder}/{stem}", kind.lower()
        if not member.isreg() or member.sparse is not None:
            index.others["links or devices"] += not member.isdir()
        elif f".{kind}" in SUFFIXES:
            if key in keys:
                raise InputError(
                    f"{path}: found {keys[key]} and {name}: expected one picture of each key (the name up to its first "
                    "dot); keep one of them"
                )
            keys[key] = name
            index.names.append(name)
            index.places.append((member.offset_data, member.size))
        elif kind in _LABELS:
            if (key, kind) in told:
                raise InputError(
                    f"{path}: found {told[key, kind][0]} and {name}: expected one .{kind} of each key; keep one of them"
                )
            told[key, kind] = (name, _label(stream, member, path))
        else:
            index.others[os.path.splitext(base)[1].lower() or "without a suffix"] += 1
    for (key, _), (name, _) in told.items():
        if key not in keys:
            raise InputError(
                f"{path}: expected a picture ({', '.join(SUFFIXES)}) of the same key beside {name}, found none; put it "
                "in or take that member out"
            )
    index.labels = [(told.get((key, "cls")) or told.get((key, "json"), ("", None)))[1] for key in keys]
    return index


def _members(stream: BinaryIO, path: str) -> Any:
    """Yield the members of a tar file, and raise InputError unless it is whole."""
    place = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # of a million, each of a kilobyte
                place = tar.offset
                yield member
                stream.seek(place)
        stream.seek(place)
        end = stream.read(tarfile.BLOCKSIZE)
        if end == bytes(tarfile.BLOCKSIZE):
            _check_rest(stream, path)
    except InputError:
        raise
    except Exception as error:  # a hostile header can raise nearly anything
        raise _damaged(path, place, short(error)) from None
    if end != bytes(tarfile.BLOCKSIZE):
        raise _damaged(path, place, "no block of zeros ends it" if len(end) < tarfile.BLOCKSIZE else "a damaged header")


def _check_rest(stream: BinaryIO, path: str) -> None:
    """Raise InputError unless nothing but zeros, and no more of them than writers pad with, follows the end."""
    end = stream.tell()
    rest = stream.read(_MAX_PADDING + 1)
    if any(rest):
        raise InputError(
            f"{path}: expected nothing behind the end of the tar file at byte {end}, found more, as where tar files "
            "were joined; give each by itself"
        )
    if len(rest) > _MAX_PADDING:
        raise _damaged(path, end, f"more than {_MAX_PADDING} bytes of zeros end it")


def _damaged(path: str, place: int, why: str) -> InputError:
    found = f"one that is cut or damaged after byte {place} ({why})" if place else f"something else ({why})"
    return InputError(
        f"{path}: expected a tar file, found {found}; copy it again, and unpack what is compressed (gunzip)"
    )


def _label(stream: BinaryIO, member: tarfile.TarInfo, path: str) -> str | None:
    """Return the text of a ``.cls``, or what a ``.json`` has as ``label``; None where it has none."""
    stream.seek(member.offset_data)
    data = stream.read(min(member.size, _MAX_LABEL + 1))
    try:
        if len(data) > _MAX_LABEL:
            raise ValueError(f"more than {_MAX_LABEL} bytes")
        if not member.name.lower().endswith(".json"):
            return data.decode().strip() or None
        found = parse_json(data)
        label = found.get("label") if isinstance(found, dict) else None
        if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
            raise ValueError(f"a label that is no number or name: {json.dumps(label)[:40]}")
        return None if label is None else str(label)
    except ValueError as error:
        raise InputError(
            f"{path}: {member.name}: expected a label, found {short(error, 100)}; mend it or take it out"
        ) from None
