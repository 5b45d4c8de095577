"""MD5, the checksum that the data sets are published with, and the records of it beside the files."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastuq.errors import InputError
from fastuq.util.files import write_text
from fastuq.util.json_reading import read_json

RECORD = "fastuq-corrupt.json"
"""What `fastuq corrupt` made in a folder."""
SUMS = "MD5SUMS"
"""Checksums as ``md5sum`` writes them: by `fastuq download`, or by the user for a copy of another origin."""
_MAX_BYTES = 2**20


def md5_file(path: Path) -> str:
    """Return the MD5 of a file as 32 hexadecimal digits.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def check_recorded(path: Path, way_out: str) -> None:
    """Check a file of a data set against the MD5 that its folder records for it; without a record nothing is checked.

    Raises
    ------
    InputError
        The file is not the one that was recorded, or the record cannot be read.
    """
    expected = recorded_md5(path.parent).get(path.name)
    if expected is None or not path.is_file():
        return
    found = path.stat()
    md5 = _md5_once(path, found.st_ino, found.st_size, found.st_mtime_ns)
    if md5 != expected:
        raise InputError(
            f"{path}: expected MD5 {expected} as recorded beside it, found {md5}; the file was altered or truncated; "
            f"{way_out}"
        )


@lru_cache(maxsize=64)
def _md5_once(path: Path, inode: int, size: int, changed: int) -> str:
    """Return the MD5 of a file, read once for as long as it says that it did not change: severities share a file."""
    return md5_file(path)


def recorded_md5(folder: Path) -> dict[str, str]:
    """Return the MD5 that each file of `folder` is recorded to have; empty where nothing is recorded."""
    made = read_record(folder)
    return {
        **_read_sums(folder / SUMS),
        **({name: entry["md5"] for name, entry in made["files"].items()} if made else {}),
    }


def write_sums(folder: Path, md5: dict[str, str]) -> None:
    """Write ``MD5SUMS``, which ``md5sum -c MD5SUMS`` checks too."""
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(md5.items())))


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what ``fastuq-corrupt.json`` in `folder` says, or None where there is none.

    Raises
    ------
    InputError
        The record is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record = read_json(path)
        files = {name: {**entry, "md5": str(entry["md5"])} for name, entry in record["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{path}: expected a record of `fastuq corrupt`, found a damaged file; remove it") from error
    return {**record, "files": files}


def _read_sums(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected what md5sum writes, found a damaged file; remove it") from error
    return {name: md5.lower() for md5, name in re.findall(r"^([0-9a-fA-F]{32}) [ *](.+)$", text, re.MULTILINE)}
