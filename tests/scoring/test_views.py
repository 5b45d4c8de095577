"""Several views of the same samples: moments over the iterations of all of them."""

import re

import numpy as np
import pytest
from banks import bank, cached, embeddings, parts
from heads import LAYOUTS, model_of, random_features, random_head, reference_outputs

from fastuq.datasets import open_images
from fastuq.errors import CacheError, InputError
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.scoring.decisions import Reason
from fastuq.scoring.logits import plain_logits
from fastuq.scoring.options import Options
from fastuq.scoring.result import rules_of
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
    for views, words in (
        ([short], "view 1: expected 70 samples, found 60"),
        ([wrong], "view 1: expected the labels of the first view"),
        ([of.other], "view 1: expected other images"),
        (["mirror.h5"], "expected a FeatureCache"),
    ):
        with pytest.raises((InputError, CacheError)) as caught:
            score(of.model, of.other, views=views)
        assert re.search(words, str(caught.value)), caught.value
    with pytest.raises(InputError, match="views: expected the rule by intervals"):
        score(of.model, of.other, views=[short.read(0, 60)[:1].repeat(70, axis=0)], rule="score", coverage=0.5)
