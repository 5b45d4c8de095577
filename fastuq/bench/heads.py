"""The head in the benchmark: fastuq beside Keras, NumPy and plain Numba, on the paper's layout and random features."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.bench.baselines import check_baselines, keras_head, numpy_head
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
GRID_ITERATIONS, GRID_SAMPLES = (50, 200, 1000), (1, 32, 1024, 8192)
GRID_WORK = 1024 * 1000
"""Samples times iterations beyond which the grid leaves out per-sample masks."""
_BASELINE_SAMPLES = 1024


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
    real = model.dequantize(few)
    keras = keras_head(model.head)
    check_baselines(model, few, keras, NUM_ITER)
    # Masks are drawn and heads packed anew in every call, as they are for a user who scores once.
    sides = {kind: Side(partial(_run_anew, model, kind, features), samples) for kind in KINDS}
    sides["keras_repeated_batch"] = Side(partial(keras, real, NUM_ITER), len(few))
    sides["plain_numba"] = Side(partial(plain_numba_head, model.head_int8, few, NUM_ITER), len(few))
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


def bench_grid(
    *,
    rounds: int,
    iterations: tuple[int, ...],
    samples: tuple[int, ...],
    advance: Callable[[], object],
    width: int = WIDTH,
) -> list[dict[str, Any]]:
    """Time both int8 kernels at every number of iterations and samples: a row (dict) for each."""
    model, features = paper_model(width), random_features(max(samples), width)
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
