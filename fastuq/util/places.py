"""Where feature caches lie: a path of this machine, or what stands for one on another."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from fastuq.util.checks import checked_path
from fastuq.util.remote import base_name, entries, is_folder, is_remote, is_there, joined


def place_of(path: Any) -> Path:
    """Return a path of this machine, checked, or what stands for one on another, given its address."""
    return cast(Path, RemotePath(str(path).rstrip("/"))) if is_remote(path) else checked_path(path)


@dataclass(frozen=True)
class RemotePath:
    """An address with as much of a `Path` as feature caches need; each question is asked of the store anew."""

    address: str

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(joined(self.address, name))

    @property
    def name(self) -> str:
        """The last part."""
        return base_name(self.address)

    @property
    def parent(self) -> "RemotePath":
        """The folder that it lies in."""
        return RemotePath(self.address.rpartition("/")[0])

    def absolute(self) -> "RemotePath":
        """Return it: an address is the same everywhere."""
        return self

    def exists(self) -> bool:
        """Return whether a file or folder is there."""
        return is_there(self.address)

    def is_dir(self) -> bool:
        """Return whether a folder is there."""
        return is_folder(self.address)

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yield what lies in the folder."""
        return (self / name for name, _ in entries(self.address))

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Yield what in the folder has a name of that pattern."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))
