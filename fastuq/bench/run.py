"""The benchmark: fastuq beside the naive loop and batched Keras and NumPy heads, measured in one run."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastuq.bench.heads import (
    GRID_ITERATIONS,
    GRID_SAMPLES,
    KINDS,
    NUM_ITER,
    WIDTH,
    bench_grid,
    bench_head,
    ratio,
)
from fastuq.bench.networks import NetworkTimings, bench_network, open_network
from fastuq.bench.paper_times import PAPER
from fastuq.bench.process import bench_cache, bench_start
from fastuq.bench.timing import Timing
from fastuq.montecarlo.kernels.targets import host_target
from fastuq.util.checks import whole_number
from fastuq.util.defaults import NETWORKS, QUICK_NETWORKS, QUICK_ROUNDS, ROUNDS
from fastuq.util.process import processors
from fastuq.util.progress import progress_bar

_PACKAGES = ("fastuq", "numpy", "numba", "llvmlite", "h5py", "ai-edge-litert", "tensorflow")


@dataclass(frozen=True)
class Scope:
    """How much the benchmark measures.

    Attributes
    ----------
    networks : tuple of str
        Names or model folders.
    rounds : int
    samples : int
        Cached features that the head is timed on.
    iterations, sizes : tuple of int
        T and N of the grid.
    cached : int
        Samples of the cache that is scored for its memory.
    folder : Path
        Where randomly initialised networks are kept.
    """

    networks: tuple[str, ...]
    rounds: int
    samples: int
    iterations: tuple[int, ...]
    sizes: tuple[int, ...]
    cached: int
    folder: Path


def scope_of(*, quick: bool, networks: list[str] | None, rounds: int | None, folder: Path) -> Scope:
    """Return the full or the quick scope, with what was asked for put in its place."""
    if rounds is not None:
        rounds = whole_number("rounds", rounds, 1, 1000)
    if quick:
        return Scope(
            tuple(networks or QUICK_NETWORKS), rounds or QUICK_ROUNDS, 2048, (NUM_ITER,), (1, 32, 1024), 65_536, folder
        )
    return Scope(tuple(networks or NETWORKS), rounds or ROUNDS, 8192, GRID_ITERATIONS, GRID_SAMPLES, 1_000_000, folder)


def run_bench(scope: Scope) -> dict[str, Any]:
    """Run the benchmark; the returned mapping is what `--json` writes, times in milliseconds."""
    models = [open_network(name, scope.folder) for name in scope.networks]
    with progress_bar(4 + len(models), "benchmark", unit="part") as bar:
        bar.set_description("compiling")
        start = bench_start()
        bar.update()
        bar.set_description("cache")
        cache = bench_cache(scope.cached, scope.folder)
        bar.update()
        bar.set_description("heads")
        heads = bench_head(rounds=scope.rounds, samples=scope.samples, advance=bar.refresh)
        bar.update()
        bar.set_description("grid")
        grid = bench_grid(
            rounds=min(scope.rounds, 3), iterations=scope.iterations, samples=scope.sizes, advance=bar.refresh
        )
        bar.update()
        networks = []
        for model in models:
            bar.set_description(model.network)
            networks.append(bench_network(model, rounds=scope.rounds, samples=scope.samples, advance=bar.refresh))
            bar.update()
    return {
        "machine": machine(),
        "versions": versions(),
        "settings": {"num_iter": NUM_ITER, "num_features": WIDTH, "samples": scope.samples, "rounds": scope.rounds},
        "paper": PAPER,
        **_network_figures(networks),
        **_head_figures(heads),
        "head_grid": grid,
        "compile_seconds": start,
        "cache": {key: value for key, value in cache.items() if key != "peak_rss_mb"},
        "peak_rss_mb": cache["peak_rss_mb"],
    }


def _network_figures(networks: list[NetworkTimings]) -> dict[str, Any]:
    best = {n.network: n.best_batch for n in networks}
    cold = {n.network: n.backbone[best[n.network]].median + n.head.median for n in networks}
    naive, one_pass = (
        {way: {n.network: getattr(n, part)[way].median for n in networks} for way in ("xnnpack", "reference")}
        for part in ("naive", "one_pass")
    )
    return {
        "naive_ms_per_sample": naive,
        "one_pass_ms": one_pass,
        "backbone_ms_per_image": {
            n.network: {
                "batch_1": n.backbone["1"].median,
                "best": n.backbone[best[n.network]].median,
                "best_batch": int(best[n.network]),
            }
            for n in networks
        },
        "one_image_ms": {n.network: n.one_image.median for n in networks},
        "network_head_ms_per_sample": {n.network: n.head.median for n in networks},
        "cold_ms_per_sample": cold,
        "speedup": {
            "cold": {n.network: n.naive["xnnpack"].median / cold[n.network] for n in networks},
            "cached": {n.network: ratio(n.head, n.naive["xnnpack"]) for n in networks},
        },
        "network_spread": {
            n.network: {
                "naive_xnnpack": _spread(n.naive["xnnpack"]),
                "naive_reference": _spread(n.naive["reference"]),
                "backbone": _spread(n.backbone[best[n.network]]),
                "head": _spread(n.head),
            }
            for n in networks
        },
    }


def _head_figures(heads: dict[str, Any]) -> dict[str, Any]:
    head, baseline = heads["head"], heads["baseline"]
    keras, fastest = baseline["keras_repeated_batch"], head["int8.shared"]
    reached = heads["operations"] / (fastest.median / 1e3)
    return {
        "head_ms_per_sample": {kind: head[kind].median for kind in KINDS},
        "baseline_ms_per_sample": {name: timing.median for name, timing in baseline.items()},
        "times_faster_than_keras": {kind: ratio(head[kind], keras) for kind in KINDS},
        "head_spread": {name: _spread(timing) for name, timing in {**head, **baseline}.items()},
        "peak": {
            "int8_gops": heads["peak"] / 1e9,
            "needed_gop_per_sample": heads["operations"] / 1e9,
            "reached_gops": reached / 1e9,
            "share": reached / heads["peak"],
        },
    }


def _spread(timing: Timing) -> list[float]:
    return [timing.low, timing.high]


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, its int8 instruction, memory, system."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": processors(),
        "avx512_vnni": host_target().name == "AVX512-VNNI",
        "memory_gb": round(pages * size / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that matter; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
