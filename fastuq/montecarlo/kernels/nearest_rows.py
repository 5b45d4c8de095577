"""Rows of codes laid out as tiles read them, and what else `nearest` is given. No Numba here."""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.ir import LANES
from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.kernels.scratch import Lanes, lanes_scratch
from fastuq.montecarlo.kernels.targets import Target

_AT_ONCE = 1024
"""Tiles that are laid out at once."""


class Projection(NamedTuple):
    """From features to y, laid out for `tiles.int8_block`; as in `plan.Packed`, of what is stored as sums."""

    weights: np.ndarray
    start: np.ndarray
    correction: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


class NearestRows(NamedTuple):
    """Rows of codes, class by class, and how features become codes.

    Attributes
    ----------
    projection : Projection
    components : int
        K, codes of a row.
    step : uint64
        The float64 code of 1, bit by bit.
    weights : int32
        [tile][group of codes][6], 32 bits each: four int8 or two int16.
    correction : int32
        Of each row: what it takes away that codes go in plus 128.
    tiles_at : int64 (C + 1,)
        Where each class begins, counted in tiles.
    """

    projection: Projection
    components: int
    step: np.uint64
    weights: np.ndarray
    correction: np.ndarray
    tiles_at: np.ndarray


class NearestScratch(NamedTuple):
    """What comparing 64 samples of D features with rows of K codes needs; R is the larger of the two.

    Attributes
    ----------
    rows : uint8 (64 R,)
        Features plus 128, then codes plus 128, one by one.
    inputs : int32
        The same, [part][groups][16].
    every : int32 (R,)
        All of them, in order.
    base : int32 (64,)
        Zeros, from which sums start.
    sums : int32 (64 K,)
        What the projection gives.
    best : int32 (64 C,)
        Largest sums, [class][64].
    """

    rows: np.ndarray
    inputs: np.ndarray
    every: np.ndarray
    base: np.ndarray
    sums: np.ndarray
    best: np.ndarray
    lanes: Lanes


class NearestJob(NamedTuple):
    """What `find_nearest` is given: features int8 (N, D), blocks of 64 samples start to stop, room int32 (N, C)."""

    features: np.ndarray
    bank: NearestRows
    start: int
    stop: int
    out: np.ndarray
    scratch: NearestScratch


def nearest_rows(
    weights: np.ndarray, offset: np.ndarray, step: float, rows: np.ndarray, counts: np.ndarray, target: Target
) -> NearestRows:
    """Lay out a projection (D, K) int8 with its offset and step, and rows (M, K) int8; see `NearestRows`."""
    columns, correction, _ = _tiles(np.ascontiguousarray(weights.T), np.array([len(offset)]), target)
    correction[: len(offset)] -= offset.astype(np.int32)
    projection = Projection(
        columns,
        memory.zeros(len(correction), np.int32),
        correction,
        *(memory.zeros(len(correction), np.float32) for _ in range(2)),
    )
    return NearestRows(projection, len(offset), np.float64(step).view(np.uint64), *_tiles(rows, counts, target))


def _tiles(rows: np.ndarray, counts: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out rows; the last one of a class is repeated up to a whole tile, which changes no maximum."""
    size, width = target.dot.group, rows.shape[1]
    tiles = -(-counts // TILE)
    begins, tiles_at = np.cumsum(counts) - counts, np.concatenate([[0], np.cumsum(tiles)])
    within = np.arange(tiles_at[-1] * TILE) - np.repeat(tiles_at[:-1] * TILE, tiles * TILE)
    listed = np.minimum(within, np.repeat(counts - 1, tiles * TILE)) + np.repeat(begins, tiles * TILE)
    groups = -(-width // size)
    weights = memory.empty((len(listed) // TILE, groups, TILE, size), np.int8 if size == 4 else np.int16)
    correction = memory.empty(len(listed), np.int32)
    for first in range(0, len(weights), _AT_ONCE):
        part = slice(first * TILE, (first + _AT_ONCE) * TILE)
        codes = np.zeros((len(listed[part]), groups * size), np.int8)
        codes[:, :width] = rows[listed[part]]
        weights[first : first + _AT_ONCE] = codes.reshape(-1, TILE, groups, size).swapaxes(1, 2)
        correction[part] = (0 if target.dot.signed else -128) * codes.sum(axis=1, dtype=np.int32)
    return weights.reshape(-1).view(np.int32), correction, memory.filled(tiles_at, np.int64)


def nearest_scratch(width: int, components: int, classes: int, target: Target) -> NearestScratch:
    """Make the scratch memory of `find_nearest`."""
    whole = (max(width, components) + 3) // 4 * 4
    return NearestScratch(
        memory.zeros(whole * LANES, np.uint8),
        memory.zeros(-(-whole // target.dot.group) * LANES, np.int32),
        memory.filled(np.arange(whole), np.int32),
        memory.zeros(LANES, np.int32),
        memory.zeros((components + TILE) * LANES, np.int32),
        memory.zeros(classes * LANES, np.int32),
        lanes_scratch(target),
    )
