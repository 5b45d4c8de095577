"""Several views of the same samples: moments over the iterations of all of them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from banks import bank, cached, embeddings, parts
from heads import LAYOUTS, model_of, random_features, random_head, reference_outputs
from scipy.special import logsumexp, softmax

from fastuq.datasets import open_images
from fastuq.errors import CacheError, InputError
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.scoring.calibration.applying import keep_by_promise
from fastuq.scoring.calibration.calibrate import calibrate
from fastuq.scoring.calibration.promise import load_promise
from fastuq.scoring.decisions import Reason
from fastuq.scoring.found import rules_of
from fastuq.scoring.logits import plain_logits
from fastuq.scoring.options import Options
from fastuq.scoring.scores import fit_reference, scores
from fastuq.scoring.scores.table import SCORES
from fastuq.scoring.scoring import Scorer, score
from fastuq.scoring.views import taken_together

COLUMNS = (
    "keep",
    "reason",
    "prediction",
    "positive",
    "top",
    "max_mean",
    "predicted_lower",
    "plain_prediction",
    "entropy",
)


def test_moments_are_those_of_all_iterations_of_all_views():
    head = random_head(LAYOUTS["awkward"])
    views = [random_features(20, head.num_features, seed) for seed in (0, 1, 2)]
    model, ids, rules = model_of(head, views[0]), np.arange(20), rules_of(Options())
    run = MonteCarlo(model, num_iter=9, seed=5)
    found = taken_together([run.decide(view, ids, rules, details=True) for view in views], rules, "softmax")
    outputs = [reference_outputs(model, view, 9, 5, "shared", "int8", ids) for view in views]
    every = np.concatenate(outputs).astype(np.float64)
    assert np.abs(found.mean - every.mean(axis=0)).max() < 1e-5
    assert np.abs(found.std - every.std(axis=0)).max() < 1e-5
    plain = np.mean([model.head_int8.forward(view) for view in views], axis=0)
    assert np.abs(found.plain - plain).max() < 1e-5


def test_a_view_like_the_first_changes_nothing():
    """What is decided in NumPy here is what the kernels decide."""
    of = parts()
    some = of.other.read(0, 70)
    for options in (Options(threshold=0.3), Options(mixed="keep", doubt_floor=0.2, interval="sem", conf_factor=0.95)):
        scorer = Scorer(of.model, options, mutual_information=True)
        one, two = scorer(some), scorer(some, views=[some.copy()])
        assert (one.views, two.views) == (1, 2)
        for name in COLUMNS:
            assert np.allclose(getattr(one, name), getattr(two, name), atol=1e-5), name
        assert np.allclose(one.mutual_information, two.mutual_information, atol=1e-5)


def test_views_and_a_bank():
    of, made = parts(), bank()
    some = of.other.read(0, 70)
    moved = np.roll(some, 1, axis=0)
    apart = [score(of.model, view, bank=made) for view in (some, moved)]
    both = score(of.model, some, bank=made, views=[moved])
    assert np.abs(both.mean - np.mean([each.mean for each in apart], axis=0)).max() < 1e-6
    assert both.summary()["views"] == 2
    assert len(score(of.model, some, views=[moved], details=False).mean) == 0


def test_the_gate_looks_at_all_views_alike():
    of, made = parts(), bank()
    views = of.other.read(0, 70), np.roll(of.other.read(0, 70), 1, axis=0), -of.other.read(0, 70)
    scorer = Scorer(of.model, bank=made, gate=0.5, threshold=0.2)
    there, back = scorer(views[0], views=views[1:]), scorer(views[2], views=views[1::-1])
    largest = np.mean([plain_logits(of.model, view).max(axis=1) for view in views], axis=0)
    closed = largest < made.weights.gate(0.5)
    assert 10 < closed.sum() < 60
    for result in (there, back):
        assert np.array_equal(result.reason == Reason.FOREIGN, closed)
    assert np.array_equal(there.keep, back.keep)


def test_mirrored_images_are_a_set_of_their_own():
    images = open_images("bundled")
    mirrored = images.mirrored()
    assert np.array_equal(mirrored.read(3, 5), images.images[3:5, :, ::-1])
    assert np.array_equal(mirrored.subset(3, 5).mirrored().read(0, 2), images.images[3:5])
    assert mirrored.fingerprint() != images.fingerprint()
    assert (mirrored.name, len(mirrored)) == ("bundled, mirrored", 20)
    assert np.array_equal(mirrored.labels, images.labels)


def test_bad_views_are_said_in_one_line(tmp_path):
    of = parts()
    x, labels = embeddings(70, 3)
    short = cached(of.model, tmp_path / "short.h5", x[:60], labels[:60])
    wrong = cached(of.model, tmp_path / "wrong.h5", x, labels[::-1].copy())
    same = cached(of.model, tmp_path / "same.h5", x, labels)
    same.data_fingerprint = "of the same images in shards"
    for views, words in (
        ([short], "view 1: expected 70 samples, found 60"),
        ([wrong], "view 1: expected the labels of the first view"),
        ([of.other], "view 1: expected other images"),
        ([same], "view 1: expected other images"),
        (["mirror.h5"], "expected a FeatureCache"),
    ):
        with pytest.raises((InputError, CacheError)) as caught:
            score(of.model, of.other, views=views)
        assert re.search(words, str(caught.value)), caught.value


def test_scores_are_of_the_views_together():
    """Of mean outputs, logits and iterations; scores of features and hidden units are means of those of the views."""
    of, made = parts(), bank()
    model = replace(of.model, coding=None)  # values as the head takes them
    reference = fit_reference(model, of.training.read(0, 300), labels=of.training.labels, rows=50)
    views = of.other.read(0, 70), np.roll(of.other.read(0, 70), 1, axis=0), -of.other.read(0, 70).clip(-127)
    given = {"reference": reference, "bank": made, "num_iter": 20}
    apart = [scores(model, view, **given) for view in views]
    found = scores(model, views[0], views=views[1:], **given)
    back = scores(model, views[2], views=views[1::-1], **given)
    for name, values in found.items():
        assert np.allclose(values, back[name], rtol=1e-4, atol=1e-5), f"{name}: the order of views counts"
        if {"hidden", "features"} & set(SCORES[name].needs):
            assert np.allclose(values, np.mean([each[name] for each in apart], axis=0)), name

    def mean(of_view):
        return np.mean([of_view(view) for view in views], axis=0)

    logits = mean(lambda view: plain_logits(model, view, precision="float32"))
    p = np.sort(mean(lambda view: model.head.forward(model.dequantize(view))), axis=1)
    q = mean(lambda view: softmax(_fused(model, made, view), axis=1))
    moments = [score(model, view, num_iter=20) for view in views]
    expected = {
        "max_logit": logits.max(axis=1),
        "energy": logsumexp(logits, axis=1),
        "max": p[:, -1],
        "top_alone": p[:, -1] * (1 - p[:, -2]),
        "odin": mean(lambda view: softmax(plain_logits(model, view, precision="float32") / 1000, axis=1)).max(axis=1),
        "bank": q.max(axis=1),
        "bank_logit": mean(lambda view: _fused(model, made, view)).max(axis=1),
        "bank_similarity": mean(made.similarities).max(axis=1),
        "mean_max": np.mean([each.mean for each in moments], axis=0).max(axis=1),
    }
    for name, values in expected.items():
        assert np.allclose(found[name], values, rtol=1e-5, atol=1e-6), name
    decided = score(model, views[0], views=views[1:], bank=made, rule="score", coverage=0.5)
    assert np.array_equal(decided.score, found["bank"])
    assert np.array_equal(decided.keep, decided.score >= np.sort(decided.score)[35])
    assert np.abs(decided.plain - q).max() < 0.02, "of the int8 head"
    assert np.array_equal(decided.prediction, decided.plain.argmax(axis=1))


def _fused(model, made, view):
    return made.fuse(plain_logits(model, view, precision="float32"), made.similarities(view)).astype(np.float64)


def test_a_promise_is_of_its_views(tmp_path):
    of, made = parts(), bank()
    x, labels = embeddings(470, 4)
    turned = x[:, ::-1].copy()
    names = ("held", "held, mirrored", "new", "new, mirrored", "new, turned")
    caches = {
        name: cached(of.model, tmp_path / f"{number}.h5", values[part], labels[part], name)
        for number, (name, values, part) in enumerate(
            zip(names, (x, turned, x, turned, turned + 1), [slice(400)] * 2 + [slice(400, 470)] * 3, strict=True)
        )
    }
    given = {"bank": made, "views": [caches["held, mirrored"]]}
    promise = calibrate(of.model, caches["held"], risk=0.3, **given)
    result = score(of.model, caches["held"], rule="score", threshold=promise.options.threshold, **given)
    assert np.array_equal(promise.scores, np.sort(result.score))
    promise.save(tmp_path / "p.json")
    promise = load_promise(tmp_path / "p.json")
    kept = keep_by_promise(promise, of.model, caches["new"], bank=made, views=[caches["new, mirrored"]])
    assert kept.result.views == 2
    for views, found in (
        ([], "none"),
        ([caches["new, turned"]], "another"),
        ([caches["new, mirrored"].read(0, 70)], "another"),
        ([caches["new, mirrored"], caches["new, turned"]], "mirrored, another"),
    ):
        with pytest.raises(InputError, match=f"promise: made with views mirrored, found {found}, which changes"):
            keep_by_promise(promise, of.model, caches["new"], bank=made, views=views)
    alone = calibrate(of.model, caches["held"], risk=0.3, bank=made)
    with pytest.raises(InputError, match="promise: made with views none, found mirrored, which changes"):
        keep_by_promise(alone, of.model, caches["new"], bank=made, views=[caches["new, mirrored"]])


def test_samples_of_the_calibration_are_known_in_any_view(tmp_path):
    of = parts()
    x, labels = embeddings(400, 4)
    first, second, third = (cached(of.model, tmp_path / f"{n}.h5", x + n, labels, str(n)) for n in (0, 1, 2))
    promise = calibrate(of.model, first, coverage=0.5, num_iter=2, views=[second])
    promise.save(tmp_path / "p.json")
    promise = load_promise(tmp_path / "p.json")
    for features, view in ((second, first), (second, third), (third, second), (third, first)):
        with pytest.raises(InputError, match="400 of the 400 images were in its calibration"):
            keep_by_promise(promise, of.model, features, views=[view])


def test_what_is_no_list_of_other_views_is_refused(tmp_path):
    of = parts()
    some, promise = of.other.read(0, 70), calibrate(of.model, of.held_out, coverage=0.5, num_iter=2)
    for views in (None, of.other, some, "mirror", 3):
        with pytest.raises(InputError, match="views: expected a list of features, found"):
            score(of.model, some, views=views)
        with pytest.raises(InputError, match="views: expected a list of features, found"):
            calibrate(of.model, of.held_out, coverage=0.5, num_iter=2, views=views)
        with pytest.raises(InputError, match="views: expected a list of features, found"):
            keep_by_promise(promise, of.model, of.other, views=views)
    with pytest.raises(InputError, match="view 2: expected other images, found those of a view before"):
        score(of.model, some, views=[some.copy(), some])
