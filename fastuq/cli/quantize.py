"""``fastuq quantize``: the name of `fastuq import` for Keras networks."""

from fastuq.cli.import_ import add_arguments, run

__all__ = ["add_arguments", "run"]
