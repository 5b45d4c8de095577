"""From a scored data set to its page: the parts in the template, written whole or not at all."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from fastuq.cache import FeatureCache
from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.model.model import Model
from fastuq.report.page import heat_map, pictures, summary
from fastuq.report.page.charts import reliability, risk_coverage
from fastuq.report.page.markup import text
from fastuq.report.page.samples_table import ROWS, glossary, histograms, samples_table
from fastuq.report.samples import least_sure
from fastuq.scoring.bank import Bank
from fastuq.scoring.result import Result
from fastuq.scoring.views import Views, checked_views
from fastuq.util.files import write_text


def save_report(
    path: str | Path,
    result: Result,
    model: Model,
    features: FeatureCache | np.ndarray,
    images: ImageSet | None = None,
    *,
    bank: Bank | None = None,
    views: Views = (),
    name: str | None = None,
    cifar100c: Sequence[heat_map.Row] | None = None,
) -> None:
    """Write a scored data set as one HTML page, whole or not at all.

    The page needs no network and no other file. It holds up to 24 pictures and 2,000 rows, whatever the number of
    samples. The same arguments give the same bytes.

    Parameters
    ----------
    path : str or Path
        The file to write; ``-`` is standard output.
    result : Result
        With details or without.
    model : Model
        The model it was scored with.
    features : FeatureCache or ndarray, (N, D), int8
        What it was scored from; those of the pictures are read again.
    images : ImageSet, optional
        What the features were made of; without them the page has no pictures.
    bank, views
        Those that it was scored with.
    name : str, optional
        What to call the data; the name of the images by default.
    cifar100c : list, optional
        Rows of a table of ``fastuq score-cifar100c --csv``, see `fastuq.report.page.heat_map.read_splits`.

    Raises
    ------
    InputError
        Result, model, features, bank, views and images do not belong together, or the page cannot be written.

    Examples
    --------
    >>> import fastuq, pathlib
    >>> model, images = fastuq.load_model(), fastuq.open_images("bundled")
    >>> with fastuq.cache_features(images, model, "features.h5") as cache:
    ...     result = fastuq.score(model, cache)
    ...     fastuq.save_report("page.html", result, model, cache, images)
    >>> "of 20 predictions to trust" in pathlib.Path("page.html").read_text(encoding="utf-8")
    True
    """
    images = None if images is None else images.matched_to(model.class_names)
    _check_together(result, model, features, images)
    views = checked_views(model, features, views)
    if (bank is not None, 1 + len(views)) != (result.bank is not None, result.views):
        raise InputError(
            "report: expected the bank and the views that it was scored with, found others, or none; give these"
        )
    called = name or (images.name if images else "features")
    write_text(path, _page(result, model, (features, *views), bank, images, called, cifar100c))


def _check_together(result: Result, model: Model, features: FeatureCache | np.ndarray, images: ImageSet | None) -> None:
    if result.model_sha256 != model.sha256:
        raise InputError(
            f"report: expected model {result.model_sha256[:12]}, which scored the result, found {model.sha256[:12]}; "
            "give the model that the result is of"
        )
    scored = result.data_fingerprint
    found = features.data_fingerprint if isinstance(features, FeatureCache) else None
    if len(features) != len(result) or found != scored:
        raise InputError(
            f"report: expected the features that were scored ({len(result)}, fingerprint {_brief(scored)}), found "
            f"others ({len(features)}, fingerprint {_brief(found)}); give what the result is of"
        )
    if images is not None and (len(images) != len(result) or (scored and images.fingerprint() != scored)):
        raise InputError(
            f"report: expected the images that were scored ({len(result)}, fingerprint {_brief(scored)}), found "
            f"{images.name} ({len(images)}, fingerprint {images.fingerprint()[:12]}); give those that the result is of"
        )


def _brief(fingerprint: str | None) -> str:
    return fingerprint[:12] if fingerprint else "none"


def _page(
    result: Result,
    model: Model,
    views: Views,
    bank: Bank | None,
    images: ImageSet | None,
    name: str,
    cifar100c: Sequence[heat_map.Row] | None,
) -> str:
    figures, names, labelled = result.summary(), model.class_names, result.labels is not None
    style, script = _template("page.css"), _template("page.js")
    unsure, wrong = least_sure(result)[: pictures.SHOWN], pictures.confidently_wrong(result)
    mistakes, wrong = len(wrong), wrong[: pictures.SHOWN]
    seen = pictures.looks([*unsure, *wrong], result, model, views, bank, images)
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "name": text(name),
        "headline": summary.headline(result),
        "lead": summary.lead(figures),
        "promise": summary.promise(result),
        "settled": summary.settled(figures),
        "tiles": summary.tiles(result, figures),
        "reasons": summary.reasons(result),
        "left_out": summary.left_out(images),
        "no_pictures": "" if images else _no_pictures(model),
        "unsure": pictures.cards(unsure, seen, result, names),
        "least": "largest mean" if result.score is None else f"score ({text(result.options.score)})",
        "unsure_count": f"{len(unsure)} of {len(result):,}",
        "wrong": _wrong(mistakes, pictures.cards(wrong, seen, result, names)) if labelled else "",
        "plots": (risk_coverage(result) + reliability(result) if labelled else "") + histograms(result, names),
        "heat_maps": _heat(cifar100c) if cifar100c else "",
        "wrong_link": '<a href="#wrong">Confidently wrong</a>' if labelled else "",
        "heat_link": '<a href="#heat">CIFAR-100-C</a>' if cifar100c else "",
        "right_filter": _RIGHT_FILTER if labelled else "",
        "table": samples_table(result, names),
        "table_says": _table_says(len(result)),
        "printed": _PRINTED if len(result) > 100 else "",
        "glossary": glossary(result, names),
        "origin": summary.origin(result, model),
    }
    return Template(_template("page.html")).substitute(parts)


def _template(name: str) -> str:
    return files("fastuq.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return what the browser compares a script with before it runs it: no other one runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _no_pictures(model: Model) -> str:
    if model.input_shape is None:
        return '<p class="remark">These are embeddings: there are no pictures to show.</p>'
    return (
        '<p class="remark">Made from cached features alone: without the images there are no pictures to show. '
        "<code>fastuq report IMAGES --cache FILE</code> shows them.</p>"
    )


def _wrong(mistakes: int, cards: str) -> str:
    if not mistakes:
        return '<section id="wrong"><h2>Confidently wrong</h2><p>No prediction is wrong.</p></section>'
    return (
        '<section id="wrong"><h2>Confidently wrong</h2><p class="intro">Wrong predictions with the largest mean first; '
        f"{min(mistakes, pictures.SHOWN)} of {mistakes:,} are shown. A label may be wrong, too.</p>{cards}</section>"
    )


def _heat(rows: Sequence[heat_map.Row]) -> str:
    return (
        '<section id="heat"><h2>CIFAR-100-C</h2><p class="intro">The same model on corrupted images, severity 1 to 5; '
        f"the stronger the colour, the larger the number. {heat_map.heat_caption(rows)}</p>"
        f'<div class="heats">{heat_map.heat_maps(rows)}</div></section>'
    )


def _table_says(n: int) -> str:
    if n <= ROWS:
        return f"All {n:,} images, the least sure first."
    return (
        f"The {ROWS:,} least sure of {n:,} images; the other {n - ROWS:,} are left out here. "
        "<code>fastuq score --csv FILE</code> writes all of them."
    )


_PRINTED = '<p class="printed">Paper shows the first 100 rows of the table.</p>'
_RIGHT_FILTER = (
    '<label>Prediction <select id="right"><option value="">right or wrong</option><option>right</option>'
    "<option>wrong</option></select></label>"
)
