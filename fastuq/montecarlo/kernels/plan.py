"""What kernels are given: the head as flat arrays, packed heads, running sums, columns. No Numba here."""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory

TILE = 6
"""Output units that a tile holds."""
STORE_SUMS, STORE_REAL, STORE_CODES = range(3)
"""What an int8 block stores; see `tiles.int8_block`."""
BY_STEPS, BY_ROUNDING, BY_TABLE = range(3)
"""How an int8 block makes its output codes; see `Plan`."""
FOLD = 64
"""Iterations that are summed up by themselves before they join the others: threads may then share those of a sample."""


class Plan(NamedTuple):
    """A head of L blocks, flattened: one compiled kernel serves any number of blocks.

    Attributes
    ----------
    widths : int64 (L + 1,)
        Inputs of each block, then the number of classes.
    activations, thresholds, zero_points : int64 (L,)
        Code of each activation; 16-bit keep threshold of each dropout; what is added to a block's input codes to make
        them unsigned (int8).
    slopes : float32 (L,)
        Of each activation below 0, where it has one.
    codings, tops : int64, float32 (L,)
        How a block's output codes are made. BY_ROUNDING: min(rint(z), top) above minus the next zero point. BY_TABLE:
        y = table[rint(z)], with z from 0 to top, then rint(y * unit_scale + unit_shift), from minus the next zero point
        on. BY_STEPS: the codes of a sigmoid. Zeros for the last block and in float32.
    steps : float32 (257,)
        Where the code of a sigmoid goes up, between infinities.
    tables, table_at : float32, int64 (L,)
        The tables, one behind the other, and where each block's begins.
    shifted : int64 (L,)
        Whether a block's activated outputs are multiplied by unit_scale, and unit_shift added, in float32.
    keeps : float32 (L,)
        1 - p of each dropout.
    exclusive : bool
        The outputs are probabilities of classes that exclude each other.
    complement : int
        1 where the first block is computed as X W - X[:, dropped] W[dropped], 0 where the kept inputs are summed.
    weights : int8 or float32, flat
        Weights (inputs, outputs) of all blocks, then from ``nothing`` on a row of zeros and 64 more; float32 ones
        include the 1 / (1 - p) of dropout.
    nothing : int
    weight_at, output_at, unit_at : int64 (L,)
        Where each block's weights, outputs (in scale and bias) and input units (in an iteration's selection) begin.
    room : int
        Length of an iteration's selection: int32 units of all blocks.
    scale, plain_scale, bias : float32, flat
        As in `fastuq.model.int8_head`, the second without the 1 / (1 - p); then a vector of zeros. float32 heads do not
        read the scales.
    unit_scale, unit_shift : float32, flat
        Of each output; ones and zeros where neither a table nor `shifted` asks for them.
    input_scale, input_shift : float32 (D,)
    """

    widths: np.ndarray
    activations: np.ndarray
    thresholds: np.ndarray
    zero_points: np.ndarray
    slopes: np.ndarray
    codings: np.ndarray
    tops: np.ndarray
    steps: np.ndarray
    tables: np.ndarray
    table_at: np.ndarray
    shifted: np.ndarray
    keeps: np.ndarray
    exclusive: bool
    complement: int
    weights: np.ndarray
    nothing: int
    weight_at: np.ndarray
    output_at: np.ndarray
    unit_at: np.ndarray
    room: int
    scale: np.ndarray
    plain_scale: np.ndarray
    bias: np.ndarray
    unit_scale: np.ndarray
    unit_shift: np.ndarray
    input_scale: np.ndarray
    input_shift: np.ndarray


class Selection(NamedTuple):
    """The units that T masks select: units (int32, T rooms) and counts (int32, (T, L))."""

    units: np.ndarray
    counts: np.ndarray


class Packed(NamedTuple):
    """Thinned heads, in the order in which tiles read them.

    Block l of iteration t begins at byte ``weights_at[t, l]`` of the weights as [tile][group of inputs][6], 32 bits
    each (four int8, two int16 or one float32), negated where the block is complemented, and at ``vectors_at[t, l]`` of
    the others, which are filled up to whole tiles.

    Attributes
    ----------
    weights : int32 or float32
    start : int32
        Row of the first block's whole product that a sum starts from; the row behind the last one is zero.
    correction : int32
        What the zero point of the input codes takes away; float32 heads have none.
    scale : float32
        Of int8 heads; float32 ones have none.
    bias : float32
    unit_scale, unit_shift : float32
        As in `Plan`.
    weights_at, vectors_at : int64 (T, L)
    """

    weights: np.ndarray
    start: np.ndarray
    correction: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    unit_scale: np.ndarray
    unit_shift: np.ndarray
    weights_at: np.ndarray
    vectors_at: np.ndarray


class Sums(NamedTuple):
    """Running sums: the first iteration's outputs (float32), and sums of what follows less them and of its squares.

    The sums are float64: those of up to `FOLD` iterations, and those of all before. Where they are wanted there are
    sums of third and fourth powers too, of all iterations. All are flat, [block][class][64] or [sample][class], the
    classes filled up to 64.
    """

    pivot: np.ndarray
    sum1: np.ndarray
    sum2: np.ndarray
    total1: np.ndarray
    total2: np.ndarray
    sum3: np.ndarray
    sum4: np.ndarray


class Columns(NamedTuple):
    """What is found of N samples of C classes.

    Attributes
    ----------
    floats : float32 (5, N)
        Mean, lower and upper end of the predicted class, largest mean, 1 where all outputs are finite.
    numbers : int32 (5, N)
        Keep, reason, prediction, class of the largest mean, class of the largest plain output.
    positive : uint8 (N, ceil(C / 8))
        Bits of the predicted classes, zeros before.
    entropy : float64 (N,)
        Of the mean, in nats.
    entropies : float64 (N,)
        Mean over the iterations of the entropy.
    mean, std, plain : float32 (N, C) or (0, C)
    votes : int32 (N, C) or (0, C)
        In how many iterations a class has the largest output.
    iterations, flips : int64, float64 (N,) or (0,)
        Of samples that run until they are settled: how many each took, and how likely another seed decides otherwise.
    """

    floats: np.ndarray
    numbers: np.ndarray
    positive: np.ndarray
    entropy: np.ndarray
    entropies: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    plain: np.ndarray
    votes: np.ndarray = np.zeros((0, 0), np.int32)
    iterations: np.ndarray = np.zeros(0, np.int64)
    flips: np.ndarray = np.zeros(0)


class Rules(NamedTuple):
    """How moments become decisions.

    Half width of the interval in deviations, threshold, whether `mixed` is kept, least mean for the benefit of doubt.
    """

    z: np.float32
    threshold: np.float32
    keep_mixed: bool
    floor: np.float32 = np.float32(-np.inf)


class Part(NamedTuple):
    """Which iterations a call runs.

    Attributes
    ----------
    first, length, iterations : int
        `length` from `first` on, of `iterations` in all.
    scores : bool
        Add up the entropies of the iterations.
    decide : bool
        Write columns: the last part then has the plain pass behind its iterations.
    """

    first: int
    length: int
    iterations: int
    scores: bool
    decide: bool


def columns(
    samples: int, classes: int, *, decide: bool, details: bool, scores: bool = False, votes: bool = False
) -> Columns:
    """Make room for what is found of so many samples: columns to `decide`, moments (`details`), entropies, votes."""
    decided, rows = samples if decide else 0, samples if details else 0
    return Columns(
        *[
            memory.zeros((5, decided), np.float32),
            memory.zeros((5, decided), np.int32),
            memory.zeros((decided, -(-classes // 8)), np.uint8),
            memory.zeros(decided, np.float64),
            memory.zeros(samples if scores else 0, np.float64),
            *(memory.empty((rows, classes), np.float32) for _ in range(2)),
            memory.empty((rows if decide else 0, classes), np.float32),
            memory.zeros((samples if votes else 0, classes), np.int32),
        ]
    )


def running_sums(count: int, *, higher: bool = False) -> Sums:
    """Make room for the running sums of so many numbers, with `higher` those of third and fourth powers too."""
    sizes = (*[count] * 4, *[count if higher else 0] * 2)
    return Sums(memory.empty(count, np.float32), *(memory.empty(size, np.float64) for size in sizes))


def joined(state: Sums, kept: np.ndarray) -> None:
    """Join the sums of the same sample's iterations, `FOLD` of them a row of `kept`, in the order of the iterations.

    The very additions that one after the other would have made, hence the same bits. `kept` is that of the classes
    alone: behind them lies whatever was in memory.
    """
    for array in (state.sum1, state.sum2, state.total1, state.total2):
        array[:] = 0
    for first, second in kept:
        state.total1[: len(first)] += first
        state.total2[: len(second)] += second


def selection_of(plan: Plan, count: int, before: Selection | None = None) -> Selection:
    """Make room for the selections of so many iterations; memory of those `before` is used again."""
    units = memory.reused(None if before is None else before.units, count * plan.room, np.int32)
    return Selection(units, memory.empty((count, len(plan.activations)), np.int32))


def whole_block(plan: Plan) -> tuple[Plan, Selection]:
    """Return the plan of the first block alone, not complemented, and a selection that drops nothing."""
    whole = plan._replace(widths=plan.widths[:2], activations=plan.activations[:1], complement=0)
    units = memory.zeros(plan.room, np.int32)
    units[: plan.widths[0]] = np.arange(plan.widths[0])
    return whole, Selection(units, memory.filled(plan.widths[None, :1], np.int32))


def packed_room(plan: Plan, counts: np.ndarray, group: int, kind: type, before: Packed | None = None) -> Packed:
    """Make room for packed heads whose blocks have `counts` (T, L) inputs; memory of those `before` is used again."""
    outputs = np.concatenate([counts[:, 1:], np.full((len(counts), 1), plan.widths[-1])], axis=1).astype(np.int64)
    outputs = -(-outputs // TILE) * TILE
    sizes = outputs * -(-counts.astype(np.int64) // group)
    weights_at, vectors_at = (np.cumsum(s.ravel()).reshape(s.shape) - s for s in (sizes, outputs))
    vectors, codes = int(outputs.sum()), int(outputs.sum()) if kind is np.int32 else 0
    rooms: tuple = (None,) * 7 if before is None else before[:7]
    wanted = (
        (int(sizes.sum()), kind),
        (vectors, np.int32),
        (codes, np.int32),
        (codes, np.float32),
        *[(vectors, np.float32)] * 3,
    )
    return Packed(
        *[
            *(memory.reused(room, *each) for room, each in zip(rooms, wanted, strict=True)),
            memory.filled(4 * weights_at, np.int64),
            memory.filled(vectors_at, np.int64),
        ]
    )


def selection_width(units: int) -> int:
    """Return the room for a list of selected units: whole vectors are written past its end."""
    return (int(units) + 31) // 16 * 16


def words_for(width: int) -> np.ndarray:
    """Make room for the keep bits of that many units: the generator writes 256 at a time."""
    return memory.empty(-(-int(width) // 256) * 4, np.uint64)
