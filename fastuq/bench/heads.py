"""The head in the benchmark: fastuq beside batched Keras and NumPy heads, on the paper's layout and random features."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.bench.peak import int8_peak
from fastuq.bench.timing import Side, Timing, interleave
from fastuq.errors import FastUQError
from fastuq.model.activations import activation_of
from fastuq.model.head import Block, Head
from fastuq.model.model import Model
from fastuq.montecarlo.engine import Moments, MonteCarlo
from fastuq.montecarlo.masks import keep_bits
from fastuq.training.head_rounding import quantize_head
from fastuq.training.keras_heads import keras_head
from fastuq.util.process import processors

WIDTH, HIDDEN, CLASSES = 2048, 300, 100
NUM_ITER = 50
KINDS = ("int8.shared", "int8.per_sample", "float32.shared", "float32.per_sample")
GRID_ITERATIONS, GRID_SAMPLES = (50, 200, 1000), (1, 32, 1024, 8192)
GRID_WORK = 1024 * 1000
"""Samples times iterations beyond which the grid leaves out per-sample masks."""
TOLERANCE = 1e-5
_BASELINE_SAMPLES = 1024
_CHECK_ITERATIONS, _CHECK_SAMPLES = 2000, 8


def paper_model(width: int = WIDTH) -> Model:
    """Return a model with the paper's head and random weights."""
    return random_model_of(width, ((0.2, HIDDEN, "relu"), (0.4, CLASSES, "sigmoid")))


def random_model_of(width: int, layout: Sequence[tuple[float, int, str]], *, seed: int = 0) -> Model:
    """Return a model with random weights and no backbone: all that the kernels read.

    Parameters
    ----------
    width : int
        Number of features.
    layout : sequence of (dropout rate, outputs, activation)
    seed : int
    """
    rng = np.random.default_rng(seed)
    blocks, inputs = [], width
    for rate, outputs, activation in layout:
        weights = rng.normal(scale=2 / np.sqrt(inputs), size=(inputs, outputs)).astype(np.float32)
        blocks.append(Block(rate, weights, rng.normal(scale=0.1, size=outputs).astype(np.float32), activation))
        inputs = outputs
    scale, shift = rng.normal(size=(2, width)).astype(np.float32)
    head = Head(tuple(blocks), scale, shift)
    step, zero_point = 0.05, -128
    return Model(
        path=Path(),
        network="random head",
        class_names=tuple(f"class {number}" for number in range(inputs)),
        input_shape=(32, 32, 3),
        feature_scale=step,
        feature_zero_point=zero_point,
        head=head,
        head_int8=quantize_head(head, random_features(1024, width, seed=seed), step, zero_point),
        sha256="0" * 64,
        info={},
    )


def random_features(samples: int, width: int = WIDTH, *, seed: int = 0) -> np.ndarray:
    """Return int8 features (samples, width) that look like those of a relu network."""
    values = np.abs(np.random.default_rng(seed).standard_normal((samples, width), np.float32)) * 30 - 128
    return np.minimum(values, 127).astype(np.int8)


def kernel_of(model: Model, kind: str, num_iter: int = NUM_ITER) -> MonteCarlo:
    """Return the fast path of a kind such as ``int8.shared``."""
    precision, masks = kind.split(".")
    return MonteCarlo(model, num_iter=num_iter, precision=precision, masks=masks)


def numpy_head(model: Model, features: np.ndarray, num_iter: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std by the strongest NumPy form we know: all samples at once, masks on the weights, one BLAS.

    The masks are the shared ones of seed 0, so the result is that of the fast path.
    """
    head = model.head
    inputs = model.dequantize(features) * head.scale + head.shift
    iterations = np.arange(num_iter)
    masks = [
        keep_bits(0, layer, iterations, 0, w, r)
        for layer, (w, r) in enumerate(zip(head.widths, head.rates, strict=True))
    ]
    first, square = np.zeros((2, len(features), head.num_classes))
    for t in range(num_iter):
        x = inputs
        for layer, block in enumerate(head.blocks):
            kept = np.where(masks[layer][t][:, None], block.weights / np.float32(1 - block.rate), np.float32(0))
            x = activation_of(block.activation).forward(x @ kept + block.bias)
        first += x
        square += np.square(x, dtype=np.float64)
    mean = first / num_iter
    return mean, np.sqrt(np.maximum(square / num_iter - mean**2, 0))


def bench_head(*, rounds: int, samples: int, advance: Callable[[], object]) -> dict[str, Any]:
    """Time the four kernels and both baselines, interleaved, after their results were compared.

    Returns
    -------
    dict
        ``head`` and ``baseline``: Timing by name; ``operations`` of int8.shared per sample; ``peak`` of the machine,
        operations per second.
    """
    model, features = paper_model(), random_features(samples)
    few = features[:_BASELINE_SAMPLES]
    real = model.dequantize(few)
    keras = keras_head(model.head)
    check_baselines(model, few, keras)
    # Masks are drawn and heads packed anew in every call, as they are for a user who scores once.
    sides = {kind: Side(partial(_run_anew, model, kind, features), samples) for kind in KINDS}
    sides["keras_repeated_batch"] = Side(partial(keras, real, NUM_ITER), len(few))
    sides["numpy_batched"] = Side(partial(numpy_head, model, few, NUM_ITER), len(few))
    threads = processors()
    peaks = [int8_peak(threads)]
    timings = interleave(sides, rounds, advance)
    peaks += [int8_peak(threads) for _ in range(rounds)]
    return {
        "head": {kind: timings.pop(kind) for kind in KINDS},
        "baseline": timings,
        "operations": shared_operations(model.head, NUM_ITER),
        "peak": max(peaks),
    }


def _run_anew(model: Model, kind: str, features: np.ndarray) -> Moments:
    return kernel_of(model, kind)(features)


def check_baselines(model: Model, features: np.ndarray, keras: Callable[..., tuple[Any, Any]]) -> None:
    """Raise FastUQError unless the baselines compute what the fast path computes.

    NumPy gets the very masks; Keras draws its own, so its moments are compared within their Monte-Carlo error.
    """
    found = kernel_of(model, "float32.shared")(features)
    mean, std = numpy_head(model, features, NUM_ITER)
    require_equal("NumPy and float32 head", (mean, std), (found.mean, found.std))
    few = features[:_CHECK_SAMPLES]
    found = kernel_of(model, "float32.per_sample", _CHECK_ITERATIONS)(few)
    mean, std = keras(model.dequantize(few), _CHECK_ITERATIONS)
    # Outputs p lie in 0 to 1, so both p and p^2 have a variance of at most the mean of p^2.
    square, expected = mean**2 + std**2, found.mean**2 + found.std**2
    error = np.sqrt((square + expected) / _CHECK_ITERATIONS) + 1e-6
    far = float(max((np.abs(mean - found.mean) / error).max(), (np.abs(square - expected) / error).max()))
    if far > 6:
        raise FastUQError(
            f"Keras and float32 head: expected the same moments up to Monte-Carlo error, found {far:.1f} standard "
            "errors; the results of this installation are not to be trusted: run its tests with `make test`"
        )


def require_equal(what: str, expected: tuple, found: tuple) -> None:
    """Raise FastUQError where two pairs (mean, std) differ by more than 1e-5."""
    difference = max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True))
    if difference > TOLERANCE:
        raise FastUQError(
            f"{what} differ by {difference:.1e}, expected at most {TOLERANCE}; "
            "the results of this installation are not to be trusted: run its tests with `make test`"
        )


def bench_grid(
    *, rounds: int, iterations: tuple[int, ...], samples: tuple[int, ...], advance: Callable[[], object]
) -> list[dict[str, Any]]:
    """Time both int8 kernels at every number of iterations and samples: a row (dict) for each."""
    model, features = paper_model(), random_features(max(samples))
    rows = []
    for num_iter in iterations:
        runs = {kind: kernel_of(model, kind, num_iter) for kind in KINDS[:2]}
        sides = {
            (kind, n): Side(partial(run, features[:n]), n)
            for kind, run in runs.items()
            for n in samples
            if kind == "int8.shared" or n * num_iter <= GRID_WORK
        }
        named = {f"{kind} {n}": side for (kind, n), side in sides.items()}
        timings = interleave(named, rounds, advance)
        rows += [
            {"kind": kind, "num_iter": num_iter, "n": n, "ms_per_sample": timings[f"{kind} {n}"].median}
            for kind, n in sides
        ]
    return rows


def shared_operations(head: Head, num_iter: int) -> float:
    """Return the operations (a multiply-add is two) that shared masks need per sample: what is kept, what is dropped.

    The first block counts once whole and, in each iteration, its dropped inputs (or its kept ones, where those are
    fewer); outputs that the next mask drops are not computed.
    """
    total = 0.0
    rates = [*head.rates, 0.0]
    for layer, (inputs, block) in enumerate(zip(head.widths, head.blocks, strict=True)):
        outputs = len(block.bias) * (1 - rates[layer + 1])
        if layer == 0 and block.rate < 0.5:
            total += num_iter * inputs * block.rate * outputs + inputs * len(block.bias)
        else:
            total += num_iter * inputs * (1 - block.rate) * outputs
    return 2 * total


def ratio(timing: Timing, other: Timing) -> float:
    """Return how many times `timing` is faster than `other`, by their medians."""
    return other.median / timing.median
