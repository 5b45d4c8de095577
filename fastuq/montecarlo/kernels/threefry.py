"""Keep bits by a vectorised Threefry-4x32-13: the same bits as `fastuq.montecarlo.masks`, 256 units at a time."""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from fastuq.montecarlo.kernels.compiled import kernel
from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import BYTES, I8, I32, I64, WORDS, call, compress, load, plus, splat, store

_ROUNDS = 13
_PARITY = 0x1BD11BDA
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def _rotate(builder, x, turn):
    return call(builder, "llvm.fshl.v16i32", WORDS, x, x, ir.Constant(WORDS, [turn] * 16))


def _threefry(builder, counter, key):
    words = [*key, ir.Constant(WORDS, [_PARITY] * 16)]
    for k in key:
        words[4] = builder.xor(words[4], k)
    x = [builder.add(c, k) for c, k in zip(counter, words, strict=False)]
    for r in range(_ROUNDS):
        pairs = ((0, 1), (2, 3)) if r % 2 == 0 else ((0, 3), (2, 1))
        for (a, b), turn in zip(pairs, _ROTATIONS[r % 8], strict=True):
            x[a] = builder.add(x[a], x[b])
            x[b] = builder.xor(_rotate(builder, x[b], turn), x[a])
        if r % 4 == 3:
            s = r // 4 + 1
            x = [builder.add(word, words[(s + i) % 5]) for i, word in enumerate(x)]
            x[3] = builder.add(x[3], ir.Constant(WORDS, [s] * 16))
    return x


def _emit_keep_group(builder, seed, layer, group, iteration, sample, threshold, out):
    def low_and_high(value):
        low = builder.trunc(value, I32)
        return splat(builder, low), splat(builder, builder.trunc(builder.lshr(value, ir.Constant(I64, 32)), I32))

    first = splat(builder, builder.trunc(builder.mul(group, ir.Constant(I64, 16)), I32))
    blocks = builder.add(first, ir.Constant(WORDS, list(range(16))))
    counter = [blocks, splat(builder, builder.trunc(iteration, I32)), *low_and_high(sample)]
    key = [*low_and_high(seed), splat(builder, builder.trunc(layer, I32))]
    # Rate 0 has threshold 65536: its high byte would be 256, so the comparisons are done on 0..255 and it is masked in.
    high = splat(builder, builder.trunc(builder.lshr(threshold, ir.Constant(I64, 8)), I8), 64)
    low = splat(builder, builder.trunc(threshold, I8), 64)
    everything = builder.icmp_unsigned(">=", threshold, ir.Constant(I64, 65536))
    drawn = _threefry(builder, counter, [*key, ir.Constant(WORDS, [0] * 16)])
    kept, ties = [], []
    for word in drawn:
        draw = builder.bitcast(word, BYTES)
        below = builder.bitcast(builder.icmp_unsigned("<", draw, high), I64)
        kept.append(builder.select(everything, ir.Constant(I64, -1), below))
        ties.append(builder.bitcast(builder.icmp_unsigned("==", draw, high), I64))
    any_tie = builder.or_(builder.or_(ties[0], ties[1]), builder.or_(ties[2], ties[3]))
    undecided = builder.and_(
        builder.icmp_unsigned("!=", any_tie, ir.Constant(I64, 0)),
        builder.icmp_unsigned("!=", builder.trunc(threshold, I8), ir.Constant(I8, 0)),
    )
    slots = [cgutils.alloca_once_value(builder, word) for word in kept]
    with builder.if_then(undecided):
        redrawn = _threefry(builder, counter, [*key, ir.Constant(WORDS, [1] * 16)])
        for slot, word, tie in zip(slots, redrawn, ties, strict=True):
            below = builder.bitcast(builder.icmp_unsigned("<", builder.bitcast(word, BYTES), low), I64)
            builder.store(builder.or_(builder.load(slot), builder.and_(tie, below)), slot)
    for number, slot in enumerate(slots):
        store(builder, builder.load(slot), out, 8 * number)


@in_ir()
def _keep_group(builder, seed, layer, group, iteration, sample, threshold, words):
    """Write the keep bits of units 256 group to 256 group + 255 to words[4 group:] (uint64)."""
    _emit_keep_group(builder, seed, layer, group, iteration, sample, threshold, plus(builder, words, group, 32))


@kernel
def keep_words(seed, layer, iteration, sample, threshold, width, words):
    """Write the keep bits of one mask into `words` (uint64, 4 ceil(width / 256)); unit u is bit u % 64 of u // 64."""
    for group in range((width + 255) // 256):
        _keep_group(seed, layer, group, iteration, sample, threshold, words)


@in_ir(types.int64)
def _list_word(builder, word, first, codes, units, units_at, count, values):
    """List the set bits of a uint64: their positions plus `first` as int32 to units[units_at + count:].

    Where `values` is not None, values[count:] gets the bytes that `codes` has at those positions. Returns the new
    count; whole vectors are written.
    """
    few = ir.VectorType(I8, 16)
    units = plus(builder, units, units_at, 4)
    for part in range(4):
        mask = builder.trunc(builder.lshr(word, ir.Constant(I64, 16 * part)), ir.IntType(16))
        numbers = ir.Constant(WORDS, [16 * part + i for i in range(16)])
        numbers = builder.add(numbers, splat(builder, builder.trunc(first, I32)))
        store(builder, compress(builder, numbers, mask), plus(builder, units, count, 4))
        if values is not None:
            picked = builder.zext(load(builder, builder.add(codes, first), few, 16 * part), WORDS)
            store(builder, builder.trunc(compress(builder, picked, mask), few), builder.add(values, count))
        count = builder.add(count, builder.zext(builder.ctpop(mask), I64))
    return count


@kernel
def list_units(words, width, invert, units, units_at, codes, values):
    """List the units whose bit is set (or clear, with `invert`) to units[units_at:] (int32); return how many.

    `values` (int8), where not None, gets the codes (int8, a multiple of 64) of the same units. Both lists must hold 16
    more than is listed: whole vectors are written.
    """
    one = np.uint64(1)
    flip = ~np.uint64(0) if invert else np.uint64(0)
    count = np.int64(0)
    for number in range((width + 63) // 64):
        word = words[number] ^ flip
        left = width - 64 * number
        if left < 64:
            word &= (one << np.uint64(left)) - one
        count = _list_word(word, 64 * number, codes, units, units_at, count, values)
    return count
