"""What the benchmark measures in processes of their own: compiling and starting, memory."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastuq import __version__
from fastuq.bench.heads import paper_model, random_features
from fastuq.bench.timing import seconds_of
from fastuq.cache import BATCH_SIZE, FeatureCache
from fastuq.cache.file import CacheFile, create_file
from fastuq.cache.header import Header, Shard
from fastuq.errors import FastUQError
from fastuq.model.model import Model
from fastuq.scoring.scoring import score

_SCORE_64 = """
from fastuq.bench.heads import kernel_of, paper_model, random_features
kernel_of(paper_model(256), "int8.shared", 2)(random_features(64, 256))
"""
_SCORE_CACHE = "from fastuq.bench.process import score_cache; score_cache({path!r}, {samples})"


def bench_start() -> dict[str, float]:
    """Return the seconds from the start of Python to the first result, with nothing compiled and with all compiled."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        start = partial(_run_python, _SCORE_64, environment)
        return {name: seconds_of(start) for name in ("first_run", "later_run")}


def bench_cache(samples: int, folder: Path) -> dict[str, float]:
    """Return what `score_cache` measures of a cache of that many samples, written to `folder` for the time being."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return json.loads(_run_python(_SCORE_CACHE.format(path=str(Path(place, "features.h5")), samples=samples)))


def score_cache(path: str, samples: int) -> None:
    """Write a feature cache of random features, score it, and print as JSON what that took and held."""
    model = paper_model()
    _write_cache(Path(path), model, samples)
    with FeatureCache.open(path) as cache:
        score(model, cache.read(0, 64))  # compiles
        seconds = score(model, cache, details=False).seconds
    figures = {
        "samples": samples,
        "read_ms_per_sample": seconds["features"] / samples * 1e3,
        "head_ms_per_sample": seconds["head"] / samples * 1e3,
        "score_ms_per_sample": seconds["total"] / samples * 1e3,
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


def _run_python(script: str, environment: dict[str, Any] | None = None) -> str:
    """Run a script in another Python and return what it prints; raises FastUQError where it fails."""
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise FastUQError(f"a measurement in another process failed: {reason}")
    return done.stdout
