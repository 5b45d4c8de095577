"""Running sums over the iterations, and what they come to."""

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels.compiled import kernel
from fastuq.montecarlo.kernels.elementwise import SOFTMAX, by_activation, softmax_of_lanes
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import FLOATS, I32, I64, all_lanes, fma, load, plus, store
from fastuq.montecarlo.kernels.tiles import LANES

DOUBLES = ir.VectorType(ir.DoubleType(), 8)


class Sums(NamedTuple):
    """Running sums: the first iteration's outputs (float32), and sums of what follows less them and of its squares.

    The sums are float64; all three are flat, [block of 64 samples][class][64] or [class].
    """

    pivot: np.ndarray
    sum1: np.ndarray
    sum2: np.ndarray


class Part(NamedTuple):
    """Whether a call runs the first and the last of `iterations` in all."""

    begins: bool
    ends: bool
    iterations: int


class Out(NamedTuple):
    """What is written: scores float64 (N, SCORES) or (N, 0), mean and std float32 (N, C)."""

    scores: np.ndarray
    mean: np.ndarray
    std: np.ndarray


@kernel
def accumulate(p, p_at, state, first, count):
    """Add one iteration, `count` of p[p_at:], to the running sums of p - pivot and its square.

    The first iteration is the pivot, which keeps the variance free of cancellation; float64 keeps it exact enough for
    100,000 iterations. `state` is of type `Sums`.
    """
    pivot, sum1, sum2 = state
    p = p[p_at : p_at + count]
    if first:
        for i in range(count):
            pivot[i] = p[i]
            sum1[i] = 0.0
            sum2[i] = 0.0
    else:
        for i in range(count):
            d = np.float64(p[i]) - np.float64(pivot[i])
            sum1[i] += d
            sum2[i] += d * d


def _absorb_vector(builder, activate, z, stride, iterations, pivot, sums, first):
    """Absorb 16 lanes: z, pivot, sums are addresses, the outputs of successive iterations `stride` bytes apart."""
    with builder.if_then(first):
        store(builder, activate(builder, load(builder, z, FLOATS)), pivot)
        for at in sums:
            for half in (0, 64):
                store(builder, all_lanes(0.0, DOUBLES), at, half)
    halves = [ir.Constant(ir.VectorType(I32, 8), list(range(start, start + 8))) for start in (0, 8)]
    centre = load(builder, pivot, FLOATS)
    centres = [builder.fpext(builder.shuffle_vector(centre, centre, half), DOUBLES) for half in halves]
    slots = [[cgutils.alloca_once_value(builder, load(builder, at, DOUBLES, half)) for half in (0, 64)] for at in sums]
    with cgutils.for_range(builder, iterations, intp=I64) as loop:
        at = builder.add(z, builder.mul(loop.index, stride))
        p = activate(builder, load(builder, at, FLOATS))
        store(builder, p, at)
        for number, half in enumerate(halves):
            d = builder.fsub(builder.fpext(builder.shuffle_vector(p, p, half), DOUBLES), centres[number])
            once, twice = slots[0][number], slots[1][number]
            builder.store(builder.fadd(builder.load(once), d), once)
            builder.store(fma(builder, d, d, builder.load(twice)), twice)
    for at, pair in zip(sums, slots, strict=True):
        for half, slot in zip((0, 64), pair, strict=True):
            store(builder, builder.load(slot), at, half)


@in_ir()
def _absorb_activated(builder, activation, z, stride, iterations, vectors, state, at, first):
    pivot, sum1, sum2 = state
    pivot, sum1, sum2 = plus(builder, pivot, at, 4), plus(builder, sum1, at, 8), plus(builder, sum2, at, 8)

    def loop_of(function):
        with cgutils.for_range(builder, vectors, intp=I64) as loop:
            here, centre = (plus(builder, array, loop.index, 64) for array in (z, pivot))
            sums = [plus(builder, array, loop.index, 128) for array in (sum1, sum2)]
            _absorb_vector(builder, function, here, stride, iterations, centre, sums, first)

    by_activation(builder, activation, loop_of)


@kernel
def absorb(z, outputs, iterations, activation, classes, state, at, first):
    """Activate the outputs z[iterations][outputs] of several iterations and add them to the running sums.

    Of each, the first classes * 64 count; they belong to the running sums from `at` on. It goes vector by vector, so
    that the sums stay in registers for all the iterations. `first` tells whether the first of these iterations is the
    first of all; `state` is as in `accumulate`.
    """
    if activation == SOFTMAX:
        for t in range(iterations):
            softmax_of_lanes(z, t * outputs, classes)
    vectors = classes * (LANES // 16)
    _absorb_activated(activation, z, 4 * outputs, iterations, vectors, state, at, first)


SCORES = 1
"""How many scores every iteration adds to: the predictive entropy."""


@kernel
def add_scores(p, p_at, exclusive, classes, lanes, totals):
    """Add the scores of one iteration, p[p_at:] as [classes][lanes], to totals[SCORES][lanes] (float64).

    The first is the predictive entropy in nats. Classes that exclude each other (softmax): -sum p ln p. Otherwise they
    count as independent yes/no events: sum of -p ln p - (1-p) ln(1-p).
    """
    p = p[p_at : p_at + classes * lanes]
    for c in range(classes):
        for s in range(lanes):
            value = np.float64(p[c * lanes + s])
            if value > 0:
                totals[s] -= value * math.log(value)
            if not exclusive and value < 1:
                totals[s] -= (1 - value) * math.log(1 - value)


@kernel
def add_to_rows(totals, places, iterations, scores, first, samples):
    """Add what these iterations came to, of all `iterations`, to rows of scores (N, SCORES), and clear the totals.

    Sample s is lane places[s] of totals[SCORES][lanes].
    """
    lanes = len(places)
    for number in range(scores.shape[1]):
        for s in range(samples):
            scores[first + s, number] += totals[number * lanes + places[s]] / iterations
    for i in range(len(totals)):
        totals[i] = 0.0


@kernel
def take_moments(z, outputs, iterations, plan, state, at, first, scores, totals):
    """Absorb the outputs of several iterations of 64 samples (`absorb`), and add their scores where they are wanted."""
    classes = plan.widths[-1]
    absorb(z, outputs, iterations, plan.activations[-1], classes, state, at, first)
    for past in range(iterations if scores.shape[1] > 0 else 0):
        add_scores(z, past * outputs, plan.exclusive, classes, LANES, totals)


@kernel
def finish(state, at, iterations, classes, places, mean, std, first, samples):
    """Write mean and standard deviation (ddof 0) of `samples` samples to rows of mean, std (N, C) from `first` on.

    Sample s is lane places[s] of len(places) in the running sums [classes][lanes] that begin at `at`. The sums are
    used up: their memory holds what they come to.
    """
    lanes = len(places)
    count = classes * lanes
    pivot, sum1, sum2 = state[0][at : at + count], state[1][at : at + count], state[2][at : at + count]
    for i in range(count):
        shift = sum1[i] / iterations
        sum1[i] = np.float64(pivot[i]) + shift
        sum2[i] = math.sqrt(max(sum2[i] / iterations - shift * shift, 0.0))
    for s in range(samples):
        for c in range(classes):
            mean[first + s, c], std[first + s, c] = sum1[c * lanes + places[s]], sum2[c * lanes + places[s]]
