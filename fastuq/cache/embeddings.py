"""From embeddings to a feature cache: the codes of every batch that is not there yet."""

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fastuq import __version__
from fastuq.cache.cache_files import CacheFiles
from fastuq.cache.feature_cache import FeatureCache
from fastuq.cache.features import Features
from fastuq.cache.file import CacheFile
from fastuq.cache.header import MAX_BATCH_BYTES, Header, Shard
from fastuq.cache.making import create_file
from fastuq.cache.staleness import check_same
from fastuq.errors import InputError
from fastuq.model.coding import CutOff
from fastuq.model.model import Model
from fastuq.util.checks import checked_path, whole_number
from fastuq.util.defaults import BATCH_SIZE
from fastuq.util.labels import check_width
from fastuq.util.process import thread_count
from fastuq.util.progress import progress_bar


def cache_embeddings(
    features: Features,
    model: Model,
    path: str | Path | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
) -> FeatureCache:
    """Write the int8 features of embeddings to a feature cache, sealed like one of images.

    A file that is there already goes on where it was.

    Parameters
    ----------
    features : Features
        Coded by the model's scales: ``Features.from_arrays(x, model=model)``, or what the model was made of.
    model : Model
        A model of embeddings.
    path : str or Path, optional
        Default: see `default_embeddings_path`.
    batch_size : int
        Samples that share a checksum.
    threads : int, optional
        Default: the processors this process may use.

    Returns
    -------
    FeatureCache
        Open for reading; `computed` says how many samples were left to write, `cut_off` how many of their values lay
        beyond the scales.

    Raises
    ------
    CacheError
        The file was made of something else, is written by another process, or cannot be written.
    InputError
        The embeddings do not fit the model, or hold NaN or infinity.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> x = np.random.default_rng(0).standard_normal((100, 1280)).astype(np.float32)
    >>> features = fastuq.Features.from_arrays(x)
    >>> model = fastuq.embedding_model("embeddings", fastuq.load_model().head, features)
    >>> with fastuq.cache_embeddings(features, model, "features.h5") as cache:
    ...     fastuq.score(model, cache).mean.shape
    (100, 100)
    """
    threads = thread_count(threads)
    header, labels = _header(features, model, batch_size)
    path = default_embeddings_path(features, model) if path is None else checked_path(path)
    if not os.path.exists(path):
        create_file(path, header, model.head.num_features, labels)
    file = CacheFile(path)
    try:
        check_same(file, header)
        restored, cut_off = file.restore(labels, b""), CutOff(features.num_features)
        computed = 0
        if _pending(file):
            with file.locked():
                computed = _fill(file, features, threads, cut_off)
    except BaseException:
        file.close()
        raise
    return FeatureCache(CacheFiles.of([file]), computed=computed, labels_restored=restored, cut_off=cut_off)


def default_embeddings_path(features: Features, model: Model) -> Path:
    """Return where the features of these embeddings are kept unless the user names a file."""
    name = re.sub(r"[^\w.-]+", "-", features.name).encode()[:150].decode(errors="ignore")
    return Path("out") / f"features-{name}-{features.fingerprint()[:8]}-{model.sha256[:8]}.h5"


def _header(features: Features, model: Model, batch_size: int) -> tuple[Header, np.ndarray]:
    coding, count = model.coding, len(model.class_names)
    same = coding is not None and all(
        np.array_equal(mine, theirs)
        for mine, theirs in ((coding.scale, features.coding.scale), (coding.offset, features.coding.offset))
    )
    if not same:
        raise InputError(
            f"{features.name}: expected embeddings coded by the scales of model {model.path}, found others; give "
            "Features.from_arrays(x, model=model)"
        )
    check_width(features.name, features.one_hot, count)
    if features.labels is not None and features.labels.max() >= count:
        raise InputError(
            f"{features.name}: expected labels 0 to {count - 1}, the classes of model {model.path}, found "
            f"{features.labels.max()}; give the model's own classes, or the embeddings without labels"
        )
    labels = np.full(len(features), -1, np.int64) if features.labels is None else features.labels
    labels = labels.astype("<i8")
    header = Header(
        model_sha256=model.sha256,
        network=model.network,
        class_names=model.class_names,
        scale=1.0,
        zero_point=0,
        data_fingerprint=features.fingerprint(),
        images=features.name,
        num_samples=len(features),
        labelled=features.labels is not None,
        labels_sha256=hashlib.sha256(labels.tobytes()).hexdigest(),
        preprocessing={"kind": "embeddings", "shape": [1, 1, features.num_features]},
        runtime={"backbone": "none"},
        batch_size=whole_number("batch size", batch_size, 1, MAX_BATCH_BYTES // features.num_features),
        shard=Shard(1, 1, 0, len(features)),
        fastuq_version=__version__,
    )
    return header, labels


def _pending(file: CacheFile) -> list[int]:
    """Return the batches that are missing or damaged; nothing of a file without any is read."""
    return file.pending() if file.written() else list(range(file.header.num_batches))


def _fill(file: CacheFile, features: Features, threads: int, cut_off: CutOff) -> int:
    """Code and write what is pending, a batch in each thread, and return how many samples that was."""
    pending = _pending(file)  # again: what another process wrote before the lock was free is kept
    counts = [stop - start for start, stop in map(file.rows_of, pending)]

    def work(batch: int) -> CutOff:
        own = CutOff(features.num_features)
        file.write(batch, features.read(*file.rows_of(batch), own))
        return own

    bar = progress_bar(file.header.size, "features", "row", initial=file.header.size - sum(counts))
    with bar, ThreadPoolExecutor(threads) as pool:
        for count, own in zip(counts, pool.map(work, pending), strict=True):
            cut_off.add(own)
            bar.update(count)
    file.sync()
    return sum(counts)
