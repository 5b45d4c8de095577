"""Samples across the lanes: features turned feature-major, 64 samples to a row, and made inputs of the head."""

from llvmlite import ir

from fastuq.montecarlo.kernels.dots import interleave
from fastuq.montecarlo.kernels.elementwise import clip, round_ir
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    BYTES,
    F32,
    FLOATS,
    I8,
    I32,
    I64,
    LANES,
    PART,
    WORDS,
    all_lanes,
    counting,
    lanes_of,
    load,
    plus,
    splat,
    store,
)


@in_ir()
def turn_features(builder, features, first, samples, width, in_order, lanes, rows):
    """Write features (N, D) int8 of `samples` samples from `first` on as rows[D][64] (int8).

    Each goes to the slot of its lane, or with `in_order` to the slot of its number; behind the last one it is repeated.
    Fours of slots are interleaved by vector shuffles, so that what is left to move are words.
    """
    last = builder.sub(samples, I64(1))
    with counting(builder, I64(LANES)) as slot:
        lane = load(builder, plus(builder, lanes.lane_of_slot, slot, 8), I64)
        lane = builder.select(in_order, slot, lane)
        lane = builder.select(builder.icmp_signed("<", lane, last), lane, last)
        store(builder, builder.trunc(lane, I32), plus(builder, lanes.samples, slot, 4))
    features = builder.add(features, builder.mul(first, width))
    with counting(builder, width, LANES) as start:
        left = builder.sub(width, start)
        whole = builder.icmp_signed(">=", left, I64(LANES))
        size = builder.select(whole, I64(LANES), left)
        source = builder.add(features, start)
        with builder.if_then(builder.not_(whole)), counting(builder, I64(LANES)) as slot:
            sample = builder.zext(load(builder, plus(builder, lanes.samples, slot, 4), I32), I64)
            with counting(builder, size) as d:
                value = load(builder, builder.add(source, builder.add(builder.mul(sample, width), d)), I8)
                store(builder, value, builder.add(plus(builder, lanes.square, slot, LANES), d))
        source = builder.select(whole, source, lanes.square)
        stride = builder.select(whole, width, I64(LANES))
        _turn_square(
            builder, source, stride, whole, lanes.samples, lanes.words, size, plus(builder, rows, start, LANES)
        )


@outlined
def _turn_square(builder, source, stride, whole, samples, numbers, size, rows):
    with counting(builder, I64(LANES // 4)) as four:
        vectors = []
        for i in range(4):
            slot = builder.add(builder.mul(four, I64(4)), I64(i))
            sample = builder.zext(load(builder, plus(builder, samples, slot, 4), I32), I64)
            row = builder.select(whole, sample, slot)
            vectors.append(load(builder, builder.add(source, builder.mul(row, stride)), BYTES))
        for part, vector in enumerate(interleave(builder, *vectors)):
            store(builder, vector, plus(builder, numbers, four, 256), 64 * part)
    with counting(builder, size) as d:
        quarter = builder.and_(builder.lshr(d, I64(2)), I64(3))
        place = builder.add(builder.mul(quarter, I64(16)), builder.mul(builder.lshr(d, I64(4)), I64(4)))
        word_at = plus(builder, numbers, builder.add(place, builder.and_(d, I64(3))), 4)  # `dots.lane_of` of fours
        row = plus(builder, rows, d, LANES)
        with counting(builder, I64(LANES // 4)) as four:
            store(builder, load(builder, plus(builder, word_at, four, 256), I32), plus(builder, row, four, 4))


def _inputs_of(builder, row, scale, shift, part):
    """Return 16 of a row's 64 features as inputs: q * scale + shift."""
    q = builder.sext(lanes_of(builder, row, PART * part, PART), WORDS)
    return builder.fadd(builder.fmul(builder.sitofp(q, FLOATS), scale), shift)


@in_ir()
def code_rows(builder, rows, scale, shift, count, out):
    """Turn int8 rows[count][64] into input codes plus 128, as uint8 [count][64]; `out` may be `rows`."""
    with counting(builder, count) as i:
        m, b = (splat(builder, load(builder, plus(builder, array, i, 4), F32)) for array in (scale, shift))
        row = load(builder, plus(builder, rows, i, LANES), BYTES)
        for part in range(LANES // PART):
            whole = round_ir(builder, clip(builder, _inputs_of(builder, row, m, b, part), -127.0, 127.0))
            codes = builder.trunc(builder.add(whole, all_lanes(128, WORDS)), ir.VectorType(I8, PART))
            store(builder, codes, plus(builder, out, i, LANES), PART * part)


@in_ir()
def real_rows(builder, rows, scale, shift, count, out):
    """Turn int8 rows[count][64] into the float32 inputs [part][count][16]."""
    with counting(builder, count) as i:
        m, b = (splat(builder, load(builder, plus(builder, array, i, 4), F32)) for array in (scale, shift))
        row = load(builder, plus(builder, rows, i, LANES), BYTES)
        for part in range(LANES // PART):
            at = plus(builder, out, builder.add(builder.mul(count, I64(part)), i), 4 * PART)
            store(builder, _inputs_of(builder, row, m, b, part), at)
