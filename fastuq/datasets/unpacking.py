"""Archives, tar or zip, unpacked without trust: nothing by the name that the archive gives it."""

import hashlib
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from fastuq.datasets.picture import SUFFIXES
from fastuq.errors import DownloadError, InputError
from fastuq.util.files import atomic_path, partial_prefix

CHUNK = 2**20
Open = Callable[[], IO[bytes] | None]


def extract(path: Path, inside: str, members: dict[str, str], folder: Path) -> None:
    """Unpack the named `members` of an archive into `folder`, each checked before it takes its name.

    Only files called ``inside/NAME`` are read, each into ``folder/NAME``. An archive with a link, a device, an absolute
    name or ``..`` in it is refused whole.

    Raises
    ------
    DownloadError
        A member is missing, altered or unsafe, or the archive is damaged.
    """
    missing = dict(members)
    with _files(path, inside, folder) as files:
        for name, source in files:
            if name in missing:
                _extract_one(f"{inside}/{name}", source, missing.pop(name), folder / name)
    if missing:
        raise DownloadError(
            f"{path}: expected {inside}/{next(iter(missing))} in it, found none; remove it, download again"
        )


def extract_pictures(path: Path, inside: str, folder: Path) -> None:
    """Unpack all pictures below ``inside`` of an archive into `folder`, which appears when they are all there.

    Raises
    ------
    DownloadError
        There are none, a member is unsafe, or the archive is damaged.
    """
    count = 0
    with _files(path, inside, folder) as files:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=partial_prefix(folder.name), dir=folder.parent) as work:
            for name, source in files:
                target = Path(work, "pictures", name)
                if target.suffix.lower() in SUFFIXES and not target.name.startswith("."):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(b"".join(_content(source)))
                    count += 1
            if not count:
                raise DownloadError(f"{path}: expected pictures in {inside}, found none; remove it, download again")
            Path(work, "pictures").replace(folder)


@contextmanager
def _files(path: Path, inside: str, folder: Path) -> Iterator[Iterator[tuple[str, Open]]]:
    """Yield the names below ``inside`` of the files of an archive, and what opens each; errors become one line."""
    try:
        with _entries(path) as entries:
            yield _below(path, inside, entries)
    except (DownloadError, InputError):
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"cannot unpack {path} into {folder}: {error.strerror}") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DownloadError(f"{path}: cannot unpack: {reason}; remove it and download it again") from error


@contextmanager
def _entries(path: Path) -> Iterator[Iterator[tuple[str, bool, bool, Open]]]:
    """Yield name, whether it is a file, whether it is a folder, and what opens it, of all that is in an archive."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as zipped:
            yield (
                (each.filename, not each.is_dir(), each.is_dir(), partial(zipped.open, each))
                for each in zipped.infolist()
            )
    else:
        with tarfile.open(path) as tar:
            yield ((each.name, each.isfile(), each.isdir(), partial(tar.extractfile, each)) for each in tar)


def _below(path: Path, inside: str, entries: Iterator[tuple[str, bool, bool, Open]]) -> Iterator[tuple[str, Open]]:
    for name, is_file, is_folder, source in entries:
        parts = Path(name).parts
        if not (is_file or is_folder) or ".." in parts or name.startswith("/"):
            raise DownloadError(f"{path}: refused: it holds {name!r}, which is no plain file or folder")
        whole = "/".join(parts)
        if is_file and whole.startswith(f"{inside}/"):
            yield whole.removeprefix(f"{inside}/"), source


def _content(source: Open) -> Iterator[bytes]:
    file = source()
    while file is not None and (data := file.read(CHUNK)):
        yield data


def _extract_one(name: str, source: Open, md5: str, target: Path) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with atomic_path(target) as partial_path:
        with partial_path.open("wb") as file:
            for data in _content(source):
                digest.update(data)
                file.write(data)
        if digest.hexdigest() != md5:
            raise DownloadError(
                f"{name} in the archive: expected MD5 {md5}, found {digest.hexdigest()}; download it again"
            )
