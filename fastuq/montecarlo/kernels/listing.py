"""What a mask takes of the inputs of one sample, listed as `rows` adds it up."""

from llvmlite import ir
from numba.core import cgutils, types

from fastuq.montecarlo.kernels.dots import dot_of
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    BYTES,
    I1,
    I8,
    I16,
    I32,
    I64,
    PART,
    WORDS,
    all_lanes,
    call,
    compress,
    counting,
    lanes_of,
    load,
    plus,
    splat,
    store,
)
from fastuq.montecarlo.kernels.scratch import chunk_of, excess_of
from fastuq.montecarlo.kernels.targets import current_target
from fastuq.montecarlo.kernels.threefry import list_word, word_of


def _sum_of_bytes(builder, total, values):
    """Add 64 signed bytes to 16 running sums, by fours."""
    wide = builder.sext(values, ir.VectorType(I32, 64))
    if current_target().lanes == PART:
        ones = builder.bitcast(all_lanes(1, BYTES), WORDS)
        return dot_of(current_target().dot)(builder, total, ones, builder.bitcast(values, WORDS))
    for first in range(0, 64, PART):
        total = builder.add(total, lanes_of(builder, wide, first, PART))
    return total


def _list_values(builder, codes, word, first, values, listed, count):
    """List the set bits of a word and the codes at them, behind the `count` that are there; return the new count."""
    few = ir.VectorType(I8, PART)
    if not current_target().compress:
        after = list_word(builder, word, first, listed, count)
        with counting(builder, builder.sub(after, count)) as i:
            at = builder.add(count, i)
            unit = builder.zext(load(builder, plus(builder, listed, at, 4), I32), I64)
            store(builder, load(builder, builder.add(codes, unit), I8), builder.add(values, at))
        return after
    base = splat(builder, builder.trunc(first, I32))
    for part in range(0, 64, PART):
        mask = builder.trunc(builder.lshr(word, I64(part)), I16)
        numbers = builder.add(ir.Constant(WORDS, list(range(part, part + PART))), base)
        store(builder, compress(builder, numbers, mask), plus(builder, listed, count, 4))
        picked = builder.zext(load(builder, builder.add(codes, first), few, part), WORDS)
        store(builder, builder.trunc(compress(builder, picked, mask), few), builder.add(values, count))
        count = builder.add(count, builder.zext(builder.ctpop(mask), I64))
    return count


@outlined
def _list_fours(builder, codes, keep, width, invert, values, listed, bounds, excess):
    """Write one mask's units and codes, zeros up to fours; see `list_mask`. Addresses all but `width` and `invert`."""
    count, total = cgutils.alloca_once(builder, I64), cgutils.alloca_once(builder, WORDS)
    builder.store(I64(0), count)
    with counting(builder, builder.sdiv(builder.add(width, I64(63)), I64(64))) as number:
        first, word = builder.mul(number, I64(64)), word_of(builder, keep, number, width, invert)
        builder.store(_list_values(builder, codes, word, first, values, listed, builder.load(count)), count)
    found = builder.load(count)
    for i in range(3):
        store(builder, I32(0), plus(builder, listed, found, 4), 4 * i)
    store(builder, all_lanes(0, BYTES), builder.add(values, found))
    store(builder, builder.trunc(found, I32), bounds)
    builder.store(all_lanes(0, WORDS), total)
    with counting(builder, found, 64) as i:
        builder.store(_sum_of_bytes(builder, builder.load(total), load(builder, builder.add(values, i), BYTES)), total)
    whole = call(builder, "llvm.vector.reduce.add.v16i32", I32, builder.load(total))
    store(builder, builder.mul(whole, I32(excess_of(current_target().dot))), excess)


@outlined
def _list_pairs(builder, codes, keep, width, invert, values, listed, bounds, excess):
    """Write one mask's values, list and bounds; see `list_mask`. All are addresses but `width` and `invert`."""
    count, bound = cgutils.alloca_once(builder, I64), cgutils.alloca_once(builder, I64)
    builder.store(I64(0), count)
    builder.store(bounds, bound)
    chunk = chunk_of(current_target(), True)
    with counting(builder, builder.sdiv(builder.add(width, I64(63)), I64(64))) as number:
        first = builder.mul(number, I64(64))
        with builder.if_then(builder.icmp_signed("==", builder.and_(first, I64(chunk - 1)), I64(0))):
            store(builder, builder.trunc(builder.load(count), I32), builder.load(bound))
            builder.store(builder.add(builder.load(bound), I64(4)), bound)
        word = word_of(builder, keep, number, width, invert)
        bits = builder.bitcast(word, ir.VectorType(I1, 64))
        chosen = builder.select(bits, load(builder, builder.add(codes, first), BYTES), all_lanes(0, BYTES))
        store(builder, builder.sext(chosen, ir.VectorType(I16, 64)), plus(builder, values, first, 2))
        pairs = builder.and_(builder.or_(word, builder.lshr(word, I64(1))), I64(0x5555555555555555))
        builder.store(list_word(builder, pairs, first, listed, builder.load(count), 2), count)
    store(builder, builder.trunc(builder.load(count), I32), builder.load(bound))
    store(builder, I32(0), excess)


@in_ir()
def list_mask(
    builder, codes, words, width, invert, values, values_at, listed, listed_at, bounds, bounds_at, excess, at
):
    """Write what one mask takes of the inputs of a sample, codes (int8, zeros behind them), as `add_listed` reads it.

    Those are the inputs whose bit in `words` is set (or clear, with `invert`). excess[at] gets by how much the sums
    will be too much, since weights went in with 128 added.
    """
    write = _list_fours if current_target().dot.group == 4 else _list_pairs
    write(
        builder, codes, words, width, invert, plus(builder, values, values_at, 4), plus(builder, listed, listed_at, 4),
        plus(builder, bounds, bounds_at, 4), plus(builder, excess, at, 4),
    )  # fmt: skip


@in_ir(types.int64)
def list_chunks(builder, words, width, invert, listed, listed_at, bounds, bounds_at, chunk):
    """List single units as `threefry.list_units` does, with the bounds of chunks of so many inputs; return how many."""
    listed, count = plus(builder, listed, listed_at, 4), cgutils.alloca_once(builder, I64)
    bound = cgutils.alloca_once(builder, I64)
    builder.store(plus(builder, bounds, bounds_at, 4), bound)
    builder.store(I64(0), count)
    with counting(builder, builder.sdiv(builder.add(width, I64(63)), I64(64))) as number:
        first = builder.mul(number, I64(64))
        with builder.if_then(builder.icmp_signed("==", builder.srem(first, chunk), I64(0))):
            store(builder, builder.trunc(builder.load(count), I32), builder.load(bound))
            builder.store(builder.add(builder.load(bound), I64(4)), bound)
        word = word_of(builder, words, number, width, invert)
        builder.store(list_word(builder, word, first, listed, builder.load(count)), count)
    store(builder, builder.trunc(builder.load(count), I32), builder.load(bound))
    return builder.load(count)
