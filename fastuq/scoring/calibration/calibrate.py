"""From held-out labelled features to a promise."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.scoring.bank import Bank
from fastuq.scoring.bank.apart import too_many
from fastuq.scoring.calibration.conformal import calibrated_sets
from fastuq.scoring.calibration.overlap import check_cache, digests_of, known_by
from fastuq.scoring.calibration.promise import FIGURES, Promise
from fastuq.scoring.calibration.risk import NEVER_KEPT, Chosen, threshold_at_coverage, threshold_at_risk
from fastuq.scoring.calibration.shift import remembered
from fastuq.scoring.calibration.temperature import fit_temperature, probabilities
from fastuq.scoring.decisions import Reason
from fastuq.scoring.metrics import brier, ece, nll
from fastuq.scoring.options import Options, options_of
from fastuq.scoring.result import Result
from fastuq.scoring.scores import Reference
from fastuq.scoring.scoring import score as scored
from fastuq.scoring.views import Views, checked_views, kinds_of

RISK, DELTA = 0.05, 0.05
_NAMED = "cifar100/"
"""How names of data sets begin that mean the same images wherever they are opened."""


def calibrate(
    model: Model,
    features: FeatureCache,
    options: Options | None = None,
    *,
    score: str | None = None,
    risk: float | None = None,
    coverage: float | None = None,
    delta: float = DELTA,
    sets: float | None = None,
    kind: str | None = None,
    reference: Reference | None = None,
    bank: Bank | None = None,
    gate: float = 0.0,
    threads: int | None = None,
    views: Views = (),
    **single: Any,
) -> Promise:
    """Return a promise about what is kept, proved on held-out labelled samples.

    Parameters
    ----------
    model : Model
    features : FeatureCache
        Of samples with labels that the model was not trained on, drawn like those that are to be scored.
    options : Options, optional
        Of the iterations, for scores that need them.
    score : str, optional
        Name of the score that decides. Default: ``bank`` where there is a bank, else ``max``.
    risk : float, optional
        Keep as much as goes with at most this share of errors (default: 0.05).
    coverage : float, optional
        In its place: keep this share, and promise the risk that the samples prove.
    delta : float
        The chance that the promise is wrong.
    sets : float, optional
        Also make sets of classes that hold the true one with this chance.
    kind : {'lac', 'raps'}
        Of the sets (default: lac).
    reference, bank, gate
        As in `fastuq.score`: for scores that need one, for outputs joined by similarities, and for its gate.
    threads : int, optional
    views : sequence of FeatureCache or ndarray
        As in `fastuq.score`; what the promise is applied to has to come in the same ones.
    **single
        Fields of `Options`, which go before those of `options`.

    Returns
    -------
    Promise

    Raises
    ------
    InputError
        Labels are absent or those of the training data, there are too few samples, or no threshold passes.
    CacheError
        The cache is damaged or was made with another model.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> x = np.random.default_rng(0).standard_normal((600, 1280)).astype(np.float32)
    >>> model = fastuq.embedding_model("model", fastuq.load_model().head, fastuq.Features.from_arrays(x))
    >>> labels = fastuq.score(model, model.coding.codes(x)).plain_prediction
    >>> labels[::50] = (labels[::50] + 1) % 100  # 2% of the predictions are wrong
    >>> held_out = fastuq.Features.from_arrays(x[:400], labels[:400], model=model, name="held out")
    >>> with fastuq.cache_embeddings(held_out, model, "held-out.h5") as cache:
    ...     promise = fastuq.calibrate(model, cache, risk=0.05)
    >>> print(promise.words)
    of those kept at most 5% are wrong, at 95% confidence, for images like those of the calibration (held out)
    """
    _check_together(risk, coverage, kind, sets)
    options = options_of(options, {**single, "rule": "score", "score": score, "coverage": 1.0, "threshold": None})
    labels = _checked_labels(model, features)
    known = digests_of([features, *checked_views(model, features, views)])
    _check_apart(bank, known[:, 0])
    given = {"reference": reference, "bank": bank, "gate": gate}
    result = scored(model, features, options, **given, threads=threads, views=views)  # type: ignore[arg-type]
    assert result.score is not None
    trusted = np.where(result.reason == Reason.FOREIGN, NEVER_KEPT, result.score)
    chosen = _chosen(trusted, result.prediction == labels, risk, coverage, delta)
    some = remembered(len(labels))
    return Promise(
        options=replace(result.options, coverage=None, threshold=chosen.threshold),
        risk=chosen.risk,
        delta=float(delta),
        samples=len(labels),
        tested=chosen.tested,
        kept=chosen.kept,
        errors=chosen.errors,
        **_temperature(result),
        sets=None if sets is None else calibrated_sets(result.mean, labels, sets, "lac" if kind is None else kind),
        missing=_missing(labels, model),
        images=str(features.provenance["images"]),
        data_fingerprint=features.data_fingerprint,
        model_sha256=model.sha256,
        made_with=known_by(reference, bank, gate, kinds_of(features, views)),
        scores=np.sort(result.score[some]),
        digests=known[some],
    )


def _check_together(risk: float | None, coverage: float | None, kind: str | None, sets: float | None) -> None:
    if risk is not None and coverage is not None:
        raise InputError("calibrate: expected a risk or a coverage, found both; the one follows from the other")
    if kind is not None and sets is None:
        raise InputError(
            "kind: expected sets that it is of, found none; give sets, the chance that they hold the class"
        )


def _chosen(score: np.ndarray, right: np.ndarray, risk: float | None, coverage: float | None, delta: float) -> Chosen:
    """Return the threshold at a coverage, else at a risk."""
    if coverage is not None:
        return threshold_at_coverage(score, right, coverage, delta)
    return threshold_at_risk(score, right, RISK if risk is None else risk, delta)


def _temperature(result: Result) -> dict[str, Any]:
    """Return the temperature, and how good probabilities are before and after, on the samples that it is fitted on."""
    if result.labels is None or (result.mean < 0).any():  # logits are no probabilities
        return {"temperature": 1.0, "before": None, "after": None}
    temperature = fit_temperature(result.mean, result.labels)
    figures = []
    for each in (1.0, temperature):
        p = probabilities(result.mean, each)
        right = result.top == result.labels
        figures.append((ece(p.max(axis=1), right), nll(p, result.labels), brier(p, result.labels)))
    before, after = (dict(zip(FIGURES, values, strict=True)) for values in figures)
    return {"temperature": temperature, "before": before, "after": after}


def _checked_labels(model: Model, features: FeatureCache) -> np.ndarray:
    check_cache(features)
    labels = features.labels
    if labels is None:
        raise InputError(
            "calibration: expected samples with labels, found none; only labels tell how often a prediction is wrong"
        )
    if _of_training(model, features):
        raise InputError(
            "calibration: expected held-out samples, found those that the model was trained on, where it errs far less "
            "often; give others"
        )
    return labels


def _of_training(model: Model, features: FeatureCache) -> bool:
    """Return whether these are the data that the model was trained on, or a part of them that fastuq itself names."""
    made = model.info.get("made", {})
    if features.data_fingerprint == made.get("training_fingerprint"):
        return True
    name, trained_on = str(features.provenance["images"]), str(made.get("training_images"))
    whole = re.sub(r"\[\d+:\d+\]|, mirrored", "", name)  # in shards, some of them, or another view
    return whole.startswith(_NAMED) and whole == trained_on and "training_fingerprint" in made


def _check_apart(bank: Bank | None, known: np.ndarray) -> None:
    fitted = 0 if bank is None else int(np.isin(known, bank.fitted).sum())
    if bank is not None and too_many(fitted, len(known)):
        raise InputError(
            f"calibration: expected other samples than those that the bank was fitted on ({bank.origin.held_out}), "
            f"where it does best, found {fitted} of {len(known)} to be of these; give others"
        )


def _missing(labels: np.ndarray, model: Model) -> tuple[str, ...]:
    there = np.bincount(labels, minlength=len(model.class_names)) > 0
    return tuple(name for name, found in zip(model.class_names, there, strict=True) if not found)
