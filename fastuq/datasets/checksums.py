"""MD5, the checksum that the data sets are published with."""

import hashlib
from pathlib import Path

from fastuq.errors import InputError


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
