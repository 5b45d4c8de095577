"""Rows of codes laid out as tiles read them, and what else `nearest` is given. No Numba here."""

from typing import NamedTuple

import numpy as np

from fastuq.montecarlo.kernels import memory
from fastuq.montecarlo.kernels.ir import LANES
from fastuq.montecarlo.kernels.plan import TILE
from fastuq.montecarlo.kernels.scratch import Lanes, lanes_scratch
from fastuq.montecarlo.kernels.targets import Target

_TILES = 1024
"""Tiles that are laid out at once."""


class NearestRows(NamedTuple):
    """Rows of K codes, class by class.

    Attributes
    ----------
    weights : int32
        [tile][group of codes][6], 32 bits each: four int8 or two int16.
    correction : int32
        Of each row: what it takes away that codes go in plus 128.
    tiles_at : int64 (C + 1,)
        Where each class begins, counted in tiles.
    """

    weights: np.ndarray
    correction: np.ndarray
    tiles_at: np.ndarray


class NearestScratch(NamedTuple):
    """What comparing 64 samples with rows of K codes needs.

    Attributes
    ----------
    rows : uint8 (64 K,)
        Codes plus 128, code by code.
    inputs : int32
        The same, [part][groups][16].
    every : int32 (K,)
        All codes, in order.
    once, nothing : float32 (K,)
        Ones and zeros.
    zeros : int32 (64,)
    best : int32 (64 C,)
        Largest sums, [class][64].
    """

    rows: np.ndarray
    inputs: np.ndarray
    every: np.ndarray
    once: np.ndarray
    nothing: np.ndarray
    zeros: np.ndarray
    best: np.ndarray
    lanes: Lanes


class NearestJob(NamedTuple):
    """What `find_nearest` is given: codes int8 (N, K), blocks of 64 samples start to stop, and room int32 (N, C)."""

    codes: np.ndarray
    bank: NearestRows
    start: int
    stop: int
    out: np.ndarray
    scratch: NearestScratch


def nearest_rows(rows: np.ndarray, counts: np.ndarray, target: Target) -> NearestRows:
    """Lay out rows (M, K) int8; the last one of a class is repeated up to a whole tile, which changes no maximum."""
    size, width = target.dot.group, rows.shape[1]
    tiles = -(-counts // TILE)
    begins, tiles_at = np.cumsum(counts) - counts, np.concatenate([[0], np.cumsum(tiles)])
    within = np.arange(tiles_at[-1] * TILE) - np.repeat(tiles_at[:-1] * TILE, tiles * TILE)
    listed = np.minimum(within, np.repeat(counts - 1, tiles * TILE)) + np.repeat(begins, tiles * TILE)
    groups = -(-width // size)
    weights = memory.empty((len(listed) // TILE, groups, TILE, size), np.int8 if size == 4 else np.int16)
    correction = memory.empty(len(listed), np.int32)
    for first in range(0, len(weights), _TILES):
        part = slice(first * TILE, (first + _TILES) * TILE)
        codes = np.zeros((len(listed[part]), groups * size), np.int8)
        codes[:, :width] = rows[listed[part]]
        weights[first : first + _TILES] = codes.reshape(-1, TILE, groups, size).swapaxes(1, 2)
        correction[part] = (0 if target.dot.signed else -128) * codes.sum(axis=1, dtype=np.int32)
    return NearestRows(weights.reshape(-1).view(np.int32), correction, memory.filled(tiles_at, np.int64))


def nearest_scratch(width: int, classes: int, target: Target) -> NearestScratch:
    """Make the scratch memory of `find_nearest`."""
    whole = (width + 3) // 4 * 4
    return NearestScratch(
        memory.zeros(whole * LANES, np.uint8),
        memory.zeros(-(-width // target.dot.group) * LANES, np.int32),
        memory.filled(np.arange(whole), np.int32),
        memory.filled(np.ones(width), np.float32),
        memory.zeros(width, np.float32),
        memory.zeros(LANES, np.int32),
        memory.zeros(classes * LANES, np.int32),
        lanes_scratch(target),
    )
