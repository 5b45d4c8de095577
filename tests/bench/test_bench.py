"""The benchmark: its figures' contract, its checks before timing, its tables. Nothing here depends on a duration."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from places import TINY

from fastuq.bench import baselines, process, run, timing
from fastuq.bench.heads import KINDS, paper_model, random_features, shared_operations
from fastuq.bench.networks import NetworkTimings, open_network
from fastuq.bench.plain_numba import plain_numba_head
from fastuq.bench.plot import plotted, write_plot
from fastuq.bench.tables import BASELINES, markdown, readable
from fastuq.bench.timing import Side, Timing, interleave
from fastuq.cli import main
from fastuq.errors import FastUQError, InputError
from fastuq.model.head import Block, Head
from fastuq.montecarlo.engine import moments

CACHE = {"samples": 10, "read_ms_per_sample": 0.001, "head_ms_per_sample": 0.01, "score_ms_per_sample": 0.02}


@pytest.fixture(scope="module")
def head():
    return paper_model(96)


def test_sides_take_turns_after_a_warm_up(monkeypatch):
    monkeypatch.setattr(timing, "_SHORTEST", 0)
    monkeypatch.setattr(timing, "_PAUSE", 0)
    calls = []
    timings = interleave({name: Side(lambda n=name: calls.append(n), 2) for name in "ab"}, 3)
    assert "".join(calls) == "aabb" + "ab" * 3
    assert all(t.low <= t.median <= t.high for t in timings.values())


def test_times_are_medians_per_unit(monkeypatch):
    monkeypatch.setattr(timing, "_PAUSE", 0)
    durations = iter([0.5, 0.3, 0.1, 0.2])
    monkeypatch.setattr(timing, "seconds_of", lambda *_: next(durations))
    assert interleave({"a": Side(lambda: None, 4)}, 3)["a"] == Timing(50.0, 25.0, 75.0)


def test_numpy_baseline_equals_the_fast_path(head):
    features = random_features(33, 96)
    mean, std = baselines.numpy_head(head, features, 20)
    found = moments(head, features, num_iter=20, precision="float32")
    assert np.abs(mean - found.mean).max() < 1e-5
    assert np.abs(std - found.std).max() < 1e-5


@pytest.mark.parametrize("samples", [1, 64, 65])
def test_plain_numba_equals_the_kernels(head, samples):
    features = random_features(samples, 96)
    mean, std = plain_numba_head(head.head_int8, features, 20)
    found = moments(head, features, num_iter=20)
    assert np.abs(mean - found.mean).max() < 1e-6
    assert np.abs(std - found.std).max() < 1e-6


def test_plain_numba_that_computes_something_else_is_refused(head, monkeypatch):
    monkeypatch.setattr(baselines, "plain_numba_head", lambda *given: plain_numba_head(*given[:2], 21))
    with pytest.raises(FastUQError, match="plain Numba and int8 head differ"):
        baselines.check_baselines(head, random_features(40, 96), stand_in(head, 0.0), 20)


def stand_in(head, wrong):
    """Return what `keras_head` returns: moments under masks of its own, here of another seed."""

    def run(real, num_iter):
        features = np.round(real / head.feature_scale + head.feature_zero_point).astype(np.int8)
        found = moments(head, features, num_iter=num_iter, precision="float32", masks="per_sample", seed=99)
        return found.mean + wrong, found.std

    return run


@pytest.mark.parametrize(("wrong", "refused"), [(0.0, False), (0.3, True)])
def test_keras_baseline_is_compared_first(head, wrong, refused):
    features = random_features(40, 96)
    if refused:
        with pytest.raises(FastUQError, match="same moments up to Monte-Carlo error"):
            baselines.check_baselines(head, features, stand_in(head, wrong), 20)
    else:
        baselines.check_baselines(head, features, stand_in(head, wrong), 20)


def test_unequal_sides_are_refused():
    one, other = np.zeros((2, 3)), np.full((2, 3), 2e-5)
    assert timing.require_equal("a and b", (one, one), (one + 9e-6, one)) == pytest.approx(9e-6)
    with pytest.raises(FastUQError, match=r"a and b differ by 2\.0e-05"):
        timing.require_equal("a and b", (one, one), (one, other))


def test_operations_are_counted():
    blocks = (
        Block(0.2, np.zeros((100, 30), np.float32), np.zeros(30, np.float32), "relu"),
        Block(0.4, np.zeros((30, 10), np.float32), np.zeros(10, np.float32), "sigmoid"),
    )
    counted = Head(blocks, np.ones(100, np.float32), np.zeros(100, np.float32))
    # Per iteration 20 dropped inputs x 18 kept outputs and 18 x 10; once 100 x 30.
    assert shared_operations(counted, 50) == pytest.approx(2 * (50 * (20 * 18 + 18 * 10) + 100 * 30))
    dense = Head((replace(blocks[0], rate=0.7),), counted.scale, counted.shift)
    assert shared_operations(dense, 50) == pytest.approx(2 * 50 * 30 * 30)


@pytest.fixture(scope="module")
def figures():
    def timed(ms):
        return Timing(ms, ms / 2, ms * 2)

    networks = [
        NetworkTimings(
            name, 1280, {"xnnpack": timed(600.0), "reference": timed(5000.0)},
            {"xnnpack": timed(13.0), "reference": timed(100.0)}, {"1": timed(14.0), "8": timed(12.0)},
            timed(0.006), timed(14.1),
        )
        for name in ("resnet50", "efficientnet_lite0")
    ]  # fmt: skip
    found = {
        "head": {kind: timed(0.01 * 2**place) for place, kind in enumerate(KINDS)},
        "baseline": {"keras_repeated_batch": timed(0.8), "plain_numba": timed(0.4), "numpy_batched": timed(1.0)},
        "operations": 1e7,
        "peak": 2e12,
    }
    grid = [{"kind": kind, "num_iter": 50, "n": n, "ms_per_sample": 0.1} for kind in KINDS[:2] for n in (1, 32)]
    return {
        "machine": run.machine(),
        "versions": run.versions(),
        "settings": {"num_iter": 50, "num_features": 2048, "samples": 8192, "rounds": 3},
        "paper": run.PAPER,
        **run._network_figures(networks),
        **run._head_figures(found),
        "head_grid": grid,
        "compile_seconds": {"first_run": 9.0, "later_run": 1.0},
        "cache": CACHE,
        "peak_rss_mb": 500.0,
    }


def test_figures_keep_the_contract(figures):
    found = json.loads(json.dumps(figures, allow_nan=False))
    assert found["naive_ms_per_sample"]["xnnpack"]["resnet50"] == 600
    assert found["naive_ms_per_sample"]["reference"]["efficientnet_lite0"] == 5000
    assert found["backbone_ms_per_image"]["resnet50"] == {"batch_1": 14, "best": 12, "best_batch": 8}
    assert set(found["head_ms_per_sample"]) == set(KINDS)
    assert set(found["baseline_ms_per_sample"]) == {"keras_repeated_batch", "plain_numba", "numpy_batched"}
    assert found["speedup"]["cold"]["resnet50"] == pytest.approx(600 / 12.006)
    assert found["speedup"]["cached"]["resnet50"] == pytest.approx(600 / 0.006)
    assert found["times_faster_than_keras"]["int8.shared"] == pytest.approx(80)
    assert found["peak"]["share"] == pytest.approx(1e7 / 0.01e-3 / 2e12)
    assert {"machine", "versions", "peak_rss_mb"} <= set(found)


def test_tables_show_every_figure(figures):
    text, page = "\n".join(readable(figures)), markdown(figures)
    for shown in ("7,000", "243", "5,000", "100,000", "0.006", "0.8", "80", "50%", "500 MB", "9.0 s"):
        assert shown in text
        assert shown in page
    assert all(line.count("|") == page_line.count("|") for line, page_line in zip(*tables_of(page), strict=True))


def tables_of(page):
    """Return each table's lines beside its header, repeated: every row must have as many cells."""
    lines, headers = [], []
    for line in page.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        header = header or line
        lines.append(line)
        headers.append(header)
    return lines, headers


def test_picture(figures, tmp_path):
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install 'fastuq[plot]'")
    bars = plotted(figures)
    assert {kind for _, _, kind in bars} == {"paper", "naive", "baseline", "fastuq"}
    write_plot(tmp_path / "bench.png", figures)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def names(figures):
    """Return the figures with their numbers left out, and one network for all."""
    return {
        key: names(value) if isinstance(value, dict) else type(value)
        for key, value in figures.items()
        if key not in ("efficientnet_lite0", "efficientnet_b0")
    }


def test_the_benchmark_whole_and_small(figures, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
    monkeypatch.setattr(process, "_SCORE_64", "import fastuq")  # which compiles everything anew
    monkeypatch.setattr(timing, "_PAUSE", 0)
    monkeypatch.setattr(run, "bench_head", partial(run.bench_head, width=96))
    monkeypatch.setattr(run, "bench_grid", partial(run.bench_grid, width=96))
    found = run.run_bench(run.Scope((str(TINY),), 1, 64, (3,), (1, 32), 300, tmp_path))
    assert names(json.loads(json.dumps(found, allow_nan=False).replace('"tiny"', '"resnet50"'))) == names(figures)
    assert set(found["head_spread"]) == {*KINDS, *BASELINES}
    assert [(row["kind"], row["n"]) for row in found["head_grid"]] == [(k, n) for k in KINDS[:2] for n in (1, 32)]
    assert min(found["baseline_ms_per_sample"].values()) > 0
    assert set(found["speedup"]["cold"]) == {"tiny"}
    assert found["cache"]["samples"] == 300
    assert found["peak_rss_mb"] > 10
    assert "plain Numba" in markdown(found)


def test_scope(tmp_path):
    full = run.scope_of(quick=False, networks=None, rounds=None, folder=tmp_path)
    quick = run.scope_of(quick=True, networks=None, rounds=2, folder=tmp_path)
    assert full.networks == ("resnet50", "efficientnet_b0", "bundled")
    assert (quick.networks, quick.rounds) == (("bundled",), 2)
    with pytest.raises(InputError, match="rounds: expected a whole number from 1 to 1000, found 0"):
        run.scope_of(quick=False, networks=None, rounds=0, folder=tmp_path)


def test_unknown_network_is_one_line(capsys):
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
    assert main(["bench", "--networks", "vgg"]) == 2
    assert "vgg" in capsys.readouterr().err


def test_a_model_folder_is_a_network(tmp_path):
    assert open_network(str(TINY), tmp_path).network == "tiny"
