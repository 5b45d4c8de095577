"""CIFAR-100-C whole: one feature cache per corruption, every severity scored from it."""

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache, cache_features
from fastuq.datasets import ImageSet, data_root, open_images
from fastuq.datasets.cifar import CIFAR100C_FOLDER
from fastuq.datasets.corruptions import SEVERITIES
from fastuq.datasets.published import CIFAR100C
from fastuq.errors import CacheError, InputError
from fastuq.model.model import Model
from fastuq.scoring.metrics import auroc
from fastuq.scoring.result import Result
from fastuq.scoring.scoring import Scorer
from fastuq.util.checks import whole_number
from fastuq.util.progress import progress_bar

Visit = Callable[[str, int, Result], None]


def score_cifar100c(
    model: Model,
    caches: Path,
    *,
    corruptions: Sequence[str] = CIFAR100C,
    severities: Sequence[int] = SEVERITIES,
    threads: int | None = None,
    mutual_information: bool = False,
    visit: Visit | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score splits of CIFAR-100-C; features that are not cached yet are cached first.

    Parameters
    ----------
    model : Model
    caches : Path
        Folder of the feature caches, one per corruption. A cache is checked against the images where these are there,
        and serves without them where they are not.
    corruptions, severities : sequence
        What to score.
    threads : int, optional
        Default: the processors this process may use.
    mutual_information : bool
        Also compute it, for `visit`.
    visit : callable, optional
        Called with corruption, severity and `Result` of each split, with the details of all classes.
    **options
        As `fastuq.score` takes them.

    Returns
    -------
    dict
        ``rows``: corruption, severity, the keys of `Result.summary` and ``auroc`` (of the largest mean, right against
        wrong) for each split; ``seconds_features``: making the caches, or waiting for their check;
        ``seconds_total``.

    Raises
    ------
    InputError
        A corruption or severity does not exist, or neither its images nor its cache are there.
    """
    severities = [whole_number("severity", level) for level in severities]
    _check_wanted(corruptions, severities)
    began = time.perf_counter()
    files = {name: cache_path(caches, name, model) for name in corruptions}
    _check_there(files)
    scorer = Scorer(model, mutual_information=mutual_information, threads=threads, **options)
    rows, seconds_features = [], 0.0
    bar = progress_bar(len(corruptions) * len(severities), "CIFAR-100-C", "split")
    with bar, closing(_images_ahead(corruptions)) as images:
        start = time.perf_counter()
        for (name, file), found in zip(files.items(), images, strict=True):
            with _cache(name, file, found, model, threads) as cache:
                seconds_features += time.perf_counter() - start
                _check_layout(name, cache)
                for severity in severities:
                    result = _score_split(scorer, cache, severity, details=visit is not None)
                    rows.append(_row(name, severity, result, cache.data_fingerprint))
                    if visit:
                        visit(name, severity, result)
                    bar.update()
            start = time.perf_counter()
    return {"rows": rows, "seconds_features": seconds_features, "seconds_total": time.perf_counter() - began}


def cache_path(caches: Path, corruption: str, model: Model) -> Path:
    """Return where the features of a corruption are kept."""
    return caches / f"{corruption}-{model.sha256[:8]}.h5"


def _check_wanted(corruptions: Sequence[str], severities: Sequence[int]) -> None:
    for kind, wanted, known in (("corruption", corruptions, CIFAR100C), ("severity", severities, SEVERITIES)):
        unknown = [repr(one) for one in wanted if one not in known]
        if unknown or not wanted:
            raise InputError(f"no {kind} {', '.join(unknown) or 'given'}; there are {', '.join(map(str, known))}")
        if len(set(wanted)) < len(wanted):
            raise InputError(f"{kind}: one is given twice in {', '.join(map(str, wanted))}; name each once")


def _images_file(name: str) -> Path:
    return data_root() / CIFAR100C_FOLDER / f"{name}.npy"


def _check_there(files: dict[str, Path]) -> None:
    missing = [name for name, cache in files.items() if not cache.exists() and not _images_file(name).is_file()]
    if missing:
        raise InputError(
            f"CIFAR-100-C: expected {_images_file(missing[0])} and the like, but {len(missing)} of {len(files)} files "
            f"are missing: {', '.join(missing)}; make them with `fastuq corrupt`, fetch them with "
            "`fastuq download cifar100c`, or name those that are there with --corruptions"
        )


def _images_ahead(names: Sequence[str]) -> Generator[ImageSet | None, None, None]:
    """Yield the images of each corruption, None where there are none; those of the next are read meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(_images, names[0])
        for following in [*names[1:], None]:
            images = ahead.result()
            if following is not None:
                ahead = reader.submit(_images, following)
            yield images


def _images(name: str) -> ImageSet | None:
    if not _images_file(name).is_file():
        return None
    images = open_images(f"cifar100c/{name}")
    images.fingerprint()  # reads them all, once
    return images


def _cache(name: str, file: Path, images: ImageSet | None, model: Model, threads: int | None) -> FeatureCache:
    if images is not None:
        return cache_features(images, model, file, threads=threads)
    cache = FeatureCache.open(file, model=model)
    found, expected = cache.provenance["images"], f"cifar100c/{name}"
    if found != expected:
        cache.close()
        raise CacheError(
            f"{file}: expected features of {expected}, found those of {found}; the file was renamed or copied: "
            "put the right one there, or delete it and run again where the images are"
        )
    return cache


def _check_layout(name: str, cache: FeatureCache) -> None:
    labels = cache.labels
    if labels is None or len(labels) % len(SEVERITIES) or np.ptp(labels.reshape(len(SEVERITIES), -1), axis=0).any():
        raise InputError(
            f"{name}: expected {len(SEVERITIES)} severities of the same images with the same labels, found "
            f"{len(cache)} images that are not; this is not the layout of CIFAR-100-C"
        )


def _score_split(scorer: Scorer, cache: FeatureCache, severity: int, *, details: bool) -> Result:
    count = len(cache) // len(SEVERITIES)
    first = (severity - 1) * count
    assert cache.labels is not None
    labels = cache.labels[first : first + count]
    return scorer(cache.read(first, first + count), labels=labels, details=details)


def _row(corruption: str, severity: int, result: Result, fingerprint: str) -> dict[str, Any]:
    summary = result.summary()
    right = result.top == result.labels
    summary["auroc"] = None if right.all() or not right.any() else auroc(result.max_mean, right)
    return {"corruption": corruption, "severity": severity, **summary, "data_fingerprint": fingerprint}
