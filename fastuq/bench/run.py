"""The benchmark: fastuq beside the naive loop and batched Keras and NumPy heads, measured in one run."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastuq.bench import tables
from fastuq.bench.figures import (
    grid_figures,
    head_figures,
    network_figures,
    small_head_figures,
    start_and_cache_figures,
)
from fastuq.bench.heads import (
    GRID_ITERATIONS,
    GRID_SAMPLES,
    NUM_ITER,
    SMALL_SAMPLES,
    SMALL_WIDTH,
    WIDTH,
    bench_grid,
    bench_head,
    bench_small_head,
)
from fastuq.bench.networks import (
    NAIVE_ITERATIONS,
    NetworkTimings,
    bench_network,
    label_of,
    make_networks,
    missing_networks,
    open_network,
)
from fastuq.bench.paper_times import PAPER
from fastuq.bench.process import bench_cache, bench_start
from fastuq.bench.progress import Progress
from fastuq.montecarlo.kernels.targets import host_target
from fastuq.util.checks import whole_number
from fastuq.util.defaults import NETWORKS, QUICK_NETWORKS, QUICK_ROUNDS, ROUNDS
from fastuq.util.process import processors

_PACKAGES = ("fastuq", "numpy", "numba", "llvmlite", "h5py", "ai-edge-litert", "tensorflow")
_GRID_ROUNDS = 3
Advance = Callable[[], object]


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
    small_samples : tuple of int
        Numbers of samples of the head of one layer.
    iterations, sizes : tuple of int
        T and N of the grid.
    cached : int
        Samples of the cache that is scored.
    folder : Path
        Where randomly initialised networks are kept, those that no trained model takes the place of.
    """

    networks: tuple[str, ...]
    rounds: int
    samples: int
    small_samples: tuple[int, ...]
    iterations: tuple[int, ...]
    sizes: tuple[int, ...]
    cached: int
    folder: Path


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes
    ----------
    title : str
    measure : callable
        Called with a function to be called after each measurement; returns its figures.
    table : callable, optional
        All figures so far -> the table of this part.
    """

    title: str
    measure: Callable[[Advance], dict[str, Any]]
    table: Callable[[dict[str, Any]], tables.Table] | None = None


def scope_of(*, quick: bool, networks: list[str] | None, rounds: int | None, folder: Path) -> Scope:
    """Return the full or the quick scope, with what was asked for put in its place."""
    if rounds is not None:
        rounds = whole_number("rounds", rounds, 1, 1000)
    if quick:
        named, rounds = tuple(dict.fromkeys(networks or QUICK_NETWORKS)), rounds or QUICK_ROUNDS
        return Scope(named, rounds, 2048, (128, 1024), (NUM_ITER,), GRID_SAMPLES, 32_768, folder)
    named, rounds = tuple(dict.fromkeys(networks or NETWORKS)), rounds or ROUNDS
    return Scope(named, rounds, 8192, SMALL_SAMPLES, GRID_ITERATIONS, GRID_SAMPLES, 100_000, folder)


def run_bench(scope: Scope, show: Callable[[Sequence[str]], object] = lambda lines: None) -> dict[str, Any]:
    """Run the benchmark; the returned mapping is what `--json` writes, times in milliseconds.

    Parameters
    ----------
    scope : Scope
    show : callable
        Called with the lines of each table as soon as it is measured, and before with those that name the machine.
    """
    parts = parts_of(scope)
    figures: dict[str, Any] = {
        "machine_class": machine_class(),
        "machine": machine(),
        "versions": versions(),
        "settings": {
            "num_iter": NUM_ITER,
            "num_features": WIDTH,
            "samples": scope.samples,
            "rounds": scope.rounds,
            "naive_iterations_timed": NAIVE_ITERATIONS,
        },
        "paper": PAPER,
    }
    show(tables.heading(figures))
    with Progress(len(parts)) as progress:
        for part in parts:
            with progress.part(part.title):
                figures |= part.measure(progress.advance)
            if part.table:
                with progress.aside():
                    show(["", *tables.text(part.table(figures))])
    return figures


def parts_of(scope: Scope) -> list[Part]:
    """Return what is measured, in order; raises InputError where a network is none that is known."""
    missing = missing_networks(scope.networks, scope.folder)
    measured: list[NetworkTimings] = []

    def make(advance: Advance) -> dict[str, Any]:
        make_networks(missing, scope.folder)
        return {}

    def network(name: str, advance: Advance) -> dict[str, Any]:
        model = open_network(name, scope.folder)
        label = label_of(name, model, [each.name for each in measured])
        measured.append(bench_network(model, label, rounds=scope.rounds, samples=scope.samples, advance=advance))
        return network_figures(measured)

    return [
        Part("heads", partial(_heads, scope), tables.heads),
        Part("head of one layer", partial(_small_head, scope), tables.small_head),
        Part("iterations and samples", partial(_grid, scope), tables.grid),
        Part("start, cache and memory", partial(_start_and_cache, scope), tables.start_and_cache),
        *([Part(f"making {' and '.join(missing)}", make)] if missing else []),
        *(
            Part(f"network {name}", partial(network, name), lambda found: tables.network(found, measured[-1].name))
            for name in scope.networks
        ),
    ]


def _heads(scope: Scope, advance: Advance) -> dict[str, Any]:
    return head_figures(bench_head(rounds=scope.rounds, samples=scope.samples, advance=advance))


def _small_head(scope: Scope, advance: Advance) -> dict[str, Any]:
    found = bench_small_head(rounds=scope.rounds, samples=scope.small_samples, advance=advance)
    return small_head_figures(SMALL_WIDTH, found)


def _grid(scope: Scope, advance: Advance) -> dict[str, Any]:
    rounds = min(scope.rounds, _GRID_ROUNDS)
    return grid_figures(bench_grid(rounds=rounds, iterations=scope.iterations, samples=scope.sizes, advance=advance))


def _start_and_cache(scope: Scope, advance: Advance) -> dict[str, Any]:
    start = bench_start()
    advance()
    return start_and_cache_figures(start, bench_cache(scope.cached, scope.folder))


def machine_class() -> str:
    """Return the class of this machine: the instructions that decide how fast the kernels are."""
    return host_target().name


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
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(name: str) -> str:
    """Return what the system says of its first processor under that name; nothing where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == name), "")
