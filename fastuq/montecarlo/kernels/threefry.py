"""Keep bits by a vectorised Threefry-4x32-13: the same bits as `fastuq.montecarlo.masks`, 256 units at a time."""

from llvmlite import ir
from numba.core import cgutils, types

from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    BYTES,
    I1,
    I8,
    I16,
    I32,
    I64,
    WORDS,
    call,
    compress,
    counting,
    load,
    plus,
    splat,
    store,
)
from fastuq.montecarlo.kernels.targets import current_target

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


@outlined
def _keep_group(builder, seed, layer, group, iteration, sample, threshold, out):
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
def keep_words(builder, seed, layer, iteration, sample, threshold, width, words):
    """Write the keep bits of one mask into `words` (uint64, 4 ceil(width / 256)); unit u is bit u % 64 of u // 64."""
    groups = builder.sdiv(builder.add(width, I64(255)), I64(256))
    with counting(builder, groups) as group:
        _keep_group(builder, seed, layer, group, iteration, sample, threshold, plus(builder, words, group, 32))


def word_of(builder, words, number, width, invert):
    """Return word `number` of keep bits, inverted with `invert` (i1), without the bits past `width`."""
    word = load(builder, plus(builder, words, number, 8), I64)
    word = builder.xor(word, builder.sext(invert, I64))
    left = builder.sub(width, builder.mul(number, I64(64)))
    short = builder.sub(builder.shl(I64(1), builder.and_(left, I64(63))), I64(1))
    mask = builder.select(builder.icmp_signed("<", left, I64(64)), short, I64(-1))
    return builder.and_(word, mask)


def list_word(builder, word, first, listed, count, step=1):
    """List the set bits of a word: their positions plus `first`, by `step` (constant), as int32 to listed[count:].

    Of every `step` bits the first alone may be set. Returns the new count; whole vectors may be written.
    """
    if not current_target().compress:
        return _list_bits(builder, word, first, listed, count, step)
    every = [bit for bit in range(64) if bit % step == 0]
    if step > 1:
        marks = sum(1 << bit for bit in every)
        word = call(builder, "llvm.x86.bmi.pext.64", I64, word, I64(marks))
    base = splat(builder, builder.trunc(builder.udiv(first, I64(step)), I32))
    for part in range(0, len(every), 16):
        mask = builder.trunc(builder.lshr(word, I64(part)), I16)
        numbers = builder.add(ir.Constant(WORDS, list(range(part, part + 16))), base)
        store(builder, compress(builder, numbers, mask), plus(builder, listed, count, 4))
        count = builder.add(count, builder.zext(builder.ctpop(mask), I64))
    return count


def _list_bits(builder, word, first, listed, count, step):
    """Do the same bit by bit."""
    rest, so_far = cgutils.alloca_once(builder, I64), cgutils.alloca_once(builder, I64)
    builder.store(word, rest)
    builder.store(count, so_far)
    head, body, after = (builder.append_basic_block(name) for name in ("bits", "bit", "listed"))
    builder.branch(head)
    builder.position_at_end(head)
    left = builder.load(rest)
    builder.cbranch(builder.icmp_unsigned("!=", left, I64(0)), body, after)
    builder.position_at_end(body)
    place = builder.udiv(builder.add(first, builder.cttz(left, I1(1))), I64(step))
    at = builder.load(so_far)
    store(builder, builder.trunc(place, I32), plus(builder, listed, at, 4))
    builder.store(builder.add(at, I64(1)), so_far)
    builder.store(builder.and_(left, builder.sub(left, I64(1))), rest)
    builder.branch(head)
    builder.position_at_end(after)
    return builder.load(so_far)


@in_ir(types.int64)
def list_units(builder, words, width, invert, units, units_at):
    """List the units whose bit is set (or clear, with `invert`) to units[units_at:] (int32); return how many.

    The list must hold 16 more than is listed: whole vectors are written.
    """
    units, count = plus(builder, units, units_at, 4), cgutils.alloca_once(builder, I64)
    builder.store(I64(0), count)
    with counting(builder, builder.sdiv(builder.add(width, I64(63)), I64(64))) as number:
        word = word_of(builder, words, number, width, invert)
        builder.store(list_word(builder, word, builder.mul(number, I64(64)), units, builder.load(count)), count)
    return builder.load(count)
