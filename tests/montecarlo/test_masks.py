"""Keep bits: published known answers, statistics, and purity of the function."""

from typing import NamedTuple

import numpy as np
import pytest
from building_blocks import call
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastuq.errors import InputError
from fastuq.montecarlo.kernels.building import kernel, record_of
from fastuq.montecarlo.kernels.plan import selection_width
from fastuq.montecarlo.kernels.targets import TARGETS
from fastuq.montecarlo.kernels.threefry import keep_words, list_units
from fastuq.montecarlo.masks import keep_bits, keep_threshold, threefry

# From the kat_vectors of Random123 (rounds, counter, key, output).
KNOWN_ANSWERS = [
    (13, "00000000 " * 4, "00000000 " * 4, "531c7e4f 39491ee5 2c855a92 3d6abf9a"),
    (13, "ffffffff " * 4, "ffffffff " * 4, "c4189358 1c9cc83a d5881c67 6a0a89e0"),
    (13, "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0 082efa98 ec4e6c89",
     "4aa71d8f 734738c2 431fc6a8 ae6debf1"),
    (20, "00000000 " * 4, "00000000 " * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
    (20, "ffffffff " * 4, "ffffffff " * 4, "2a881696 57012287 f6c7446e a16a6732"),
    (20, "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0 082efa98 ec4e6c89",
     "59cd1dbb b8879579 86b5d00c ac8b6d84"),
]  # fmt: skip


def words(text):
    return [np.uint32(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize(("rounds", "counter", "key", "answer"), KNOWN_ANSWERS)
def test_generator_gives_the_published_answers(rounds, counter, key, answer):
    drawn = threefry(words(counter), words(key), rounds)
    assert [int(word[0]) for word in drawn] == [int(word) for word in words(answer)]


class Drawing(NamedTuple):
    seed: np.uint64
    layer: int
    iteration: int
    sample: int
    threshold: int
    width: int
    words: np.ndarray
    units: np.ndarray
    counts: np.ndarray


@kernel
def _draw(frame):
    job = record_of(frame)
    keep_words(job.seed, job.layer, job.iteration, job.sample, job.threshold, job.width, job.words)
    room = len(job.units) // 2
    job.counts[0] = list_units(job.words, job.width, False, job.units, 0)
    job.counts[1] = list_units(job.words, job.width, True, job.units, room)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**64 - 1),
    layer=st.integers(0, 9),
    iteration=st.integers(0, 10_000_000),
    sample=st.integers(0, 2**63 - 1),
    width=st.integers(1, 700),
    rate=st.one_of(st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.5, 0.9]), st.floats(0, 0.9)),
    target=st.sampled_from([target for target in TARGETS if target.runs_here]),
)
def test_kernel_makes_the_bits_of_the_reference(seed, layer, iteration, sample, width, rate, target):
    expected = keep_bits(seed, layer, np.array([iteration]), sample, width, rate)[0]
    room, counts = selection_width(width), np.zeros(2, np.int64)
    words_, units = np.zeros(4 * (-(-width // 256)), np.uint64), np.empty(2 * room, np.int32)
    job = Drawing(np.uint64(seed), layer, iteration, sample, keep_threshold(rate), width, words_, units, counts)
    call(_draw, job, target)
    assert np.array_equal(np.unpackbits(words_.view(np.uint8), bitorder="little")[:width].astype(bool), expected)
    for number, kept in enumerate((expected, ~expected)):
        assert np.array_equal(units[number * room :][: counts[number]], np.flatnonzero(kept))


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4, 0.5, 0.9, 1 / 3])
def test_keep_rate_is_exact_to_the_last_of_16_bits(rate):
    assert abs(keep_threshold(rate) / 65536 - (1 - rate)) <= 2.0**-17
    kept = sum(int(keep_bits(seed, 0, np.arange(1000), 0, 2048, rate).sum()) for seed in range(5))
    total = 5 * 1000 * 2048
    deviation = (kept - total * keep_threshold(rate) / 65536) / np.sqrt(total * rate * (1 - rate))
    assert abs(deviation) < 5


def test_rate_zero_keeps_everything():
    assert keep_bits(7, 0, np.arange(50), 0, 300, 0.0).all()


@pytest.mark.parametrize("axis", ["seed", "layer", "iteration", "sample", "unit"])
def test_masks_are_independent(axis):
    rate, width, count = 0.3, 512, 400
    iterations = np.arange(count)
    first = keep_bits(1, 0, iterations, 5, width, rate)
    other = {
        "seed": lambda: keep_bits(2, 0, iterations, 5, width, rate),
        "layer": lambda: keep_bits(1, 1, iterations, 5, width, rate),
        "iteration": lambda: keep_bits(1, 0, iterations + 1, 5, width, rate),
        "sample": lambda: keep_bits(1, 0, iterations, 6, width, rate),
        "unit": lambda: np.roll(first, 1, axis=1),
    }[axis]()
    table = [[(first & other).sum(), (first & ~other).sum()], [(~first & other).sum(), (~first & ~other).sum()]]
    assert stats.chi2_contingency(table).pvalue > 1e-5


def test_counts_per_iteration_follow_the_binomial_law():
    counts = keep_bits(11, 0, np.arange(4000), 0, 256, 0.2).sum(axis=1)
    p = keep_threshold(0.2) / 65536
    edges = stats.binom.ppf(np.linspace(0, 1, 11)[1:-1], 256, p)
    bins = np.searchsorted(edges, counts, side="left")
    bounds = np.concatenate([[-1], edges, [256]])
    expected = np.diff(stats.binom.cdf(bounds, 256, p)) * len(counts)
    assert stats.chisquare(np.bincount(bins, minlength=10), expected).pvalue > 1e-5


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "0", None])
def test_bad_seed_is_refused(seed):
    with pytest.raises(InputError, match="seed"):
        keep_bits(seed, 0, np.arange(2), 0, 10, 0.5)
