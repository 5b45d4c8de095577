"""One file of a feature cache: verified reads, batches written in place, one writer at a time."""

import hashlib
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fastuq.cache.header import TITLE, Header, header_of
from fastuq.cache.making import LOCK_SECONDS, busy
from fastuq.cache.sealed import cannot_write, open_file, read_seal
from fastuq.errors import BusyError, CacheError
from fastuq.util.file_names import FileNames
from fastuq.util.locks import is_at, is_locked, take_lock
from fastuq.util.places import place_of
from fastuq.util.process import processors
from fastuq.util.rawio import read_into, write_all

_CHECK_BYTES = 4 * 2**20


class CacheFile:
    """A feature cache file, whole or still being written.

    A batch counts as written when its entry in `checksums` says so and holds the CRC-32 of its features. The CRC-32
    begins with the seal's SHA-256 and the batch's number, so what belongs to another place or file does not match.

    Parameters
    ----------
    path : str or Path

    Attributes
    ----------
    path : Path
    header : Header
    num_features : int

    Raises
    ------
    CacheError
        The file is missing, foreign, truncated, damaged or of another format version.
    """

    def __init__(self, path: str | Path) -> None:
        self._descriptor = -1
        self.path = place_of(path)
        self._descriptor = open_file(self.path, os.O_RDONLY)
        try:
            with self._reading():
                self._seal = read_seal(self._descriptor, self.path, TITLE)
            self.header: Header = header_of(self._seal, self.path)
        except BaseException:
            self.close()
            raise
        extents = self._seal.datasets
        self._features, self._checksums, self._labels = extents["features"], extents["checksums"], extents["labels"]
        self._files = extents.get("files")
        self.num_features = self._features.shape[1]

    def close(self) -> None:
        """Close the file; reading is an error from then on."""
        descriptor, self._descriptor = self._descriptor, -1  # first: a signal in between must not have it closed twice
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close

    def labels(self) -> np.ndarray:
        """Return the labels (N,) int64, verified; -1 throughout where there are none."""
        found = self._stored_labels()
        if not self._are_labels(found):
            raise CacheError(
                f"{self.path}: the labels do not match their SHA-256; the file was altered after it was written; "
                f"`fastuq cache repair {self.path}` puts them back from the images"
            )
        return found

    def files(self) -> FileNames | None:
        """Return the file names of the samples, verified; None where there are none."""
        if self._files is None:
            return None
        found = self._stored_files()
        if not self._are_files(found):
            raise CacheError(
                f"{self.path}: the file names do not match their SHA-256; the file was altered after it was written; "
                f"`fastuq cache repair {self.path}` puts them back from the images"
            )
        return FileNames(found)

    def restore(self, labels: np.ndarray, files: bytes) -> bool:
        """Put labels and file names back where the file's are damaged and these match; return whether it did."""
        lost = []
        if not self._are_labels(self._stored_labels()) and self._are_labels(labels):
            lost.append((labels, self._labels.offset))
        if self._files is not None and not self._are_files(self._stored_files()) and self._are_files(files):
            lost.append((np.frombuffer(files, np.int8), self._files.offset))
        if not lost:
            return False
        with self.locked():
            try:
                for array, offset in lost:
                    write_all(self._descriptor, array, offset)
                self.sync()
            except OSError as error:
                raise cannot_write(self.path, error) from None
        return True

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return features `start` to `stop` (exclusive) of this file, int8, after verifying every batch they lie in."""
        size = self.header.batch_size
        first, last = start // size, -(-stop // size)
        entries = self._entries(first, last)  # before the rows: a writer writes them after
        rows = self._read_batches(first, last)
        for batch in range(first, last):
            self._require(batch, rows[(batch - first) * size : (batch - first + 1) * size], entries[batch - first])
        begin = start - first * size
        return rows if len(rows) == stop - start else rows[begin : begin + stop - start].copy()

    def written(self) -> int:
        """Return how many batches say that they are written."""
        return int(np.count_nonzero(self._entries(0, self.header.num_batches)[:, 0]))

    def pending(self) -> list[int]:
        """Verify all that can be damaged while the file is open; return the batches that are missing or damaged.

        Raises
        ------
        CacheError
            The labels or file names are damaged.
        """
        self.labels()
        self.files()
        step = max(1, _CHECK_BYTES // (self.header.batch_size * self.num_features))
        starts = range(0, self.header.num_batches, step)
        with ThreadPoolExecutor(processors()) as pool:
            found = pool.map(lambda first: self._unmatched(first, min(first + step, self.header.num_batches)), starts)
            return [batch for batches in found for batch in batches]

    def rows_of(self, batch: int) -> tuple[int, int]:
        """Return the first sample of a batch and the one after its last, counted in this file."""
        start = batch * self.header.batch_size
        return start, min(start + self.header.batch_size, self.header.size)

    def write(self, batch: int, features: np.ndarray) -> None:
        """Write the features of a batch, then its entry; the lock must be held.

        Raises
        ------
        CacheError
            The disk is full or broken; what was written before stays good.
        """
        features = np.ascontiguousarray(features, np.int8)
        start, stop = self.rows_of(batch)
        assert features.shape == (stop - start, self.num_features)
        entry = np.array([1, self._crc(batch, features)], "<u4")
        try:
            write_all(self._descriptor, features, self._features.offset + start * self.num_features)
            write_all(self._descriptor, entry, self._checksums.offset + batch * entry.nbytes)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def sync(self) -> None:
        """Flush what was written to the disk."""
        os.fsync(self._descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file for writing; the lock of a process that died is free.

        Raises
        ------
        CacheError
            Another process writes to it for longer than `LOCK_SECONDS`, or the file cannot be written.
        InputError
            The file system has no locks.
        """
        read_only, self._descriptor = self._descriptor, open_file(self.path, os.O_RDWR)
        try:
            take_lock(self._descriptor, self.path, busy(self.path), LOCK_SECONDS)
            if not (is_at(self._descriptor, self.path) and os.path.sameopenfile(read_only, self._descriptor)):
                raise BusyError(f"{self.path}: the file was replaced meanwhile; run again")
            yield
        finally:
            writing, self._descriptor = self._descriptor, read_only
            os.close(writing)

    def being_written(self) -> bool | None:
        """Tell whether a living process holds the file for writing; None where the file system has no locks."""
        return is_locked(self._descriptor)

    def _stored_labels(self) -> np.ndarray:
        return self._bytes(self._labels.shape, "<i8", self._labels.offset)

    def _are_labels(self, labels: np.ndarray) -> bool:
        return hashlib.sha256(labels.data).hexdigest() == self.header.labels_sha256

    def _stored_files(self) -> bytes:
        assert self._files is not None
        return self._bytes(self._files.shape, "|i1", self._files.offset).tobytes()

    def _are_files(self, files: bytes) -> bool:
        return hashlib.sha256(files).hexdigest() == self.header.files_sha256

    def _entries(self, first: int, last: int) -> np.ndarray:
        return self._bytes((last - first, 2), "<u4", self._checksums.offset + 8 * first)

    def _read_batches(self, first: int, last: int) -> np.ndarray:
        start, stop = self.rows_of(first)[0], self.rows_of(last - 1)[1]
        shape = (stop - start, self.num_features)
        return self._bytes(shape, "|i1", self._features.offset + start * self.num_features)

    def _bytes(self, shape: tuple[int, ...], dtype: str, offset: int) -> np.ndarray:
        array = np.empty(shape, dtype)
        with self._reading():
            read_into(self._descriptor, array, offset)
        return array

    def _unmatched(self, first: int, last: int) -> list[int]:
        size, entries, rows = self.header.batch_size, self._entries(first, last), self._read_batches(first, last)
        parts = [rows[place * size : (place + 1) * size] for place in range(last - first)]
        return [
            first + place
            for place, (written, crc) in enumerate(entries)
            if written != 1 or crc != self._crc(first + place, parts[place])
        ]

    def _crc(self, batch: int, rows: np.ndarray) -> int:
        return zlib.crc32(rows.data, zlib.crc32(f"{self._seal.sha256}{batch:020}".encode("ascii")))

    def _require(self, batch: int, rows: np.ndarray, entry: np.ndarray) -> None:
        written, crc = (int(number) for number in entry)
        found = self._crc(batch, rows)
        if (written, crc) == (1, found):
            return
        start, stop = self.rows_of(batch)
        place = f"{self.path}: batch {batch} (samples {start} to {stop - 1})"
        if (written, crc) == (0, 0):
            raise CacheError(f"{place} is not written yet; finish the cache with `fastuq cache-features`")
        raise CacheError(
            f"{place} is damaged: expected CRC-32 {crc:08x}, found {found:08x}; the file was altered after it was "
            f"written; `fastuq cache repair {self.path}` computes that batch again"
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if self._descriptor < 0:
            raise CacheError(f"{self.path}: the cache is closed; open it again")
        try:
            yield
        except EOFError:
            raise CacheError(
                f"{self.path}: the file was truncated while it was open; cache the features again"
            ) from None
        except OSError as error:
            raise CacheError(f"{self.path}: cannot be read ({error.strerror or error}); check the disk") from None
