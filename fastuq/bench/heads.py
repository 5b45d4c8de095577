"""The head in the benchmark: fastuq beside Keras, NumPy and plain Numba, on the paper's layout and random features."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.bench.baselines import check_baselines, check_plain_numba, keras_head, numpy_head
from fastuq.bench.peak import int8_peak
from fastuq.bench.plain_numba import plain_numba_head
from fastuq.bench.timing import Side, Timing, interleave
from fastuq.model.head import Block, Head
from fastuq.model.model import Model
from fastuq.montecarlo.engine import Moments, MonteCarlo
from fastuq.training.head_rounding import quantize_head
from fastuq.util.process import processors

WIDTH, HIDDEN, CLASSES = 2048, 300, 100
NUM_ITER = 50
KINDS = ("int8.shared", "int8.per_sample", "float32.shared", "float32.per_sample")
GRID_ITERATIONS, GRID_SAMPLES = (50, 200, 1000), (1, 16, 32, 64, 1024)
SMALL_WIDTH, SMALL_SAMPLES = 1280, (128, 1024, 8192)
_BASELINE_SAMPLES = 1024
_FIRST = 64
"""Samples of the first call of a kernel, which compiles it."""
_SECONDS, _GRID_SECONDS = 3.0, 1.0
"""What the measurements of one side may take, where they are more than three."""
_PEAKS = 4


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


def bench_head(*, rounds: int, samples: int, advance: Callable[[], object], width: int = WIDTH) -> dict[str, Any]:
    """Time the four kernels and the baselines, interleaved, after their results were compared.

    Returns
    -------
    dict
        ``head`` and ``baseline``: Timing by name; ``operations`` of int8.shared per sample; ``peak`` of the machine,
        operations per second.
    """
    model, features = paper_model(width), random_features(samples, width)
    few = features[:_BASELINE_SAMPLES]
    keras = keras_head(model.head)
    check_baselines(model, few, keras, NUM_ITER)
    check_plain_numba(model, few, NUM_ITER)
    sides = {kind: _kernel_side(model, kind, features) for kind in KINDS}
    sides["keras_repeated_batch"] = _keras_side(model, keras, few)
    sides["plain_numba"] = Side(partial(plain_numba_head, model.head_int8, few, NUM_ITER), len(few), _done)
    sides["numpy_batched"] = _numpy_side(model, few)
    threads = processors()
    peaks = [int8_peak(threads)]
    timings = interleave(sides, rounds, advance, seconds=_SECONDS)
    peaks += [int8_peak(threads) for _ in range(_PEAKS - 1)]
    return {
        "head": {kind: timings.pop(kind) for kind in KINDS},
        "baseline": timings,
        "operations": shared_operations(model.head, NUM_ITER),
        "peak": max(peaks),
    }


def bench_small_head(
    *, rounds: int, samples: Sequence[int], advance: Callable[[], object], width: int = SMALL_WIDTH
) -> dict[int, dict[str, Timing]]:
    """Time dropout .2 and one dense layer, softmax: int8, shared masks, beside Keras and NumPy.

    Returns
    -------
    dict
        By number of samples, Timing by name. Baselines take no more than 1,024 samples, for all numbers above alike.
    """
    model, features = random_model_of(width, ((0.2, CLASSES, "softmax"),)), random_features(max(samples), width)
    keras = keras_head(model.head)
    check_baselines(model, features[:_BASELINE_SAMPLES], keras, NUM_ITER)
    sides = {}
    for n in samples:
        few = features[: min(n, _BASELINE_SAMPLES)]
        sides["int8.shared", n] = _kernel_side(model, "int8.shared", features[:n])
        sides["keras_repeated_batch", len(few)] = _keras_side(model, keras, few)
        sides["numpy_batched", len(few)] = _numpy_side(model, few)
    timings = interleave(sides, rounds, advance, seconds=_SECONDS)
    baselines = ("keras_repeated_batch", "numpy_batched")
    return {
        n: {name: timings[name, min(n, _BASELINE_SAMPLES)] for name in baselines}
        | {"int8.shared": timings["int8.shared", n]}
        for n in samples
    }


def _kernel_side(model: Model, kind: str, features: np.ndarray) -> Side:
    """Return a kernel that draws masks and packs heads anew in every call, as it does for a user who scores once."""
    run = partial(_run_anew, model, kind)
    return Side(partial(run, features), len(features), partial(run, features[:_FIRST]))


def _keras_side(model: Model, keras: Callable[..., object], features: np.ndarray) -> Side:
    real = model.dequantize(features)
    return Side(partial(keras, real, NUM_ITER), len(real), partial(keras, real[:_FIRST], NUM_ITER))


def _numpy_side(model: Model, features: np.ndarray) -> Side:
    return Side(partial(numpy_head, model, features, NUM_ITER), len(features), _done)


def _done() -> None:
    """Do nothing: the comparison of the results has called this side already."""


def _run_anew(model: Model, kind: str, features: np.ndarray) -> Moments:
    return kernel_of(model, kind)(features)


def bench_grid(
    *,
    rounds: int,
    iterations: Sequence[int],
    samples: Sequence[int],
    advance: Callable[[], object],
    width: int = WIDTH,
) -> dict[tuple[str, int, int], Timing]:
    """Time both int8 kernels, masks drawn and heads packed beforehand: Timing by (kind, iterations, samples)."""
    model, features = paper_model(width), random_features(max(samples), width)
    timings: dict[tuple[str, int, int], Timing] = {}
    for num_iter in iterations:
        runs = {kind: kernel_of(model, kind, num_iter) for kind in KINDS[:2]}
        sides = {
            (kind, num_iter, n): Side(partial(run, features[:n]), n, partial(run, features[: min(n, _FIRST)]))
            for n in samples
            for kind, run in runs.items()
        }
        timings |= interleave(sides, rounds, advance, seconds=_GRID_SECONDS)
    return timings


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
