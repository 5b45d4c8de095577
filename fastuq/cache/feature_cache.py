"""FeatureCache: one or several cache files read as the features of one data set."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache.file import CacheFile
from fastuq.cache.header import Header
from fastuq.cache.staleness import check_images, check_model
from fastuq.datasets import ImageSet
from fastuq.errors import CacheError, InputError
from fastuq.model.model import Model
from fastuq.util.checks import whole_number


class FeatureCache:
    """The int8 features of a data set; a context manager. Made by `open` or by `cache_features`.

    Attributes
    ----------
    num_samples, num_features : int
    scale, zero_point : float, int
        real = scale * (q - zero_point).
    labels : ndarray, (N,), int64, or None
        Index into `class_names`.
    class_names : tuple of str
        Those of the model.
    model_sha256, data_fingerprint : str
        Identity of the model, and of the images with their labels.
    provenance : dict
        What the cache says of itself: format, versions, runtime, preprocessing, names, batch size, shard.
    computed : int
        Samples that `cache_features` ran the backbone on.
    labels_restored : bool
        True when it found the labels damaged and put them back.
    reused : bool
        True when it did neither: everything was there already.

    Examples
    --------
    >>> import fastuq
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> fastuq.cache_features(images, model, "features.h5").close()
    >>> with fastuq.FeatureCache.open("features.h5", model, images) as cache:
    ...     len(cache), cache.read(0, 5).shape
    (20, (5, 1280))
    """

    def __init__(self, files: Sequence[CacheFile], *, computed: int = 0, labels_restored: bool = False) -> None:
        self._files = list(files)
        self.computed, self.labels_restored = computed, labels_restored
        self.reused = computed == 0 and not labels_restored
        self._header: Header = files[0].header
        self._starts = np.cumsum([0] + [file.header.size for file in files])
        self.num_features = files[0].num_features
        self.scale, self.zero_point = self._header.scale, self._header.zero_point
        self.class_names = self._header.class_names
        self.model_sha256 = self._header.model_sha256
        self.data_fingerprint = self._header.data_fingerprint

    @classmethod
    def open(
        cls,
        path: str | Path | Sequence[str | Path],
        model: Model | None = None,
        images: ImageSet | None = None,
        *,
        incomplete: bool = False,
    ) -> "FeatureCache":
        """Open a cache for reading.

        Parameters
        ----------
        path : str, Path or list of them
            The file, or the files of all shards in any order.
        model : Model, optional
            Refuse the cache unless this model made it.
        images : ImageSet, optional
            Refuse the cache unless it was made of these images and labels.
        incomplete : bool
            Also open a cache that is still being written; reading what is not there yet is an error.

        Raises
        ------
        CacheError
            The cache is incomplete, stale, corrupt or foreign, or a shard is missing.
        """
        several = isinstance(path, Iterable) and not isinstance(path, str | bytes | bytearray)
        paths: list[Any] = list(path) if several else [path]  # type: ignore[arg-type]
        files: list[CacheFile] = []
        try:
            for each in paths:
                files.append(CacheFile(each))
                header = files[-1].header
                if model is not None:
                    check_model(header, files[-1].path, model.sha256)
                if images is not None:
                    images = images.matched_to(header.class_names)
                    check_images(header, files[-1].path, images)
                if not incomplete:
                    _check_complete(files[-1])
            files.sort(key=lambda file: file.header.shard.index)
            _check_shards(files)
        except BaseException:
            for file in files:
                file.close()
            raise
        return cls(files)

    @property
    def num_samples(self) -> int:
        """Number of samples N."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        return self.num_samples

    @cached_property
    def labels(self) -> np.ndarray | None:
        """True classes (N,) int64, verified; None for images without labels."""
        if not self._header.labelled:
            return None
        return np.concatenate([file.labels() for file in self._files])

    @property
    def provenance(self) -> dict[str, Any]:
        """What the cache says of itself."""
        return {"format_version": 1, **self._header.to_json(), "files": [str(file.path) for file in self._files]}

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the features of samples `start` to `stop` (exclusive) after verifying their checksums.

        Returns
        -------
        ndarray, (stop - start, D), int8

        Raises
        ------
        InputError
            The range does not lie within the cache.
        CacheError
            A batch is damaged or not written yet.
        """
        start, stop = whole_number("start", start), whole_number("stop", stop)
        if not 0 <= start <= stop <= self.num_samples:
            raise InputError(f"samples {start} to {stop} asked for, but the cache holds 0 to {self.num_samples}")
        if start == stop:
            return np.empty((0, self.num_features), np.int8)
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        last = int(np.searchsorted(self._starts, stop, "left"))
        parts = []
        for file, begin in zip(self._files[first:last], self._starts[first:last].tolist(), strict=True):
            parts.append(file.read(max(start - begin, 0), min(stop - begin, file.header.size)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Close the files; reading is an error from then on."""
        for file in self._files:
            file.close()

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_complete(file: CacheFile) -> None:
    header, written = file.header, file.written()
    if written == header.num_batches:
        return
    way_out = (
        "another process is writing it: wait for it to end"
        if file.being_written()
        else "the run that made it was stopped; the same `fastuq cache-features` command goes on from there"
    )
    raise CacheError(
        f"{file.path}: incomplete: {written} of {header.num_batches} batches of {header.batch_size} samples are "
        f"written; {way_out}"
    )


def _check_shards(files: list[CacheFile]) -> None:
    if not files:
        raise InputError("feature cache: expected at least one file, found none")
    first = files[0].header
    count = first.shard.count
    for file in files:
        check_model(file.header, file.path, first.model_sha256)
        for name in ("data_fingerprint", "preprocessing", "runtime", "num_samples", "scale", "zero_point"):
            if getattr(file.header, name) != getattr(first, name) or file.num_features != files[0].num_features:
                raise CacheError(
                    f"{file.path}: expected a shard of the same cache as {files[0].path}, found another "
                    f"{name.replace('_', ' ')}; give the shards of one cache"
                )
    found = [file.header.shard.index for file in files]
    if (
        len(files) != count
        or found != list(range(1, count + 1))
        or any(file.header.shard.count != count for file in files)
    ):
        raise CacheError(
            f"{files[0].path}: expected the {count} shards 1/{count} to {count}/{count}, found "
            f"{', '.join(f'{file.header.shard.index}/{file.header.shard.count}' for file in files)}; "
            "give every shard once"
        )
    stops = [0] + [file.header.shard.stop for file in files]
    if [file.header.shard.start for file in files] != stops[:-1] or stops[-1] != first.num_samples:
        raise CacheError(f"{files[0].path}: the shards do not cover the data set; cache the features again")
