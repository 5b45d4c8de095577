"""Running sums over the iterations, and what they come to."""

import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastuq.kernels.compiled import kernel
from fastuq.kernels.elementwise import RELU, SIGMOID, SOFTMAX, activate_in_place, clip, sigmoid_ir
from fastuq.kernels.ir import FLOATS, I32, I64, all_lanes, fma, load, offset, store
from fastuq.kernels.tiles import LANES

DOUBLES = ir.VectorType(ir.DoubleType(), 8)


@kernel
def accumulate(p, pivot, sum1, sum2, first, count):
    """Add one iteration to the running sums of p - pivot and its square; the first iteration is the pivot.

    The pivot keeps the variance free of cancellation, float64 keeps it exact enough for 100,000 iterations.
    """
    if first:
        for i in range(count):
            pivot[i] = p[i]
            sum1[i] = 0.0
            sum2[i] = 0.0
    else:
        for i in range(count):
            d = np.float64(p[i]) - np.float64(pivot[i])
            sum1[i] += d
            sum2[i] += d * d


def _absorb_vector(builder, activate, z, stride, iterations, pivot, sums, first):
    """Absorb 16 lanes: z, pivot, sums are addresses, the outputs of successive iterations `stride` bytes apart."""
    with builder.if_then(first):
        store(builder, activate(builder, load(builder, z, FLOATS)), pivot)
        for at in sums:
            for half in (0, 64):
                store(builder, all_lanes(0.0, DOUBLES), at, half)
    halves = [ir.Constant(ir.VectorType(I32, 8), list(range(start, start + 8))) for start in (0, 8)]
    centre = load(builder, pivot, FLOATS)
    centres = [builder.fpext(builder.shuffle_vector(centre, centre, half), DOUBLES) for half in halves]
    slots = [[cgutils.alloca_once_value(builder, load(builder, at, DOUBLES, half)) for half in (0, 64)] for at in sums]
    with cgutils.for_range(builder, iterations, intp=I64) as loop:
        at = builder.add(z, builder.mul(loop.index, stride))
        p = activate(builder, load(builder, at, FLOATS))
        store(builder, p, at)
        for number, half in enumerate(halves):
            d = builder.fsub(builder.fpext(builder.shuffle_vector(p, p, half), DOUBLES), centres[number])
            once, twice = slots[0][number], slots[1][number]
            builder.store(builder.fadd(builder.load(once), d), once)
            builder.store(fma(builder, d, d, builder.load(twice)), twice)
    for at, pair in zip(sums, slots, strict=True):
        for half, slot in zip((0, 64), pair, strict=True):
            store(builder, builder.load(slot), at, half)


def _absorb_class(activate):
    """Make the intrinsic that activates one class of 64 lanes in several iterations and adds it to the running sums."""

    @intrinsic
    def absorb_class(typingctx, z, stride, iterations, pivot, sum1, sum2, first):
        def codegen(context, builder, signature, args):
            z, stride, iterations, pivot, sum1, sum2, first = args
            for vector in range(4):
                near, far = offset(64 * vector), offset(128 * vector)
                sums = [builder.add(at, far) for at in (sum1, sum2)]
                _absorb_vector(
                    builder, activate, builder.add(z, near), stride, iterations, builder.add(pivot, near), sums, first
                )
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6, types.boolean), codegen

    return absorb_class


_absorb_sigmoid = _absorb_class(sigmoid_ir)
_absorb_relu = _absorb_class(lambda builder, x: clip(builder, x, 0.0, float("inf")))
_absorb_as_is = _absorb_class(lambda builder, x: x)


@kernel
def absorb(z, iterations, activation, classes, pivot, sum1, sum2, first):
    """Activate the outputs z[iterations][classes * 64] of several iterations and add them to the running sums.

    It goes class by class, so that the sums stay in registers for all the iterations. `first` tells whether the first
    of these iterations is the first of all.
    """
    if activation == SOFTMAX:
        for t in range(iterations):
            activate_in_place(z[t], activation, classes, LANES)
    stride = z.shape[1] * 4
    for c in range(classes):
        at, near, far = z.ctypes.data + c * LANES * 4, pivot.ctypes.data + c * LANES * 4, c * LANES * 8
        once, twice = sum1.ctypes.data + far, sum2.ctypes.data + far
        if activation == SIGMOID:
            _absorb_sigmoid(at, stride, iterations, near, once, twice, first)
        elif activation == RELU:
            _absorb_relu(at, stride, iterations, near, once, twice, first)
        else:
            _absorb_as_is(at, stride, iterations, near, once, twice, first)


@kernel
def accumulate_entropy(p, activation, classes, lanes, total):
    """Add the predictive entropy (nats) of one iteration, p[classes][lanes], to total[lanes] (float64).

    Softmax: -sum p ln p. Otherwise the classes count as independent yes/no events: sum of -p ln p - (1-p) ln(1-p).
    """
    for c in range(classes):
        for s in range(lanes):
            value = np.float64(p[c * lanes + s])
            if value > 0:
                total[s] -= value * math.log(value)
            if activation != SOFTMAX and value < 1:
                total[s] -= (1 - value) * math.log(1 - value)


@kernel
def finish(pivot, sum1, sum2, iterations, classes, places, mean, std):
    """Write mean and standard deviation (ddof 0) of each sample to a row of mean, std (samples, classes).

    Sample s is lane places[s] of len(places) in pivot, sum1, sum2 [classes][lanes].
    """
    lanes = len(places)
    middle, width = np.empty(classes * lanes, np.float32), np.empty(classes * lanes, np.float32)
    for i in range(classes * lanes):
        shift = sum1[i] / iterations
        middle[i] = np.float32(np.float64(pivot[i]) + shift)
        width[i] = np.float32(math.sqrt(max(sum2[i] / iterations - shift * shift, 0.0)))
    for s in range(len(mean)):
        for c in range(classes):
            mean[s, c], std[s, c] = middle[c * lanes + places[s]], width[c * lanes + places[s]]
