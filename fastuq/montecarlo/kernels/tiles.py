"""Tiles of the shared-mask kernels: 6 outputs by as many samples as leave all sums in registers.

64 samples lie side by side in a row, four parts of 16. Inputs of a block are stored part by part, so that what a tile
reads again and again stays in the near cache. `targets` says how many registers of samples a tile spans.
"""

from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels.dots import clip_bytes, dot_of, join_quads, slot_of_chunk, store_group
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    F32,
    I8,
    I32,
    I64,
    LANES,
    PART,
    all_lanes,
    call,
    counting,
    floats,
    fma,
    lanes_of,
    load,
    offset,
    plus,
    prefetch,
    splat,
    store,
    words,
)
from fastuq.montecarlo.kernels.plan import STORE_REAL, STORE_SUMS, TILE
from fastuq.montecarlo.kernels.targets import current_target

_AHEAD = 2048
"""Bytes ahead of a tile's weights that are fetched from the far caches: they are read once per block."""
_NEAR = 98304
"""Bytes of float32 inputs that stay in a near cache while all tiles read them."""


def for_units(builder, samples, run):
    """Write ``run(registers, unit)`` over all samples: a unit is what a tile spans."""
    target = current_target()
    if target.lanes == PART:  # the fewest registers that hold all samples, once
        before = 0
        for vectors in sorted(target.vectors):
            most = vectors * PART if vectors < max(target.vectors) else LANES
            inside = builder.and_(
                builder.icmp_signed(">", samples, I64(before)), builder.icmp_signed("<=", samples, I64(most))
            )
            with builder.if_then(inside):
                run(vectors, I64(0))
            before = most
        return
    (vectors,) = target.vectors
    span = vectors * target.lanes
    units = builder.udiv(builder.add(samples, I64(span - 1)), I64(span))
    with counting(builder, units) as unit:
        run(vectors, unit)


def places_of(builder, vectors, unit, part_stride):
    """Return where the registers of a unit begin in rows whose parts are `part_stride` bytes apart."""
    lanes = current_target().lanes
    size = 4 * lanes
    if lanes == PART:
        return [builder.mul(part_stride, I64(vector)) for vector in range(vectors)]
    units = PART // (vectors * lanes)
    part, rest = builder.udiv(unit, I64(units)), builder.urem(unit, I64(units))
    first = builder.add(builder.mul(part, part_stride), builder.mul(rest, I64(vectors * size)))
    return [plus(builder, first, size * vector) for vector in range(vectors)]


def int8_sums(builder, vectors, inputs, weights, groups, starts, correction):
    """Return the sums of a tile: starting rows plus correction plus inputs x weights[groups][6] of 32-bit groups."""
    target = current_target()
    kind, dot, slots = words(target.lanes), dot_of(target.dot), []
    for row in range(TILE):
        add = splat(builder, load(builder, correction, I32, 4 * row), target.lanes)
        for vector in range(vectors):
            slot = cgutils.alloca_once(builder, kind)
            builder.store(builder.add(load(builder, starts[row][vector], kind), add), slot)
            slots.append(slot)
    with counting(builder, groups) as group:
        weights_at = plus(builder, weights, group, 4 * TILE)
        codes = [load(builder, plus(builder, at, group, 4 * PART), kind) for at in inputs]
        prefetch(builder, weights_at, _AHEAD)
        for row in range(TILE):
            weight = splat(builder, load(builder, weights_at, I32, 4 * row), target.lanes)
            for vector in range(vectors):
                slot = slots[row * vectors + vector]
                builder.store(dot(builder, builder.load(slot), codes[vector], weight), slot)
    return [builder.load(slot) for slot in slots]


def _round(builder, x):
    """Round to int32, ties to even; far below 0 it is some number far below 0."""
    if current_target().lanes == PART:
        kind, nearest, every = words(16), I32(4), ir.IntType(16)(-1)
        return call(builder, "llvm.x86.avx512.mask.cvtps2dq.512", kind, x, all_lanes(0, kind), every, nearest)
    low, kind = all_lanes(-2097152.0, x.type), words(x.type.count)
    x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
    # 1.5 * 2^23 leaves the whole number in the low bits.
    shifted = builder.bitcast(builder.fadd(x, all_lanes(12582912.0, x.type)), kind)
    return builder.sub(shifted, all_lanes(0x4B400000, kind))


def _store_codes(builder, reals, rounding, row, unit):
    """Store min(max(rint(min(x, top)) + zero, 0), 255) of the registers of a unit to a row of 64 codes."""
    target = current_target()
    numbers = []
    top, zero = splat(builder, rounding[0], target.lanes), splat(builder, rounding[1], target.lanes)
    for x in reals:
        x = builder.select(builder.fcmp_ordered("<", x, top), x, top)
        numbers.append(builder.add(_round(builder, x), zero))
    if target.lanes == PART and target.dot.group == 4:
        numbers += [all_lanes(0, words(16))] * (4 - len(numbers))  # samples that are not there
        store(builder, join_quads(builder, numbers), row)
        return
    for number, vector in enumerate(numbers):
        codes, chunks = clip_bytes(builder, vector), target.lanes // 4
        first = builder.add(builder.mul(unit, I64(len(numbers) * chunks)), I64(number * chunks))
        for chunk in range(chunks):
            place = builder.add(first, I64(chunk))
            slot = slot_of_chunk(builder, target.dot, place)
            store(builder, builder.bitcast(lanes_of(builder, codes, 4 * chunk, 4), I32), builder.add(row, slot))


@outlined
def _int8_tile(builder, vectors, unit, stored, inputs, groups, weights, of_outputs, rounding, base, z, codes):
    """Run one tile; see `int8_block`. All are addresses but `unit`, `stored`, `groups` and `rounding`."""
    target = current_target()
    starts, correction, scale, bias = of_outputs
    row_places = places_of(builder, vectors, unit, I64(4 * PART))
    bases = []
    for row in range(TILE):
        number = builder.zext(load(builder, starts, I32, 4 * row), I64)
        start = plus(builder, base, number, 4 * LANES)
        bases.append([builder.add(start, place) for place in row_places])
    data = [builder.add(inputs, at) for at in places_of(builder, vectors, unit, builder.mul(groups, I64(4 * PART)))]
    sums = int8_sums(builder, vectors, data, weights, groups, bases, correction)

    def rows_of(values):
        return [values[vectors * row : vectors * (row + 1)] for row in range(TILE)]

    with builder.if_else(builder.icmp_signed("==", stored, offset(STORE_SUMS))) as (as_sums, otherwise):
        with as_sums:
            for row, values in enumerate(rows_of(sums)):
                for value, place in zip(values, row_places, strict=True):
                    store(builder, value, builder.add(z, place), 4 * LANES * row)
        with otherwise:
            reals = []
            for row, values in enumerate(rows_of(sums)):
                m, b = (splat(builder, load(builder, at, F32, 4 * row), target.lanes) for at in (scale, bias))
                of_row = [builder.sitofp(value, floats(target.lanes)) for value in values]
                reals += [builder.fadd(builder.fmul(value, m), b) for value in of_row]
            with builder.if_else(builder.icmp_signed("==", stored, offset(STORE_REAL))) as (as_real, as_codes):
                with as_real:
                    for row, values in enumerate(rows_of(reals)):
                        for value, place in zip(values, row_places, strict=True):
                            store(builder, value, builder.add(z, place), 4 * LANES * row)
                with as_codes:
                    for row, values in enumerate(rows_of(reals)):
                        _store_codes(builder, values, rounding, plus(builder, codes, LANES * row), unit)


@in_ir()
def int8_block(builder, samples, stored, scratch, groups, packed, weights_at, at, outputs, rounding, out, out_at):
    """Run a block of the head for up to 64 samples, tile by tile.

    `scratch` has the inputs, [part of 16 samples][groups][16] of 32 bits each, and the rows `base` of 64 int32 that
    sums start from. `packed` is weights[tile][groups][6] of 32 bits from byte `weights_at`; start int32 (row of
    `base`), correction int32, scale and bias float32 of each output, from `at` on. With sum = start + correction +
    inputs x weights and x = float(sum) * scale + bias, `stored` says what goes to the rows of 64 of `out`, which begin
    at its byte `out_at`: STORE_SUMS the sums, STORE_REAL x, STORE_CODES
    min(max(rint(min(x, top)) + zero, 0), 255) as bytes, where `rounding` is (top, zero).
    """
    weights, of_outputs = builder.add(packed.weights, weights_at), packed[1:5]
    rounding = (rounding[0], builder.trunc(rounding[1], I32))
    out = builder.add(out, out_at)

    def run(vectors, unit):
        with counting(builder, outputs, TILE) as first:
            of_tile = tuple(plus(builder, array, builder.add(at, first), 4) for array in of_outputs)
            tile_weights = plus(builder, weights, builder.mul(first, groups), 4)
            _int8_tile(
                builder, vectors, unit, stored, scratch.inputs, groups, tile_weights, of_tile, rounding, scratch.base,
                plus(builder, out, first, 4 * LANES), plus(builder, out, first, LANES),
            )  # fmt: skip

    for_units(builder, samples, run)


@in_ir()
def gather_groups(builder, rows, stride, units, units_at, groups, out):
    """Store 64 codes of the listed rows as a block's inputs, [part][groups][16] of 32 bits each.

    Row u begins at byte ``u * stride`` of `rows`; the list is units[units_at:] (int32), filled up to whole groups.
    """
    dot = current_target().dot
    units, part_stride = plus(builder, units, units_at, 4), builder.mul(groups, I64(4 * PART))
    with counting(builder, groups) as group:
        listed = plus(builder, units, group, 4 * dot.group)
        numbers = [builder.zext(load(builder, listed, I32, 4 * i), I64) for i in range(dot.group)]
        places = [builder.add(rows, builder.mul(number, stride)) for number in numbers]
        store_group(builder, dot, places, plus(builder, out, group, 4 * PART), part_stride)


@outlined
def _float_tile(
    builder, vectors, unit, begins, data, part_stride, listed, count, weights, of_outputs, factor, base, out
):
    """Run a piece of one tile; see `float_block`. `base` and `out` are address, row and part stride."""
    lanes = current_target().lanes
    kind, (starts, bias) = floats(lanes), of_outputs
    totals: list = []
    places = places_of(builder, vectors, unit, out[2])
    base_places = places_of(builder, vectors, unit, base[2])
    scaled = splat(builder, factor, lanes)
    for row in range(TILE):
        here = builder.add(out[0], builder.mul(out[1], I64(row)))
        totals += [(cgutils.alloca_once(builder, kind), builder.add(here, place)) for place in places]
    with builder.if_else(begins) as (anew, going_on):
        with anew:
            for row in range(TILE):
                number = builder.zext(load(builder, starts, I32, 4 * row), I64)
                start = builder.add(base[0], builder.mul(number, base[1]))
                b = splat(builder, load(builder, bias, F32, 4 * row), lanes)
                for vector, place in enumerate(base_places):
                    value = builder.fmul(load(builder, builder.add(start, place), kind), scaled)
                    builder.store(builder.fadd(value, b), totals[row * vectors + vector][0])
        with going_on:
            for slot, place in totals:
                builder.store(load(builder, place, kind), slot)
    streams = [builder.add(data, at) for at in places_of(builder, vectors, unit, part_stride)]
    with counting(builder, count) as i:
        number = builder.zext(load(builder, plus(builder, listed, i, 4), I32), I64)
        weights_at = plus(builder, weights, i, 4 * TILE)
        values = [load(builder, plus(builder, at, number, 4 * PART), kind) for at in streams]
        prefetch(builder, weights_at, _AHEAD)
        for row in range(TILE):
            weight = splat(builder, load(builder, weights_at, F32, 4 * row), lanes)
            for vector in range(vectors):
                slot = totals[row * vectors + vector][0]
                builder.store(fma(builder, values[vector], weight, builder.load(slot)), slot)
    for slot, place in totals:
        store(builder, builder.load(slot), place)


@in_ir()
def float_block(
    builder, samples, data, inputs, listed, count, packed, weights_at, at, outputs, factor, base, rows, out
):
    """Run a block of the float32 head for up to 64 samples, tile by tile, sums in the order of the list.

    `data` is an array with the element where it begins: [part of 16 samples][inputs][16]; `listed` (array and place)
    says which `count` of the inputs are taken. `packed` is weights[tile][count][6] from byte `weights_at`, start int32
    and bias float32 of each output, from `at` on. A sum starts as factor * base[start] + bias, where `base` is
    [part][rows][16]. `out` is an array, its first element, and the strides of rows and parts, in bytes.
    """
    weights, of_outputs = builder.add(packed.weights, weights_at), (packed.start, packed.bias)
    data, listed = plus(builder, data[0], data[1], 4), plus(builder, listed[0], listed[1], 4)
    out_address = plus(builder, out[0], out[1], 4)
    base = (base, I64(4 * PART), builder.mul(rows, I64(4 * PART)))

    def run(vectors, unit):
        piece = _NEAR // max(4 * PART, 4 * vectors * current_target().lanes)
        with counting(builder, builder.add(count, I64(1)), piece) as first:  # nothing listed: sums start all the same
            left = builder.sub(count, first)
            size = builder.select(builder.icmp_signed("<", left, I64(piece)), left, I64(piece))
            begins = builder.icmp_signed("==", first, I64(0))
            with counting(builder, outputs, TILE) as output:
                of_tile = tuple(plus(builder, array, builder.add(at, output), 4) for array in of_outputs)
                tile_weights = plus(builder, weights, builder.mul(output, count), 4)
                here = (builder.add(out_address, builder.mul(out[2], output)), out[2], out[3])
                _float_tile(
                    builder, vectors, unit, begins, data, builder.mul(inputs, I64(4 * PART)),
                    plus(builder, listed, first, 4), size, plus(builder, tile_weights, first, 4 * TILE), of_tile,
                    factor, base, here,
                )  # fmt: skip

    for_units(builder, samples, run)


assert I8.width * LANES == 512
