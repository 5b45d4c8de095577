"""A promise applied to what is scored: where it does not apply it is refused, where the data differ it is withdrawn."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.scoring.bank import Bank
from fastuq.scoring.calibration.overlap import check_cache, digests_of, known_by
from fastuq.scoring.calibration.promise import Promise
from fastuq.scoring.calibration.shift import RATE, Alarm, shift_alarm
from fastuq.scoring.decisions import Reason
from fastuq.scoring.result import Result
from fastuq.scoring.scores import Reference
from fastuq.scoring.scoring import Scorer
from fastuq.scoring.views import Views, checked_views, kinds_of

_SHARED = 0.01
"""Share of the scored samples that may be among those of the calibration: some images are there twice."""


@dataclass(frozen=True)
class Kept:
    """What a promise came to.

    Attributes
    ----------
    result : Result
        Decisions are those of the promise; ECE, NLL and Brier score are those at its temperature. Where the promise is
        withdrawn no sample is 'trusted', the reason of those kept is 'promise withdrawn', and there are no sets.
    promise : Promise
    alarm : Alarm
    """

    result: Result
    promise: Promise
    alarm: Alarm

    @property
    def words(self) -> str:
        """What is promised of these samples, or why nothing is, as one sentence."""
        return _words(self.promise, self.alarm)

    def about(self) -> dict[str, Any]:
        """Return what was promised, and whether it stands, ready for JSON."""
        return _about(self.promise, self.alarm)


def keep_by_promise(
    promise: Promise,
    model: Model,
    features: FeatureCache,
    *,
    reference: Reference | None = None,
    bank: Bank | None = None,
    gate: float = 0.0,
    details: bool = True,
    views: Views = (),
    **others: Any,
) -> Kept:
    """Score features and decide as was promised.

    Parameters
    ----------
    promise : Promise
    model : Model
        That the promise was made for.
    features : FeatureCache
    reference, bank, gate, views
        What the promise was made with; see `fastuq.calibrate`.
    details : bool
        As in `fastuq.score`.
    **others
        ``mutual_information`` and ``threads``, as in `fastuq.score`.

    Returns
    -------
    Kept

    Raises
    ------
    InputError
        The promise is of another model, reference or bank, or of other views; or its calibration data are among what is
        scored.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> x = np.random.default_rng(0).standard_normal((600, 1280)).astype(np.float32)
    >>> model = fastuq.embedding_model("model", fastuq.load_model().head, fastuq.Features.from_arrays(x))
    >>> labels = fastuq.score(model, model.coding.codes(x)).plain_prediction
    >>> labels[::50] = (labels[::50] + 1) % 100  # 2% of the predictions are wrong
    >>> held_out = fastuq.Features.from_arrays(x[:400], labels[:400], model=model, name="held out")
    >>> others = fastuq.Features.from_arrays(x[400:], model=model)
    >>> with (
    ...     fastuq.cache_embeddings(held_out, model, "held-out.h5") as first,
    ...     fastuq.cache_embeddings(others, model, "others.h5") as second,
    ... ):
    ...     promise = fastuq.calibrate(model, first, coverage=0.5, score="energy")
    ...     kept = fastuq.keep_by_promise(promise, model, second)
    >>> kept.result.keep.shape, kept.alarm.sounds
    ((200,), False)
    >>> kept.words[:47]
    'promised: of those kept at most 4.52% are wrong'
    """
    check_cache(features)
    views = checked_views(model, features, views)
    _check_applies(promise, model, features, known_by(reference, bank, gate, kinds_of(features, views)))
    _check_others(promise, features, views)
    scorer = Scorer(
        model,
        promise.options,
        reference=reference,
        bank=bank,
        gate=gate,
        temperature=promise.temperature,
        sets=promise.sets,
        **others,
    )
    result = scorer(features, details=details, views=views)
    assert result.score is not None
    alarm = shift_alarm(promise.scores, result.score)
    if alarm.sounds:
        reason = np.where(result.reason == Reason.TRUSTED, np.int8(Reason.PROMISE_WITHDRAWN), result.reason)
        result = replace(result, reason=reason, set_bits=None)
    return Kept(replace(result, promise=_about(promise, alarm)), promise, alarm)


def _words(promise: Promise, alarm: Alarm) -> str:
    if not alarm.sounds:
        return f"promised: {promise.words}"
    return (
        f"nothing is promised: the scores do not look like those of the calibration ({promise.images}; largest gap "
        f"{alarm.gap:.2f}, p = {alarm.p_value:.1g}, and images like those sound this alarm {RATE:.0%} of the time); "
        "calibrate on labelled images like these"
    )


def _about(promise: Promise, alarm: Alarm) -> dict[str, Any]:
    names = ("risk", "delta", "temperature", "data_fingerprint")
    return {
        "words": _words(promise, alarm),
        "withdrawn": alarm.sounds,
        **{name: getattr(promise, name) for name in names},
        "shift": alarm._asdict(),
    }


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) < 40 else text[:12]  # a digest


def _check_applies(promise: Promise, model: Model, features: FeatureCache, made_with: dict[str, Any]) -> None:
    if promise.model_sha256 != model.sha256:
        raise InputError(
            f"promise: made for model {promise.model_sha256[:12]}, found model {model.sha256[:12]}; "
            "calibrate the model that scores"
        )
    for name, made in promise.made_with.items():
        if made_with[name] != made:
            raise InputError(
                f"promise: made with {name} {_brief(made)}, found {_brief(made_with[name])}, which changes the scores; "
                "give what the calibration was given"
            )


def _check_others(promise: Promise, features: FeatureCache, views: Views) -> None:
    """Raise InputError where images of the calibration, in whatever view, are among those scored."""
    way_out = "score others, or calibrate on others"
    if features.data_fingerprint == promise.data_fingerprint:
        raise InputError(
            f"promise: calibrated on the very images that are scored ({promise.images}), where its threshold was "
            f"chosen; {way_out}"
        )
    known = int(np.isin(digests_of([features, *views]), promise.digests).any(axis=1).sum())
    shared = round(known * promise.samples / len(promise.digests))  # of a large calibration some are remembered
    if shared > _SHARED * len(features):
        about = "" if shared == known else "about "
        raise InputError(
            f"promise: {about}{shared} of the {len(features)} images were in its calibration ({promise.images}), where "
            f"its threshold was chosen; {way_out}"
        )
