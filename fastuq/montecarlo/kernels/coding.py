"""Codes that the int8 head hands from block to block: by steps of a sigmoid, by rounding, or found in a table."""

from llvmlite import ir

from fastuq.montecarlo.kernels.dots import slot_of_chunk
from fastuq.montecarlo.kernels.elementwise import round_ir, sigmoid_ir
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    F32,
    FLOATS,
    I8,
    I32,
    I64,
    LANES,
    PART,
    all_lanes,
    counting,
    lanes_of,
    load,
    plus,
    splat,
    store,
)
from fastuq.montecarlo.kernels.plan import BY_ROUNDING, BY_TABLE
from fastuq.montecarlo.kernels.targets import current_target

_CODES = ir.VectorType(I8, PART)


def _within(builder, x, low, high):
    x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
    return builder.select(builder.fcmp_ordered("<", x, high), x, high)


def _sigmoid_code(builder, z, steps):
    """Return how many of the steps are at most z: the 8-bit code of sigmoid(z), exactly as NumPy finds it."""
    code = round_ir(builder, builder.fmul(sigmoid_ir(builder, z), F32(255.0)))  # off by one at most
    at = plus(builder, steps, builder.sext(code, I64), 4)
    above, below = (
        builder.fcmp_ordered(">=", z, load(builder, at, F32, 4)),
        builder.fcmp_ordered("<", z, load(builder, at, F32)),
    )
    return builder.add(code, builder.sub(builder.zext(above, I32), builder.zext(below, I32)))


def _found(builder, z, table, scale, shift):
    """Return the codes (16 bytes) of y = table[clip(rint(z), 0, top)] * scale + shift: clip(rint(y + zero), 0, 255).

    `table` is its address, its last place `top` and the zero point.
    """
    address, top, zero = table
    places = round_ir(builder, _within(builder, z, all_lanes(0.0), splat(builder, top)))
    values = ir.Constant(FLOATS, ir.Undefined)
    for lane in range(PART):  # not every processor gathers, and some that do take longer than this
        place = builder.zext(builder.extract_element(places, I32(lane)), I64)
        values = builder.insert_element(values, load(builder, plus(builder, address, place, 4), F32), I32(lane))
    y = builder.fadd(builder.fmul(values, scale), shift)
    zero = splat(builder, zero)
    low = builder.sitofp(builder.neg(zero), FLOATS)
    code = round_ir(builder, _within(builder, y, low, builder.fadd(low, all_lanes(255.0))))
    return builder.trunc(builder.add(code, zero), _CODES)


def _coding(builder, plan, block):
    """Return how a block's codes are made, and (address of its table, top, zero point of its codes)."""
    kind = load(builder, plus(builder, plan.codings, block, 8), I64)
    table = plus(builder, plan.tables, load(builder, plus(builder, plan.table_at, block, 8), I64), 4)
    zero = builder.trunc(load(builder, plus(builder, plan.zero_points, block, 8), I64, 8), I32)
    return kind, (table, load(builder, plus(builder, plan.tops, block, 4), F32), zero)


@outlined
def _encode_rounded(builder, z, top, zero, vectors, codes):
    top, low = splat(builder, top), builder.sitofp(builder.neg(splat(builder, zero)), FLOATS)
    with counting(builder, vectors) as i:
        x = _within(builder, load(builder, plus(builder, z, i, 64), FLOATS), low, top)
        numbers = builder.add(round_ir(builder, x), splat(builder, zero))
        store(builder, builder.trunc(numbers, _CODES), plus(builder, codes, i, 16))


@in_ir()
def encode(builder, z, plan, block, count, codes):
    """Turn `count` of z, outputs of a block that is not the last, into `codes` (uint8); both go on to whole vectors.

    That is clip(rint(z), -zero, top) + zero, the code of a sigmoid, or what the block's table has.
    """
    kind, table = _coding(builder, plan, block)
    vectors = builder.sdiv(builder.add(count, I64(PART - 1)), I64(PART))
    with builder.if_else(builder.icmp_signed("==", kind, I64(BY_ROUNDING))) as (by_rounding, otherwise):
        with by_rounding:
            _encode_rounded(builder, z, *table[1:], vectors, codes)
        with otherwise, builder.if_else(builder.icmp_signed("==", kind, I64(BY_TABLE))) as (by_table, by_steps):
            with by_table:
                output = load(builder, plus(builder, plan.output_at, block, 8), I64)
                scale, shift = (plus(builder, part, output, 4) for part in (plan.unit_scale, plan.unit_shift))
                with counting(builder, vectors) as i:
                    x, m, b = (load(builder, plus(builder, part, i, 64), FLOATS) for part in (z, scale, shift))
                    store(builder, _found(builder, x, table, m, b), plus(builder, codes, i, PART))
            with by_steps, counting(builder, count) as i:
                code = _sigmoid_code(builder, load(builder, plus(builder, z, i, 4), F32), plan.steps)
                store(builder, builder.trunc(code, I8), builder.add(codes, i))


@outlined
def _find_rows(builder, z, table, scale, shift, rows, codes):
    """Turn rows of z [rows][64] into codes by a table, from the order of the lanes to that of the slots."""
    with counting(builder, rows) as row, counting(builder, I64(LANES // PART)) as part:
        m, b = (splat(builder, load(builder, plus(builder, array, row, 4), F32)) for array in (scale, shift))
        at = builder.add(builder.mul(row, I64(LANES)), builder.mul(part, I64(PART)))
        found = _found(builder, load(builder, plus(builder, z, at, 4), FLOATS), table, m, b)
        for chunk in range(PART // 4):
            place = builder.add(builder.mul(part, I64(PART // 4)), I64(chunk))
            slot = builder.add(builder.mul(row, I64(LANES)), slot_of_chunk(builder, current_target().dot, place))
            four = builder.bitcast(lanes_of(builder, found, 4 * chunk, 4), I32)
            store(builder, four, builder.add(codes, slot))


@in_ir()
def encode_rows(builder, z, plan, block, packed, at, rows, lanes, codes):
    """Turn rows of z [rows][64] into codes that are not rounded, from the order of the lanes to that of the slots.

    What the outputs have besides lies in `packed` from `at` on.
    """
    kind, table = _coding(builder, plan, block)
    with builder.if_else(builder.icmp_signed("==", kind, I64(BY_TABLE))) as (by_table, by_steps):
        with by_table:
            scale, shift = (plus(builder, part, at, 4) for part in (packed.unit_scale, packed.unit_shift))
            _find_rows(builder, z, table, scale, shift, rows, codes)
        with by_steps, counting(builder, rows) as row, counting(builder, I64(LANES)) as slot:
            lane = load(builder, plus(builder, lanes.lane_of_slot, slot, 8), I64)
            value = load(builder, plus(builder, z, builder.add(builder.mul(row, I64(LANES)), lane), 4), F32)
            code = builder.trunc(_sigmoid_code(builder, value, plan.steps), I8)
            store(builder, code, builder.add(codes, builder.add(builder.mul(row, I64(LANES)), slot)))
