"""From the moments of 64 samples to their columns, while these are in the cache: interval, decision, scores.

The same numbers, to the bit, as `fastuq.scoring.decisions` gives; entropies to rounding.
"""

from numba.core import cgutils

from fastuq.montecarlo.kernels.activating import SOFTMAX, activate_vectors, softmax_of_lanes
from fastuq.montecarlo.kernels.building import kernel
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import (
    F32,
    F64,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    LANES,
    PART,
    WORDS,
    all_lanes,
    call,
    counting,
    load,
    plus,
    splat,
    store,
)
from fastuq.montecarlo.kernels.running_sums import DOUBLES, entropy_of_part

CERTAIN, NOTHING, BENEFIT, UNCERTAIN, MIXED = range(5)
"""As `fastuq.scoring.decisions.Reason` counts them."""
LOWEST = float("-inf")


class Largest:
    """The largest of some numbers, lane by lane, and the class of the first one."""

    def __init__(self, builder):
        self.builder = builder
        self.value, self.place = cgutils.alloca_once(builder, FLOATS), cgutils.alloca_once(builder, WORDS)
        builder.store(all_lanes(LOWEST), self.value)
        builder.store(all_lanes(0, WORDS), self.place)

    def see(self, value, place, where=None):
        """Look at numbers and their class, where they count."""
        builder = self.builder
        better = builder.fcmp_ordered(">", value, builder.load(self.value))
        better = better if where is None else builder.and_(better, where)
        builder.store(builder.select(better, value, builder.load(self.value)), self.value)
        builder.store(builder.select(better, place, builder.load(self.place)), self.place)

    def found(self):
        """Return the largest and its class."""
        return self.builder.load(self.value), self.builder.load(self.place)


def _count(builder, slot, where):
    builder.store(builder.add(builder.load(slot), builder.zext(where, WORDS)), slot)


def _all_finite(builder, values):
    there = None
    for value in values:
        size = call(builder, "llvm.fabs.v16f32", FLOATS, value)
        finite = builder.fcmp_ordered("<", size, all_lanes(float("inf")))
        there = finite if there is None else builder.and_(there, finite)
    return there


@outlined
def _decide_part(builder, found, classes, rules, floats, numbers):
    """Decide about 16 samples; all are addresses but `classes` and `rules`."""
    mean, std, plain, ones, doubts = found
    z, threshold, keep_mixed, floor = rules
    z, threshold = splat(builder, z), splat(builder, threshold)
    best, surest, last, once = (Largest(builder) for _ in range(4))
    counts = [cgutils.alloca_once(builder, WORDS) for _ in range(3)]
    for slot in counts:
        builder.store(all_lanes(0, WORDS), slot)
    with counting(builder, classes) as c:
        m, s, p = (load(builder, plus(builder, array, c, 4 * LANES), FLOATS) for array in (mean, std, plain))
        half, place = builder.fmul(z, s), splat(builder, builder.trunc(c, I32))
        one = builder.fcmp_ordered(">", builder.fsub(m, half), threshold)
        zero = builder.fcmp_ordered("<", builder.fadd(m, half), threshold)
        doubt = builder.not_(builder.or_(one, zero))
        best.see(m, place)
        surest.see(m, place, one)
        last.see(m, place, doubt)
        once.see(p, place)
        for slot, where in zip(counts, (one, doubt, builder.not_(_all_finite(builder, (m, s, p)))), strict=True):
            _count(builder, slot, where)
        for where, bits in ((one, ones), (doubt, doubts)):
            store(builder, builder.bitcast(where, I16), plus(builder, bits, c, 8))
    some, open_, wrong = (builder.load(slot) for slot in counts)
    none = all_lanes(0, WORDS)
    yes, sure = builder.icmp_signed(">", some, none), builder.icmp_signed("==", open_, none)
    single = builder.icmp_signed("==", open_, all_lanes(1, WORDS))
    single = builder.and_(single, builder.fcmp_ordered(">=", last.found()[0], splat(builder, floor)))

    def pick(where, reason, other):
        return builder.select(where, all_lanes(reason, WORDS), other)

    without = pick(sure, NOTHING, pick(single, BENEFIT, all_lanes(UNCERTAIN, WORDS)))
    reason = builder.select(yes, pick(sure, CERTAIN, all_lanes(MIXED, WORDS)), without)
    certain, benefit, mixed = (
        builder.icmp_signed("==", reason, all_lanes(code, WORDS)) for code in (CERTAIN, BENEFIT, MIXED)
    )
    mixed = builder.and_(mixed, splat(builder, keep_mixed))
    keep = builder.or_(certain, builder.or_(benefit, mixed))
    positive = builder.select(benefit, last.found()[1], surest.found()[1])
    prediction = builder.select(keep, positive, best.found()[1])
    for row, value in enumerate((builder.zext(keep, WORDS), reason, prediction, best.found()[1], once.found()[1])):
        store(builder, value, numbers, 4 * LANES * row)
    store(builder, best.found()[0], floats)
    finite = builder.icmp_signed("==", wrong, none)
    store(builder, builder.uitofp(finite, FLOATS), floats, 4 * LANES)


def _mark_positive(builder, found, classes, positive, width, samples):
    """Set the bits of the predicted classes of kept samples, in rows of `width` bytes."""
    with counting(builder, classes) as c, counting(builder, samples) as s:
        bits, part = builder.add(builder.mul(c, I64(4)), builder.udiv(s, I64(PART))), builder.urem(s, I64(PART))
        keep, reason = (load(builder, plus(builder, found.numbers, s, 4), I32, 4 * LANES * row) for row in (0, 1))
        one, doubt = (load(builder, plus(builder, array, bits, 2), I16) for array in (found.ones, found.doubts))
        word = builder.select(builder.icmp_signed("==", reason, I32(BENEFIT)), doubt, one)
        bit = builder.and_(builder.lshr(word, builder.trunc(part, I16)), builder.trunc(keep, I16))
        at = builder.add(builder.add(positive, builder.mul(s, width)), builder.udiv(c, I64(8)))
        mark = builder.shl(builder.trunc(bit, I8), builder.trunc(builder.urem(c, I64(8)), I8))
        store(builder, builder.or_(load(builder, at, I8), mark), at)


def _copy_columns(builder, found, rules, floats, numbers, entropy, room, samples):
    """Copy what was decided to the columns, which are `room` numbers apart."""

    def column(array, row, s):
        return plus(builder, array, builder.add(builder.mul(room, I64(row)), s), 4)

    with counting(builder, samples) as s:
        for row in range(5):
            store(
                builder,
                load(builder, plus(builder, found.numbers, s, 4), I32, 4 * LANES * row),
                column(numbers, row, s),
            )
        prediction = builder.zext(load(builder, plus(builder, found.numbers, s, 4), I32, 4 * LANES * 2), I64)
        at = builder.add(builder.mul(prediction, I64(LANES)), s)
        mean, std = (load(builder, plus(builder, array, at, 4), F32) for array in (found.mean, found.std))
        half = builder.fmul(rules.z, std)
        largest, finite = (load(builder, plus(builder, found.floats, s, 4), F32, 4 * LANES * row) for row in (0, 1))
        store(builder, load(builder, plus(builder, found.entropy, s, 8), F64), plus(builder, entropy, s, 8))
        values = (mean, builder.fsub(mean, half), builder.fadd(mean, half), largest, finite)
        for row, value in enumerate(values):
            store(builder, value, column(floats, row, s))


@in_ir()
def decide(builder, wanted, exclusive, found, classes, rules, columns, room, width, first, samples):
    """Where it is `wanted`: write the columns of `samples` samples from `first` on, whose moments are in `found`."""
    parts = builder.udiv(builder.add(samples, I64(PART - 1)), I64(PART))
    with builder.if_then(wanted):
        with counting(builder, parts) as part:
            arrays = [plus(builder, array, part, 4 * PART) for array in (found.mean, found.std, found.plain)]
            arrays += [plus(builder, bits, part, 2) for bits in (found.ones, found.doubts)]
            floats, numbers = (plus(builder, array, part, 4 * PART) for array in (found.floats, found.numbers))
            _decide_part(builder, tuple(arrays), classes, tuple(rules), floats, numbers)
            entropy = plus(builder, found.entropy, part, 8 * PART)
            for half in (0, 64):
                store(builder, all_lanes(0.0, DOUBLES), entropy, half)
            entropy_of_part(builder, exclusive, arrays[0], classes, entropy)
        floats, numbers = (plus(builder, array, first, 4) for array in (columns.floats, columns.numbers))
        entropy = plus(builder, columns.entropy, first, 8)
        _copy_columns(builder, found, rules, floats, numbers, entropy, room, samples)
        positive = builder.add(columns.positive, builder.mul(first, width))
        _mark_positive(builder, found, classes, positive, width, samples)


@in_ir()
def write_entropies(builder, wanted, found, iterations, entropies, first, samples):
    """Where `wanted`: add what these iterations came to, of all `iterations`, to mean entropies, and clear it."""
    with builder.if_then(wanted):
        with counting(builder, samples) as s:
            total = load(builder, plus(builder, found.entropies, s, 8), F64)
            at = plus(builder, entropies, builder.add(first, s), 8)
            share = builder.fdiv(total, builder.sitofp(iterations, F64))
            store(builder, builder.fadd(load(builder, at, F64), share), at)
        with counting(builder, I64(LANES)) as s:
            store(builder, F64(0.0), plus(builder, found.entropies, s, 8))


@in_ir()
def write_rows(builder, wanted, values, rows, classes, first, samples):
    """Where they are `wanted`: write values [classes][64] to rows (N, C) from `first` on."""
    with builder.if_then(wanted), counting(builder, samples) as s:
        row = plus(builder, rows, builder.mul(builder.add(first, s), classes), 4)
        with counting(builder, classes) as c:
            at = builder.add(builder.mul(c, I64(LANES)), s)
            store(builder, load(builder, plus(builder, values, at, 4), F32), plus(builder, row, c, 4))


@in_ir()
def activate_plain(builder, activation, slope, plain, classes):
    """Activate the outputs of the plain pass [classes][64]."""
    with builder.if_then(builder.icmp_signed("==", activation, I64(SOFTMAX))):
        softmax_of_lanes(builder, plain, classes)
    activate_vectors(builder, activation, slope, plain, builder.mul(classes, I64(LANES // PART)))


@in_ir()
def place_found(builder, mean, std, plain, found, classes, place):
    """Put what one sample came to in its place among 64."""
    with counting(builder, classes) as c:
        at = builder.add(builder.mul(c, I64(LANES)), place)
        for source, out in ((mean, found.mean), (std, found.std), (plain, found.plain)):
            store(builder, load(builder, plus(builder, source, c, 4), F32), plus(builder, out, at, 4))


@kernel
def write_found(job, classes, first, samples):
    """Write what 64 samples came to: columns where decisions are wanted, and moments where there are rows for them."""
    found, columns, part, exclusive = job.scratch.found, job.columns, job.part, job.plan.exclusive
    room, width = columns.floats.shape[1], columns.positive.shape[1]
    decide(part.decide, exclusive, found, classes, job.rules, columns, room, width, first, samples)
    write_rows(len(columns.mean) > 0, found.mean, columns.mean, classes, first, samples)
    write_rows(len(columns.std) > 0, found.std, columns.std, classes, first, samples)
    write_rows(len(columns.plain) > 0, found.plain, columns.plain, classes, first, samples)
