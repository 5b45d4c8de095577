"""From timings to the figures of the benchmark: the mapping that `--json` writes and tables are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastuq.bench.heads import KINDS, ratio
from fastuq.bench.networks import NetworkTimings
from fastuq.bench.timing import Timing


def head_figures(heads: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of what `bench_head` measured."""
    head, baseline = heads["head"], heads["baseline"]
    keras, fastest = baseline["keras_repeated_batch"], head["int8.shared"]
    reached = heads["operations"] / (fastest.median / 1e3)
    return {
        "head_ms_per_sample": {kind: head[kind].median for kind in KINDS},
        "baseline_ms_per_sample": {name: timing.median for name, timing in baseline.items()},
        "times_faster_than_keras": {kind: ratio(head[kind], keras) for kind in KINDS},
        "head_spread": {name: spread(timing) for name, timing in {**head, **baseline}.items()},
        "peak": {
            "int8_gops": heads["peak"] / 1e9,
            "needed_gop_per_sample": heads["operations"] / 1e9,
            "reached_gops": reached / 1e9,
            "share": reached / heads["peak"],
        },
    }


def small_head_figures(width: int, found: Mapping[int, Mapping[str, Timing]]) -> dict[str, Any]:
    """Return the figures of what `bench_small_head` measured: a row for each number of samples."""
    rows = [
        {
            "n": n,
            "ms_per_sample": {name: timing.median for name, timing in timings.items()},
            "spread": {name: spread(timing) for name, timing in timings.items()},
            "times_faster_than_keras": ratio(timings["int8.shared"], timings["keras_repeated_batch"]),
        }
        for n, timings in found.items()
    ]
    return {"small_head": {"num_features": width, "rows": rows}}


def grid_figures(timings: Mapping[tuple[str, int, int], Timing]) -> dict[str, Any]:
    """Return the figures of what `bench_grid` measured: a row for each kind, number of iterations and of samples."""
    rows = [
        {"kind": kind, "num_iter": num_iter, "n": n, "ms_per_sample": timing.median, "spread": spread(timing)}
        for (kind, num_iter, n), timing in timings.items()
    ]
    return {"head_grid": rows}


def start_and_cache_figures(start: dict[str, Any], cache: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of what `bench_start` and `bench_cache` measured."""
    return {
        "compile_seconds": start,
        "cache": {key: value for key, value in cache.items() if key != "peak_rss_mb"},
        "score_over_head": cache["score_ms_per_sample"] / cache["head_ms_per_sample"],
        "peak_rss_mb": cache["peak_rss_mb"],
    }


def network_figures(networks: Sequence[NetworkTimings]) -> dict[str, Any]:
    """Return the figures of networks."""
    best = {n.name: n.backbone[n.best_batch] for n in networks}
    cold = {n.name: best[n.name].median + n.head.median for n in networks}
    naive, one_pass = (
        {way: {n.name: getattr(n, part)[way].median for n in networks} for way in ("xnnpack", "reference")}
        for part in ("naive", "one_pass")
    )
    return {
        "networks": {n.name: n.about for n in networks},
        "naive_ms_per_sample": naive,
        "one_pass_ms": one_pass,
        "backbone_ms_per_image": {
            n.name: {
                "batch_1": n.backbone["1"].median,
                "best": best[n.name].median,
                "best_batch": int(n.best_batch),
            }
            for n in networks
        },
        "one_image_ms": {n.name: n.one_image.median for n in networks},
        "network_head_ms_per_sample": {n.name: n.head.median for n in networks},
        "cold_ms_per_sample": cold,
        "speedup": {
            "cold": {n.name: n.naive["xnnpack"].median / cold[n.name] for n in networks},
            "cached": {n.name: ratio(n.head, n.naive["xnnpack"]) for n in networks},
        },
        "network_spread": {n.name: _network_spread(n) for n in networks},
    }


def _network_spread(n: NetworkTimings) -> dict[str, list[float]]:
    best = n.backbone[n.best_batch]
    return {
        "naive_xnnpack": spread(n.naive["xnnpack"]),
        "naive_reference": spread(n.naive["reference"]),
        "one_pass_xnnpack": spread(n.one_pass["xnnpack"]),
        "one_pass_reference": spread(n.one_pass["reference"]),
        "backbone_batch_1": spread(n.backbone["1"]),
        "backbone": spread(best),
        "head": spread(n.head),
        "one_image": spread(n.one_image),
        "cold": [best.low + n.head.low, best.high + n.head.high],
    }


def spread(timing: Timing) -> list[float]:
    """Return lowest and highest."""
    return [timing.low, timing.high]
