"""Sums of weight rows for one sample, where outputs lie across the vector lanes.

The first block adds up, for each mask, the weights of the inputs that it takes. Where the dot product takes fours of
inputs, their rows are interleaved; where it takes pairs, the pairs are those of neighbours, and those that have none to
take are left out. What was tried the other way round is in `docs/performance.md`.
"""

from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels.dots import dot_of, interleave
from fastuq.montecarlo.kernels.elementwise import clip, round_ir
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    BYTES,
    F32,
    FLOATS,
    I1,
    I8,
    I16,
    I32,
    I64,
    LANES,
    PART,
    WORDS,
    all_lanes,
    counting,
    floats,
    fma,
    load,
    plus,
    splat,
    store,
    words,
)
from fastuq.montecarlo.kernels.targets import current_target

_ACCUMULATORS = 8
"""Registers of running sums: enough to hide the latency, few enough for 16 registers."""


def _spans(builder, outputs, run):
    """Write ``run(registers, first output)`` over outputs (64 at a time) in spans that fill the accumulators."""
    lanes = current_target().lanes
    span = _ACCUMULATORS * lanes
    whole = outputs if span <= LANES else builder.mul(builder.sdiv(outputs, I64(span)), I64(span))
    with counting(builder, whole, span) as first:
        run(_ACCUMULATORS, first)
    if span > LANES:
        with counting(builder, builder.sub(outputs, whole), LANES) as rest:
            run(LANES // lanes, builder.add(whole, rest))


def _place(builder, first, rows, vector):
    """Return the byte of a register's weights from output `first` on: [64 outputs][rows][64] of 32 bits each."""
    lanes = current_target().lanes
    block, within = builder.udiv(first, I64(LANES)), builder.urem(first, I64(LANES))
    at, inside = divmod(vector * lanes, LANES)
    block = builder.mul(builder.mul(builder.add(block, I64(at)), rows), I64(4 * LANES))
    return builder.add(block, plus(builder, builder.mul(within, I64(4)), 4 * inside))


@outlined
def _add_pairs(builder, registers, weights, values, listed, count, sums):
    """Add to int32 sums the dot products of listed groups of inputs and their weights; all are addresses."""
    target = current_target()
    kind, dot = words(target.lanes), dot_of(target.dot)
    slots = [cgutils.alloca_once(builder, kind) for _ in range(registers)]
    for number, slot in enumerate(slots):
        builder.store(load(builder, sums, kind, 4 * target.lanes * number), slot)
    with counting(builder, count) as i:
        number = builder.zext(load(builder, plus(builder, listed, i, 4), I32), I64)
        value = splat(builder, load(builder, plus(builder, values, number, 4), I32), target.lanes)
        for slot, row in zip(slots, weights, strict=True):
            weight = load(builder, plus(builder, row, number, 4 * LANES), kind)
            builder.store(dot(builder, builder.load(slot), weight, value), slot)
    for number, slot in enumerate(slots):
        store(builder, builder.load(slot), sums, 4 * target.lanes * number)


@outlined
def _add_fours(builder, rows, values, listed, count, sums):
    """Add to 64 int32 sums the listed rows of 64 bytes times their values; rows are interleaved four at a time."""
    lanes = current_target().lanes
    pieces, at_once = PART // lanes, max(1, _ACCUMULATORS // 4)
    for first in range(0, pieces, at_once):
        _add_pieces(builder, range(first, min(first + at_once, pieces)), rows, values, listed, count, sums)


def _add_pieces(builder, pieces, rows, values, listed, count, sums):
    """Do so for some pieces of the rows, each as long as a register; piece p fills lanes 16 four + p * lanes."""
    target = current_target()
    kind, dot, size = words(target.lanes), dot_of(target.dot), 4 * target.lanes
    places = {(four, piece): 4 * PART * four + size * piece for four in range(4) for piece in pieces}
    slots = {place: cgutils.alloca_once(builder, kind) for place in places}
    for place, slot in slots.items():
        builder.store(load(builder, sums, kind, places[place]), slot)
    with counting(builder, count, 4) as i:
        at = plus(builder, listed, i, 4)
        numbers = [builder.zext(load(builder, at, I32, 4 * k), I64) for k in range(4)]
        starts = [plus(builder, rows, number, LANES) for number in numbers]
        value = splat(builder, load(builder, builder.add(values, i), I32), target.lanes)
        for piece in pieces:
            vectors = [load(builder, start, ir.VectorType(I8, size), size * piece) for start in starts]
            for four, vector in enumerate(interleave(builder, *vectors)):
                slot = slots[four, piece]
                builder.store(dot(builder, builder.load(slot), builder.bitcast(vector, kind), value), slot)
    for place, slot in slots.items():
        store(builder, builder.load(slot), sums, places[place])


@in_ir()
def add_listed(builder, weights, inputs, outputs, values, lists, bounds, room, chunks, together, sums, width):
    """Add to sums[together][width] what the masks of `together` iterations take of the inputs, for `outputs` outputs.

    Where the dot product takes fours: weights[64 outputs][inputs][64] bytes, of which the columns lie in the order of
    the slots; lists[together][room] are units (int32), values[together][4 room] their codes, bounds[together][chunks +
    1] begin with how many. Where it takes pairs: weights[64 outputs][pairs][64] int32, values[together][pairs] int32;
    lists are the pairs that are not all zero, and chunk c of one is what lies from bound c to bound c + 1.
    """
    dot = current_target().dot
    if dot.group == 4:
        with counting(builder, outputs, LANES) as first, counting(builder, together) as t:
            count = load(builder, plus(builder, bounds, builder.mul(t, builder.add(chunks, I64(1))), 4), I32)
            listed = builder.mul(t, room)
            rows = builder.add(weights, builder.mul(first, inputs))
            place = plus(builder, sums, builder.add(builder.mul(t, width), first), 4)
            here = plus(builder, values, listed, 4), plus(builder, lists, listed, 4)
            _add_fours(builder, rows, *here, builder.zext(count, I64), place)
        return
    pairs = builder.sdiv(builder.add(inputs, I64(1)), I64(2))

    def run(registers, first):
        rows = tuple(builder.add(weights, _place(builder, first, pairs, number)) for number in range(registers))
        with counting(builder, chunks) as chunk, counting(builder, together) as t:
            limits = plus(builder, bounds, builder.add(builder.mul(t, builder.add(chunks, I64(1))), chunk), 4)
            begin, end = (builder.zext(load(builder, limits, I32, at), I64) for at in (0, 4))
            listed = plus(builder, lists, builder.add(builder.mul(t, room), begin), 4)
            taken = plus(builder, values, builder.mul(t, room), 4)
            place = plus(builder, sums, builder.add(builder.mul(t, width), first), 4)
            _add_pairs(builder, registers, rows, taken, listed, builder.sub(end, begin), place)

    _spans(builder, outputs, run)


@outlined
def _add_rows(builder, registers, weights, values, listed, count, sums):
    """Add to float32 sums the products of listed inputs and their weights, in the order of the list."""
    lanes = current_target().lanes
    kind = floats(lanes)
    slots = [cgutils.alloca_once(builder, kind) for _ in range(registers)]
    for number, slot in enumerate(slots):
        builder.store(load(builder, sums, kind, 4 * lanes * number), slot)
    with counting(builder, count) as i:
        number = builder.zext(load(builder, plus(builder, listed, i, 4), I32), I64)
        value = splat(builder, load(builder, plus(builder, values, number, 4), F32), lanes)
        for slot, row in zip(slots, weights, strict=True):
            weight = load(builder, plus(builder, row, number, 4 * LANES), kind)
            builder.store(fma(builder, weight, value, builder.load(slot)), slot)
    for number, slot in enumerate(slots):
        store(builder, builder.load(slot), sums, 4 * lanes * number)


@in_ir()
def add_rows(builder, weights, weights_at, inputs, outputs, values, lists, bounds, room, chunks, together, sums, width):
    """Do as `add_listed` in float32, on single inputs: the same values[inputs] for all lists, weights from byte on."""
    weights = builder.add(weights, weights_at)

    def run(registers, first):
        rows = tuple(builder.add(weights, _place(builder, first, inputs, number)) for number in range(registers))
        with counting(builder, chunks) as chunk, counting(builder, together) as t:
            limits = plus(builder, bounds, builder.add(builder.mul(t, builder.add(chunks, I64(1))), chunk), 4)
            begin, end = (builder.zext(load(builder, limits, I32, at), I64) for at in (0, 4))
            listed = plus(builder, lists, builder.add(builder.mul(t, room), begin), 4)
            place = plus(builder, sums, builder.add(builder.mul(t, width), first), 4)
            _add_rows(builder, registers, rows, values, listed, builder.sub(end, begin), place)

    _spans(builder, outputs, run)


@in_ir()
def input_codes(builder, features, n, width, scale, shift, codes):
    """Turn the features of sample n into input codes (int8): clip(rint(q * scale + shift), -127, 127)."""
    row = builder.add(features, builder.mul(n, width))
    with counting(builder, width) as d:
        y = _input(builder, row, scale, shift, d)
        code = round_ir(builder, clip(builder, y, -127.0, 127.0))
        store(builder, builder.trunc(code, I8), builder.add(codes, d))


@in_ir()
def input_reals(builder, features, n, width, scale, shift, sign, out):
    """Turn the features of sample n into float32 inputs, times `sign`."""
    row = builder.add(features, builder.mul(n, width))
    with counting(builder, width) as d:
        y = _input(builder, row, scale, shift, d)
        store(builder, builder.fmul(y, sign), plus(builder, out, d, 4))


def _input(builder, row, scale, shift, d):
    q = builder.sitofp(load(builder, builder.add(row, d), I8), F32)
    m, b = (load(builder, plus(builder, array, d, 4), F32) for array in (scale, shift))
    return builder.fadd(builder.fmul(q, m), b)


@in_ir()
def real_of_sums(builder, sums, sums_at, excess, excess_at, offsets, offsets_at, scale, bias, at, vectors, z, z_at):
    """Store z[z_at:] = float(sums[sums_at:] - excess[excess_at] - offsets[offsets_at:]) * scale[at:] + bias[at:].

    16 `vectors` numbers, int32 and float32.
    """
    over = splat(builder, load(builder, plus(builder, excess, excess_at, 4), I32))
    sums, offsets = plus(builder, sums, sums_at, 4), plus(builder, offsets, offsets_at, 4)
    z, scale, bias = plus(builder, z, z_at, 4), plus(builder, scale, at, 4), plus(builder, bias, at, 4)
    with counting(builder, vectors) as i:
        total, offset, m, b, out = (plus(builder, array, i, 64) for array in (sums, offsets, scale, bias, z))
        total = builder.sub(builder.sub(load(builder, total, WORDS), over), load(builder, offset, WORDS))
        product = builder.fmul(builder.sitofp(total, FLOATS), load(builder, m, FLOATS))
        store(builder, builder.fadd(product, load(builder, b, FLOATS)), out)


@in_ir()
def group_codes(builder, codes, words, masked, outputs, zero, inputs):
    """Turn codes (uint8) into a dense block's inputs (int32 groups); if `masked`, `zero` where a bit is clear."""
    dot, other = current_target().dot, splat(builder, builder.trunc(zero, I8), 64)
    with counting(builder, builder.sdiv(builder.add(outputs, I64(63)), I64(64))) as number:
        first = builder.mul(number, I64(64))
        word = load(builder, plus(builder, words, number, 8), I64)
        keep = builder.bitcast(builder.select(masked, word, I64(-1)), ir.VectorType(I1, 64))
        kept = builder.select(keep, load(builder, builder.add(codes, first), BYTES), other)
        if dot.group == 4:
            kept = builder.xor(kept, all_lanes(128, BYTES)) if dot.signed else kept
            store(builder, kept, builder.add(inputs, first))
        else:
            store(builder, builder.zext(kept, ir.VectorType(I16, 64)), plus(builder, inputs, first, 2))


@in_ir()
def dense_sums(builder, inputs, weights, weights_at, groups, outputs, sums):
    """Run a dense block of `outputs` (64 at a time): sums = inputs[groups] x weights[64 outputs][groups][64]."""
    weights = builder.add(weights, weights_at)

    def run(registers, first):
        rows = tuple(builder.add(weights, _place(builder, first, groups, number)) for number in range(registers))
        _dense(builder, registers, rows, inputs, groups, plus(builder, sums, first, 4))

    _spans(builder, outputs, run)


@outlined
def _dense(builder, registers, weights, inputs, groups, sums):
    target = current_target()
    kind, dot = words(target.lanes), dot_of(target.dot)
    slots = [cgutils.alloca_once(builder, kind) for _ in range(registers)]
    for slot in slots:
        builder.store(all_lanes(0, kind), slot)
    with counting(builder, groups) as group:
        code = splat(builder, load(builder, plus(builder, inputs, group, 4), I32), target.lanes)
        for slot, row in zip(slots, weights, strict=True):
            weight = load(builder, plus(builder, row, group, 4 * LANES), kind)
            builder.store(dot(builder, builder.load(slot), code, weight), slot)
    for number, slot in enumerate(slots):
        store(builder, builder.load(slot), sums, 4 * target.lanes * number)


@in_ir()
def copy_words(builder, source, source_at, out, out_at, count, sign):
    """Copy `count` (filled up to 16) int32 numbers times `sign` to out[out_at:]; times 0 they are zeros."""
    source, out = plus(builder, source, source_at, 4), plus(builder, out, out_at, 4)
    factor = splat(builder, builder.trunc(sign, I32))
    with counting(builder, builder.sdiv(builder.add(count, I64(15)), I64(16))) as i:
        value = builder.mul(load(builder, plus(builder, source, i, 64), WORDS), factor)
        store(builder, value, plus(builder, out, i, 64))


@in_ir()
def copy_scaled(builder, source, source_at, factor, bias, bias_at, out, out_at, count):
    """Write source * factor + bias, `count` (filled up to 16) float32 numbers, to out[out_at:]."""
    source, bias, out = (
        plus(builder, source, source_at, 4),
        plus(builder, bias, bias_at, 4),
        plus(builder, out, out_at, 4),
    )
    with counting(builder, builder.sdiv(builder.add(count, I64(15)), I64(16))) as i:
        value = builder.fmul(load(builder, plus(builder, source, i, 64), FLOATS), splat(builder, factor))
        store(
            builder, builder.fadd(value, load(builder, plus(builder, bias, i, 64), FLOATS)), plus(builder, out, i, 64)
        )
