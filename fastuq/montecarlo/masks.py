"""Keep bits of the dropout layers: a pure function of (seed, layer, iteration, sample, unit).

The generator is Threefry-4x32 with 13 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
1, 2, 3", SC 2011, doi:10.1145/2063384.2063405). It is counter-based: no state, so no order, chunk or thread can
change a bit. This module is the plain NumPy form; `fastuq.montecarlo.kernels` makes the same bits faster.

The counter is (block, iteration, sample low, sample high), the key (seed low, seed high, layer, plane). One block
gives 16 bytes; units go by groups of 256: group g holds blocks 16 g to 16 g + 15, and unit r of a group is byte
r % 4 of word r // 64 of block 16 g + (r % 64) // 4. A 16-bit draw is 256 times the byte of plane 0 plus the byte
of plane 1, and the unit is kept where the draw is below ``keep_threshold(rate)``.

Several heads of a model have masks of seeds of their own (`head_seed`). The same masks for all would do as well for the
spread, but heads would err together where a feature is dropped: the mean over heads and masks would be less exact.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.util.checks import array_of, checked_seed

ROUNDS = 13
GROUP = 256
_PARITY = np.uint32(0x1BD11BDA)
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def threefry(counter: Sequence[Any], key: Sequence[Any], rounds: int = ROUNDS) -> list[np.ndarray]:
    """Return the four 32-bit output words of Threefry-4x32.

    Parameters
    ----------
    counter, key : four uint32 arrays each, that broadcast together
    rounds : int
        13 for masks; 20 is the published default.
    """
    words = [np.atleast_1d(np.asarray(k, np.uint32)) for k in key]  # arrays wrap silently, scalars warn
    words.append(words[0] ^ words[1] ^ words[2] ^ words[3] ^ _PARITY)
    x = [np.asarray(c, np.uint32) + k for c, k in zip(counter, words, strict=False)]
    for r in range(rounds):
        for (a, b), turn in zip(((0, 1), (2, 3)) if r % 2 == 0 else ((0, 3), (2, 1)), _ROTATIONS[r % 8], strict=True):
            x[a] = x[a] + x[b]
            x[b] = (x[b] << np.uint32(turn) | x[b] >> np.uint32(32 - turn)) ^ x[a]
        if r % 4 == 3:
            s = r // 4 + 1
            x = [word + words[(s + i) % 5] for i, word in enumerate(x)]
            x[3] = x[3] + np.uint32(s)
    return x


def head_seed(seed: int, number: int) -> int:
    """Return the seed of the masks of a head: `seed` itself for the first, number 0, and for others drawn from it.

    The draw is the first 64 bits at counter (number, 0, 0, 0) and key (seed low, seed high, 2^32 - 1, 2), which no mask
    has.
    """
    seed, low = checked_seed(seed), 2**32 - 1
    if number == 0:
        return seed
    words = threefry([number, 0, 0, 0], [seed & low, seed >> 32, low, 2])
    return int(words[0][0]) | int(words[1][0]) << 32


def keep_threshold(rate: float) -> int:
    """Return t = round((1 - p) 2^16) of a dropout rate p: a unit is kept where its 16-bit draw is below t."""
    if not 0 <= rate < 1:
        raise InputError(f"dropout rate: expected 0 <= rate < 1, found {rate}")
    return round((1 - rate) * 65536)


def check_sample_ids(sample_ids: Any, count: int) -> np.ndarray:
    """Return the numbers of `count` samples as int64 (count,), 0 to count - 1 where None are given.

    Raises
    ------
    InputError
        They are not whole numbers from 0 to 2^63 - 1, one per sample.
    """
    if sample_ids is None:
        return np.arange(count, dtype=np.int64)
    ids = array_of("sample_ids", sample_ids)
    if ids.shape != (count,) or (count and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= 2**63)):
        raise InputError(
            f"sample_ids: expected {count} whole numbers from 0 to 2^63 - 1, one per sample, "
            f"found {ids.dtype} {ids.shape} or numbers outside"
        )
    return np.require(ids, np.int64, ("C", "W"))


def keep_bits(seed: int, layer: int, iterations: np.ndarray, sample: int, width: int, rate: float) -> np.ndarray:
    """Return the keep bits of one dropout layer.

    Parameters
    ----------
    seed : int
        0 to 2^64 - 1.
    layer : int
        Number of the block, from 0.
    iterations : ndarray of int, (T,)
        Numbers of the iterations, 0 to 2^32 - 1.
    sample : int
        The sample's own number with per-sample masks, 0 with shared ones.
    width : int
        Number of units.
    rate : float
        Dropout rate p.

    Returns
    -------
    ndarray, (T, width), bool
        True where the unit is kept.

    Examples
    --------
    >>> bits = keep_bits(seed=0, layer=1, iterations=range(50), sample=0, width=300, rate=0.4)
    >>> bits.shape, round(float(bits.mean()), 1)
    ((50, 300), 0.6)
    """
    seed = checked_seed(seed)
    groups = -(-width // GROUP)
    blocks = np.arange(groups * 16, dtype=np.uint32).reshape(groups, 16)
    low = 2**32 - 1
    iteration = np.asarray(iterations).astype(np.uint32)[:, None, None]
    counter = [blocks, iteration, np.uint32(sample & low), np.uint32(sample >> 32)]
    planes = []
    for plane in (0, 1):
        key = [np.uint32(seed & low), np.uint32(seed >> 32), np.uint32(layer), np.uint32(plane)]
        words = np.stack(np.broadcast_arrays(*threefry(counter, key)), axis=2)  # (T, groups, 4, 16)
        draws = np.ascontiguousarray(words.astype("<u4")).view(np.uint8)
        planes.append(draws.reshape(len(iteration), groups * GROUP)[:, :width].astype(np.uint32))
    return planes[0] * 256 + planes[1] < keep_threshold(rate)
