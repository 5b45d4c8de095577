"""int8 head beside float32 head under the same masks, on labelled images: do decisions and figures of merit agree?

    python benchmarks/precision.py [IMAGES] [--model DIR] [--num-iter 50] [--seeds 3] [--json FILE]

For scale it also compares two seeds at float32: reseeding changes far more than the precision does.
"""

import argparse
from pathlib import Path

import numpy as np

from fastuq.cache import cache_features, default_cache_path
from fastuq.datasets import open_images
from fastuq.errors import InputError
from fastuq.model.model import load_model
from fastuq.scoring.metrics import aurc
from fastuq.scoring.scoring import score
from fastuq.util.files import write_json


def figures_of(result):
    """Return the figures of merit of a result, as fractions."""
    right = result.prediction == result.labels
    kept = result.keep
    return {
        "accuracy_mean": float(right.mean()),
        "accuracy_kept": float(right[kept].mean()) if kept.any() else 0.0,
        "kept": float(kept.mean()),
        "aurc": float(aurc(result.max_mean, right)),
    }


def compared(one, other):
    """Return how far two results agree."""
    a, b = figures_of(one), figures_of(other)
    return {
        "equal_decisions": float((one.keep == other.keep).mean()),
        "equal_decisions_and_predictions": float(
            ((one.keep == other.keep) & (~one.keep | (one.positive == other.positive).all(axis=1))).mean()
        ),
        "largest_difference_of_means": float(np.abs(one.mean - other.mean).max()),
        "difference_in_points": {name: 100 * (b[name] - a[name]) for name in a},
    }


def mean_of(reports):
    """Average reports of several seeds, value by value."""
    first = reports[0]
    if isinstance(first, dict):
        return {key: mean_of([report[key] for report in reports]) for key in first}
    return float(np.mean(reports))


def over_seeds(reports):
    """Average reports of several seeds, and add the largest differences, without sign."""
    points = [report["difference_in_points"] for report in reports]
    largest = {name: max(abs(found[name]) for found in points) for name in points[0]}
    return {**mean_of(reports), "largest_difference_in_points": largest}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", help="labelled images, as `fastuq score` takes them")
    parser.add_argument("--model", help="model folder (default: the bundled one)")
    parser.add_argument("--num-iter", type=int, default=50)
    parser.add_argument("--masks", choices=("shared", "per_sample"), default="shared")
    parser.add_argument("--seeds", type=int, default=3, help="masks of that many seeds are averaged")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = load_model(args.model)
    images = open_images(args.images, image_size=model.input_shape[:2])
    if images.labels is None:
        raise InputError(f"{images.name}: expected labels, found none; give labelled images")
    with cache_features(images, model, default_cache_path(images, model)) as cache:

        def run(precision, seed):
            return score(model, cache, num_iter=args.num_iter, masks=args.masks, precision=precision, seed=seed)

        exact = [run("float32", seed) for seed in range(args.seeds + 1)]
        precisions = over_seeds([compared(exact[seed], run("int8", seed)) for seed in range(args.seeds)])
        seeds = over_seeds([compared(exact[seed], exact[seed + 1]) for seed in range(args.seeds)])
    report = {
        "images": images.name,
        "n": len(images),
        "num_iter": args.num_iter,
        "masks": args.masks,
        "seeds": args.seeds,
        "model_sha256": model.sha256,
        "float32": mean_of([figures_of(result) for result in exact[: args.seeds]]),
        "int8_minus_float32": precisions,
        "next_seed_minus_seed": seeds,
    }
    for title, found in (("int8 against float32, same masks", precisions), ("another seed, float32", seeds)):
        print(f"{title}: {found['equal_decisions']:.2%} of decisions equal; points, mean (largest):", end=" ")
        moved, largest = found["difference_in_points"], found["largest_difference_in_points"]
        print(", ".join(f"{name} {moved[name]:+.2f} ({largest[name]:.2f})" for name in moved))
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
