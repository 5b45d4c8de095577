"""CIFAR-100-C on disk, in the published layout: one .npy per corruption, each whole or not there at all."""

import hashlib
import io
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets.checksums import RECORD, md5_file, read_record
from fastuq.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupt, require_extra
from fastuq.datasets.imageset import ImageSet
from fastuq.errors import InputError
from fastuq.util.checks import checked_seed, whole_number
from fastuq.util.defaults import JOBS
from fastuq.util.files import atomic_path, partial_prefix, write_json
from fastuq.util.locks import open_own, take_lock
from fastuq.util.process import thread_count
from fastuq.util.progress import progress_bar

BATCH = 500
"""Images corrupted at once; the pixels do not depend on it."""
_PACKAGES = ("numpy", "scipy", "scikit-image", "opencv-python-headless", "pillow", "imagecorruptions-imaug", "fastuq")

Task = tuple[np.ndarray, str, int, int, int]  # images, corruption, severity, seed, number of the first image


def generate(
    images: ImageSet,
    output: Path,
    *,
    corruptions: tuple[str, ...],
    severities: tuple[int, ...] = SEVERITIES,
    seed: int = 0,
    jobs: int = JOBS,
) -> dict[str, Any]:
    """Write corrupted copies of `images` to `output`; files that are there and whole are left alone.

    With all five severities each corruption is one ``NAME.npy``, uint8 (5 N, 32, 32, 3), severity s in rows
    (s-1) N to s N, and ``labels.npy`` holds the labels five times: the published layout. With fewer, each severity
    is a file of its own, ``NAME-s.npy``, uint8 (N, 32, 32, 3).

    Parameters
    ----------
    images : ImageSet
        Images of 32 x 32 pixels.
    output : Path
        Folder to write to; ``fastuq-corrupt.json`` in it records seed, images and checksums.
    corruptions, severities : tuple
        What to make.
    seed : int
        Seed of the draws.
    jobs : int
        Processes; the pixels do not depend on it.

    Returns
    -------
    dict
        ``made`` and ``kept``: names of files written, and of files already there.

    Raises
    ------
    InputError
        The folder holds files of another origin, is in use or full, or the images have another shape.
    MissingExtraError
        The extra ``corrupt`` is not installed.
    """
    require_extra()
    seed, jobs = checked_seed(seed), thread_count(jobs, "jobs")
    severities = tuple(whole_number("severity", level, 1, len(SEVERITIES)) for level in severities)
    files: dict[str, tuple[str, tuple[int, ...]]]
    if set(severities) == set(SEVERITIES):
        files = {f"{name}.npy": (name, SEVERITIES) for name in corruptions}
    else:
        files = {f"{name}-{level}.npy": (name, (level,)) for name in corruptions for level in sorted(set(severities))}
    with _locked(output):
        record = _load_record(output, images, seed)
        todo = [name for name in files if not _is_whole(output / name, record)]
        _check_space(output, sum(len(files[name][1]) for name in todo) * len(images) * 3072)
        _write_labels(output, images, record)
        total = sum(len(files[name][1]) for name in files) * len(images)
        done = total - sum(len(files[name][1]) for name in todo) * len(images)
        with _workers(jobs if todo else 1) as run, progress_bar(total, "corrupting", initial=done) as bar:
            for name in todo:
                corruption, levels = files[name]
                bar.set_description(name.removesuffix(".npy"))
                blocks = run(_tasks(images, corruption, levels, seed))
                _write_npy(output / name, (len(levels) * len(images), 32, 32, 3), blocks, record, bar)
    return {"made": todo, "kept": [name for name in files if name not in todo]}


def _tasks(images: ImageSet, corruption: str, levels: tuple[int, ...], seed: int) -> Iterator[Task]:
    for level in levels:
        for start in range(0, len(images), BATCH):
            batch = images.read(start, min(start + BATCH, len(images)))
            yield batch, corruption, level, seed, start


def _work(task: Task) -> np.ndarray:
    images, corruption, severity, seed, first = task
    return corrupt(images, corruption, severity, seed=seed, first=first)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, use one thread, and end with the parent however that ends."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(1)), daemon=True).start()


@contextmanager
def _without_sigterm() -> Iterator[None]:
    """Keep SIGTERM off what starts in the block: workers end with the parent, and answer it until then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _workers(jobs: int) -> Iterator[Any]:
    """Yield a function that maps tasks to blocks of pixels, in order, with few tasks in flight."""
    if jobs == 1:
        yield lambda tasks: map(_work, tasks)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_worker)

    def run(tasks: Iterator[Task]) -> Iterator[np.ndarray]:
        waiting: deque[Future[np.ndarray]] = deque()
        for task in tasks:
            with _without_sigterm():  # workers start here
                waiting.append(pool.submit(_work, task))
            if len(waiting) > 2 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield run
    finally:
        pool.shutdown(cancel_futures=True)


def _write_npy(path: Path, shape: tuple[int, ...], blocks: Iterator[np.ndarray], record: dict, bar: Any) -> None:
    """Write uint8 `blocks` as one array; its checksum is recorded just before the file takes its name."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    digest = hashlib.md5(header.getvalue(), usedforsecurity=False)
    try:
        with atomic_path(path) as partial:
            with partial.open("wb") as file:
                file.write(header.getvalue())
                for block in blocks:
                    data = block.tobytes()
                    file.write(data)
                    digest.update(data)
                    bar.update(len(block))
            versions = {package: _version(package) for package in _PACKAGES}
            record["files"][path.name] = {"md5": digest.hexdigest(), "versions": versions}
            write_json(path.parent / RECORD, record)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; files already whole are kept") from error


def _write_labels(output: Path, images: ImageSet, record: dict) -> None:
    if images.labels is None or _is_whole(output / "labels.npy", record):
        return
    header_and_data = io.BytesIO()
    labels = images.labels.astype(np.uint8 if images.labels.max() < 256 else np.int64)
    np.save(header_and_data, np.tile(labels, len(SEVERITIES)))
    try:
        with atomic_path(output / "labels.npy") as partial:
            partial.write_bytes(header_and_data.getvalue())
            digest = hashlib.md5(header_and_data.getvalue(), usedforsecurity=False).hexdigest()
            record["files"]["labels.npy"] = {"md5": digest}
            write_json(output / RECORD, record)
    except OSError as error:
        raise InputError(f"cannot write {output / 'labels.npy'}: {error.strerror or error}") from error


def _load_record(output: Path, images: ImageSet, seed: int) -> dict[str, Any]:
    wanted = {"seed": seed, "images_fingerprint": images.fingerprint()}
    record = read_record(output)
    if record is None:
        return {**wanted, "images": images.name, "files": {}}
    for key, value in wanted.items():
        if record.get(key) != value:
            raise InputError(
                f"{output} was made with {key} {record.get(key)}, now {value} is asked for; choose another --output"
            )
    return record


def _is_whole(path: Path, record: dict[str, Any]) -> bool:
    """Whether `path` is there as recorded; a file without a record is not this command's to replace."""
    if not path.exists():
        return False
    entry = record["files"].get(path.name)
    if entry is None:
        raise InputError(f"{path} is there and was not made by this command; choose another --output")
    return md5_file(path) == entry["md5"]


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Keep a second run out of `output`, and clear what a killed one left; the lock dies with its process."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = open_own(output / ".fastuq-corrupt.lock")
    except OSError as error:
        raise InputError(f"cannot write to {output}: {error.strerror or error}; choose another --output") from error
    try:
        take_lock(lock, output, InputError(f"another `fastuq corrupt` is writing to {output}; wait for it to end"))
        ours = tuple(partial_prefix(name) for name in _all_names())
        for stale in output.glob(".*.partial"):
            if stale.name.startswith(ours):
                stale.unlink(missing_ok=True)
        yield
    finally:
        os.close(lock)


def _all_names() -> list[str]:
    parts = ("", *(f"-{level}" for level in SEVERITIES))
    return [RECORD, "labels.npy", *(f"{name}{part}.npy" for name in CORRUPTIONS for part in parts)]


def _check_space(output: Path, needed: int) -> None:
    free = shutil.disk_usage(output).free
    if needed > free:
        raise InputError(
            f"{output}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; "
            "choose another --output, or fewer --corruptions"
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:  # PackageNotFoundError is one; OpenCV also comes under other package names
        return None
