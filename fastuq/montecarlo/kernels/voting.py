"""Votes: the class of the largest output of each iteration, counted."""

from numba.core import cgutils

from fastuq.montecarlo.kernels.deciding import LOWEST, Largest
from fastuq.montecarlo.kernels.emit import in_ir, outlined
from fastuq.montecarlo.kernels.ir import F32, FLOATS, I32, I64, LANES, PART, counting, load, plus, splat, store


def _count(builder, votes, place):
    at = plus(builder, votes, place, 4)
    store(builder, builder.add(load(builder, at, I32), I32(1)), at)


@outlined
def _votes_of_part(builder, p, classes, votes, samples):
    """Count what up to 16 samples p[classes][64] vote for in rows of `votes`; both are addresses."""
    largest = Largest(builder)
    with counting(builder, classes) as c:
        largest.see(load(builder, plus(builder, p, c, 4 * LANES), FLOATS), splat(builder, builder.trunc(c, I32)))
    _, places = largest.found()
    with counting(builder, samples) as s:
        place = builder.zext(builder.extract_element(places, builder.trunc(s, I32)), I64)
        _count(builder, plus(builder, votes, builder.mul(s, classes), 4), place)


@outlined
def _vote_of_row(builder, p, classes, votes):
    """Count what one sample p[classes] votes for; both are addresses."""
    value, place = cgutils.alloca_once(builder, F32), cgutils.alloca_once(builder, I64)
    builder.store(F32(LOWEST), value)
    builder.store(I64(0), place)
    with counting(builder, classes) as c:
        here = load(builder, plus(builder, p, c, 4), F32)
        better = builder.fcmp_ordered(">", here, builder.load(value))
        builder.store(builder.select(better, here, builder.load(value)), value)
        builder.store(builder.select(better, c, builder.load(place)), place)
    _count(builder, votes, builder.load(place))


@in_ir()
def add_votes(builder, wanted, p, outputs, iterations, classes, votes, first, samples):
    """Where they are `wanted`: add the votes of activated outputs p[iterations][outputs] of up to 64 lanes.

    They are those of `samples` samples, whose rows of `votes` (N, C) int32 begin at `first`. Of equal outputs the first
    class has the vote.
    """
    parts = builder.sdiv(builder.add(samples, I64(PART - 1)), I64(PART))
    with builder.if_then(wanted), counting(builder, iterations) as iteration, counting(builder, parts) as part:
        here = plus(builder, p, builder.mul(iteration, outputs), 4)
        begin = builder.mul(part, I64(PART))
        left = builder.sub(samples, begin)
        some = builder.select(builder.icmp_signed("<", left, I64(PART)), left, I64(PART))
        rows = plus(builder, votes, builder.mul(builder.add(first, begin), classes), 4)
        _votes_of_part(builder, plus(builder, here, begin, 4), classes, rows, some)


@in_ir()
def add_vote(builder, wanted, p, outputs, iterations, classes, votes, sample):
    """Where they are `wanted`: add the votes of activated outputs p[iterations][outputs] of one sample."""
    with builder.if_then(wanted), counting(builder, iterations) as iteration:
        here = plus(builder, p, builder.mul(iteration, outputs), 4)
        _vote_of_row(builder, here, classes, plus(builder, votes, builder.mul(sample, classes), 4))
