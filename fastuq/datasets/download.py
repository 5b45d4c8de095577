"""Published archives, fetched with resume, checked, and unpacked without trust.

This is code of our own, and not pooch, because pooch begins a broken transfer anew: of 2.9 GB, that is hours.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fastuq.datasets.checksums import RECORD, md5_file, recorded_md5, write_sums
from fastuq.datasets.published import Archive
from fastuq.datasets.transport import SLOWEST, TIMEOUT, Broken, open_url, transport
from fastuq.datasets.unpacking import extract, extract_pictures
from fastuq.errors import DownloadError, InputError
from fastuq.util.locks import own_file
from fastuq.util.progress import progress_bar

MODEL = "model.json"
RELEASES = "FASTUQ_RELEASES"
"""The variable that names the address of a folder with fastuq's own archives."""
TRIES = 4
"""Connections in a row that may bring nothing, or next to nothing, before the download is given up."""
CHUNK = 2**20


def download(archive: Archive, root: Path, *, url: str | None = None, wait: float = 1.0) -> bool:
    """Put the files of `archive` into ``root/FOLDER``; False if they were there already.

    With them comes ``MD5SUMS``, unless they are pictures, of which none are published: a folder of these is whole.
    What has arrived of a broken transfer is kept beside, as ``FILE.part``, and the next call goes on from there. An
    archive fetched by hand is used where it lies at ``root/FILE``.

    Parameters
    ----------
    archive : Archive
        What to fetch.
    root : Path
        Data folder.
    url : str, optional
        Another address of the same file (http or https). Default: where it is published; archives of fastuq's own are
        in the folder that the environment variable ``FASTUQ_RELEASES`` names, until there are releases.
    wait : float
        Seconds before the second connection; doubled with each that brings nothing.

    Raises
    ------
    DownloadError
        No connection, no address, another size or checksum, or an archive with members that have no business there.
    InputError
        The folder holds files made by ``fastuq corrupt`` or another model, or cannot be written.
    """
    if url is not None:
        _check_address("--url", url)
    folder, path = root / archive.folder, root / archive.file
    if (folder / RECORD).exists():
        raise InputError(f"{folder} holds files made by `fastuq corrupt`; move it away, or give another --output")
    members = archive.members or {}
    if archive.is_model:
        _check_no_other_model(folder, members)
    missing = {name: md5 for name, md5 in members.items() if not _matches(folder / name, md5)}
    if not missing and (members or folder.exists()):
        return False
    by_hand = path.exists()
    if by_hand:
        _check_archive(path, archive, f"remove it, and `fastuq download {archive.name}` fetches it anew")
    else:
        try:
            _fetch(archive, url or _address(archive, path), path, wait)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}; what has arrived is kept") from error
    if archive.members is None:
        extract_pictures(path, archive.folder, folder)
    else:
        if not archive.is_data:
            extract(path, archive.folder, missing, folder)
        write_sums(folder, members)  # from then on a file that changes is refused where it is read
    if not (by_hand or archive.is_data):
        path.unlink()
    return True


def _check_no_other_model(folder: Path, members: Mapping[str, str]) -> None:
    """Refuse a folder with a model in it that is neither the published one nor what is left of it."""
    about = folder / MODEL
    if about.exists() and members[MODEL] not in (md5_file(about), recorded_md5(folder).get(MODEL)):
        raise InputError(f"{folder} holds another model; move it away, or give another --output")


def _check_address(what: str, url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{what} {url}: expected an address that starts with http:// or https://")


def _address(archive: Archive, path: Path) -> str:
    """Return where an archive is published, or, if it is fastuq's own, where ``$FASTUQ_RELEASES`` has it."""
    if archive.url:
        return archive.url
    folder = os.environ.get(RELEASES)
    if not folder:
        raise DownloadError(
            f"{archive.name}: fastuq has no release that it could be fetched from yet; expected the address of "
            f"{path.name} with --url, or of the folder that has it in {RELEASES}, or the file at {path}"
        )
    _check_address(RELEASES, folder)
    return f"{folder.rstrip('/')}/{path.name}"


def _matches(path: Path, md5: str) -> bool:
    return path.is_file() and md5_file(path) == md5


def _check_archive(path: Path, archive: Archive, way_out: str) -> None:
    size = path.stat().st_size
    if size != archive.size:
        raise DownloadError(f"{path}: expected {archive.size} bytes, found {size}; {way_out}")
    found = md5_file(path)
    if found != archive.md5:
        raise DownloadError(f"{path}: expected MD5 {archive.md5}, found {found}; {way_out}")


def _fetch(archive: Archive, url: str, path: Path, wait: float) -> None:
    """Bring `url` to `path`, over as many connections as it takes."""
    part = path.with_name(path.name + ".part")
    busy = InputError(f"another `fastuq download` is writing {part}; wait for it to end")
    with _folder(path.parent):
        with (
            own_file(part, busy, keep=True) as file,
            progress_bar(archive.size // 10**6, archive.file, unit="MB") as bar,
        ):
            _receive_all(archive, url, path, file, bar, wait)
        try:
            _check_archive(part, archive, "it was removed; run the command again, or name another server with --url")
        except DownloadError:
            part.unlink()
            raise
        part.replace(path)


def _receive_all(archive: Archive, url: str, path: Path, file: BinaryIO, bar: Any, wait: float) -> None:
    failures, first, started = 0, file.seek(0, 2), time.monotonic()
    while (have := file.seek(0, 2)) < archive.size:
        try:
            _receive(url, file, archive.size, bar)
        except Broken as problem:
            passed = time.monotonic() - started
            slow = passed > TIMEOUT and file.tell() - first < SLOWEST * passed
            failures = 0 if file.tell() > have and not slow else failures + 1
            if problem.final or failures == TRIES:
                raise _gave_up(archive, url, path, file.tell(), problem) from None
            time.sleep(wait * 2**failures)


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make a folder and those above it; those still empty at the end are removed again."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # the first that holds something ends it
            for folder in made:
                folder.rmdir()


def _receive(url: str, file: BinaryIO, size: int, bar: Any) -> None:
    """Append to `file` what one connection brings; raise Broken if that is not all."""
    have = file.tell()
    with open_url(url, have, size) as response:
        offered = _offered(response, have)
        if offered not in (None, size):
            raise Broken(f"the server offers {offered} bytes, not the published {size}", final=True)
        if response.status != 206:  # a server without ranges sends the whole file
            file.truncate(0)
            file.seek(0)
        while file.tell() < size and (data := _read(response, min(CHUNK, size - file.tell()))):
            file.write(data)
            bar.update(file.tell() // 10**6 - bar.n)
    if file.tell() < size:
        raise Broken("the server broke off the transfer")


@transport()
def _read(response: Any, count: int) -> bytes:
    data = response.read1(count)
    if len(data) > count:  # of chunks with a negative length
        raise Broken("more bytes than were asked for")
    return data


@transport()
def _offered(response: Any, have: int) -> int | None:
    """Return the size of the whole file that a response speaks of; None where it does not say."""
    if response.status not in (200, 206):
        raise Broken(f"the server answers {response.status}, which is no file")
    if response.status == 206:
        unit_and_range, _, total = (response.headers.get("Content-Range") or "").partition("/")
        if not unit_and_range.startswith(f"bytes {have}-"):
            raise Broken(f"a range from byte {have} was asked for, got {unit_and_range!r}")
        return int(total) if total.isdecimal() else None
    length = response.headers.get("Content-Length")
    return int(length) if length is not None and length.isdecimal() else None


def _gave_up(archive: Archive, url: str, path: Path, have: int, problem: Exception) -> DownloadError:
    kept = (
        f"{have / 1e6:.1f} of {archive.size / 1e6:.1f} MB are kept and the next run goes on from there; "
        if have
        else ""
    )
    return DownloadError(
        f"cannot fetch {url}: {problem}; {kept}or fetch it by hand, "
        f"put it at {path}, and run `fastuq download {archive.name}` again"
    )
