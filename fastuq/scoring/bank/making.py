"""From a cache of labelled training features, and one of held-out ones, to a bank."""

from dataclasses import replace

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import CacheError, InputError
from fastuq.model.model import Model
from fastuq.scoring.bank.apart import check_apart, doubles_of
from fastuq.scoring.bank.bank import Bank, Origin, counts_of
from fastuq.scoring.bank.fitting import fit
from fastuq.scoring.bank.projection import Projection, principal
from fastuq.scoring.digests import digests
from fastuq.scoring.logits import plain_logits
from fastuq.util.checks import whole_number
from fastuq.util.labels import checked_labels
from fastuq.util.progress import progress_bar

COMPONENTS = 256
_ROWS = 8192


def make(
    model: Model,
    training: FeatureCache,
    held_out: FeatureCache,
    *,
    components: int | None = None,
    held_out_samples: int | None = None,
    threads: int | None = None,
) -> Bank:
    """Make a bank of training features, its weights fitted on held-out ones.

    The training cache is read twice, in pieces; memory holds one piece, (D, D) float64 and the bank.

    Parameters
    ----------
    model : Model
    training, held_out : FeatureCache
        Labelled, of the model; the head may have seen the first and must not have seen the second.
    components : int, optional
        Principal components K; a row takes as many bytes. Default: 256, or as many as there are.
    held_out_samples : int, optional
        Fit on so many of the held-out samples, from the first on. Figures on these are too good.
    threads : int, optional
        Default: the processors this process may use.

    Raises
    ------
    InputError
        Labels are missing, a class has no rows, held-out samples are too few or among the training samples.
    CacheError
        A cache is of another model, or damaged.
    """
    labels = _labels(model, training, "training")
    counts = counts_of(labels, model.class_names)
    truth = _labels(model, held_out, "held-out")
    count = (
        len(truth) if held_out_samples is None else whole_number("held-out samples", held_out_samples, 1, len(truth))
    )
    if training.data_fingerprint == held_out.data_fingerprint:
        raise InputError(
            "bank: expected held-out samples that are not among the training samples, found the same data; "
            "give others: similarities to themselves say nothing"
        )
    most = min(len(training) - 1, training.num_features)
    components = min(COMPONENTS, most) if components is None else whole_number("components", components, 1, most)
    projection = principal(training, components)
    order = np.argsort(labels, kind="stable")
    origin = Origin(
        model.sha256,
        model.network,
        model.class_names,
        training.provenance["images"],
        training.data_fingerprint,
        held_out.provenance["images"],
        held_out.data_fingerprint,
        count,
    )
    features = held_out.read(0, count)
    rows = _rows(training, projection, order)
    bank = Bank(rows, counts, order, projection, None, digests(features), origin)  # type: ignore[arg-type]
    similarities = bank.similarities(features, threads=threads)
    check_apart(bank, doubles_of(bank, features, similarities)[0], count)
    return replace(bank, weights=fit(plain_logits(model, features), similarities, truth[:count]))


def _labels(model: Model, cache: FeatureCache, what: str) -> np.ndarray:
    if cache.model_sha256 != model.sha256:
        raise CacheError(
            f"bank: expected {what} features of model {model.sha256[:12]}, found those of {cache.model_sha256[:12]}; "
            "cache them with this model"
        )
    if cache.labels is None:
        raise InputError(f"bank: expected {what} features with labels, found a cache without; cache labelled images")
    return checked_labels("labels", cache.labels, len(cache), len(model.class_names), "cache the features again")


def _rows(training: FeatureCache, projection: Projection, order: np.ndarray) -> np.ndarray:
    """Return the codes of the training features in this order."""
    rows, place = np.empty((len(order), len(projection.offset)), np.int8), np.empty_like(order)
    place[order] = np.arange(len(order))
    with progress_bar(len(order), "rows", "sample") as bar:
        for start in range(0, len(order), _ROWS):
            stop = min(start + _ROWS, len(order))
            rows[place[start:stop]] = projection.codes(training.read(start, stop))
            bar.update(stop - start)
    return rows
