"""FeatureCache: one or several cache files read as the features of one data set."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache.cache_files import CacheFiles
from fastuq.cache.file import CacheFile
from fastuq.cache.staleness import (
    check_complete,
    check_images,
    check_made_by,
    check_parts,
    check_shard_images,
)
from fastuq.datasets import ImageSet
from fastuq.errors import CacheError, InputError
from fastuq.model.coding import CutOff
from fastuq.model.model import Model
from fastuq.util.checks import whole_number
from fastuq.util.file_names import FileNames
from fastuq.util.places import place_of


class FeatureCache:
    """The int8 features of a data set; a context manager. Made by `open` or by `cache_features`.

    Attributes
    ----------
    num_samples, num_features : int
    scale, zero_point : float, int
        real = scale * (q - zero_point).
    labels : ndarray, (N,), int64, or None
        Index into `class_names`.
    files : sequence of str, or None
        The file of each sample, relative to the folder of images; None where samples are not files.
    class_names : tuple of str
        Those of the model.
    model_sha256, data_fingerprint : str
        Identity of the model, and of the images with their labels.
    provenance : dict
        What the cache says of itself: format, versions, runtime, preprocessing, names, batch size, shard.
    computed : int
        Samples that `cache_features` ran the backbone on.
    labels_restored : bool
        True when it found labels or file names damaged and put them back.
    reused : bool
        True when it did neither: everything was there already.
    cut_off : CutOff, or None
        What `cache_embeddings` counted beyond the scales in the samples that it coded.

    Examples
    --------
    >>> import fastuq
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> fastuq.cache_features(images, model, "features.h5").close()
    >>> with fastuq.FeatureCache.open("features.h5", model, images) as cache:
    ...     len(cache), cache.read(0, 5).shape
    (20, (5, 1280))
    """

    def __init__(
        self,
        files: CacheFiles,
        images: ImageSet | None = None,
        *,
        computed: int = 0,
        labels_restored: bool = False,
        cut_off: CutOff | None = None,
    ) -> None:
        self._files, self._images = files, images
        self.computed, self.labels_restored, self.cut_off = computed, labels_restored, cut_off
        self.reused = computed == 0 and not labels_restored
        self._header = files.header
        self._starts = np.cumsum([0, *files.sizes])
        self.num_features = files.num_features
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
            The file, or the folder of shards; or the files of all parts of a cache in any order.
        model : Model, optional
            Refuse the cache unless this model made it, of pictures as it sees them.
        images : ImageSet, optional
            Refuse the cache unless it was made of these images and labels. Classes are matched by the names of `model`,
            or where none is given by those that the cache was made with.
        incomplete : bool
            Also open a cache that is still being written; reading what is not there yet is an error.

        Raises
        ------
        CacheError
            The cache is incomplete, stale, corrupt or foreign, or a shard is missing.
        """
        several = isinstance(path, Iterable) and not isinstance(path, str | bytes | bytearray)
        paths: list[Any] = list(path) if several else [path]  # type: ignore[arg-type]
        if not paths:
            raise InputError("feature cache: expected at least one file, found none")
        if len(paths) == 1 and place_of(paths[0]).is_dir():
            return cls._open_folder(place_of(paths[0]), model, images)
        files: list[CacheFile] = []
        try:
            for each in paths:
                files.append(CacheFile(each))
                check_made_by(files[-1], model)
                if images is not None:
                    names = (model or files[-1].header).class_names  # a model may have got other names since
                    images = images.matched_to(names)  # once: the fingerprint is kept
                    check_images(files[-1], images)
                if not incomplete:
                    check_complete(files[-1])
            files.sort(key=lambda file: file.header.shard.index)
            check_parts(files)
        except BaseException:
            for file in files:
                file.close()
            raise
        return cls(CacheFiles.of(files), images)

    @classmethod
    def _open_folder(cls, folder: Path, model: Model | None, images: ImageSet | None) -> "FeatureCache":
        files = CacheFiles.of_folder(folder)
        check_made_by(files.open(0), model)
        if images is not None and files.manifest is not None:
            images = images.matched_to((model or files.header).class_names)
            check_shard_images(folder, files.manifest, images)
        return cls(files, images)

    @property
    def num_samples(self) -> int:
        """Number of samples N."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        return self.num_samples

    @property
    def labels(self) -> np.ndarray | None:
        """True classes (N,) int64, verified; None for images without labels."""
        return self._labels_and_files[0]

    @cached_property
    def files(self) -> Sequence[str] | None:
        """File names, verified; those of the images that the cache was opened with, else those it was made with."""
        if self._images is not None and self._images.files is not None:
            start = self._header.shard.start
            return self._images.files[start : start + self.num_samples]
        return self._labels_and_files[1]

    @cached_property
    def _labels_and_files(self) -> tuple[np.ndarray | None, FileNames | None]:
        """Both at once: from another machine, every file is fetched whole for either."""
        files = map(self._files.open, range(len(self._files.sizes)))
        labels, names = zip(*((file.labels(), file.files()) for file in files), strict=True)
        joined = None if None in names else FileNames(b"".join(part.to_bytes() for part in names))
        return np.concatenate(labels) if self._header.labelled else None, joined

    @property
    def provenance(self) -> dict[str, Any]:
        """What the cache says of itself."""
        return {"format_version": 1, **self._header.to_json(), "files": [str(path) for path in self._files.paths]}

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
        for place in range(first, last):
            begin, size = int(self._starts[place]), self._files.sizes[place]
            parts.append(self._files.open(place).read(max(start - begin, 0), min(stop - begin, size)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Close the files; reading is an error from then on."""
        self._files.close()

    def __reduce__(self) -> tuple[Any, ...]:
        paths = [path.absolute() for path in self._files.paths]
        place = paths if self._files.manifest is None else paths[0].parent
        return _reopened, (place, self.data_fingerprint, self.model_sha256)

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reopened(place: Path | list[Path], data_fingerprint: str, model_sha256: str) -> FeatureCache:
    """Return a cache that was open in another process, of the files that are there by now."""
    cache = FeatureCache.open(place)
    for what, expected, found in (
        ("data", data_fingerprint, cache.data_fingerprint),
        ("model", model_sha256, cache.model_sha256),
    ):
        if found != expected:
            raise CacheError(
                f"{place}: expected the cache that was opened elsewhere, of {what} {expected[:12]}, found one of "
                f"{found[:12]}; give a place that all machines share under one name"
            )
    return cache
