"""Compiled kernels: arrays and scalars in, arrays out, no validation. `fastuq.montecarlo` checks and calls them."""
