"""What the benchmark measures in processes of their own: compiling, starting."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from fastuq.errors import FastUQError

_SCORE_64 = """
from fastuq.experiments.bench_head import kernel_of, paper_model, random_features
for kind in {kinds}:
    kernel_of(paper_model(256), kind, 2)(random_features(64, 256))
"""


def bench_start(kinds: tuple[str, ...] = ("int8.shared",)) -> dict[str, float]:
    """Return the seconds from the start of Python to the first result, with nothing compiled and with all compiled."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        script = _SCORE_64.format(kinds=kinds)
        return {name: _seconds(script, environment) for name in ("first_run", "later_run")}


def _seconds(script: str, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    run_python(script, environment)
    return time.perf_counter() - began


def run_python(script: str, environment: dict[str, Any] | None = None) -> str:
    """Run a script in another Python and return what it prints; raises FastUQError where it fails."""
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise FastUQError(f"a measurement in another process failed: {reason}")
    return done.stdout
