"""Scratch memory of the kernels, and the whole head laid out for one sample at a time. No Numba here."""

from typing import Any, NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.dots import lane_of
from fastuq.montecarlo.kernels.ir import LANES
from fastuq.montecarlo.kernels.plan import TILE, Plan, words_for
from fastuq.montecarlo.kernels.targets import Dot, Target

TOGETHER = 8
"""Iterations whose outputs are kept until their moments are taken, all at once; `FOLD` is a multiple."""
AT_ONCE = 16
"""Iterations of a sample that share one pass over the weights, which then come from the near cache."""


class PackScratch(NamedTuple):
    """What packing needs: int32 for as many outputs as the widest layer has and 64 more.

    Attributes
    ----------
    totals
        Sums of the packed weights of each output.
    line
        The packed weights of one group of inputs, a zero behind them.
    chosen
        The outputs that are computed, then the place of the zero.
    """

    totals: np.ndarray
    line: np.ndarray
    chosen: np.ndarray


class Lanes(NamedTuple):
    """Where samples lie, and what turning features takes.

    Attributes
    ----------
    lane_of_slot : int64 (64,)
        Byte s of a row of codes belongs to the sample in lane lane_of_slot[s] of sums.
    samples : int32 (64,)
    square : int8 (64 * 64,)
    words : int32 (16 * 64,)
    """

    lane_of_slot: np.ndarray
    samples: np.ndarray
    square: np.ndarray
    words: np.ndarray


class Found(NamedTuple):
    """What 64 samples come to, all [class][64], and what decides about them.

    Attributes
    ----------
    mean, std, plain : float32 (64 C,)
    ones, doubts : uint16 (4 C,)
        Bits of the samples whose interval is above the threshold, or touches it; [class][part].
    floats, numbers : float32 (2, 64), int32 (5, 64), flat
        Of `Columns`: largest mean and whether all is finite; keep to plain prediction.
    entropy, entropies : float64 (64,)
        Of the mean, and of the iterations, added up; the latter are zeros between blocks.
    """

    mean: np.ndarray
    std: np.ndarray
    plain: np.ndarray
    ones: np.ndarray
    doubts: np.ndarray
    floats: np.ndarray
    numbers: np.ndarray
    entropy: np.ndarray
    entropies: np.ndarray


class SharedScratch(NamedTuple):
    """What the shared-mask kernels need; R is the number of units of the widest layer, filled up.

    Attributes
    ----------
    codes : uint8 (64 D,)
        Features, feature-major, then input codes.
    inputs : int32 or float32
        A block's inputs, [part][groups][16]; float32: the head's inputs.
    hidden : uint8 (64 R,) or float32 (128 R,)
        Outputs of one block (codes) or two blocks (float32) that are not the last.
    every : int32 (R,)
        All units, in order.
    base : int32 or float32
        The first block's whole product, then zeros; rows of 64, or by parts in float32.
    z : float32
        Outputs of the last block, [iteration][class][64].
    reals : float32 (64 R,)
        Outputs of a block that are turned into codes one by one.
    addend : float32 (64 C,)
        What is added to the outputs of the last block, [class][64].
    """

    codes: np.ndarray
    inputs: np.ndarray
    hidden: np.ndarray
    every: np.ndarray
    base: np.ndarray
    z: np.ndarray
    reals: np.ndarray
    addend: np.ndarray
    lanes: Lanes
    found: Found


class PerSampleScratch(NamedTuple):
    """What the per-sample kernels need; R is the number of units of the widest layer, filled up, T is `AT_ONCE`.

    Attributes
    ----------
    codes : int8 (R,)
        Input codes, zeros behind them.
    inputs, negated : float32 (R,)
        Inputs of the head, and the same as they are added up.
    words : uint64
        Keep bits of the widest layer.
    everything : uint64
        As many, all set.
    values : int32 (T R + 16,)
        Codes of the inputs that a mask takes.
    listed, bounds : int32 (T R + 64,), (T (R / 64 + 1),)
        Which groups or units, and where each chunk of them ends.
    base, sums : int32 or float32 (R,), (T R,)
        The first block's whole product; sums of weights.
    excess : int32 (T + 1,)
        By how much the sums are too much; the last is 0.
    nothing : int32 or float32 (R,)
        Zeros.
    hidden : uint8 (R,)
        Codes of a block that is not the last.
    z : float32 (T R,)
        Outputs.
    addend : float32 (R,)
        What is added to them.
    mean, std : float32 (R,)
    """

    codes: np.ndarray
    inputs: np.ndarray
    negated: np.ndarray
    words: np.ndarray
    everything: np.ndarray
    values: np.ndarray
    listed: np.ndarray
    bounds: np.ndarray
    base: np.ndarray
    sums: np.ndarray
    excess: np.ndarray
    nothing: np.ndarray
    hidden: np.ndarray
    z: np.ndarray
    addend: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    found: Found


class Rows(NamedTuple):
    """A whole head laid out for one sample at a time.

    Attributes
    ----------
    first : int8 or float32
        First block as `rows.add_listed` and `rows.add_rows` read it; integers negated where it is complemented.
    later : int8 or float32
        The other blocks, [64 outputs][groups of inputs][64] of 32 bits each: four int8, two int16 or one float32.
    at : int64 (L,)
        Where they begin, counted in 32 bits.
    offsets : int32 (L, R)
        What the zero points of a block's inputs add to its sums.
    """

    first: np.ndarray
    later: np.ndarray
    at: np.ndarray
    offsets: np.ndarray


def lanes_scratch(target: Target) -> Lanes:
    """Make what turning features takes."""
    return Lanes(
        memory.filled([lane_of(target.dot, slot) for slot in range(LANES)], np.int64),
        memory.empty(LANES, np.int32),
        memory.empty(LANES * LANES, np.int8),
        memory.empty(16 * LANES, np.int32),
    )


def found_scratch(classes: int) -> Found:
    """Make room for what 64 samples come to."""
    arrays: list[Any] = [
        *(memory.zeros((classes + TILE) * LANES, np.float32) for _ in range(3)),
        *(memory.zeros(classes * 4, np.uint16) for _ in range(2)),
        memory.zeros(2 * LANES, np.float32),
        memory.zeros(5 * LANES, np.int32),
        *(memory.zeros(LANES, np.float64) for _ in range(2)),
    ]
    return Found(*arrays)


def pack_scratch(plan: Plan) -> PackScratch:
    """Make the scratch memory of `pack_int8` and `pack_float32`."""
    return PackScratch(*(memory.empty(int(plan.widths.max()) + 64, np.int32) for _ in range(3)))


def shared_scratch(plan: Plan, target: Target, integers: bool) -> SharedScratch:
    """Make the scratch memory of `run_shared_int8` (`integers`) or `run_shared_float32`."""
    widest = (int(plan.widths.max()) + TILE + 3) // 4 * 4
    width, outputs, classes = (int(plan.widths[k]) for k in (0, 1, -1))
    groups = -(-widest // target.dot.group)
    return SharedScratch(
        memory.empty((width + 3) // 4 * 4 * LANES, np.uint8),
        memory.zeros(groups * LANES, np.int32) if integers else memory.empty(width * LANES, np.float32),
        memory.zeros(widest * LANES, np.uint8) if integers else memory.zeros(2 * widest * LANES, np.float32),
        memory.filled(np.arange(widest), np.int32),
        memory.zeros((outputs + TILE + 1) * LANES, np.int32 if integers else np.float32),
        memory.zeros(TOGETHER * (classes + TILE) * LANES, np.float32),
        memory.zeros(widest * LANES, np.float32),
        memory.zeros(classes * LANES, np.float32),
        lanes_scratch(target),
        found_scratch(classes),
    )


def excess_of(dot: Dot) -> int:
    """Return what is added to weights that a dot product takes as unsigned."""
    return 128 if dot.name == "vpdpbusd" else 0


def chunk_of(target: Target, integers: bool) -> int:
    """Return how many inputs' weights are passed over at once: 16 kB for 64 outputs."""
    return 64 * target.dot.group if integers else 64


def packed_rows(plan: Plan, target: Target, integers: bool) -> Rows:
    """Make room for a head laid out for one sample at a time."""
    group, kind, size = (target.dot.group, np.int8, 4) if integers else (1, np.float32, 1)
    outputs = -(-plan.widths[1:] // LANES) * LANES
    sizes = outputs * -(-plan.widths[:-1] // group)
    first, sizes[0] = int(sizes[0]), 0
    return Rows(
        memory.zeros(size * first, kind),
        memory.zeros(size * int(sizes.sum()), kind),
        memory.filled(np.cumsum(sizes) - sizes, np.int64),
        memory.zeros((len(sizes), int(outputs.max())), np.int32),
    )


def per_sample_scratch(plan: Plan, target: Target, integers: bool) -> PerSampleScratch:
    """Make the scratch memory of `run_per_sample_int8` (`integers`) or `run_per_sample_float32`."""
    widest, classes = -(-int(plan.widths.max()) // LANES) * LANES, int(plan.widths[-1])
    kind = np.int32 if integers else np.float32
    words = words_for(widest)
    arrays: list[Any] = [
        memory.zeros(widest, np.int8),
        *(memory.zeros(widest, np.float32) for _ in range(2)),
        words,
        memory.filled(np.full(len(words), ~np.uint64(0)), np.uint64),
        memory.zeros(AT_ONCE * widest + LANES, np.int32),
        memory.zeros(AT_ONCE * widest + LANES, np.int32),
        memory.zeros(AT_ONCE * (widest // LANES + 1), np.int32),
        memory.zeros(widest, kind),
        memory.zeros(AT_ONCE * widest, kind),
        memory.zeros(AT_ONCE + 1, np.int32),
        memory.zeros(widest, kind),
        memory.zeros(widest, np.uint8),
        memory.zeros(AT_ONCE * widest, np.float32),
        *(memory.zeros(widest, np.float32) for _ in range(3)),
        found_scratch(classes),
    ]
    return PerSampleScratch(*arrays)
