"""Scores of single predictions, all from one read of a feature cache (docs/scores.md)."""

from fastuq.scoring.scores.compute import scores
from fastuq.scoring.scores.fit import fit_reference
from fastuq.scoring.scores.reference import Reference, load_reference

__all__ = ["Reference", "fit_reference", "load_reference", "scores"]
