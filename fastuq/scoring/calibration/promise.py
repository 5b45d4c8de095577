"""A promise: a threshold with what was proved of it, and with all that tells whether it still applies; a JSON file."""

import base64
import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.errors import InputError, short
from fastuq.scoring.calibration.conformal import KINDS, Sets
from fastuq.scoring.calibration.risk import check_rate
from fastuq.scoring.calibration.shift import MOST
from fastuq.scoring.options import Options
from fastuq.util.checks import checked_path, finite_number, one_of, whole_number
from fastuq.util.files import write_json
from fastuq.util.json_reading import read_json

FORMAT = "fastuq promise 1"
FIGURES = ("ece", "nll", "brier")
_MOST_SAMPLES = 2**40


@dataclass(frozen=True, eq=False)
class Promise:
    """What `fastuq calibrate` found, and what `fastuq score --promise` applies.

    Attributes
    ----------
    options : Options
        The rule, a score and its threshold, and what is scored with.
    risk, delta : float
        At most a share `risk` of the kept is wrong, with confidence 1 - `delta`.
    samples, tested, kept, errors : int
        Samples of the calibration; those that the threshold was tested on, how many it keeps, and how many of these
        are wrong.
    temperature : float
        At which mean outputs are probabilities; 1 where they are below 0.
    before, after : dict of str to float, or None
        ECE, NLL and Brier score of the calibration's mean outputs at temperature 1, and at `temperature`.
    sets : Sets or None
        How to make sets of classes.
    missing : tuple of str
        Names of the classes that no sample of the calibration has.
    images, data_fingerprint : str
        Name of the calibration data, and their fingerprint.
    model_sha256 : str
    made_with : dict
        What reference, bank and views are known again by, or None; and the gate.
    scores : ndarray, float64
        Of the calibration, ascending, for the shift alarm; at most 10,000.
    digests : ndarray, (N, V), uint64
        Of its samples in each view, so that they are known again; at most 10,000 samples.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> x = np.random.default_rng(0).standard_normal((400, 1280)).astype(np.float32)
    >>> model = fastuq.embedding_model("model", fastuq.load_model().head, fastuq.Features.from_arrays(x))
    >>> labels = fastuq.score(model, model.coding.codes(x)).plain_prediction
    >>> labels[::50] = (labels[::50] + 1) % 100  # 2% of the predictions are wrong
    >>> held_out = fastuq.Features.from_arrays(x, labels, model=model)
    >>> with fastuq.cache_embeddings(held_out, model, "held-out.h5") as cache:
    ...     promise = fastuq.calibrate(model, cache, risk=0.05)
    >>> promise.tested, promise.kept, promise.errors, promise.risk
    (320, 307, 5, 0.05)
    >>> promise.save("promise.json")
    >>> fastuq.load_promise("promise.json").options == promise.options
    True
    """

    options: Options
    risk: float
    delta: float
    samples: int
    tested: int
    kept: int
    errors: int
    temperature: float
    before: dict[str, float] | None
    after: dict[str, float] | None
    sets: Sets | None
    missing: tuple[str, ...]
    images: str
    data_fingerprint: str
    model_sha256: str
    made_with: dict[str, Any]
    scores: np.ndarray
    digests: np.ndarray

    @property
    def words(self) -> str:
        """What is promised, as one sentence."""
        at_most = math.ceil(self.risk * 1e4 - 1e-6) / 100  # never less than was proved
        return (
            f"of those kept at most {at_most:g}% are wrong, at {100 * (1 - self.delta):.6g}% confidence, for "
            f"images like those of the calibration ({self.images})"
        )

    def summary(self) -> dict[str, Any]:
        """Return what is promised, ready for JSON, without what single samples are remembered by: no promise file."""
        return {name: value for name, value in _plain(self).items() if name not in ("format", "scores", "digests")}

    def save(self, path: str | Path) -> None:
        """Write the promise as JSON, whole or not at all; ``-`` is standard output."""
        about = _plain(self)
        write_json(path, {**about, "sha256": _stamp(about)})


def load_promise(path: str | Path) -> Promise:
    """Read a promise without trust, each value checked.

    Raises
    ------
    InputError
        It is no promise, not as it was written, or cannot be read.

    Examples
    --------
    >>> import fastuq
    >>> fastuq.load_promise("promise.json")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fastuq.errors.InputError: promise promise.json: cannot be read (No such file or directory); make it with ...
    """
    path = checked_path(path)
    try:
        about = read_json(path)
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ValueError(f"not the format {FORMAT!r}")
        if about.pop("sha256", None) != _stamp(about):
            raise ValueError("another stamp than that of what it says: it was changed by hand, or damaged")
        return _checked(about)
    except OSError as error:
        raise InputError(
            f"promise {path}: cannot be read ({error.strerror}); make it with `fastuq calibrate`, or check the path"
        ) from None
    except (ValueError, TypeError, KeyError, OverflowError, InputError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else short(error)
        raise InputError(
            f"promise {path}: expected a file of `fastuq calibrate`, found {what}; make it again"
        ) from None


def _plain(promise: Promise) -> dict[str, Any]:
    values = {field.name: getattr(promise, field.name) for field in fields(Promise)}
    return {
        "format": FORMAT,
        "fastuq_version": __version__,
        **values,
        "sets": None if promise.sets is None else asdict(promise.sets),
        "missing": list(promise.missing),
        "options": asdict(promise.options),
        "scores": promise.scores.tolist(),
        "digests": base64.b64encode(promise.digests.astype("<u8").tobytes()).decode(),
    }


def _stamp(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _checked(about: dict[str, Any]) -> Promise:
    """Return the promise that a file says; raises whatever `load_promise` catches where a value is not possible."""
    known = {field.name for field in fields(Promise)} | {"format", "fastuq_version"}
    if about.keys() - known:
        raise ValueError(f"a key that is unknown: {min(about.keys() - known)!r}")
    counts = {
        name: whole_number(name, about[name], 0, _MOST_SAMPLES) for name in ("samples", "tested", "kept", "errors")
    }
    if not counts["errors"] < counts["kept"] <= counts["tested"] <= counts["samples"]:
        raise ValueError("counts that do not fit each other")
    scores = np.array([finite_number("scores", score) for score in _listed(about["scores"])])
    digests = np.frombuffer(base64.b64decode(about["digests"], validate=True), "<u8")
    views = len(digests) // max(len(scores), 1)
    if not 0 < len(scores) <= MOST or len(digests) != views * len(scores) or not views or (np.diff(scores) < 0).any():
        raise ValueError("scores or digests of samples that do not fit each other")
    return Promise(
        options=_rule(about["options"]),
        risk=check_rate("risk", about["risk"]),
        delta=check_rate("delta", about["delta"]),
        **counts,
        temperature=finite_number("temperature", about["temperature"], 1e-3, 1e3),
        before=_figures(about["before"]),
        after=_figures(about["after"]),
        sets=None if about["sets"] is None else _sets(about["sets"]),
        missing=tuple(_text(name) for name in _listed(about["missing"])),
        images=_text(about["images"]),
        data_fingerprint=_text(about["data_fingerprint"]),
        model_sha256=_text(about["model_sha256"]),
        made_with=_made_with(about["made_with"]),
        scores=scores,
        digests=digests.reshape(-1, views),
    )


def _rule(about: Any) -> Options:
    options = Options(**about)
    if options.rule != "score" or options.coverage is not None or options.foreign is not None:
        raise ValueError("another rule than a score and its threshold")
    return options


def _made_with(about: dict[str, Any]) -> dict[str, Any]:
    names = ("reference", "bank", "views")
    known = {name: None if about[name] is None else _text(about[name]) for name in names}
    return {**known, "gate": finite_number("gate", about["gate"], 0, 1)}


def _sets(about: dict[str, Any]) -> Sets:
    return Sets(
        kind=one_of("kind", about["kind"], KINDS),
        coverage=check_rate("coverage", about["coverage"]),
        temperature=finite_number("temperature", about["temperature"], 1e-3, 1e3),
        limit=finite_number("limit", about["limit"], 0, math.inf),
        penalty=finite_number("penalty", about["penalty"], 0, 1e3),
        free_ranks=whole_number("free_ranks", about["free_ranks"], 0, 2**31),
    )


def _figures(about: Any) -> dict[str, float] | None:
    return None if about is None else {name: finite_number(name, about[name]) for name in FIGURES}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{short(repr(value), 40)} where text belongs")
    return value


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{short(repr(value), 40)} where a list belongs")
    return value
