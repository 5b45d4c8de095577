"""Results of a fixed head on fixed features, kept in a file: another release of a dependency that changes them is seen.

`python tests/test_golden_moments.py` writes the file anew; there is no reason to but a change of the head's equations.
"""

import hashlib
import re
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from places import GOLDEN, ROOT, TINY

from fastuq.datasets import open_images
from fastuq.model.backbone import Backbone
from fastuq.model.head import Head
from fastuq.model.int8_head import QuantizedHead
from fastuq.model.model import load_model
from fastuq.montecarlo.engine import MonteCarlo
from fastuq.montecarlo.kernels.compiled import has_vnni
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
        dequantize=lambda q: np.float32(SCALE) * (q.astype(np.float32) - np.float32(ZERO_POINT)),
    )


def sums(arrays, masks, vnni):
    """Pre-activations of the int8 head, exact to the last bit: integer sums and one float32 multiply-add."""
    run = MonteCarlo(model_from(arrays, "linear"), num_iter=2, seed=SEED, masks=masks, vnni=vnni)
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


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as arrays:
        return dict(arrays)


def test_keep_bits(golden):
    assert bits() == str(golden["bits"])


@pytest.mark.parametrize("masks", ["shared", "per_sample"])
@pytest.mark.parametrize("vnni", [False, True])
def test_integer_sums(golden, masks, vnni):
    if vnni and not has_vnni():
        pytest.skip("this processor has no AVX512-VNNI")
    assert np.array_equal(sums(golden, masks, vnni), golden[f"sums.{masks}"])


@pytest.mark.parametrize(("precision", "masks"), RUNS)
def test_moments_and_decisions(golden, precision, masks):
    mean, std = moments_of(golden, precision, masks)
    assert np.abs(mean - golden[f"mean.{precision}.{masks}"]).max() <= 1e-5
    assert np.abs(std - golden[f"std.{precision}.{masks}"]).max() <= 1e-5
    assert np.array_equal(decisions_of(mean, std), golden[f"decisions.{precision}.{masks}"])


def test_features(golden):
    """Not wrong if it fails: this LiteRT computes other features, which a cache says of itself (its runtime)."""
    found = tiny_features()
    assert found.shape == golden["tiny_features"].shape
    steps = np.abs(found.astype(int) - golden["tiny_features"])
    assert steps.max() <= 1
    assert (steps > 0).mean() <= 0.01


def test_oldest_versions_are_the_lower_bounds():
    """`make test-oldest` tests what pyproject.toml promises."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["images"]]
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / ".ci" / "oldest.txt").read_text(), re.MULTILINE))
    assert pinned.keys() == {line.split(">=")[0] for line in wanted}
    for name, bound in (line.split(">=") for line in wanted):
        assert pinned[name].removesuffix(".0") == bound.removesuffix(".0"), name


def make():
    from heads import random_features, random_head

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


if __name__ == "__main__":
    make()
