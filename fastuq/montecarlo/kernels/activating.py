"""Activations of many numbers: those that go number by number, and softmax."""

from numba.core import cgutils

from fastuq.montecarlo.kernels.elementwise import FORWARD, constant, exp_ir
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.flatten import ACTIVATION_NUMBERS
from fastuq.montecarlo.kernels.ir import F32, FLOATS, I64, LANES, PART, counting, load, plus, splat, store

SOFTMAX = ACTIVATION_NUMBERS["softmax"]
_COMMON = ("relu", "sigmoid")
_RARE = [name for name, number in ACTIVATION_NUMBERS.items() if number > SOFTMAX]


def _softmax(builder, z, kind, classes, stride):
    """Replace numbers or vectors at z, z + stride, ... by their softmax over the classes."""
    top = cgutils.alloca_once(builder, kind)
    builder.store(load(builder, z, kind), top)
    with counting(builder, classes) as i:
        x, so_far = load(builder, plus(builder, z, i, stride), kind), builder.load(top)
        builder.store(builder.select(builder.fcmp_ordered(">", x, so_far), x, so_far), top)
    highest, total = builder.load(top), cgutils.alloca_once(builder, kind)
    builder.store(constant(kind, 0.0), total)
    with counting(builder, classes) as i:
        at = plus(builder, z, i, stride)
        power = exp_ir(builder, builder.fsub(load(builder, at, kind), highest))
        builder.store(builder.fadd(builder.load(total), power), total)
        store(builder, power, at)
    whole = builder.load(total)
    with counting(builder, classes) as i:
        at = plus(builder, z, i, stride)
        store(builder, builder.fdiv(load(builder, at, kind), whole), at)


@outlined
def softmax_of_lanes(builder, z, classes):
    """Replace z (address) as [classes][64] by its softmax over the classes, lane by lane."""
    with counting(builder, I64(LANES // PART)) as i:
        _softmax(builder, plus(builder, z, i, 4 * PART), FLOATS, classes, 4 * LANES)


@outlined
def softmax_of_one(builder, z, classes):
    """Replace z (address) as [classes] by its softmax."""
    _softmax(builder, z, F32, classes, 4)


def _is(builder, activation, name):
    return builder.icmp_signed("==", activation, I64(ACTIVATION_NUMBERS[name]))


def _loop_of(builder, name, slope, z, vectors):
    with counting(builder, vectors) as i:
        at = plus(builder, z, i, 64)
        store(builder, FORWARD[name](builder, load(builder, at, FLOATS), slope), at)


@outlined
def activate_rare(builder, activation, slope, z, vectors):
    """Apply an activation that is one of the rare ones to vectors of 16 numbers at z (address); no other does anything.

    The rare ones are compiled here, once for all their uses: in loops of their own they would double the compile time.
    """
    slopes = splat(builder, slope)
    for name in _RARE:
        with builder.if_then(_is(builder, activation, name)):
            _loop_of(builder, name, slopes, z, vectors)


def by_activation(builder, activation, emit):
    """Write a branch ``emit(function)`` for every common activation; the others, done before, change nothing here."""
    done = builder.append_basic_block("activated")
    for name in _COMMON:
        with builder.if_then(_is(builder, activation, name)):
            emit(lambda builder, x, name=name: FORWARD[name](builder, x, None))
            builder.branch(done)
    emit(lambda builder, x: x)
    builder.branch(done)
    builder.position_at_end(done)


@outlined
def activate_vectors(builder, activation, slope, z, vectors):
    """Apply an activation to vectors of 16 numbers at z (address), where it goes number by number."""
    for name in _COMMON:
        with builder.if_then(_is(builder, activation, name)):
            _loop_of(builder, name, None, z, vectors)
    activate_rare(builder, activation, slope, z, vectors)


@in_ir()
def activate_ahead(builder, z, z_at, outputs, iterations, activation, slope, classes, of_lanes):
    """Replace z[z_at:] as [iterations][outputs], of 64 lanes or of one, by what `by_activation` expects to be done."""
    z = plus(builder, z, z_at, 4)
    ahead = builder.icmp_signed(">=", activation, I64(SOFTMAX))
    with builder.if_then(ahead), counting(builder, iterations) as iteration:
        here = plus(builder, z, builder.mul(iteration, outputs), 4)
        with builder.if_then(_is(builder, activation, "softmax")), builder.if_else(of_lanes) as (lanes, one):
            with lanes:
                softmax_of_lanes(builder, here, classes)
            with one:
                softmax_of_one(builder, here, classes)
        some, every = (
            builder.sdiv(builder.add(classes, I64(PART - 1)), I64(PART)),
            builder.mul(classes, I64(LANES // PART)),
        )
        activate_rare(builder, activation, slope, here, builder.select(of_lanes, every, some))


@in_ir()
def activate_numbers(builder, z, z_at, activation, slope, vectors):
    """Apply an activation to 16 `vectors` numbers of z[z_at:] (float32), where it goes number by number."""
    activate_vectors(builder, activation, slope, plus(builder, z, z_at, 4), vectors)


@in_ir()
def scale_numbers(builder, z, z_at, factor, vectors):
    """Multiply 16 `vectors` numbers of z[z_at:] (float32) by a factor."""
    z = plus(builder, z, z_at, 4)
    with counting(builder, vectors) as i:
        at = plus(builder, z, i, 64)
        store(builder, builder.fmul(load(builder, at, FLOATS), splat(builder, factor)), at)


def _scale_and_shift(builder, z, z_at, scale, shift, at, count, kind):
    """Write z * scale + shift of vectors of z[z_at:], the two from element `at` on, a number or a vector for each."""
    z, scale, shift = plus(builder, z, z_at, 4), plus(builder, scale, at, 4), plus(builder, shift, at, 4)
    with counting(builder, count) as i:
        here = plus(builder, z, i, 64)
        factor, other = (
            load(builder, plus(builder, part, i, 64 if kind is FLOATS else 4), kind) for part in (scale, shift)
        )
        if kind is F32:
            factor, other = splat(builder, factor), splat(builder, other)
        store(builder, builder.fadd(builder.fmul(load(builder, here, FLOATS), factor), other), here)


@in_ir()
def shift_rows(builder, z, z_at, scale, shift, at, rows):
    """Replace rows of 16 samples z[z_at:] by row * scale + shift, of each row its own from element `at` on."""
    _scale_and_shift(builder, z, z_at, scale, shift, at, rows, F32)


@in_ir()
def shift_numbers(builder, z, z_at, scale, shift, at, vectors):
    """Replace 16 `vectors` numbers of z[z_at:] by number * scale + shift, of each its own from element `at` on."""
    _scale_and_shift(builder, z, z_at, scale, shift, at, vectors, FLOATS)
