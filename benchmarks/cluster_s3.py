"""From tar files on S3 to features and a Parquet table there, by two workers of which one is killed midway.

    python benchmarks/cluster_s3.py [--images 120] [--tars 3] [--caches DIR] [--model DIR] [--folder DIR] [--json FILE]

Scheduler, workers and `fastuq` are programs of their own, started as the lines say that are printed; the S3 server is
moto on the loopback. The images are the first of `--tars` splits of CIFAR-100-C where FASTUQ_DATA has it, else random.
Features and table are compared with those of one process that has the same pixels as an array; with `--caches` its
features are those that `fastuq score-cifar100c` left there. Whatever differs, or is computed or put twice, ends the run
with an error.
"""

import argparse
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fastuq import FeatureCache, cache_features, load_model, open_images, score
from fastuq.datasets import data_root
from fastuq.datasets.corruptions import SEVERITIES
from fastuq.datasets.published import CIFAR100C
from fastuq.report.samples import write_sample_table
from fastuq.util.files import write_json

IMAGES, FEATURES, TABLE = "s3://bucket/images/*.tar", "s3://bucket/features", "s3://bucket/table.parquet"


def splits(images, tars):
    """Return name, pixels and labels of each tar file: the first images of splits that lie evenly among all 95."""
    counts = [images * (n + 1) // tars - images * n // tars for n in range(tars)]
    if not (data_root() / "CIFAR-100-C" / "labels.npy").exists():
        print("no CIFAR-100-C in FASTUQ_DATA: the images are random")
        draw = np.random.default_rng(0)
        for number, count in enumerate(counts):
            pixels = draw.integers(0, 256, (count, 32, 32, 3), np.uint8)
            yield f"random-{number}", pixels, draw.integers(0, 100, count)
        return
    every = list(product(CIFAR100C, SEVERITIES))
    for number, count in enumerate(counts):
        corruption, severity = every[number * len(every) // tars]
        found = open_images(f"cifar100c/{corruption}/{severity}").subset(0, count)
        yield f"{corruption}-{severity}", found.read(0, count), found.labels


def write_tar(path, pixels, labels):
    """Write images as PNG with their class, as WebDataset lays them out."""
    from PIL import Image

    with tarfile.open(path, "w") as tar:
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            for suffix, data in (("png", png.getvalue()), ("cls", str(label).encode())):
                info = tarfile.TarInfo(f"{number:05}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def plain_features(model, folder, name, pixels, caches):
    """Return the features of a split that one process made: from a cache that is there, or now."""
    corruption, _, severity = name.rpartition("-")
    path = caches / f"{corruption}-{model.sha256[:8]}.h5" if caches else None
    if path is None or not path.exists():
        with cache_features(pixels, model, folder / "plain" / f"{name}.h5") as cache:
            return cache.read(0, len(cache)), False
    with FeatureCache.open(path, model) as cache:
        start = SEVERITIES.index(int(severity)) * (len(cache) // len(SEVERITIES))
        return cache.read(start, start + len(pixels)), True


class Programs:
    """Programs that run beside this one, each in a folder of its own as if on another machine."""

    def __init__(self, folder, stack):
        self.folder, self._stack = folder, stack

    def start(self, name, *command, **environment):
        place = self.folder / name
        place.mkdir()
        with open(place / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=place, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        print(f"{name}: {shlex.join(command)}")
        return process

    def said(self, name, pattern):
        """Return what a program has written by now that is like a pattern."""
        return re.findall(pattern, (self.folder / name / "log").read_text(errors="replace"))

    def wait_for(self, name, pattern, seconds=60):
        end = time.monotonic() + seconds
        while not (found := self.said(name, pattern)):
            if time.monotonic() > end:
                raise SystemExit(f"{name} did not say {pattern!r}: {(self.folder / name / 'log').read_text()}")
            time.sleep(0.1)
        return found[0]


def server(programs):
    """Start the S3 server, point the environment to it, and return its file system."""
    import fsspec

    programs.start("s3", "moto.server", "-H", "127.0.0.1", "-p", "0")
    url = programs.wait_for("s3", r"Running on (http://127\.0\.0\.1:\d+)")
    keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {**keys, "AWS_ENDPOINT_URL": url, "NO_PROXY": "127.0.0.1"}
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.mkdir("bucket")
    return system


def cluster(programs):
    """Start a scheduler and two workers of one thread, and return its address and the worker that is to be killed."""
    programs.start("scheduler", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    address = programs.wait_for("scheduler", r"Scheduler at:\s+(tcp://\S+)")
    worker = ("dask", "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    doomed, _ = (programs.start(name, *worker) for name in ("worker-1", "worker-2"))
    for name in ("worker-1", "worker-2"):
        programs.wait_for(name, "Registered to")
    return address, doomed


def commanded(programs, name, *command):
    """Start a command of fastuq and return it with what ends it: that gives its report and seconds."""
    began = time.perf_counter()
    process = programs.start(name, "fastuq", *command, "--json", "report.json")

    def ended():
        if process.wait():
            raise SystemExit(f"{name} failed: {programs.said(name, '(?s).+')[0]}")
        seconds = round(time.perf_counter() - began, 1)
        return json.loads((programs.folder / name / "report.json").read_text()), seconds

    return process, ended


def kill_midway(system, making, doomed, shards):
    """Kill a worker when a third of the shards is there; return how many were."""
    while making.poll() is None:
        there = sum(name.endswith(".h5") for name in system.find("bucket/features"))
        if there >= max(1, shards // 3):
            os.kill(doomed.pid, signal.SIGKILL)
            return there
        time.sleep(0.05)
    if making.poll():
        return 0  # what it says is said later
    raise SystemExit("the run was over before a worker could be killed; give more images")


def compared(model, folder, found, caches, table):
    """Compare features and table with those of one process, and return what was compared."""
    expected, from_caches = [], 0
    with FeatureCache.open(FEATURES, model) as cache:
        for name, pixels, _ in found:
            features, ready = plain_features(model, folder, name, pixels, caches)
            from_caches += len(pixels) * ready
            start = sum(map(len, expected))
            if not np.array_equal(cache.read(start, start + len(pixels)), features):
                raise SystemExit(f"{name}: the features differ")
            expected.append(features)
        samples = len(cache)
    result = score(model, np.concatenate(expected), labels=np.concatenate([f[2] for f in found]), details=False)
    write_sample_table(folder / "plain.parquet", result, model.class_names)
    plain, ours = pq.read_table(folder / "plain.parquet"), pq.read_table(io.BytesIO(table))
    names = [f"{name}.tar/{n:05}.png" for name, pixels, _ in found for n in range(len(pixels))]
    if ours["file"].to_pylist() != names:
        raise SystemExit("the files of the table differ")
    columns = [name for name in ours.column_names if name != "file"]
    different = [name for name in columns if not ours[name].equals(plain[name])]
    if different or samples != len(names):
        raise SystemExit(f"the table differs: {different}")
    return {"samples": samples, "columns": len(columns), "kept": int(result.keep.sum()), "of ready caches": from_caches}


def run(folder, stack, args):
    """Do all of it, and return what was seen."""
    programs, model = Programs(folder, stack), load_model(args.model)
    system, found = server(programs), list(splits(args.images, args.tars))
    for name, pixels, labels in found:
        write_tar(folder / f"{name}.tar", pixels, labels)
    system.put([str(folder / f"{name}.tar") for name, _, _ in found], "bucket/images/")
    address, doomed = cluster(programs)
    how = [*(["--model", str(args.model.absolute())] if args.model else []), "--scheduler", address]
    making, made = commanded(programs, "caching", "cache-features", IMAGES, "--output", FEATURES, *how)
    there = kill_midway(system, making, doomed, args.tars)
    cached, seconds = made()
    print(f"worker-1 was killed when {there} of {args.tars} shards were there; cached in {seconds} s")
    puts = programs.said("s3", r"PUT /bucket/(features/shard-[^ ?]+)")
    if cached["computed"] != args.images or len(puts) != len(set(puts)) or len(puts) != args.tars:
        raise SystemExit(f"{cached['computed']} computed of {args.images}, {len(puts)} shards put of {args.tars}")
    again = commanded(programs, "again", "cache-features", IMAGES, "--output", FEATURES, *how)[1]()
    if not again[0]["reused"]:
        raise SystemExit("the second run computed something")
    print(f"the same again computes nothing: {again[1]} s")
    _, scored = commanded(programs, "scoring", "score", "--cache", FEATURES, "--csv", TABLE, *how)[1]()
    print(f"scored in {scored} s")
    found.sort()  # as the tar files are
    same = compared(model, folder, found, args.caches, system.cat_file("bucket/table.parquet"))
    print(f"features and table are those of one process: {same}")
    return {"tars": args.tars, "cached": seconds, "again": again[1], "scored": scored, **same}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--tars", type=int, default=3, help="tar files, each of a split and a shard (most: 95)")
    parser.add_argument("--caches", type=Path, help="feature caches of `fastuq score-cifar100c` to compare with")
    parser.add_argument("--model", type=Path, help="model folder (default: the bundled one)")
    parser.add_argument("--folder", help="where tar files, objects and logs are for the time of the run")
    parser.add_argument("--json", type=Path, help="write what was seen to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name, ExitStack() as stack:
        report = run(Path(name), stack, args)
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
