"""Writes the golden moments anew; there is no reason to but a change of the head's equations."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from golden_moments import (
    CONFIDENCE,
    FILE,
    LAYOUT,
    RUNS,
    SCALE,
    THRESHOLD,
    ZERO_POINT,
    bits,
    decisions_of,
    moments_of,
    sums,
    tiny_features,
)
from heads import random_features, random_head

from fastuq.scoring.decisions import interval
from fastuq.training.head_rounding import quantize_head

head = random_head(LAYOUT)
last = replace(head.blocks[-1], weights=head.blocks[-1].weights / 2, bias=head.blocks[-1].bias * 30 - 6)
head = replace(head, blocks=(head.blocks[0], last))
features = random_features(150, head.num_features)
arrays = {f"head.{name}": array for name, array in head.to_arrays().items()}
head_int8 = quantize_head(head, features, SCALE, ZERO_POINT)
arrays |= {f"int8.{name}": array for name, array in head_int8.to_arrays().items()}
arrays |= {"features": features, "bits": np.array(bits()), "tiny_features": tiny_features()}
for masks in ("shared", "per_sample"):
    arrays[f"sums.{masks}"] = sums(arrays, masks, None)
for precision, masks in RUNS:
    mean, std = moments_of(arrays, precision, masks)
    lower, upper = interval(mean, std, CONFIDENCE)
    assert min(np.abs(lower - THRESHOLD).min(), np.abs(upper - THRESHOLD).min()) > 2e-5, "too close to call"
    arrays |= {f"mean.{precision}.{masks}": mean, f"std.{precision}.{masks}": std}
    arrays[f"decisions.{precision}.{masks}"] = decisions_of(mean, std)
    print(precision, masks, "kept, and how often each reason:", *map(np.bincount, decisions_of(mean, std)[:2]))
np.savez_compressed(FILE, **arrays)
