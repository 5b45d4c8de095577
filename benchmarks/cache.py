"""What the feature cache costs: the pipeline beside the bare backbone, and the checksums beside caching and scoring.

    python benchmarks/cache.py [--model DIR] [--images 1024] [--samples 65536] [--rounds 7] [--json FILE]

The sides of a comparison take turns, so that another load on the machine meets both; figures are medians over rounds.
With --samples 1000000 it is the load test: a million synthetic samples written, verified and scored.
"""

import argparse
import itertools
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from million import ROWS_AT_ONCE, peak_mb, synthetic_backbone

from fastuq.bench.timing import Side, interleave, seconds_of
from fastuq.cache import BATCH_SIZE, FeatureCache, cache_features
from fastuq.cache.file import CacheFile
from fastuq.datasets import ImageSet
from fastuq.model.backbone import Backbone
from fastuq.model.model import load_model
from fastuq.scoring.scoring import score
from fastuq.util.files import write_json


def pipeline(model, folder, count, rounds):
    """Compare `cache_features` with the backbone over the same images; both start LiteRT and read the model."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *model.input_shape), np.uint8)
    numbers = itertools.count()

    def cached():
        images = ImageSet(pixels, np.zeros(count, np.int64), None, "random")  # anew, so that its fingerprint is too
        cache_features(images, model, folder / f"{next(numbers)}.h5").close()

    sides = {"bare": Side(lambda: Backbone(model.backbone_path)(pixels), count), "cached": Side(cached, count)}
    wall, processor = (interleave(sides, rounds, clock=clock) for clock in (time.perf_counter, time.process_time))
    return {
        "images": count,
        "backbone_ms_per_image": wall["bare"].median,
        "cache_features_ms_per_image": wall["cached"].median,
        "overhead": wall["cached"].median / wall["bare"].median - 1,
        "overhead_processor_time": processor["cached"].median / processor["bare"].median - 1,
    }


def integrity(model, path, count, rounds):
    """Measure checksums, reading, verifying and scoring of synthetic samples."""
    pool = np.random.default_rng(1).integers(-128, 0, (BATCH_SIZE, model.head.num_features), np.int8)
    pixels = np.broadcast_to(np.uint8(0), (count, *model.input_shape))
    images = ImageSet(pixels, np.zeros(count, np.int64), None, "synthetic")
    images.fingerprint()
    with synthetic_backbone(model, lambda batch: pool[: len(batch)]):
        write = seconds_of(lambda: cache_features(images, model, path).close())
    file = CacheFile(path)
    with FeatureCache.open(path) as cache:
        rows = cache.read(0, min(ROWS_AT_ONCE, count))
        batches = [rows[i : i + BATCH_SIZE].data for i in range(0, len(rows), BATCH_SIZE)]
        sides = {
            "checksums": Side(lambda: [zlib.crc32(batch) for batch in batches], len(rows)),
            "read": Side(lambda: read_all(cache), count),
            "verify": Side(file.pending, count),
            "score": Side(lambda: score(model, cache, details=False), count),
        }
        micro = {name: 1e3 * timing.median for name, timing in interleave(sides, rounds).items()}
    file.close()
    return {
        "samples": count,
        "num_features": model.head.num_features,
        "write_us_per_sample": 1e6 * write / count,
        **{f"{name}_us_per_sample": value for name, value in micro.items()},
        "checksum_share_of_scoring": micro["checksums"] / micro["score"],
        "peak_rss_mb": peak_mb(),
    }


def read_all(cache):
    for start in range(0, len(cache), ROWS_AT_ONCE):
        cache.read(start, min(start + ROWS_AT_ONCE, len(cache)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model folder (default: the bundled one)")
    parser.add_argument("--images", type=int, default=1024, help="random images that the backbone runs on")
    parser.add_argument("--samples", type=int, default=65536, help="synthetic samples that are scored")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    model = load_model(args.model)
    with tempfile.TemporaryDirectory() as folder:
        shares = integrity(model, Path(folder, "synthetic.h5"), args.samples, args.rounds)
        costs = pipeline(model, Path(folder), args.images, args.rounds)
    share = shares["checksums_us_per_sample"] / (1e3 * costs["cache_features_ms_per_image"])
    report = {"pipeline": costs, "integrity": {**shares, "checksum_share_of_caching": share}}
    for part in report.values():
        for key, value in part.items():
            print(f"{key:28} {value:.4g}" if isinstance(value, float) else f"{key:28} {value}")
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
