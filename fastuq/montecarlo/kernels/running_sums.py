"""Running sums over the iterations, and what they come to."""

from llvmlite import ir
from numba.core import cgutils

from fastuq.montecarlo.kernels.activating import by_activation
from fastuq.montecarlo.kernels.elementwise import surprise_ir
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    F32,
    F64,
    FLOATS,
    I64,
    LANES,
    PART,
    all_lanes,
    call,
    counting,
    fma,
    lanes_of,
    load,
    plus,
    splat,
    store,
)
from fastuq.montecarlo.kernels.plan import FOLD

DOUBLES = ir.VectorType(F64, 8)


def halves(builder, vector):
    """Return 16 float32 numbers as two vectors of float64."""
    return [builder.fpext(lanes_of(builder, vector, first, 8), DOUBLES) for first in (0, 8)]


def _slots(builder, count):
    return [cgutils.alloca_once(builder, DOUBLES) for _ in range(count)]


def _absorb_vector(builder, activate, z, stride, iterations, pivot, sums, first):
    """Absorb 16 lanes: z, pivot, sums are addresses, the outputs of successive iterations `stride` bytes apart.

    The sums are of the first powers, two or four of them.
    """
    with builder.if_then(first):
        store(builder, activate(builder, load(builder, z, FLOATS)), pivot)
    centres, none = halves(builder, load(builder, pivot, FLOATS)), all_lanes(0.0, DOUBLES)
    slots = [_slots(builder, 2) for _ in sums]
    for at, pair in zip(sums, slots, strict=True):
        for half, slot in zip((0, 64), pair, strict=True):
            builder.store(builder.select(first, none, load(builder, at, DOUBLES, half)), slot)
    with counting(builder, iterations) as iteration:
        at = builder.add(z, builder.mul(iteration, stride))
        p = activate(builder, load(builder, at, FLOATS))
        store(builder, p, at)
        for number, value in enumerate(halves(builder, p)):
            d = builder.fsub(value, centres[number])
            once, twice, *higher = (pair[number] for pair in slots)
            builder.store(builder.fadd(builder.load(once), d), once)
            builder.store(fma(builder, d, d, builder.load(twice)), twice)
            if higher:
                square = builder.fmul(d, d)
                for slot, factor in zip(higher, (d, square), strict=True):
                    builder.store(fma(builder, square, factor, builder.load(slot)), slot)
    for at, pair in zip(sums, slots, strict=True):
        for half, slot in zip((0, 64), pair, strict=True):
            store(builder, builder.load(slot), at, half)


@outlined
def _absorb_rows(builder, activation, z, stride, iterations, rows, vectors, sums, first):
    pivot, *others = sums

    def loop_of(function):
        with counting(builder, rows) as row, counting(builder, vectors) as vector:
            here = builder.add(builder.mul(row, I64(LANES)), builder.mul(vector, I64(PART)))
            at = [plus(builder, array, here, 8) for array in others]
            place, centre = plus(builder, z, here, 4), plus(builder, pivot, here, 4)
            _absorb_vector(builder, function, place, stride, iterations, centre, at, first)

    by_activation(builder, activation, loop_of)


@outlined
def _fold(builder, sums, totals, vectors, first):
    """Add the sums of the last iterations to those of all before, and begin anew; `first`: clear both."""
    none = all_lanes(0.0, DOUBLES)
    for array, total in zip(sums, totals, strict=True):
        with counting(builder, vectors) as i:
            here, there = plus(builder, array, i, 64), plus(builder, total, i, 64)
            joined = builder.fadd(load(builder, there, DOUBLES), load(builder, here, DOUBLES))
            store(builder, builder.select(first, none, joined), there)
            store(builder, none, here)


def _places(builder, state, at):
    """Return the addresses of element `at` of running sums."""
    return [plus(builder, array, at, size) for array, size in zip(state, (4, *[8] * 6), strict=True)]


@in_ir()
def absorb(builder, z, z_at, outputs, iterations, activation, rows, vectors, state, at, number, higher):
    """Activate the outputs z[z_at:] as [iterations][outputs] of several iterations and add them to the running sums.

    Of each, `vectors` times 16 of every 64 in `rows` rows count; they belong to the running sums from `at` on.
    Iteration `number` is the first of these; the first of all is the pivot, which keeps the variance free of
    cancellation. It goes vector by vector, so that the sums stay in registers for all the iterations; float64 keeps
    them exact enough for 100,000 of them. `state` is of type `Sums`, and has room for `higher` powers where that is so.
    `activate_ahead` goes before.
    """
    pivot, *sums = _places(builder, state, at)
    first = builder.icmp_signed("==", number, I64(0))
    with builder.if_then(builder.icmp_signed("==", builder.srem(number, I64(FOLD)), I64(0))):
        count = builder.add(builder.mul(builder.sub(rows, I64(1)), I64(LANES)), builder.mul(vectors, I64(PART)))
        _fold(builder, tuple(sums[:2]), tuple(sums[2:4]), builder.sdiv(count, I64(8)), first)
    z, stride = plus(builder, z, z_at, 4), builder.mul(outputs, I64(4))
    with builder.if_else(higher) as (four, two):
        for branch, powers in ((four, (*sums[:2], *sums[4:])), (two, tuple(sums[:2]))):
            with branch:
                _absorb_rows(builder, activation, z, stride, iterations, rows, vectors, (pivot, *powers), first)


@in_ir()
def keep_sums(builder, state, kept, number, width):
    """Copy the sums of the last `FOLD` iterations to kept[number], as they are before they join the others."""
    place = plus(builder, kept, builder.mul(builder.mul(number, I64(2)), width), 8)
    for row, array in enumerate((state.sum1, state.sum2)):
        with counting(builder, width, 8) as i:
            at = plus(builder, place, builder.add(builder.mul(width, I64(row)), i), 8)
            store(builder, load(builder, plus(builder, array, i, 8), DOUBLES), at)


@outlined
def entropy_of_part(builder, exclusive, p, classes, totals):
    """Add the entropies of 16 lanes of p[classes][64] to 16 float64 totals, class by class; both are addresses.

    Classes that exclude each other (softmax): -sum p ln p, in nats. Otherwise they count as independent yes/no events:
    sum of -p ln p - (1-p) ln(1-p).
    """
    slots = _slots(builder, 2)
    for number, slot in enumerate(slots):
        builder.store(load(builder, totals, DOUBLES, 64 * number), slot)
    with counting(builder, classes) as c:
        value = load(builder, plus(builder, p, c, 4 * LANES), FLOATS)
        for slot, term in zip(slots, halves(builder, entropy_terms(builder, exclusive, value)), strict=True):
            builder.store(builder.fadd(builder.load(slot), term), slot)
    for number, slot in enumerate(slots):
        store(builder, builder.load(slot), totals, 64 * number)


def entropy_terms(builder, exclusive, p):
    """Return what outputs add to the entropy: -p ln p, and -(1-p) ln(1-p) where classes do not exclude each other."""
    no = surprise_ir(builder, p, True)
    return builder.fadd(surprise_ir(builder, p, False), builder.select(exclusive, builder.fsub(no, no), no))


@in_ir()
def add_entropies(builder, wanted, exclusive, p, outputs, iterations, classes, parts, totals):
    """Add the entropies of activated outputs p[iterations][outputs] of 64 lanes to totals[64], where wanted."""
    with (
        builder.if_then(wanted),
        counting(builder, iterations) as iteration,
        counting(builder, parts) as part,
    ):
        here = plus(builder, p, builder.mul(iteration, outputs), 4)
        at = plus(builder, totals, part, 8 * PART)
        entropy_of_part(builder, exclusive, plus(builder, here, part, 4 * PART), classes, at)


@in_ir()
def add_entropy(builder, wanted, exclusive, p, outputs, iterations, classes, totals, place):
    """Add the entropies of activated outputs p[iterations][outputs] of one sample to totals[place], where wanted.

    In the order of `entropy_of_part`, hence to the same bits; the outputs are used up.
    """
    total = plus(builder, totals, place, 8)
    with builder.if_then(wanted), counting(builder, iterations) as iteration:
        here = plus(builder, p, builder.mul(iteration, outputs), 4)
        with counting(builder, builder.sdiv(builder.add(classes, I64(PART - 1)), I64(PART))) as i:
            at = plus(builder, here, i, 64)
            store(builder, entropy_terms(builder, exclusive, load(builder, at, FLOATS)), at)
        with counting(builder, classes) as c:
            term = builder.fpext(load(builder, plus(builder, here, c, 4), F32), F64)
            store(builder, builder.fadd(load(builder, total, F64), term), total)


@in_ir()
def finish(builder, state, at, iterations, count, mean, std):
    """Write mean and standard deviation (ddof 0) of `count` running sums, to whole vectors of 8."""
    pivot, *sums = _places(builder, state, at)
    total, few = splat(builder, builder.sitofp(iterations, F64), 8), ir.VectorType(F32, 8)
    with counting(builder, builder.sdiv(builder.add(count, I64(7)), I64(8))) as i:
        centre = builder.fpext(load(builder, plus(builder, pivot, i, 32), few), DOUBLES)
        once, twice, once_before, twice_before = (
            load(builder, plus(builder, array, i, 64), DOUBLES) for array in sums[:4]
        )
        shift = builder.fdiv(builder.fadd(once_before, once), total)
        square = builder.fdiv(builder.fadd(twice_before, twice), total)
        variance = builder.fsub(square, builder.fmul(shift, shift))
        none = all_lanes(0.0, DOUBLES)
        variance = builder.select(builder.fcmp_ordered("<", variance, none), none, variance)
        deviation = call(builder, "llvm.sqrt.v8f64", DOUBLES, variance)
        store(builder, builder.fptrunc(builder.fadd(centre, shift), few), plus(builder, mean, i, 32))
        store(builder, builder.fptrunc(deviation, few), plus(builder, std, i, 32))
