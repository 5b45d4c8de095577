"""Random heads and features for the tests of the head, its quantization and the kernels."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from fastuq.model.head import Block, Head
from fastuq.montecarlo.kernels.targets import TARGETS
from fastuq.montecarlo.masks import keep_bits
from fastuq.training.head_rounding import quantize_head

FEATURE_SCALE, ZERO_POINT = 0.05, -128
LAYOUTS = {
    "paper": [(1280, 300, 0.2, "relu"), (300, 100, 0.4, "sigmoid")],
    "awkward": [(1283, 77, 0.5, "relu"), (77, 10, 0.1, "softmax")],
    "one block": [(33, 5, 0.2, "sigmoid")],
    "four blocks": [
        (64, 70, 0.9, "linear"),
        (70, 13, 0.0, "sigmoid"),
        (13, 130, 0.3, "relu"),
        (130, 3, 0.6, "softmax"),
    ],
    "no dropout": [(5, 2, 0.0, "linear")],
    "linear": [(300, 64, 0.2, "linear"), (64, 10, 0.5, "relu")],
    "affines": [
        (40, 70, 0.2, "gelu"),
        (70, 35, 0.3, "leaky_relu(0.3)", "affine"),
        (35, 21, 0.1, "relu", "affine"),
        (21, 18, 0.6, "hard_silu", "affine"),
        (18, 9, 0.0, "tanh"),
    ],
    "tables": [
        (50, 33, 0.6, "elu"),
        (33, 67, 0.2, "silu", "affine"),
        (67, 20, 0.3, "selu"),
        (20, 19, 0.0, "relu6"),
        (19, 34, 0.1, "gelu_tanh"),
        (34, 5, 0.2, "softplus", "affine"),
    ],
}
"""Blocks as `random_head` takes them. "affine": of the block's inputs."""
ROUNDED = {}
PATHS = [
    pytest.param(
        target, id=target.name, marks=pytest.mark.skipif(not target.runs_here, reason=f"no {target.name} here")
    )
    for target in TARGETS
]


def random_head(layout, seed=0):
    """Make a head from [(inputs, outputs, rate, activation), ...]; a fifth entry stands for an affine of the inputs."""
    rng, affines = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    blocks = tuple(
        Block(
            rate,
            (rng.standard_normal((inputs, outputs)) * 2 * np.sqrt((1 - rate) / inputs)).astype(np.float32),
            (rng.standard_normal(outputs) * 0.1).astype(np.float32),
            activation,
            *((affines.standard_normal((2, inputs)) * 0.3 + [[1], [0]]).astype(np.float32) if affine else (None, None)),
        )
        for inputs, outputs, rate, activation, *affine in layout
    )
    width = layout[0][0]
    scale, shift = (rng.standard_normal(width).astype(np.float32) for _ in range(2))
    return Head(blocks, scale, shift)


def random_features(samples, width, seed=0):
    """Make int8 features like those of a relu network."""
    values = np.abs(np.random.default_rng(seed).standard_normal((samples, width))) * 30 - 128
    return np.clip(values, -128, 127).astype(np.int8)


def dequantize(features):
    return np.float32(FEATURE_SCALE) * (features.astype(np.float32) - np.float32(ZERO_POINT))


def rounded(head, features, seed):
    """Return the int8 head, made once for the same arguments: of the paper's layout that takes seconds."""
    arrays = (*head.to_arrays().values(), features)
    key = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest(), seed
    if key not in ROUNDED:
        ROUNDED[key] = quantize_head(head, features, FEATURE_SCALE, ZERO_POINT, seed=seed)
    return ROUNDED[key]


def model_of(head, features, seed=0):
    """Make what the engine reads of a model: no files, no backbone."""
    model = SimpleNamespace(
        head=head,
        head_int8=rounded(head, features, seed),
        others=(),
        check_one_head=lambda what: None,
        feature_scale=FEATURE_SCALE,
        feature_zero_point=ZERO_POINT,
        dequantize=dequantize,
    )
    model.members = (model,)
    return model


def reference_outputs(model, features, num_iter, seed, masks, precision, ids):
    """Return the outputs (T, N, C) of all iterations by the NumPy heads."""
    head = model.head_int8 if precision == "int8" else model.head
    inputs = features if precision == "int8" else dequantize(features)
    outputs = []
    for iteration in range(num_iter):
        bits = []
        for layer, (width, rate) in enumerate(zip(head.widths, head.rates, strict=True)):
            samples = ids if masks == "per_sample" else [0]
            drawn = [keep_bits(seed, layer, np.array([iteration]), int(n), width, rate)[0] for n in samples]
            bits.append(np.stack(drawn) if masks == "per_sample" else drawn[0])
        outputs.append(head.forward(inputs, bits))
    return np.stack(outputs)
