"""What the benchmark does in processes of their own: compiling and starting, memory."""

import hashlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.bench.heads import kernel_of, paper_model, random_features
from fastuq.bench.timing import Side, Timing, interleave, seconds_of
from fastuq.cache import BATCH_SIZE, FeatureCache
from fastuq.cache.file import CacheFile
from fastuq.cache.header import Header, Shard
from fastuq.cache.making import create_file
from fastuq.errors import FastUQError
from fastuq.model.model import Model
from fastuq.scoring.scoring import score

_SCORE_64 = """
import numpy, fastuq
fastuq.score(fastuq.load_model(), numpy.zeros((64, 1280), numpy.int8))
"""
_SCORE_CACHE = "from fastuq.bench.process import score_cache; score_cache({path!r}, {samples})"
_LATER_RUNS, _CACHE_ROUNDS = 3, 3
_ROWS_AT_ONCE = 8192
"""Samples that the head alone takes at once: as many as scoring reads from a cache."""


def bench_start() -> dict[str, Any]:
    """Return the seconds from the start of Python to the first result, with nothing compiled and with all compiled.

    The bundled model scores 64 samples. Nothing is compiled in the first run alone, so it is a single one.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = partial(run_pythons, [_SCORE_64], {**os.environ, "NUMBA_CACHE_DIR": folder})
        first = seconds_of(start)
        later = [seconds_of(start) for _ in range(_LATER_RUNS)]
    return {"first_run": first, "later_run": statistics.median(later), "later_run_spread": [min(later), max(later)]}


def bench_cache(samples: int, folder: Path) -> dict[str, Any]:
    """Return what `score_cache` measures of a cache of that many samples, written to `folder` for the time being."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        (printed,) = run_pythons([_SCORE_CACHE.format(path=str(Path(place, "features.h5")), samples=samples)])
    return json.loads(printed)


def score_cache(path: str, samples: int) -> None:
    """Write a feature cache of random features, score it, and print as JSON what that took and held.

    The head alone takes as many samples from memory, by as many at once, to nothing but mean and standard deviation.
    """
    model, rows = paper_model(), random_features(_ROWS_AT_ONCE)
    _write_cache(Path(path), model, samples)
    head, reading = kernel_of(model, "int8.shared"), []
    with FeatureCache.open(path) as cache:

        def score_all() -> None:
            reading.append(score(model, cache, details=False).seconds["features"] / samples * 1e3)

        def head_alone() -> None:
            for start in range(0, samples, len(rows)):
                head(rows[: samples - start])

        sides = {
            "score": Side(score_all, samples, lambda: score(model, cache.read(0, 64), details=False)),
            "head": Side(head_alone, samples, lambda: head(rows[:64])),
        }
        timings = interleave(sides, _CACHE_ROUNDS)
    timings["read"] = Timing(statistics.median(reading), min(reading), max(reading))
    figures = {
        "samples": samples,
        **{f"{name}_ms_per_sample": timing.median for name, timing in timings.items()},
        "spread": {name: [timing.low, timing.high] for name, timing in timings.items()},
        "peak_rss_mb": _peak_rss_mb(),
    }
    print(json.dumps(figures))


def _write_cache(path: Path, model: Model, samples: int) -> None:
    labels = np.full(samples, -1, "<i8")
    header = Header(
        model_sha256=model.sha256,
        network=model.network,
        class_names=model.class_names,
        scale=model.feature_scale,
        zero_point=model.feature_zero_point,
        data_fingerprint="0" * 64,
        images="random",
        num_samples=samples,
        labelled=False,
        labels_sha256=hashlib.sha256(labels.tobytes()).hexdigest(),
        preprocessing={"color": "RGB", "dtype": "uint8", "shape": list(model.image_shape)},
        runtime={"litert": "none", "delegate": "none"},
        batch_size=BATCH_SIZE,
        shard=Shard(1, 1, 0, samples),
        fastuq_version=__version__,
    )
    create_file(path, header, model.head.num_features, labels)
    rows = random_features(BATCH_SIZE, model.head.num_features)
    file = CacheFile(path)
    with file.locked():
        for batch in range(header.num_batches):
            start, stop = file.rows_of(batch)
            file.write(batch, rows[: stop - start])
    file.close()


def _peak_rss_mb() -> float:
    """Return the peak resident set of this process; `getrusage` would count what the parent held at the fork."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise FastUQError("peak memory: this system does not report it in /proc/self/status; run the benchmark on Linux")


def run_pythons(scripts: Sequence[str], environment: dict[str, str] | None = None) -> list[str]:
    """Run scripts side by side, each in a Python of its own; return what they print, FastUQError where one fails."""
    with ExitStack() as stack:
        started = []
        for script in scripts:
            command = [sys.executable, "-c", script]
            child = Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True)
            stack.callback(_end, child)
            started.append(child)
        printed = []
        for child in started:
            output, errors = child.communicate()
            if child.returncode != 0:
                reason = (errors.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
                raise FastUQError(f"a part of the benchmark that runs in another process failed: {reason}")
            printed.append(output)
        return printed


def _end(child: Popen) -> None:
    """End a process that still runs, and close its pipes."""
    with child:
        child.terminate()
