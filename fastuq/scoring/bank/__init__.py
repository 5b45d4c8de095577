"""The bank: training features as int8 rows by class, and how their similarities join the logits."""

from fastuq.scoring.bank.bank import Bank

__all__ = ["Bank"]
