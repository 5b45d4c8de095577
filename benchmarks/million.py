"""A cache of a million synthetic samples: written, verified, damaged, repaired and scored, within bounded memory.

    python benchmarks/million.py [--samples 1000000] [--features 2048] [--num-iter 50] [--folder DIR] [--json FILE]

Images and backbone are made up and cost nothing, so that the times are those of the cache and of the head. Every row
is checked against what was made; a wrong one, or a peak of memory of 1 GB or more, ends the run with an error.
"""

import argparse
import resource
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from fastuq.bench.heads import paper_model
from fastuq.bench.timing import seconds_of
from fastuq.cache import FeatureCache, cache_features
from fastuq.cache.file import CacheFile
from fastuq.datasets import ImageSet
from fastuq.model.model import Model
from fastuq.scoring.scoring import score
from fastuq.util.files import write_json

MEMORY_MB = 1000
ROWS_AT_ONCE = 8192


class Numbers:
    """Images of one pixel that holds the number of the image."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count):
        self.shape = (count, 1, 1, 3)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        numbers = np.arange(*key.indices(len(self)), dtype="<u4")
        return numbers.view(np.uint8).reshape(-1, 1, 1, 4)[..., :3]


class Rows:
    """Features that tell which image they belong to: a row of a pool, and the image's number in its first bytes."""

    def __init__(self, width):
        self.pool = np.random.default_rng(0).integers(-128, 0, (997, width), np.int8)

    def __call__(self, images):
        bytes_of = np.zeros((len(images), 4), np.uint8)
        bytes_of[:, :3] = images[:, 0, 0]
        rows = self.pool[bytes_of.view("<u4")[:, 0] % len(self.pool)]
        rows[:, :3] = bytes_of[:, :3].view(np.int8)
        return rows


@contextmanager
def synthetic_backbone(model, rows):
    """Let any backbone be `rows`, which takes no time, for the cost of all that is around one."""

    class Synthetic:
        output_shape, scale, zero_point = (model.head.num_features,), model.feature_scale, model.feature_zero_point

        def __init__(self, content, *, threads=None):
            pass

        def __call__(self, images):
            return rows(images)

    with (
        mock.patch("fastuq.model.backbone.Backbone", Synthetic),
        mock.patch.object(Model, "read_backbone", return_value=b""),
    ):
        yield


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(folder, count, width, num_iter):
    """Return seconds and peaks of memory of every step."""
    rows, path, report = Rows(width), folder / "million.h5", {}
    model = replace(paper_model(width), input_shape=(1, 1, 3))
    images = ImageSet(Numbers(count), None, None, "synthetic")
    images.fingerprint()

    def step(name, work):
        found = []
        seconds = seconds_of(lambda: found.append(work()))
        report[name] = {"seconds": seconds, "peak_rss_mb": peak_mb()}
        print(f"{name:8} {report[name]['seconds']:8.2f} s   peak RSS {report[name]['peak_rss_mb']:6.0f} MB", flush=True)
        return found[0]

    def write():
        with cache_features(images, model, path) as cache:
            return cache.computed

    def check():
        with FeatureCache.open(path, model, images) as cache:
            for start in range(0, count, ROWS_AT_ONCE):
                stop = min(start + ROWS_AT_ONCE, count)
                assert np.array_equal(cache.read(start, stop), rows(images.images[start:stop])), f"rows from {start}"

    def verify():
        file = CacheFile(path)
        pending = file.pending()
        file.close()
        return pending

    with synthetic_backbone(model, rows):
        assert step("write", write) == count
        assert step("verify", verify) == []
        step("check", check)
        with path.open("r+b") as file:  # one bit of the last batches
            file.seek(path.stat().st_size - 3 * width)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
        assert len(verify()) == 1
        assert 0 < step("repair", write) < count // 100
        step("check", check)
    with FeatureCache.open(path, model) as cache:
        score(model, cache.read(0, 64), num_iter=num_iter)  # compiles
        result = step("score", lambda: score(model, cache, num_iter=num_iter, details=False))
        few = score(model, cache.read(0, 1000), num_iter=num_iter)
    assert np.array_equal(result.keep[:1000], few.keep)
    assert np.array_equal(result.predicted_mean[:1000], few.predicted_mean)
    return {"samples": count, "features": width, "num_iter": num_iter, "bytes": path.stat().st_size, **report}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--num-iter", type=int, default=50)
    parser.add_argument("--folder", help="where the cache of some 2 GB is written for the time of the run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        report = run(Path(folder), args.samples, args.features, args.num_iter)
    if args.json:
        write_json(args.json, report)
    assert peak_mb() < MEMORY_MB, f"peak RSS {peak_mb():.0f} MB, expected less than {MEMORY_MB}"


if __name__ == "__main__":
    main()
