"""What each kernel is given. No Numba here: kernels that are kept run without it."""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels.plan import Columns, Packed, Part, Plan, Rules, Selection, Sums
from fastuq.montecarlo.kernels.scratch import PackScratch, PerSampleScratch, Rows, SharedScratch


class SelectJob(NamedTuple):
    """What `select_iterations` is given.

    Attributes
    ----------
    first : int
        Iteration of the first room; the others follow.
    start, stop : int
        The rooms to fill.
    whole : int
        The room whose iteration drops nothing, the plain pass; -1 for none.
    words : uint64
        Scratch, `words_for` the widest block.
    """

    plan: Plan
    seed: np.uint64
    first: int
    start: int
    stop: int
    whole: int
    words: np.ndarray
    selection: Selection


class PackJob(NamedTuple):
    """What `pack_int8` and `pack_float32` are given: rooms start to stop, `whole` the one that drops nothing."""

    plan: Plan
    selection: Selection
    start: int
    stop: int
    whole: int
    packed: Packed
    scratch: PackScratch


class SharedJob(NamedTuple):
    """What `run_shared_int8` and `run_shared_float32` are given.

    Attributes
    ----------
    features : int8 (N, D)
    selection, packed
        Of the iterations, and as the last one of the plain pass where `part` begins.
    dense : Packed
        The whole first block.
    size : int
        Samples of a block: 16, 32 or 64.
    start, stop : int
        Blocks to run.
    part : Part
    state : Sums
        Of all blocks or, where one call runs all iterations, of one.
    addend : float32 (N, C) or (0, C)
        What is added to the outputs of the last block before its activation.
    """

    plan: Plan
    features: np.ndarray
    selection: Selection
    packed: Packed
    dense: Packed
    size: int
    start: int
    stop: int
    part: Part
    state: Sums
    addend: np.ndarray
    rules: Rules
    columns: Columns
    scratch: SharedScratch


class RowsJob(NamedTuple):
    """What `pack_rows_int8` and `pack_rows_float32` are given."""

    plan: Plan
    rows: Rows


class PerSampleJob(NamedTuple):
    """What `run_per_sample_int8` and `run_per_sample_float32` are given.

    Attributes
    ----------
    features : int8 (N, D)
    sample_ids : int64 (N,)
        What goes into the masks: zeros for shared ones.
    start, stop : int
        Samples to run.
    part : Part
        All iterations, the next ones, or a piece that another call will finish: one that runs none and finds all in
        `state`.
    state : Sums
        Of one sample or of all.
    kept : float64 (ceil(T / FOLD), 2, C filled up to 64) or (0, 2, 0)
        Where the sums of each `FOLD` iterations go that another call will finish.
    addend : float32 (N, C) or (0, C)
        As in `SharedJob`.
    """

    plan: Plan
    features: np.ndarray
    sample_ids: np.ndarray
    rows: Rows
    seed: np.uint64
    start: int
    stop: int
    part: Part
    state: Sums
    kept: np.ndarray
    addend: np.ndarray
    rules: Rules
    columns: Columns
    scratch: PerSampleScratch


class TurnJob(NamedTuple):
    """What `peak.turn` is given: how often, what it multiplies, and room (int32, 16) for the sums."""

    turns: int
    seed: int
    out: np.ndarray
