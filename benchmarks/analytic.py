"""Moments without sampling beside 100,000 iterations, for the bundled head with each activation in its hidden layer.

Usage: python benchmarks/analytic.py TEST_CACHE [--samples 64] [--iterations 100000]

Then, how many decisions are others than those of many iterations.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import fastuq
from fastuq.montecarlo.analytic import analytic_moments
from fastuq.montecarlo.engine import moments

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "hard_silu", "tanh", "sigmoid", "softplus")


def decisions(model, test, samples=2000):
    """Print how many decisions are others than those of T = 5,000, in float32."""
    with fastuq.FeatureCache.open(test, model) as cache:
        features = cache.read(0, samples)
    keep = fastuq.score(model, features, num_iter=5000, precision="float32").keep
    found = {"analytic": fastuq.score(model, features, method="analytic")}
    found |= {f"T = 50, int8, seed {seed}": fastuq.score(model, features, num_iter=50, seed=seed) for seed in (1, 2)}
    for name, result in found.items():
        print(f"\n{name}: {(result.keep != keep).mean():.2%} of {samples:,} decisions are others than with T = 5,000")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", type=Path)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=100_000)
    args = parser.parse_args()
    bundled = fastuq.load_model()
    with fastuq.FeatureCache.open(args.test, bundled) as cache:
        features = cache.read(0, args.samples)
    print("| hidden activation | mean: analytic | T = 50 | deviation: analytic | T = 50 |")
    print("|---|---|---|---|---|")
    for name in ACTIVATIONS:
        hidden, last = bundled.head.blocks
        model = replace(bundled, head=replace(bundled.head, blocks=(replace(hidden, activation=name), last)))
        truth = moments(model, features, num_iter=args.iterations, precision="float32")
        sampled = moments(model, features, num_iter=50, precision="float32", seed=1)
        found = analytic_moments(model.head, model.dequantize(features))
        cells = [
            f"{np.abs(values - expected).mean():.5f} ({np.abs(values - expected).max():.3f})"
            for expected, pair in ((truth.mean, (found[0], sampled.mean)), (truth.std, (found[1], sampled.std)))
            for values in pair
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    decisions(bundled, args.test)


if __name__ == "__main__":
    main()
