"""The kernels against the NumPy heads: any head, both precisions, both mask modes, VNNI and portable."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from heads import LAYOUTS, PATHS, model_of, random_features, random_head, reference_outputs
from hypothesis import given, settings
from hypothesis import strategies as st

from fastuq.errors import InputError
from fastuq.montecarlo import engine
from fastuq.montecarlo.engine import MonteCarlo, moments
from fastuq.montecarlo.kernels.flatten import packed_bytes
from fastuq.montecarlo.kernels.plan import Rules, running_sums


def check(model, features, ids, num_iter, masks, precision, **options):
    sampling = {"num_iter": num_iter, "seed": 3, "masks": masks, "precision": precision}
    found = MonteCarlo(model, entropy=True, votes=True, **sampling, **options)(features, ids)
    outputs = reference_outputs(model, features, num_iter, 3, masks, precision, ids).astype(np.float64)
    size = max(1.0, np.abs(outputs).max())
    assert np.abs(found.mean - outputs.mean(axis=0)).max() <= 1e-5 * size
    assert np.abs(found.std - outputs.std(axis=0)).max() <= 1e-5 * size
    largest = np.sort(outputs, axis=2)[:, :, -2:]
    clear = (largest.max(axis=2) - largest.min(axis=2) > 1e-5 * size).all(axis=0) | (outputs.shape[2] == 1)
    assert np.array_equal(found.votes[clear], votes_of(outputs)[clear])
    assert (found.votes.sum(axis=1) == num_iter).all()
    return found, outputs


def votes_of(outputs):
    """Return how many iterations of outputs (T, N, C) name each class, the first one of equals."""
    return (outputs.argmax(axis=2)[..., None] == np.arange(outputs.shape[2])).sum(axis=0)


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_any_head_equals_the_reference(name, precision, masks):
    head = random_head(LAYOUTS[name])
    features = random_features(70, head.num_features)
    ids = np.random.default_rng(1).integers(0, 2**40, 70)
    check(model_of(head, features), features, ids, 7, masks, precision)


@cache
def linear_at_the_end(name, masks):
    """Return a model without its last activation, features, and what the reference makes of them."""
    *layout, (inputs, outputs, rate, _, *affine) = LAYOUTS[name]
    layout.append((inputs, outputs, rate, "linear", *affine))
    head = random_head(layout)
    features = random_features(67, head.num_features)
    model = model_of(head, features)
    return model, features, reference_outputs(model, features, 2, 3, masks, "int8", np.arange(67)).astype(np.float64)


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_int8_integers_are_exact_on_every_target(name, masks, target):
    """Sums are integers and one float32 multiply-add: pre-activations equal the reference's to the last bit."""
    model, features, outputs = linear_at_the_end(name, masks)
    found = MonteCarlo(model, num_iter=2, seed=3, masks=masks, target=target, votes=True)(features)
    # Two iterations a, b: mean (a + b) / 2 and std |a - b| / 2 give both back.
    assert np.array_equal(found.mean, outputs.mean(axis=0).astype(np.float32))
    assert np.allclose(found.std, outputs.std(axis=0), rtol=1e-6, atol=1e-30)
    assert np.array_equal(found.votes, votes_of(outputs))


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_of_equal_outputs_the_first_class_has_the_vote(precision, masks):
    head = random_head([(20, 30, 0.2, "sigmoid")])
    block = head.blocks[0]
    twice = np.arange(30) % 15
    head = replace(head, blocks=(replace(block, weights=block.weights[:, twice], bias=block.bias[twice]),))
    features = random_features(70, 20)
    found = MonteCarlo(model_of(head, features), num_iter=40, masks=masks, precision=precision, votes=True)(features)
    assert (found.votes[:, :15].sum(axis=1) == 40).all()
    assert (np.count_nonzero(found.votes, axis=1) > 1).any()


@settings(max_examples=40)
@given(data=st.data())
def test_random_shapes(data):
    blocks = data.draw(st.integers(1, 3))
    widths = [data.draw(st.integers(1, 90)) for _ in range(blocks + 1)]
    layout = [
        (
            widths[i],
            widths[i + 1],
            data.draw(st.sampled_from([0.0, 0.1, 0.2, 0.45, 0.5, 0.7, 0.9])),
            data.draw(
                st.sampled_from(["relu", "linear", "sigmoid"] if i < blocks - 1 else ["linear", "sigmoid", "softmax"])
            ),
        )
        for i in range(blocks)
    ]
    samples = data.draw(st.integers(1, 130))
    features = random_features(samples, widths[0], seed=data.draw(st.integers(0, 99)))
    model = model_of(random_head(layout, seed=data.draw(st.integers(0, 99))), features)
    masks = data.draw(st.sampled_from(["shared", "per_sample"]))
    precision = data.draw(st.sampled_from(["int8", "float32"]))
    check(model, features, np.arange(samples), data.draw(st.integers(2, 5)), masks, precision)


@pytest.fixture(scope="module")
def paper():
    head = random_head(LAYOUTS["paper"])
    features = random_features(200, head.num_features)
    return model_of(head, features), features


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_threads_pieces_rounds_and_order_do_not_matter(paper, precision, masks, monkeypatch):
    model, features = paper
    options = {"num_iter": 19, "seed": 5, "masks": masks, "precision": precision, "entropy": True, "votes": True}

    def moments(model, features, sample_ids=None, threads=None, **options):
        return MonteCarlo(model, threads=threads, **options)(features, sample_ids)

    whole = moments(model, features, threads=1, **options)
    order = np.random.default_rng(0).permutation(len(features))
    results = [moments(model, features, threads=2, **options)]
    back = moments(model, features[order], sample_ids=order, threads=2, **options)
    results.append(
        engine.Moments(*(part[np.argsort(order)] for part in (back.mean, back.std, back.mean_entropy, back.votes)))
    )
    run = MonteCarlo(model, **options)
    pieces = [run(features[a : a + 90], np.arange(a, min(a + 90, 200))) for a in range(0, 200, 90)]
    results.append(
        engine.Moments(
            *(np.concatenate([getattr(p, k) for p in pieces]) for k in ("mean", "std", "mean_entropy", "votes"))
        )
    )
    monkeypatch.setattr(engine, "SAMPLES_AT_ONCE", 128)
    monkeypatch.setattr(engine, "PACKED_BYTES", 4 * packed_bytes(run._kernels.plan))
    monkeypatch.setattr(engine, "FEW_SAMPLES", 0)
    results.append(moments(model, features, **options))
    for result in results:
        assert np.array_equal(result.mean, whole.mean)
        assert np.array_equal(result.std, whole.std)
        assert np.allclose(result.mean_entropy, whole.mean_entropy, rtol=1e-6)
        assert np.array_equal(result.votes, whole.votes)


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_few_samples_give_the_same_results(name, precision):
    """Few samples under shared masks run one by one, on other kernels than many."""
    head = random_head(LAYOUTS[name])
    features = random_features(70, head.num_features)
    model = model_of(head, features)
    whole = moments(model, features, num_iter=11, precision=precision)
    few = moments(model, features[:7], num_iter=11, precision=precision)
    assert np.array_equal(few.mean, whole.mean[:7])
    assert np.array_equal(few.std, whole.std[:7])


def test_more_iterations_extend_the_same_ones(paper):
    """T iterations are the first T of any longer run: sums over 10 and the 11th give the moments over 11."""
    model, features = paper
    ten, eleven = (moments(model, features, num_iter=t, precision="float32").mean.astype(float) for t in (10, 11))
    last = 11 * eleven - 10 * ten
    outputs = reference_outputs(model, features[:5], 11, 0, "shared", "float32", np.arange(5))
    assert np.abs(last[:5] - outputs[10]).max() < 2e-4


@pytest.mark.parametrize(("name", "softmax"), [("paper", False), ("awkward", True)])
def test_mean_entropy(name, softmax):
    head = random_head(LAYOUTS[name])
    features = random_features(70, head.num_features)
    found, p = check(model_of(head, features), features, np.arange(70), 5, "shared", "float32")
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, -p * np.log(p), 0)
        if not softmax:
            terms += np.where(p < 1, -(1 - p) * np.log(1 - p), 0)
    assert np.allclose(found.mean_entropy, terms.sum(axis=2).mean(axis=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_iter": 1}, "num_iter"),
        ({"num_iter": 2.5}, "num_iter"),
        ({"masks": "own"}, "masks"),
        ({"precision": "int4"}, "precision"),
        ({"seed": -1}, "seed"),
        ({"threads": 0}, "threads"),
        ({"sample_ids": np.arange(3)}, "sample_ids"),
        ({"sample_ids": -np.arange(200)}, "sample_ids"),
    ],
)
def test_bad_options_are_refused(paper, options, word):
    model, features = paper
    with pytest.raises(InputError, match=word):
        moments(model, features, **options)


@pytest.mark.parametrize("change", [lambda f: f.astype(np.float32), lambda f: f[:, :7], lambda f: f[0]])
def test_bad_features_are_refused(paper, change):
    model, features = paper
    with pytest.raises(InputError, match="features: expected int8"):
        moments(model, change(features))


@pytest.mark.parametrize("threads", [1, 2])
def test_no_call_of_a_kernel_lasts_so_long_that_ctrl_c_is_not_heard(paper, monkeypatch, threads):
    model, features = paper
    whole = moments(model, features, num_iter=10, masks="per_sample")
    monkeypatch.setattr(engine, "RUNS_AT_ONCE", 30)
    run = MonteCarlo(model, num_iter=10, masks="per_sample", threads=threads)
    sizes, kernel = [], run._kernels.run_per_sample

    def watched(*arguments):
        start, stop = arguments[3:5]
        sizes.append(stop - start)
        return kernel(*arguments)

    monkeypatch.setattr(run._kernels, "run_per_sample", watched)
    found = run(features)
    assert max(sizes) == 3
    assert sum(sizes) == len(features)
    assert np.array_equal(found.mean, whole.mean)


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_threads_share_the_iterations_of_few_samples(paper, precision, masks, monkeypatch):
    """One after the other, or pieces of 64 by several threads: the same additions in the same order."""
    monkeypatch.setattr(engine, "SHARED_FROM", 65)
    model, features = paper
    options = {"num_iter": 203, "seed": 5, "masks": masks, "precision": precision}
    alone, shared = (moments(model, features[:3], threads=threads, **options) for threads in (1, 5))
    assert np.array_equal(shared.mean, alone.mean)
    assert np.array_equal(shared.std, alone.std)
    rules = Rules(np.float32(1), np.float32(0.5), False)
    columns = [
        MonteCarlo(model, threads=threads, **options).decide(features[:3], np.arange(3), rules, details=True)
        for threads in (1, 5)
    ]
    for name in columns[0]._fields:
        assert np.array_equal(*(getattr(found, name) for found in columns)), name


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_what_lies_behind_the_last_class_is_not_added(paper, precision, monkeypatch):
    """Sums are filled up to whole vectors; a signalling NaN there was a warning of NumPy's, now and then."""

    def room(count):
        sums = running_sums(count)
        for array in sums:
            array.view(f"u{array.itemsize}")[:] = 0x7F80_0001 if array.itemsize == 4 else 0x7FF0_0000_0000_0001
        return sums

    monkeypatch.setattr(engine, "SHARED_FROM", 65)
    model, features = paper
    options = {"num_iter": 203, "masks": "per_sample", "precision": precision}
    alone = moments(model, features[:3], threads=1, **options)
    monkeypatch.setattr(engine, "running_sums", room)
    assert np.array_equal(moments(model, features[:3], threads=5, **options).mean, alone.mean)


@pytest.mark.parametrize("samples", [17, 31, 33, 63, 65, 127])
def test_blocks_of_any_size_give_the_same_results(paper, samples):
    """Small blocks, so that no thread waits, run on narrower tiles."""
    model, features = paper
    whole = moments(model, features, num_iter=9, threads=1)
    for threads in (1, 2, 3):
        found = moments(model, features[:samples], num_iter=9, threads=threads)
        assert np.array_equal(found.mean, whole.mean[:samples])
        assert np.array_equal(found.std, whole.std[:samples])
