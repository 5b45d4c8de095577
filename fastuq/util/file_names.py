"""Names of a million files in little memory: their bytes one after the other, text when they are asked for."""

import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import numpy as np

from fastuq.errors import InputError

_RUN = 2**16


class FileNames(Sequence[str]):
    """File names as one piece of memory; names in no encoding are kept as the system has them.

    Parameters
    ----------
    text : bytes
        The names as the system writes them, each ended by a NUL, which no name can have.

    Raises
    ------
    ValueError
        `text` does not end with a NUL.
    """

    def __init__(self, text: bytes) -> None:
        if text and text[-1]:
            raise ValueError("names that do not end")
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 0) + 1
        self._text, self._bounds = text, np.concatenate([[0], ends])

    @classmethod
    def of(cls, names: Iterable[str]) -> "FileNames":
        """Return names from anywhere; raises InputError where one is no text or has what no file name can have."""
        if isinstance(names, FileNames):
            return names
        text = bytearray()
        for name in names:
            try:
                encoded = os.fsencode(name) if isinstance(name, str) else b"\0"
            except UnicodeEncodeError:
                encoded = b"\0"
            if b"\0" in encoded:
                raise InputError(f"files: expected names of files as text, found {name!r}")
            text += encoded + b"\0"
        return cls(bytes(text))

    @classmethod
    def in_order(cls, names: Iterable[str]) -> "FileNames":
        """Return names sorted; no more than `_RUN` of them are text at any time."""
        names, runs = iter(names), list[FileNames]()
        while run := list(islice(names, _RUN)):
            runs.append(cls.of(sorted(run)))
        return runs[0] if len(runs) == 1 else cls.of(heapq.merge(*runs))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, key: int) -> str: ...

    @overload
    def __getitem__(self, key: slice) -> "FileNames": ...

    def __getitem__(self, key: int | slice) -> "str | FileNames":
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return self._range(start, max(start, stop)) if step == 1 else self.take(range(start, stop, step))
        number = range(len(self))[key]
        return os.fsdecode(self._text[self._bounds[number] : self._bounds[number + 1] - 1])

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        return f"FileNames({len(self)})"

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return FileNames, (self.to_bytes(),)  # a range brings no other names along

    def take(self, numbers: Iterable[int]) -> "FileNames":
        """Return some of the names, in the order of `numbers`."""
        return FileNames(b"".join(self._text[self._bounds[n] : self._bounds[n + 1]] for n in numbers))

    def to_bytes(self) -> bytes:
        """Return what `FileNames` is made of."""
        return bytes(self._text[self._bounds[0] : self._bounds[-1]])

    def _range(self, start: int, stop: int) -> "FileNames":
        part = FileNames.__new__(FileNames)
        part._text, part._bounds = self._text, self._bounds[start : stop + 1]
        return part
