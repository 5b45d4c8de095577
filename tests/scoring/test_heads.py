"""Models of several heads: scored as one, by the iterations of all heads under masks of their own."""

from dataclasses import replace
from pathlib import Path

import caches
import numpy as np
import pytest
from banks import bank, parts
from commands import refusal
from heads import random_features, random_head
from models import save_again, tiny_model
from pages import Page, check_cards

import fastuq
import fastuq.cli
from fastuq.errors import ModelError
from fastuq.montecarlo.analytic import analytic_moments
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.masks import head_seed, keep_bits
from fastuq.montecarlo.reference import naive_moments
from fastuq.report.page.pictures import looks
from fastuq.scoring.decisions import Reason
from fastuq.scoring.logits import plain_logits
from fastuq.scoring.scoring import Scorer, score
from fastuq.training.head_rounding import quantize_head


def several(model, count=3):
    """Return the model with further heads, whose weights are those of the first, shaken."""
    features, rng = random_features(200, model.head.num_features), np.random.default_rng(0)
    scale, zero_point, others = model.feature_scale, model.feature_zero_point, []
    for _ in range(count - 1):
        weights = [b.weights * rng.normal(1, 0.5, b.weights.shape).astype(np.float32) for b in model.head.blocks]
        blocks = (replace(b, weights=w) for b, w in zip(model.head.blocks, weights, strict=True))
        head = replace(model.head, blocks=tuple(blocks))
        others.append((head, quantize_head(head, features, scale, zero_point)))
    return replace(model, others=tuple(others))


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("masks", ["shared", "per_sample"])
def test_moments_are_those_of_the_naive_loop_over_all_heads(masks, precision):
    model, features = several(tiny_model()), caches.features(6)
    found = score(model, features, num_iter=5, seed=7, masks=masks, precision=precision)

    def network(image):
        return features[int(image[0, 0, 0, 0])][None]

    images = np.stack([np.full((32, 32, 3), number, np.uint8) for number in range(len(features))])
    mean, std = naive_moments(model, network, images, num_iter=5, seed=7, masks=masks, precision=precision)
    assert np.abs(found.mean - mean).max() < 1e-5
    assert np.abs(found.std - std).max() < 1e-5
    given = features if precision == "int8" else model.dequantize(features)
    heads = [each.head_int8 if precision == "int8" else each.head for each in model.members]
    plain = np.mean([head.forward(given) for head in heads], axis=0)
    assert np.abs(found.plain - plain).max() < 1e-5
    assert np.array_equal(found.plain_prediction, plain.argmax(axis=1))
    assert (found.heads, found.summary()["heads"], found.views) == (3, 3, 1)


def test_heads_have_masks_of_their_own():
    seeds = [head_seed(5, number) for number in range(4)]
    assert seeds[0] == 5
    bits = [keep_bits(seed, 0, np.arange(200), 0, 64, 0.4) for seed in seeds]
    for number, each in enumerate(bits):
        for other in bits[:number]:
            assert abs((each == other).mean() - (0.6**2 + 0.4**2)) < 0.02  # as two that have nothing in common
    model = several(tiny_model())
    features = caches.features(6)
    found = score(model, features, num_iter=4, seed=5)
    apart = [score(each, features, num_iter=4, seed=seed) for each, seed in zip(model.members, seeds, strict=False)]
    assert np.abs(found.mean - np.mean([each.mean for each in apart], axis=0)).max() < 1e-6
    same = score(model.members[0], features, num_iter=4, seed=5)
    assert np.array_equal(same.mean, apart[0].mean)


def test_heads_without_dropout_have_the_spread_of_the_heads():
    features = random_features(30, 40)
    layout = [(40, 20, 0.0, "relu"), (20, 6, 0.0, "sigmoid")]
    one = replace(parts().model, head=random_head(layout), feature_scale=0.05, feature_zero_point=-128)
    model = several(replace(one, head_int8=quantize_head(one.head, features, 0.05, -128)), 4)
    found = score(model, features, num_iter=2)
    outputs = np.stack([each.head_int8.forward(features) for each in model.members]).astype(np.float64)
    assert np.abs(found.mean - outputs.mean(axis=0)).max() < 1e-5
    assert np.abs(found.std - outputs.std(axis=0)).max() < 1e-5
    assert np.array_equal(found.mean, found.plain)
    assert found.std.max() > 0.1


def test_heads_with_a_bank_views_and_a_gate():
    of, made = parts(), bank()
    model = several(of.model)
    views = [of.other.read(0, 70), np.roll(of.other.read(0, 70), 1, axis=0)]
    seeds = [head_seed(0, number) for number in range(3)]
    apart = [
        score(each, view, bank=made, seed=seed)
        for view in views
        for each, seed in zip(model.members, seeds, strict=True)
    ]
    scorer = Scorer(model, bank=made, gate=0.5, mutual_information=True, threshold=0.2)
    found = scorer(views[0], views=views[1:])
    for name in ("mean", "plain"):
        assert np.abs(getattr(found, name) - np.mean([getattr(each, name) for each in apart], axis=0)).max() < 1e-6
    spread = np.mean([each.std**2 for each in apart], axis=0) + np.var([each.mean for each in apart], axis=0)
    assert np.abs(found.std - np.sqrt(spread)).max() < 1e-5
    assert (found.heads, found.views) == (3, 2)
    largest = np.mean([plain_logits(model, view).max(axis=1) for view in views], axis=0)
    closed = largest < made.weights.gate(0.5)
    assert 3 < closed.sum() < 67
    assert np.array_equal(found.reason == Reason.FOREIGN, closed)
    weights = type(made).make(model, of.training, of.held_out, components=16).weights
    assert weights.logit != made.weights.logit  # fitted on the logits of all heads


def test_analytic_moments_and_logits_are_those_of_all_heads():
    model, features = several(tiny_model()), caches.features(6)
    found = score(model, features, method="analytic", conf_factor=0.9)
    real = model.dequantize(features)
    means, stds = zip(*(analytic_moments(each.head, real) for each in model.members), strict=True)
    assert np.abs(found.mean - np.mean(means, axis=0)).max() < 1e-6
    assert np.abs(found.std - np.sqrt(np.mean(np.square(stds), axis=0) + np.var(means, axis=0))).max() < 1e-6
    exact = score(model, features, num_iter=2000, precision="float32")
    assert np.abs(found.mean - exact.mean).max() < 0.03
    logits = np.mean([plain_logits(each, features) for each in model.members], axis=0)
    assert np.abs(plain_logits(model, features) - logits).max() < 1e-5


def test_scores_are_of_all_heads_or_refused():
    model, features = several(tiny_model()), caches.features(6)
    outputs = np.mean([each.head.forward(model.dequantize(features)) for each in model.members], axis=0)
    logits = plain_logits(model, features, precision="float32")
    found = fastuq.scores(model, features)
    assert np.abs(found["max"] - outputs.max(axis=1)).max() < 1e-5
    assert np.abs(found["max_logit"] - logits.max(axis=1)).max() < 1e-4
    assert {"gen", "entropy", "joint_energy"} < set(found)
    assert not {"react(90)", "grad_norm", "mean_max", "vote_share"} & set(found)
    result = score(model, features, rule="score", score="max", coverage=0.5)
    assert result.keep.sum() == 3
    for name in ("grad_norm", "knn", "vote_share"):
        with pytest.raises(ModelError, match=f"score {name}: expected a model of one head, found one of 3 heads"):
            fastuq.scores(model, features, [name])


def test_the_page_and_the_screen_are_of_all_heads(workplace, capsys):
    model = save_again(tiny_model(), "m", others=several(tiny_model()).others)
    fastuq.cache_features(caches.images(), model, "features.h5").close()
    command = ["score", "--cache", "features.h5", "--model", "m", "--num-iter", "5", "--report", "page.html"]
    assert fastuq.cli.main([*command, "--csv", "table.csv", "--moments", "moments.npz"]) == 0
    assert "T = 5 of each of 3 heads" in capsys.readouterr().out
    with fastuq.FeatureCache.open("features.h5", model) as cache:
        result = score(model, cache, num_iter=5)
        seen = looks([3], result, model, [cache], None, None)
    assert np.abs(seen[3].mean - result.mean[3]).max() < 1e-6
    check_cards(Page(Path("page.html").read_text(encoding="utf-8")), "table.csv")
    with np.load("moments.npz") as moments:
        assert np.array_equal(moments["mean"], result.mean)


def test_what_is_made_for_one_head_refuses_several_before_any_work(workplace, capsys):
    model = several(tiny_model())
    saved = save_again(tiny_model(), "m", others=model.others)
    assert saved.sha256 != tiny_model().sha256
    fastuq.cache_features(caches.images(), saved, "features.h5").close()
    for command in (
        ["demo", "--model", "m"],
        ["bench", "--networks", "m"],
        ["fit-reference", "--model", "m", "features.h5", "--output", "reference.h5"],
    ):
        assert "expected a model of one head, found one of 3 heads" in refusal(capsys, command)
    with pytest.raises(ModelError, match="iterations: expected a model of one head"):
        MonteCarlo(model)
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'fastuq[plot]'")
    pytest.importorskip("skimage", reason="needs the corruptions: pip install 'fastuq[corrupt]'")
    assert "expected a model of one head, found one of 3 heads" in refusal(capsys, ["reproduce", "--model", "m"])
