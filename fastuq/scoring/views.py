"""Several views of the same samples, or several heads: the iterations of all of them taken together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.montecarlo.kernels.plan import Columns, Rules
from fastuq.montecarlo.together import moments_together
from fastuq.scoring.decisions import decide, ternary_vector
from fastuq.scoring.found import predictive_entropy
from fastuq.scoring.options import Options
from fastuq.scoring.reading import checked_truth
from fastuq.scoring.settled import check_settling

Views = Sequence[FeatureCache | np.ndarray]
_LOOKED_AT = 256
"""Samples that tell whether two views are the same."""


def checked_views(model: Model, features: FeatureCache | np.ndarray, views: Views) -> list[Any]:
    """Return other views of the samples whose features these are.

    Raises
    ------
    InputError, CacheError
        They are no sequence, not of the model, not as many, of other classes, or the same view once more.
    """
    if not isinstance(views, Sequence) or isinstance(views, str):
        raise InputError(
            f"views: expected a list of features, found {type(views).__name__}; put a single view into a list, and "
            "leave it out where there is none"
        )
    given = [features, *views]
    for number, view in enumerate(given[1:], 1):
        checked_truth(model, view, None)
        if len(view) != len(features):
            raise InputError(
                f"view {number}: expected {len(features)} samples, found {len(view)}; a view has the same samples in "
                "the same order"
            )
        if _labels_differ(view, features):
            raise InputError(
                f"view {number}: expected the labels of the first view, found others; give the same samples"
            )
        if any(_is_same(view, each) for each in given[:number]):
            raise InputError(f"view {number}: expected other images, found those of a view before; give each view once")
    return given[1:]


def _labels_differ(view: FeatureCache | np.ndarray, features: FeatureCache | np.ndarray) -> bool:
    one, other = (each.labels if isinstance(each, FeatureCache) else None for each in (view, features))
    return one is not None and other is not None and not np.array_equal(one, other)


def _is_same(view: FeatureCache | np.ndarray, other: FeatureCache | np.ndarray) -> bool:
    """Return whether two views are one: in other files, by their first samples."""
    if not (isinstance(view, FeatureCache) and isinstance(other, FeatureCache)):
        return view is other
    count = min(_LOOKED_AT, len(view))
    same = view.data_fingerprint == other.data_fingerprint
    return same or np.array_equal(view.read(0, count), other.read(0, count))


def kinds_of(features: FeatureCache | np.ndarray, views: Views) -> list[str]:
    """Return what is known of views beside that they are of the same samples: ``mirrored``, or ``another``."""
    images = [each.provenance["images"] if isinstance(each, FeatureCache) else None for each in (features, *views)]
    return ["mirrored" if name == f"{images[0]}, mirrored" else "another" for name in images[1:]]


def checked_samples(
    model: Model, options: Options, features: FeatureCache | np.ndarray, labels: Any, views: Views
) -> np.ndarray | None:
    """Return the labels to score with; raises where features, labels, views and options do not go together."""
    truth = checked_truth(model, features, labels)
    checked_views(model, features, views)
    check_settling(options, {"other views": bool(views)})
    if views and options.method == "analytic":
        raise InputError("views: expected the method sampling, found analytic, which is of a single view")
    return truth


def taken_together(found: Sequence[Columns], rules: Rules, activation: str) -> Columns:
    """Return the columns of samples by the moments over all iterations of all views and heads, and the mean plain pass.

    Parameters
    ----------
    found : sequence of Columns
        Of each view by each head, with the moments of all classes.
    rules : Rules
    activation : str
        The last one of the head.
    """
    if len(found) == 1:
        return found[0]
    mean, std = moments_together([each.mean for each in found], [each.std for each in found])
    plain = np.stack([each.plain for each in found]).mean(axis=0, dtype=np.float64).astype(np.float32)
    half = rules.z * std
    lower, upper = mean - half, mean + half
    finite = np.logical_and.reduce([each.floats[4] == 1 for each in found])
    mixed = "keep" if rules.keep_mixed else "ignore"
    decision = decide(
        ternary_vector(lower, upper, float(rules.threshold)), mean, mixed=mixed, doubt_floor=float(rules.floor)
    )
    at = np.arange(len(mean)), decision.prediction
    numbers = (decision.keep, decision.reason, decision.prediction, mean.argmax(axis=1), plain.argmax(axis=1))
    return Columns(
        floats=np.stack([mean[at], lower[at], upper[at], mean.max(axis=1), finite.astype(np.float32)]),
        numbers=np.stack(numbers).astype(np.int32),
        positive=np.packbits(decision.positive, axis=1, bitorder="little"),
        entropy=predictive_entropy(mean, activation),
        entropies=np.mean([each.entropies for each in found], axis=0),
        mean=mean,
        std=std,
        plain=plain,
    )
