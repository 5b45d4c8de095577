"""Compiled kernels: arrays and scalars in, arrays out, no validation: `fastuq.montecarlo.engine` does that."""
