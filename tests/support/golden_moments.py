"""What the golden file of the moments holds, computed anew."""

import hashlib
from types import SimpleNamespace

import numpy as np
from places import GOLDEN, TINY

from fastuq.datasets import open_images
from fastuq.model.backbone import Backbone
from fastuq.model.head import Head
from fastuq.model.int8_head import QuantizedHead
from fastuq.model.model import load_model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.masks import keep_bits
from fastuq.scoring.decisions import decide, interval, ternary_vector

FILE = GOLDEN / "moments.npz"
LAYOUT = [(96, 40, 0.2, "relu"), (40, 10, 0.4, "sigmoid")]
SCALE, ZERO_POINT = 0.05, -128
RUNS = [(precision, masks) for precision in ("int8", "float32") for masks in ("shared", "per_sample")]
ITERATIONS, SEED, THRESHOLD, CONFIDENCE = 20, 11, 0.5, 0.7


def model_from(arrays, last="sigmoid"):
    """Make what the engine reads of a model from the golden arrays; `last` replaces the last activation."""
    parts = [
        {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        for prefix in ("head.", "int8.")
    ]
    for part in parts:
        part["layout"] = np.array(str(part["layout"]).replace("sigmoid", last))
    return SimpleNamespace(
        head=Head.from_arrays(parts[0]),
        head_int8=QuantizedHead.from_arrays(parts[1]),
        feature_scale=SCALE,
        feature_zero_point=ZERO_POINT,
        check_one_head=lambda what: None,
        dequantize=lambda q: np.float32(SCALE) * (q.astype(np.float32) - np.float32(ZERO_POINT)),
    )


def sums(arrays, masks, target):
    """Pre-activations of the int8 head, exact to the last bit: integer sums and one float32 multiply-add."""
    run = MonteCarlo(model_from(arrays, "linear"), num_iter=2, seed=SEED, masks=masks, target=target)
    return run(arrays["features"], np.arange(len(arrays["features"]))).mean


def moments_of(arrays, precision, masks):
    run = MonteCarlo(model_from(arrays), num_iter=ITERATIONS, seed=SEED, masks=masks, precision=precision)
    found = run(arrays["features"], np.arange(len(arrays["features"])))
    return found.mean, found.std


def decisions_of(mean, std):
    lower, upper = interval(mean, std, CONFIDENCE)
    found = decide(ternary_vector(lower, upper, THRESHOLD), mean)
    return np.stack([found.keep.astype(np.int64), found.reason.astype(np.int64), found.prediction])


def bits():
    drawn = [keep_bits(SEED, layer, np.arange(50), 7, 300, rate) for layer, rate in ((0, 0.2), (1, 0.4), (2, 0.9))]
    return hashlib.sha256(np.packbits(np.stack(drawn)).tobytes()).hexdigest()


def tiny_features():
    return Backbone(load_model(TINY).read_backbone())(np.ascontiguousarray(open_images("bundled").images))
