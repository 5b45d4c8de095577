"""What is added to the outputs of the last block before its activation, other numbers for every sample."""

from fastuq.montecarlo.kernels.emit import in_ir
from fastuq.montecarlo.kernels.ir import F32, FLOATS, counting, load, plus, store


@in_ir()
def take_addend(builder, wanted, rows, classes, first, samples, stride, addend):
    """Where `wanted`: write rows (N, C) of `samples` samples from `first` on to addend, as [classes][stride]."""
    with builder.if_then(wanted), counting(builder, samples) as s:
        row = plus(builder, rows, builder.mul(builder.add(first, s), classes), 4)
        with counting(builder, classes) as c:
            at = plus(builder, addend, builder.add(builder.mul(c, stride), s), 4)
            store(builder, load(builder, plus(builder, row, c, 4), F32), at)


@in_ir()
def add_addend(builder, wanted, z, z_at, outputs, iterations, addend, vectors):
    """Where `wanted`: add 16 `vectors` numbers of `addend` to each of z[z_at:] as [iterations][outputs]."""
    z = plus(builder, z, z_at, 4)
    with builder.if_then(wanted), counting(builder, iterations) as iteration:
        here = plus(builder, z, builder.mul(iteration, outputs), 4)
        with counting(builder, vectors) as i:
            at = plus(builder, here, i, 64)
            more = load(builder, plus(builder, addend, i, 64), FLOATS)
            store(builder, builder.fadd(load(builder, at, FLOATS), more), at)
