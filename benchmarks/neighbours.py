"""How often the score knn finds another row than comparing all rows does, what that changes, and what it takes.

    fastuq fit-reference train.h5 --output reference.h5      # --rows 50000: all of CIFAR-100
    python benchmarks/neighbours.py reference.h5 test.h5 digits=digits.h5 textures=textures.h5 noise=noise.h5

Of the first 2,000 samples, and AUROC against up to 1,000 of each foreign set; milliseconds are processor time a sample.
"""

import argparse
import time

import numpy as np

from fastuq import FeatureCache, load_model, load_reference
from fastuq.scoring.metrics import auroc
from fastuq.scoring.scores.chunk import Chunk, unit
from fastuq.scoring.scores.compute import ScoreSet


def rows_of(path, count):
    with FeatureCache.open(path) as cache:
        return cache.read(0, min(count, len(cache)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("cache")
    parser.add_argument("foreign", nargs="*", metavar="NAME=FILE")
    parser.add_argument("--model", help="model folder (default: the bundled one)")
    parser.add_argument("-k", type=int, nargs="*", default=[1, 10])
    args = parser.parse_args()
    model, reference = load_model(args.model) if args.model else load_model(), load_reference(args.reference)
    test = rows_of(args.cache, 2000)
    sets = {name: rows_of(path, 1000) for name, _, path in (each.partition("=") for each in args.foreign)}

    def unit_features(rows):
        return unit(Chunk(model, rows, np.arange(len(rows))).features)

    known = unit_features(reference.rows)
    for k in args.k:
        name = f"knn({k})"
        scorer = ScoreSet(model, [name], reference=reference)

        def found(rows, scorer=scorer, name=name):
            return scorer.of(scorer.chunk(rows))[name]

        def compared(rows, k=k):
            return 2 * np.partition(unit_features(rows) @ known.T, -k, axis=1)[:, -k] - 2

        found(test[:64])
        began = time.process_time()
        ours = found(test)
        took, all_rows = (time.process_time() - began) / len(test) * 1e3, compared(test)
        print(
            f"{len(known):,} rows, k = {k}: {took:.2f} ms, another row for {(abs(ours - all_rows) > 1e-4).mean():.1%}"
        )
        for other, rows in sets.items():
            pairs = ((ours, found(rows)), (all_rows, compared(rows)))
            areas = [auroc(np.concatenate(pair), np.arange(len(test) + len(rows)) < len(test)) for pair in pairs]
            print(f"  {other}: AUROC {100 * areas[0]:.2f}, all rows compared {100 * areas[1]:.2f}")


if __name__ == "__main__":
    main()
