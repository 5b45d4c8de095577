"""From images to a file of a feature cache: the backbone over every batch that is not there yet."""

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastuq import __version__
from fastuq.cache.cache_files import CacheFiles
from fastuq.cache.feature_cache import FeatureCache
from fastuq.cache.file import CacheFile
from fastuq.cache.header import MAX_BATCH_BYTES, MAX_FILES_BYTES, Header, Shard
from fastuq.cache.making import create_file
from fastuq.cache.staleness import check_same
from fastuq.datasets import ImageSet
from fastuq.errors import CacheError, InputError, ModelError, NotThereError
from fastuq.model.model import Model
from fastuq.util.checks import whole_number
from fastuq.util.file_names import FileNames
from fastuq.util.files import partial_prefix
from fastuq.util.process import thread_count
from fastuq.util.progress import progress_bar
from fastuq.util.remote import is_remote, upload

if TYPE_CHECKING:
    from fastuq.model.backbone import Backbone


def cache_file(
    images: ImageSet, model: Model, path: Path, *, batch_size: int, threads: int | None, stamp: str = ""
) -> FeatureCache:
    """Cache images whose labels count the model's classes; `stamp` is what their files are known again by.

    What goes to another machine is made in a file of this one, in ``out/``, and put there once it is whole: a run that
    was stopped goes on from that file.
    """
    header, labels, names = _header(images, model, batch_size, stamp)
    if not is_remote(path):
        return _cache_here(images, model, path, threads, header, labels, names)
    if path.exists() and _is_whole(path, header):
        return FeatureCache(CacheFiles.of([CacheFile(path)]), images)
    same = (str(path), header.model_sha256, header.data_fingerprint, header.preprocessing, header.runtime)
    here = Path("out", f"{partial_prefix(repr(same))}h5")
    with _cache_here(images, model, here, threads, header, labels, names) as made:
        try:
            file = CacheFile(here)
            upload(here, str(path))
        except (CacheError, NotThereError):
            if here.exists():
                raise
            file = CacheFile(path)  # another process made the same, put it there and took the file here away
    here.unlink(missing_ok=True)
    file.path = path
    return FeatureCache(CacheFiles.of([file]), images, computed=made.computed, labels_restored=made.labels_restored)


def _is_whole(path: Path, header: Header) -> bool:
    """Return whether a cache of another machine is whole; raises CacheError where it is of something else."""
    file = CacheFile(path)
    check_same(file, header)
    try:
        return not file.pending()
    except CacheError:  # it is made again
        return False


def _cache_here(
    images: ImageSet, model: Model, path: Path, threads: int | None, header: Header, labels: np.ndarray, names: bytes
) -> FeatureCache:
    threads = thread_count(threads)
    if not os.path.exists(path):  # unlike Path.exists, False where it may not even look
        create_file(path, header, model.head.num_features, labels, names)
    file = CacheFile(path)
    try:
        check_same(file, header)
        restored, computed = file.restore(labels, names), 0
        if file.pending():
            with file.locked():
                computed = _fill(file, images, model, threads)
    except BaseException:
        file.close()
        raise
    return FeatureCache(CacheFiles.of([file]), images, computed=computed, labels_restored=restored)


def default_cache_path(images: ImageSet, model: Model) -> Path:
    """Return where the features of these images and model are kept unless the user names a file."""
    images = images.matched_to(model.class_names)
    name = re.sub(r"[^\w.-]+", "-", images.name).encode()[:150].decode(errors="ignore")
    return Path("out") / f"features-{name}-{images.fingerprint()[:8]}-{model.sha256[:8]}.h5"


def _header(images: ImageSet, model: Model, batch_size: int, stamp: str) -> tuple[Header, np.ndarray, bytes]:
    """Return the header, and labels and file names of the samples."""
    shape, count = tuple(images.images.shape[1:]), len(model.class_names)
    if shape != model.image_shape:
        raise InputError(
            f"{images.name}: expected images {model.input_shape} as model {model.path} takes them, found {shape}; "
            "resize them, or give the images that the model was made for"
        )
    images.check_crop(model.crop)
    if images.labels is not None and images.labels.max() >= count:
        raise InputError(
            f"{images.name}: expected labels 0 to {count - 1}, the classes of model {model.path}, "
            f"found {images.labels.max()}; give the model's own classes, or the images without labels"
        )
    batch_size = whole_number("batch size", batch_size, 1, MAX_BATCH_BYTES // model.head.num_features)
    labels = (np.full(len(images), -1) if images.labels is None else images.labels).astype("<i8")
    names = b"" if images.files is None else FileNames.of(images.files).to_bytes()
    if len(names) > MAX_FILES_BYTES:
        raise InputError(
            f"{images.name}: {len(names)} bytes of file names, at most {MAX_FILES_BYTES}; cache it in shards"
        )
    header = Header(
        model_sha256=model.sha256,
        network=model.network,
        class_names=model.class_names,
        scale=float(model.feature_scale),
        zero_point=int(model.feature_zero_point),
        data_fingerprint=images.fingerprint(),
        images=images.name,
        num_samples=len(images),
        labelled=images.labels is not None,
        labels_sha256=hashlib.sha256(labels.tobytes()).hexdigest(),
        preprocessing={"color": "RGB", "dtype": "uint8", "shape": list(shape), **(images.prepared or {})},
        runtime=runtime(),
        batch_size=batch_size,
        shard=Shard(1, 1, 0, len(images)),
        fastuq_version=__version__,
        files_sha256=hashlib.sha256(names).hexdigest() if names else "",
        stamp=stamp,
    )
    return header, labels, names


def runtime() -> dict[str, Any]:
    """Return what `Backbone.runtime` will say, without starting LiteRT: a valid cache needs none."""
    try:
        return {"litert": version("ai-edge-litert"), "delegate": "xnnpack"}
    except PackageNotFoundError:
        raise InputError("caching features needs LiteRT: pip install ai-edge-litert") from None


def _fill(file: CacheFile, images: ImageSet, model: Model, threads: int | None) -> int:
    """Compute what is pending and return how many samples that was.

    Images are read ahead, beside the backbone. A batch is written before the next one begins, which takes about a
    thousandth of its time, so that no more than one is ever lost.
    """
    pending = file.pending()  # again: what another process wrote before the lock was free is kept
    if not pending:
        return 0
    backbone = _backbone(model, threads)
    total = file.header.size
    counts = {batch: stop - start for batch in pending for start, stop in [file.rows_of(batch)]}

    def load(batch: int) -> np.ndarray:
        return images.read(*file.rows_of(batch))

    bar = progress_bar(total, "features", initial=total - sum(counts.values()))
    with bar, ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(load, pending[0])
        for batch, following in zip(pending, [*pending[1:], None], strict=True):
            pixels = ahead.result()
            if following is not None:
                ahead = reader.submit(load, following)
            file.write(batch, backbone(pixels))
            bar.update(counts[batch])
    file.sync()
    return sum(counts.values())


def _backbone(model: Model, threads: int | None) -> "Backbone":
    """Return the backbone of the model, if it gives the features that the model describes."""
    from fastuq.model.backbone import Backbone

    made = Backbone(model.read_backbone(), threads=threads)
    expected = ((model.head.num_features,), np.float32(model.feature_scale), model.feature_zero_point)
    found = (made.output_shape, np.float32(made.scale), made.zero_point)
    if found != expected:
        raise ModelError(
            f"model {model.path}: expected a backbone of {expected[0][0]} features with scale {expected[1]} and zero "
            f"point {expected[2]}, found {found[0][0]}, {found[1]} and {found[2]}; its parts are of different models: "
            "make it again with `fastuq train`"
        )
    return made
