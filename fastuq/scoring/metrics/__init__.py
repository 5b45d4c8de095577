"""Figures of merit: how right predictions are, and how well a score tells which of them to trust (docs/method.md)."""

from fastuq.scoring.metrics.bootstrap import bootstrap_interval
from fastuq.scoring.metrics.calibration import brier, ece, nll, reliability_bins
from fastuq.scoring.metrics.classification import accuracy, micro_f1
from fastuq.scoring.metrics.detection import auroc, fpr_at_tpr
from fastuq.scoring.metrics.selective import (
    augrc,
    aurc,
    coverage_at_risk,
    e_aurc,
    risk_at_coverage,
    risk_coverage_curve,
)

__all__ = [
    "accuracy",
    "augrc",
    "aurc",
    "auroc",
    "bootstrap_interval",
    "brier",
    "coverage_at_risk",
    "e_aurc",
    "ece",
    "fpr_at_tpr",
    "micro_f1",
    "nll",
    "reliability_bins",
    "risk_at_coverage",
    "risk_coverage_curve",
]
