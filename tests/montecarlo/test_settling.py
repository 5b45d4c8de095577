"""Samples that run until their decisions are settled, and the doubts that they stop by."""

import math
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from heads import PATHS, model_of, random_features, random_head, reference_outputs
from hypothesis import given, settings
from hypothesis import strategies as st

from fastuq.montecarlo.doubt import Doubt, Near, bound_with_unseen, first_look, kept, nearby, stages, standard_scores
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels.plan import Columns, Rules
from fastuq.montecarlo.sampling import Sampling
from fastuq.montecarlo.settling import Settling
from fastuq.scoring.decisions import decide

RULES = Rules(np.float32(1.0364), np.float32(0.5), False)
SETTLED = ("iterations", "flips")


@cache
def decisive():
    """A model of ten classes of which none, one or several are present, and features for it."""
    features = random_features(90, 32)
    head = random_head([(32, 24, 0.1, "relu"), (24, 10, 0.1, "sigmoid")])
    last = head.blocks[-1]
    head = replace(head, blocks=(head.blocks[0], replace(last, weights=last.weights * 3, bias=last.bias - 4)))
    return model_of(head, features), features


def settled(samples, *, most=200, error=0.02, threads=1, target=None, rules=RULES, addend=None, **sampling):
    model, features = decisive()
    run = Settling(model, Sampling(num_iter=most, **sampling), error=error, threads=threads, target=target)
    added = None if addend is None else addend[samples]
    return run.decide(features[samples], np.asarray(samples), rules, details=True, addend=added)


def same(found, expected, chosen=slice(None), names=Columns._fields):
    for name in names:
        one, other = getattr(found, name), getattr(expected, name)
        if name in ("floats", "numbers"):
            one, other = one.T, other.T
        assert np.array_equal(one, other[chosen] if len(other) else other), name


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_sample_is_what_its_iterations_make_it(masks, precision, fused):
    model, features = decisive()
    ids = np.arange(90)
    addend = np.random.default_rng(2).standard_normal((90, 10)).astype(np.float32) if fused else None
    found = settled(ids, masks=masks, precision=precision, seed=5, addend=addend)
    counts = np.unique(found.iterations)
    assert len(counts) > 4
    assert set(counts) <= set(stages(200))
    for count in counts:
        run = MonteCarlo(model, num_iter=int(count), seed=5, masks=masks, precision=precision, threads=1)
        whole = run.decide(features, ids, RULES, details=True, addend=addend)
        took = np.flatnonzero(found.iterations == count)
        some = Columns(*(each[:, took] if n < 2 else each[took] if len(each) else each for n, each in enumerate(found)))
        same(some, whole, took, [name for name in Columns._fields if name not in SETTLED])


def test_moments_are_those_of_the_reference():
    model, features = decisive()
    found = settled(np.arange(90), seed=3)
    outputs = reference_outputs(model, features, 200, 3, "shared", "int8", None).astype(np.float64)
    for n in range(90):
        of = outputs[: found.iterations[n], n]
        assert np.abs(found.mean[n] - of.mean(axis=0)).max() < 1e-5
        assert np.abs(found.std[n] - of.std(axis=0)).max() < 1e-5


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(0, 89), min_size=1, max_size=40, unique=True),
    st.sampled_from(["shared", "per_sample"]),
    st.integers(1, 3),
)
def test_a_sample_does_not_depend_on_the_others(samples, masks, threads):
    everyone = settled(np.arange(90), masks=masks)
    same(settled(samples, masks=masks, threads=threads), everyone, samples)


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize("masks", ["shared", "per_sample"])
def test_targets_agree(target, masks):
    found, expected = settled(np.arange(90), masks=masks, target=target), settled(np.arange(90), masks=masks)
    if target.fused:
        same(found, expected)
    assert (found.iterations == expected.iterations).all()
    assert np.abs(found.flips - expected.flips).max() < 1e-4


def test_a_higher_cap_goes_on_where_a_lower_one_stopped():
    low, high = settled(np.arange(90), most=96), settled(np.arange(90), most=400)
    early = np.flatnonzero(high.iterations < 96)
    assert 20 < len(early) < 90
    assert (low.iterations[early] == high.iterations[early]).all()
    assert (low.mean[early] == high.mean[early]).all()
    assert (low.iterations.max(), high.iterations.max()) == (96, 400)


@pytest.mark.parametrize("most", [2, 20, 48, 50])
def test_few_iterations_are_taken_by_all_who_need_them(most):
    found = settled(np.arange(20), most=most)
    assert found.iterations.max() == most
    assert (found.iterations >= min(48, most)).all()
    assert ((found.flips >= 0) & (found.flips <= 1)).all()


def test_chunks_do_not_matter(monkeypatch):
    whole = settled(np.arange(90))
    monkeypatch.setattr("fastuq.montecarlo.settling._SUMS_BYTES", 1)
    same(settled(np.arange(90)), whole)


def test_nothing_drops_nothing_doubts():
    features = random_features(30, 16)
    model = model_of(random_head([(16, 6, 0.0, "sigmoid")]), features)
    found = Settling(model, Sampling(num_iter=300), error=0.01).decide(features, np.arange(30), RULES, details=True)
    assert (found.iterations == 48).all()
    assert (found.flips == 0).all()


def test_another_seed_decides_as_predicted():
    """Predicted against observed, under masks of each sample's own: 40 seeds, 90 samples."""
    runs = [settled(np.arange(90), masks="per_sample", seed=seed) for seed in range(40)]
    keep, flips = np.stack([run.numbers[0] == 1 for run in runs]), np.stack([run.flips for run in runs])
    others = np.where(keep, (~keep).sum(axis=0), keep.sum(axis=0)) / 39
    for low, high in ((0, 0.005), (0.005, 0.05), (0.05, 0.3), (0.3, 1)):
        those = (flips >= low) & (flips < high)
        assert those.sum() > 40
        assert 0.5 * flips[those].mean() - 0.002 < others[those].mean() < 2 * flips[those].mean() + 0.002
    assert 0.8 < others.mean() / flips.mean() < 1.25


def test_outputs_that_few_iterations_miss_are_allowed_for():
    """A low threshold, and outputs near 0 but for a few large ones: 30 seeds, 90 samples."""
    features = random_features(90, 32)
    head = random_head([(32, 6, 0.03, "sigmoid")])
    block = head.blocks[0]
    head = replace(head, blocks=(replace(block, weights=block.weights * 20, bias=block.bias - 8),))
    model, rules = model_of(head, features), RULES._replace(threshold=np.float32(0.1))
    keep, flips = [], []
    for seed in range(30):
        run = Settling(model, Sampling(num_iter=400, seed=seed, masks="per_sample"), error=0.02, threads=1)
        found = run.decide(features, np.arange(90), rules, details=False)
        keep.append(found.numbers[0] == 1)
        flips.append(found.flips)
    keep, flips = np.stack(keep), np.stack(flips)
    others = np.where(keep, (~keep).sum(axis=0), keep.sum(axis=0)) / 29
    sure = flips < 0.005
    assert sure.mean() > 0.5
    assert others[sure].mean() < 0.005
    assert 0.8 < others.mean() / flips.mean() < 1.25


@pytest.mark.parametrize(("threshold", "z"), [(0.5, 1.0364), (0.1, 1.0364), (0.3, 1.96), (0.05, 0.25), (0.9, 3.0)])
def test_the_first_look_is_the_first_at_which_a_class_may_be_absent(threshold, z):
    rules = Rules(np.float32(z), np.float32(threshold), False)
    zero, little = np.zeros(1, np.float32), np.full(1, 1e-9, np.float32)
    first = first_look(rules, (0, 1))
    for count, absent in ((first + 1, True), (max(first - 1, 1), False)):
        assert (bound_with_unseen(zero, little, count, rules, (0, 1), 1)[0] < threshold) == absent


def test_bounds_with_unseen_iterations_are_those_of_outputs_with_them():
    outputs = np.random.default_rng(0).random(60)
    mean, std = np.float32(outputs.mean()), np.float32(outputs.std())
    far = math.sqrt(59) * outputs.std()
    for limits, ends in (((0, 1), (0, 1)), ((-np.inf, np.inf), (outputs.mean() - far, outputs.mean() + far))):
        for sign, end in zip((-1, 1), ends, strict=True):
            more = np.append(outputs, [end] * 3)
            expected = more.mean() + sign * 1.0364 * more.std()
            assert abs(bound_with_unseen(mean, std, 60, RULES, limits, sign) - expected) < 1e-5


def test_outputs_without_limits_are_looked_at_from_the_beginning():
    assert first_look(RULES._replace(threshold=np.float32(0.1)), (-np.inf, np.inf)) == 0
    assert first_look(RULES._replace(threshold=np.float32(1.5)), (0, 1)) == 0
    features = random_features(20, 16)
    model = model_of(random_head([(16, 6, 0.2, "linear")]), features)
    found = Settling(model, Sampling(num_iter=300), error=0.01).decide(features, np.arange(20), RULES, details=True)
    assert (found.iterations == 48).any()


@pytest.mark.parametrize(("stage", "score"), [(0, 0.5), (0, 2.0), (2, -1.0), (6, 0.3), (7, -2.0), (7, 0.0)])
def test_another_seed_is_a_random_walk(stage, score):
    rng, ends, walks = np.random.default_rng(0), stages(500), 40_000
    doubt = Doubt(0.05, ends)
    drift = (score + rng.standard_normal(walks)) / np.sqrt(ends[stage])
    place, before, above = np.zeros(walks), 0, np.full(walks, -1)
    for end in ends:
        place += drift * (end - before) + rng.standard_normal(walks) * np.sqrt(end - before)
        stops = (above < 0) & ((np.abs(place) > 1.6449 * np.sqrt(end)) | (end == 500))
        above[stops], before = place[stops] > 0, end
    grid = np.linspace(-8, 8, 641)
    assert abs(np.interp(score, grid, doubt.another[stage]) - above.mean()) < 0.01


@pytest.mark.parametrize("shape", [1.0, 4.0])
def test_scores_are_in_standard_errors(shape):
    """Skewed outputs: mean, bounds and their errors belong together, so the third and fourth moments are needed."""
    outputs = np.random.default_rng(1).gamma(shape, 1 / shape, (4000, 400))
    mean = outputs.mean(axis=1)
    moments = np.stack([mean, *(((outputs.T - mean) ** power).mean(axis=0) for power in (2, 3, 4))])
    true = np.array([1 + 1.0364 * shape**-0.5, 1 - 1.0364 * shape**-0.5])
    for level, at in zip(true, (0, 1), strict=True):
        scores = standard_scores(moments, 400, RULES._replace(threshold=np.float32(level)))[at]
        assert 0.9 < scores.std() < 1.1
    assert np.isinf(standard_scores(moments, 400, RULES)[2]).all()  # there is no floor


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=4), st.booleans())
def test_chances_to_be_kept(classes, keep_mixed):
    """All combinations of states, each decided by the rules of the paper."""
    possible, certain, floor = (np.array(column) for column in zip(*classes, strict=True))
    certain = np.minimum(certain, possible)
    benefit = np.maximum(np.minimum(possible, floor) - certain, 0)
    total = 0.0
    for choice in product(range(4), repeat=len(classes)):
        ternary = np.array([[(0, 1, -1, -1)[each] for each in choice]])
        mean = np.array([[(0.0, 1.0, 1.0, 0.0)[each] for each in choice]], np.float32)
        chance = 1.0
        for c, each in enumerate(choice):
            chance *= (1 - possible[c], certain[c], benefit[c], possible[c] - certain[c] - benefit[c])[each]
        decision = decide(ternary, mean, mixed="keep" if keep_mixed else "ignore", doubt_floor=0.5)
        total += chance * decision.keep[0]
    found = kept(2, np.ones(len(classes), int), [possible, certain, floor], keep_mixed=keep_mixed)
    assert found[0] == 0
    assert abs(found[1] - total) < 1e-9


def test_classes_that_are_far_off_do_not_matter():
    mean = np.array([[0.001, 0.45, 0.9], [0.2, 0.001, 0.001]], np.float32)
    std = np.array([[0.01, 0.1, 0.02], [0.01, 0.0, 0.01]], np.float32)
    found = nearby(mean, std, 48, RULES, (0, 1))
    assert isinstance(found, Near)
    assert list(zip(*found, strict=True)) == [(0, 1), (0, 2)]


def test_stages_go_up_by_what_kernels_take_at_once():
    for most in (2, 48, 49, 1000, 10_000_000):
        ends = stages(most)
        assert ends[-1] == most
        assert ends == sorted(set(ends))
        assert not any(end % 16 for end in ends[:-1])
