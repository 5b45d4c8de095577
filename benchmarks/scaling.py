"""Shards on a Dask cluster of this machine: what they cost beside one process, and many of them with a stub backbone.

    python benchmarks/scaling.py [--images 20000] [--shard-size 10000] [--workers 1 2] [--shards 10000] [--json FILE]

First random images and the bundled model: plain, in one file with as many threads, and by workers of one thread each.
Then many small shards, images and backbone made up: what a shard costs client and scheduler, with one of two workers
killed halfway. Features and decisions are compared with those of one process; others end the run with an error.
"""

import argparse
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster, WorkerPlugin

from fastuq.cache import cache_features
from fastuq.datasets import ImageSet, open_images
from fastuq.model.model import load_model
from fastuq.scoring.scoring import score
from fastuq.util.files import write_json

SAMPLES = 20
"""Of a made-up shard."""


class Numbers:
    """Images whose first pixel holds the number of the image."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count):
        self.shape = (count, 32, 32, 3)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        numbers = np.arange(*key.indices(len(self)), dtype="<u4")
        images = np.zeros((len(numbers), *self.shape[1:]), np.uint8)
        images[:, 0, 0] = numbers.view(np.uint8).reshape(-1, 4)[:, :3]
        return images


class Stub:
    """A backbone that takes no time."""

    scale = zero_point = None

    def __init__(self, content, *, threads=None):
        self.output_shape = (1280,)
        self.pool = np.random.default_rng(0).integers(-128, 128, (997, 1280)).astype(np.int8)

    def __call__(self, images):
        return self.pool[images[:, 0, 0].astype(np.int64) @ [1, 256, 65536] % len(self.pool)]


class StubBackbone(WorkerPlugin):
    """Lets the backbone of every worker be the stub, of those too that are started in place of killed ones."""

    def __init__(self, model):
        self.scale, self.zero_point = model.feature_scale, model.feature_zero_point

    def setup(self, worker):
        import fastuq.model.backbone

        Stub.scale, Stub.zero_point = self.scale, self.zero_point
        fastuq.model.backbone.Backbone = Stub


def timed(work):
    began, used = time.perf_counter(), time.process_time()
    made = work()
    return made, {"seconds": time.perf_counter() - began, "cpu_of_client_and_scheduler": time.process_time() - used}


def cluster_of(workers):
    return LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)


def overhead_once(model, folder, path, count, shard_size, workers, client):
    """Return the times of caching and scoring, of one process and of the workers."""

    def images():
        return open_images(path).subset(0, count)

    plain, cached = timed(lambda: cache_features(images(), model, f"{folder}.h5", threads=workers))
    shards, spread = timed(lambda: cache_features(images(), model, folder, shard_size=shard_size, client=client))
    with plain, shards:
        assert np.array_equal(plain.read(0, count), shards.read(0, count))
        here, scored = timed(lambda: score(model, plain, details=False, threads=workers))
        there, by_workers = timed(lambda: score(model, shards, details=False, client=client))
    assert np.array_equal(here.keep, there.keep)
    return {"cache": [cached, spread], "score": [scored, by_workers]}


def overhead(folder, count, shard_size, workers, rounds):
    """Return what plain runs with as many threads as there are workers take, and what the workers take."""
    model, path = load_model(), folder / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8))
    with cluster_of(workers) as cluster, Client(cluster, set_as_default=False) as client:
        overhead_once(
            model, folder / f"{workers}-first", path, min(count, 512), 256, workers, client
        )  # what starts once
        rest = (path, count, shard_size, workers, client)
        found = [overhead_once(model, folder / f"{workers}-{number}", *rest) for number in range(rounds)]
    report = {"workers": workers, "images": count, "shard_size": shard_size}
    for what in ("cache", "score"):
        plain, spread = (float(np.median([each[what][n]["seconds"] for each in found])) for n in (0, 1))
        report[what] = {"plain": plain, "workers": spread, "overhead": spread / plain - 1}
        print(f"{workers} worker(s), {what:5}: plain {plain:.1f} s, cluster {spread:.1f} s, {spread / plain - 1:+.1%}")
    return report


def simulation(folder, shards):
    """Cache and score many made-up shards by two workers, one of which is killed halfway."""
    model = load_model()
    images = ImageSet(Numbers(shards * SAMPLES), None, None, "synthetic")
    with cluster_of(2) as cluster, Client(cluster, set_as_default=False) as client:
        client.register_plugin(StubBackbone(model))
        process = client.run(os.getpid)
        killer = threading.Thread(target=kill_halfway, args=(folder / "shards", shards // 2, min(process.values())))
        killer.start()
        cache, cached = timed(
            lambda: cache_features(images, model, folder / "shards", shard_size=SAMPLES, client=client)
        )
        killer.join()
        result, scored = timed(lambda: score(model, cache, details=False, client=client))
    with cache:
        features, opened = timed(lambda: cache.read(0, len(cache)))
        assert np.array_equal(features, Stub(b"")(images.images[: len(images)]))
        plain, alone = timed(lambda: score(model, cache, details=False))
        assert np.array_equal(plain.keep, result.keep)
    report = {"cached": cached, "scored": scored, "read by one process": opened, "scored by one process": alone}
    for name, of in report.items():
        each = of["cpu_of_client_and_scheduler"] / shards * 1000
        print(f"{shards} shards, {name}: {of['seconds']:.1f} s, {each:.2f} ms of processor time here for each shard")
    return {"shards": shards, "samples": len(images), **report}


def kill_halfway(folder, count, process):
    while not folder.is_dir() or sum(1 for _ in os.scandir(folder)) < count:
        time.sleep(0.2)
    os.kill(process, signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--shard-size", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=10_000, help="of the simulation")
    parser.add_argument("--folder", help="where images and caches are for the time of the run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        report = {
            "overhead": [overhead(folder, args.images, args.shard_size, n, args.rounds) for n in args.workers],
            "simulation": simulation(folder, args.shards),
        }
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
