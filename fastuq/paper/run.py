"""What the paper measures (arXiv 2403.01076), measured here: in its own sizes, and on whole data sets."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.bench.one_image import time_one_image
from fastuq.bench.timing import Side, interleave
from fastuq.cache import cache_features
from fastuq.datasets import ImageSet, open_images
from fastuq.datasets.corruptions import corrupt
from fastuq.datasets.opening import has_cifar100
from fastuq.datasets.published import CIFAR100C
from fastuq.model.backbone import Backbone
from fastuq.model.model import Model
from fastuq.paper.cifar100c import score_cifar100c
from fastuq.paper.printed import CONF_FACTORS, IGNORED_CORRUPTIONS, NUM_ITERS
from fastuq.paper.stability import seed_disagreement
from fastuq.paper.trust_scores import failure_detection, mean_shift_detection, shift_detection, trust_scores
from fastuq.report.plotting import Picture
from fastuq.scoring.metrics import risk_at_coverage
from fastuq.scoring.options import Options, options_of
from fastuq.scoring.result import Result
from fastuq.scoring.scoring import score
from fastuq.scoring.settled import check_settling
from fastuq.util.progress import progress_bar

SEVERITIES = (1, 5)
CLEAN_IMAGES = 100
PICTURES = 20
NOT_RUN = "not run: no model here"


@dataclass
class Reproduction:
    """What `reproduce` found: figures ready for JSON, and by network what else there is of it.

    Attributes
    ----------
    figures : dict
    pictures : dict
        Ignored images to look at, by network and group.
    splits : dict
        The rows of `score_cifar100c` by network, where the run was a full one.
    """

    figures: dict[str, Any]
    pictures: dict[str, dict[str, list[Picture]]] = field(default_factory=dict)
    splits: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Return the disagreement between seeds over the iterations, on the largest set of images of each network."""
        ran = {name: found for name, found in self.figures["networks"].items() if "not_run" not in found}
        largest = {name: found["full"] or found["small"] for name, found in ran.items()}
        return {f"{name}, {found['clean']['n']:,} images": found["stability"] for name, found in largest.items()}


def reproduce(
    networks: Mapping[str, Model | None],
    *,
    full: bool = False,
    caches: Path,
    threads: int | None = None,
    options: Options | None = None,
    **single: Any,
) -> Reproduction:
    """Measure every table of the paper for each network at hand.

    Parameters
    ----------
    networks : mapping
        Models by name; None where there is none.
    full : bool
        Also on the whole CIFAR-100 test set and on the 95 splits of CIFAR-100-C.
    caches : Path
        Folder of the feature caches of the full run.
    threads : int, optional
    options, **single
        As `fastuq.score` takes them.

    Raises
    ------
    InputError
        `full` without CIFAR-100 or CIFAR-100-C, or a model of other classes.
    """
    began, options = time.perf_counter(), options_of(options, single)
    check_settling(options, {"the measurements of the paper": True})
    clean, first20 = _clean_images(), open_images("bundled")
    figures: dict[str, Any] = {
        "fastuq_version": __version__,
        "options": asdict(options),
        "clean_images": clean.name,
        "networks": {},
    }
    found = Reproduction(figures)
    for name, model in networks.items():
        if model is None:
            figures["networks"][name] = {"not_run": NOT_RUN}
            continue
        small, found.pictures[name] = _small(model, clean, first20, threads, options)
        whole, found.splits[name] = _full(model, caches, threads, options) if full else (None, [])
        figures["networks"][name] = {
            "network": model.network,
            "model_sha256": model.sha256,
            "recorded": model.info.get("made", {}).get("report", {}),
            "one_image_ms": _times(model, np.ascontiguousarray(first20.images[:1]), threads),
            "small": small,
            "full": whole,
        }
    figures["seconds_total"] = time.perf_counter() - began
    return found


def _clean_images() -> ImageSet:
    """Return the first 100 test images where the test set is there, else the bundled 20."""
    if has_cifar100():
        images = open_images("cifar100")
        return images.subset(0, min(CLEAN_IMAGES, len(images)))
    return open_images("bundled")


def _small(
    model: Model, clean: ImageSet, first20: ImageSet, threads: int | None, options: Options
) -> tuple[dict[str, Any], dict[str, list[Picture]]]:
    """Measure in the paper's sizes: 100 clean images (or 20), 20 per corruption and severity."""
    backbone = Backbone(model.read_backbone(), threads=threads)
    clean, first20 = clean.matched_to(model.class_names), first20.matched_to(model.class_names)
    features = backbone(np.asarray(clean.images[:]))
    small, result = _clean_figures(model, features, clean.labels, threads, options)
    pictures = _clean_pictures(model, clean, result)
    reference = trust_scores(_scored(model, backbone(np.asarray(first20.images[:])), first20.labels, threads, options))
    small["corrupted"], small["shift"] = {}, {}
    with progress_bar(len(SEVERITIES) * len(CIFAR100C), "corruptions", "split") as bar:
        for severity in SEVERITIES:
            rows, shifts, shown = {}, [], []
            for corruption in CIFAR100C:
                images = corrupt(np.asarray(first20.images[:]), corruption, severity)
                split = _scored(model, backbone(images), first20.labels, threads, options)
                rows[corruption] = figures_of(split)
                shifts.append(shift_detection(reference, split))
                if corruption in IGNORED_CORRUPTIONS:
                    shown += _pictures(model, images, split, ~split.keep, corruption)[: PICTURES // 4]
                bar.update()
            small["corrupted"][str(severity)], small["shift"][str(severity)] = rows, mean_shift_detection(shifts)
            pictures[f"severity-{severity}"] = shown
    return small, pictures


def _full(
    model: Model, caches: Path, threads: int | None, options: Options
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure on the whole test set and on all splits of CIFAR-100-C, of which there is a row each."""
    images = open_images("cifar100").matched_to(model.class_names)
    with cache_features(images, model, caches / f"test-{model.sha256[:8]}.h5", threads=threads) as cache:
        features, labels = cache.read(0, len(cache)), cache.labels
    full, clean = _clean_figures(model, features, labels, threads, options)
    reference = trust_scores(clean)
    rows: dict[str, dict[str, Any]] = {}
    shifts: dict[str, list[Any]] = {}

    def visit(corruption: str, severity: int, result: Result) -> None:
        rows.setdefault(str(severity), {})[corruption] = figures_of(result)
        shifts.setdefault(str(severity), []).append(shift_detection(reference, result))

    scored = score_cifar100c(model, caches, threads=threads, mutual_information=True, visit=visit, options=options)
    full["corrupted"] = rows
    full["shift"] = {severity: mean_shift_detection(splits) for severity, splits in shifts.items()}
    return full, scored["rows"]


def _clean_figures(
    model: Model, features: np.ndarray, labels: np.ndarray | None, threads: int | None, options: Options
) -> tuple[dict[str, Any], Result]:
    """Return the figures of clean images, and their result under the options given."""
    result = _scored(model, features, labels, threads, options)
    grid = []
    for num_iter in NUM_ITERS:
        for conf_factor in CONF_FACTORS:
            chosen = replace(options, num_iter=num_iter, conf_factor=conf_factor)
            part = score(model, features, chosen, labels=labels, details=False, threads=threads)
            grid.append({"num_iter": num_iter, "conf_factor": conf_factor, **figures_of(part)})
    figures = {
        "clean": figures_of(result),
        "grid": grid,
        "scores": failure_detection(result),
        "stability": seed_disagreement(model, features, threads=threads, options=options),
    }
    return figures, result


def _scored(model: Model, features: Any, labels: Any, threads: int | None, options: Options) -> Result:
    return score(model, features, options, labels=labels, mutual_information=True, threads=threads)


def figures_of(result: Result) -> dict[str, Any]:
    """Return what the paper's tables print of a labelled result.

    `misclassified` counts among the ignored; `accuracy_kept_plain` is the accuracy where as many samples are kept, but
    those of the largest outputs of the plain pass, which needs a result with details.
    """
    summary = result.summary()
    keys = ("n", "accuracy_plain", "f1_plain", "f1_uq", "accuracy_kept", "kept", "ignored", "misclassified_ignored")
    right, kept = result.plain_prediction == result.labels, int(result.keep.sum())
    figures = {key: summary[key] for key in keys}
    figures |= {"misclassified": int((~right & ~result.keep).sum()), "aurc": summary["aurc"]}
    if kept and len(result.plain):
        figures["accuracy_kept_plain"] = 1 - risk_at_coverage(result.plain.max(axis=1), right, kept / len(result))
    else:
        figures["accuracy_kept_plain"] = None
    return figures


def _clean_pictures(model: Model, images: ImageSet, result: Result) -> dict[str, list[Picture]]:
    """Return the first ignored images that the plain pass gets wrong, and those that it gets right."""
    pixels, right = np.asarray(images.images[:]), result.plain_prediction == result.labels
    return {
        "wrong": _pictures(model, pixels, result, ~result.keep & ~right)[:PICTURES],
        "right": _pictures(model, pixels, result, ~result.keep & right)[:PICTURES],
    }


def _pictures(model: Model, pixels: np.ndarray, result: Result, chosen: np.ndarray, note: str = "") -> list[Picture]:
    assert result.labels is not None
    names = model.class_names
    return [
        Picture(pixels[n], names[result.labels[n]], names[result.plain_prediction[n]], note)
        for n in np.flatnonzero(chosen)
    ]


def _times(model: Model, image: np.ndarray, threads: int | None) -> dict[str, float]:
    """Return milliseconds for one image: one plain pass, the naive loop, and fastuq."""
    backbone = Backbone(model.read_backbone(), threads=threads)
    plain = Side(lambda: model.head.forward(model.dequantize(backbone(image))))
    return {"plain": interleave({"plain": plain}, 3)["plain"].median, **time_one_image(model, image)}
