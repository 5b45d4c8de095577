"""The benchmark: its figures' contract, its checks before timing, its tables. Nothing here depends on a duration."""

import io
import json
import re
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from places import TINY

from fastuq.bench import baselines, process, run, tables, timing
from fastuq.bench import figures as made
from fastuq.bench.heads import KINDS, paper_model, random_features, shared_operations
from fastuq.bench.networks import NetworkTimings, open_network
from fastuq.bench.plain_numba import plain_numba_head
from fastuq.bench.plot import plotted, write_plot
from fastuq.bench.process import run_pythons
from fastuq.bench.progress import Progress
from fastuq.bench.tables import BASELINES, markdown
from fastuq.bench.timing import Side, Timing, interleave
from fastuq.cli import main
from fastuq.errors import FastUQError, InputError
from fastuq.model.head import Block, Head
from fastuq.montecarlo.engine import moments
from fastuq.montecarlo.kernels.targets import host_target
from fastuq.util.process import processors

CACHE = {
    "samples": 10, "read_ms_per_sample": 0.001, "head_ms_per_sample": 0.01, "score_ms_per_sample": 0.0234,
    "spread": {"read": [0.0009, 0.002], "head": [0.009, 0.02], "score": [0.019, 0.04]}, "peak_rss_mb": 500.0,
}  # fmt: skip
START = {"first_run": 9.0, "later_run": 1.0, "later_run_spread": [0.75, 1.25]}


@pytest.fixture(scope="module")
def head():
    return paper_model(96)


@pytest.fixture
def at_once(monkeypatch):
    """Measurements as short as they are, with no rest between them."""
    monkeypatch.setattr(timing, "_SHORTEST", 0)
    monkeypatch.setattr(timing, "_PAUSE", 0)


@pytest.mark.usefixtures("at_once")
def test_sides_take_turns_after_a_warm_up():
    calls = []
    sides = {name: Side(lambda n=name: calls.append(n), 2) for name in "ab"}
    sides["c"] = Side(lambda: calls.append("c"), 2, lambda: calls.append("-"))
    timings = interleave(sides, 3)
    assert "".join(calls) == "ab-" + "abc" * 3
    assert all(t.low <= t.median <= t.high for t in timings.values())


@pytest.mark.usefixtures("at_once")
def test_times_are_medians_per_unit(monkeypatch):
    durations = iter([0.3, 0.1, 0.2])
    monkeypatch.setattr(timing, "seconds_of", lambda *_: next(durations))
    assert interleave({"a": Side(lambda: None, 4)}, 3)["a"] == Timing(50.0, 25.0, 75.0)
    durations = iter([0.1])
    part = interleave({"a": Side(lambda: None, 0.2)}, 1)["a"]  # a fifth of the work for one sample
    assert part.median == pytest.approx(500)


def test_a_short_call_is_repeated(monkeypatch):
    monkeypatch.setattr(timing, "_PAUSE", 0)
    repeats = []
    monkeypatch.setattr(timing, "seconds_of", lambda _call, count, _clock: repeats.append(count) or 0.02 * count)
    assert interleave({"a": Side(lambda: None)}, 3)["a"].high == pytest.approx(20)
    assert repeats == [1, 3, 3, 3]  # the first one tells that 50 ms are three calls


@pytest.mark.usefixtures("at_once")
def test_slow_sides_take_part_in_fewer_rounds(monkeypatch):
    seconds, calls = {"Q": 0.5, "s": 1.0, "-": 9.0}, []
    monkeypatch.setattr(timing, "seconds_of", lambda call, *_: calls.append(call()) or seconds[calls[-1]])
    sides = {name: Side(lambda n=name: n, first=lambda: None) for name in seconds}
    interleave(sides, 7, seconds=4.0)
    assert "".join(calls) == "Qs-" + "Q" + "Qs" + "Q-" + "Qs" + "Q-" + "Qs"
    calls.clear()
    interleave(sides, 2, seconds=4.0)
    assert "".join(calls) == "Qs-" * 2


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
        baselines.check_plain_numba(head, random_features(40, 96), 20)


def test_kernels_that_compute_something_else_are_refused(head, monkeypatch):
    def other(model, features, **options):
        found = moments(model, features, **options)
        return replace(found, mean=found.mean + np.float32(1e-4)) if "precision" not in options else found

    monkeypatch.setattr(baselines, "moments", other)
    with pytest.raises(FastUQError, match="reference and int8 head differ"):
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


def timed(ms):
    return Timing(ms, ms / 2, ms * 2)


@pytest.fixture(scope="module")
def figures():
    networks = [
        NetworkTimings(
            name, "Trained, images in 96 x 96.", 1280, {"xnnpack": timed(600.0), "reference": timed(5000.0)},
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
    small = {"keras_repeated_batch": timed(0.3), "numpy_batched": timed(0.1), "int8.shared": timed(0.02)}
    grid = {(kind, 50, n): timed(0.1 + place) for place, kind in enumerate(KINDS[:2]) for n in (1, 32)}
    settings = {"num_iter": 50, "num_features": 2048, "samples": 8192, "rounds": 3, "naive_iterations_timed": 10}
    return {
        "machine_class": "AVX2",
        "machine": run.machine(),
        "versions": run.versions(),
        "settings": settings,
        "paper": run.PAPER,
        **made.head_figures(found),
        **made.small_head_figures(1280, {16: small, 64: small}),
        **made.grid_figures(grid),
        **made.start_and_cache_figures(START, CACHE),
        **made.network_figures(networks),
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
    assert found["score_over_head"] == pytest.approx(2.34)
    assert found["peak_rss_mb"] == 500
    assert found["small_head"]["rows"][0]["times_faster_than_keras"] == pytest.approx(15)
    assert {"machine_class", "machine", "versions"} <= set(found)


def test_every_figure_has_its_spread(figures):
    """Each of these figures is x, with x / 2 to 2 x; a cold image is the sum of two."""
    spreads = [
        *((figures["head_ms_per_sample"][kind], figures["head_spread"][kind]) for kind in KINDS),
        *((figures["baseline_ms_per_sample"][name], figures["head_spread"][name]) for name in BASELINES),
        *((row["ms_per_sample"], row["spread"]) for row in figures["head_grid"]),
        *((row["ms_per_sample"][n], row["spread"][n]) for row in figures["small_head"]["rows"] for n in row["spread"]),
    ]
    network = dict(figures["network_spread"]["resnet50"])
    for name, ms in {
        "naive_xnnpack": 600, "naive_reference": 5000, "one_pass_xnnpack": 13, "one_pass_reference": 100,
        "backbone_batch_1": 14, "backbone": 12, "head": 0.006, "one_image": 14.1, "cold": 12.006,
    }.items():  # fmt: skip
        spreads.append((ms, network.pop(name)))
    assert not network
    assert all(found == pytest.approx([ms / 2, ms * 2]) for ms, found in spreads)


def test_tables_show_every_figure(figures):
    page = markdown(figures)
    text = "\n".join(
        [*tables.heading(figures), *(line for table in tables.tables(figures) for line in tables.text(table))]
    )
    for shown in (
        "7,000", "243", "5,000", "100,000", "0.006", "0.8", "80", "50%", "500", "9.0", "2.34", "0.75 to 1.25",
        "2,500 to 10,000", "0.4 to 1.60", "0.15 to 0.6", "0.55 to 2.20", "0.003 to 0.012",
        "Of the naive loop 10 of the 50 iterations were timed, times 5",
    ):  # fmt: skip
        assert shown in text
        assert shown in page
    assert page.startswith(f"# Benchmark: AVX2, {figures['machine']['processor']}, ")
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


def test_a_random_network_stands_beside_the_paper_too(figures):
    found = json.loads(json.dumps(figures).replace('"resnet50"', '"random-resnet50"'))
    shown = tables.text(tables.network({**found, "paper": figures["paper"]}, "random-resnet50"))
    assert "random-resnet50" in shown[0]
    assert "7,000" in "\n".join(shown)


def test_picture(figures, tmp_path):
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install 'fastuq[plot]'")
    bars = plotted(figures)
    assert {kind for _, _, kind in bars} == {"paper", "naive", "baseline", "fastuq"}
    write_plot(tmp_path / "bench.png", figures)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The benchmark itself, once: a small network, few samples, one round, nothing compiled anew."""
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
    scope = run.Scope(("tiny",), 1, 64, (16, 64), (50,), (1, 32), 300, tmp_path_factory.mktemp("bench"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_SCORE_64", "import fastuq")
        patch.setattr(timing, "_SHORTEST", 0)
        patch.setattr(timing, "_PAUSE", 0)
        patch.setattr(run, "bench_head", partial(run.bench_head, width=96))
        patch.setattr(run, "bench_grid", partial(run.bench_grid, width=96))
        patch.setattr(run, "bench_small_head", partial(run.bench_small_head, width=96))
        shown = []
        found = run.run_bench(scope, lambda lines: shown.append("\n".join(lines)))
    return found, shown


def names(figures):
    """Return the figures with their numbers left out, and one network, grid point and package for all."""
    return {
        key: names(value) if isinstance(value, dict) and key not in ("resnet50", "tiny") else type(value).__name__
        for key, value in figures.items()
        if key not in ("efficientnet_lite0", "efficientnet_b0")
    }


def test_what_is_measured_keeps_the_contract(measured, figures):
    found, _ = measured
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    shown = json.dumps(names(found)).replace("tiny", "resnet50")
    assert json.loads(shown) == json.loads(json.dumps(names(figures)))
    assert {(row["kind"], row["num_iter"], row["n"]) for row in found["head_grid"]} == {
        (kind, 50, n) for kind in ("int8.shared", "int8.per_sample") for n in (1, 32)
    }
    assert [row["n"] for row in found["small_head"]["rows"]] == [16, 64]
    assert names(found["small_head"]["rows"][0]) == names(figures["small_head"]["rows"][0])
    assert list(found["networks"]) == ["tiny"]
    assert found["cache"]["samples"] == 300
    assert found["peak_rss_mb"] > 10
    assert plotted(found)
    assert set(found["head_spread"]) == {*KINDS, *BASELINES}


def test_every_table_is_shown_as_it_is_measured(measured):
    """The head comes first, the page holds the same tables, and so do the figures of the whole run."""
    found, shown = measured
    page = markdown(found)
    assert shown == [
        "\n".join(tables.heading(found)),
        *("\n".join(["", *tables.text(table)]) for table in tables.tables(found)),
    ]
    assert "Keras" in shown[1]
    titles = [text.splitlines()[1] for text in shown[1:]]
    assert [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")] == titles


def test_scope(tmp_path):
    full = run.scope_of(quick=False, networks=None, rounds=None, folder=tmp_path)
    quick = run.scope_of(quick=True, networks=None, rounds=2, folder=tmp_path)
    assert full.networks == ("resnet50", "efficientnet_b0", "bundled")
    assert (quick.networks, quick.rounds) == (("bundled",), 2)
    with pytest.raises(InputError, match="rounds: expected a whole number from 1 to 1000, found 0"):
        run.scope_of(quick=False, networks=None, rounds=0, folder=tmp_path)


@pytest.fixture
def two_parts(monkeypatch):
    """A benchmark of two parts, the second of which fails where the fixture's value is told so."""
    fails = []

    def measure(advance):
        advance()
        if fails:
            raise FastUQError("no second part")
        return {"b": 2}

    table = tables.Table("Table of a", ("what", "figure"), [("a", "1.00")])
    parts = [run.Part("first", lambda advance: {"a": 1}, lambda found: table), run.Part("second", measure)]
    monkeypatch.setattr(run, "parts_of", lambda scope: parts)
    return fails


def test_a_log_has_a_line_per_part_and_the_tables_as_they_come(two_parts, capsys):
    two_parts.append("fails")
    assert main(["bench"]) == 2
    out, err = capsys.readouterr()
    assert (
        out.splitlines()[0] == f"Benchmark: {run.machine_class()}, {run.machine()['processor']}, {processors()} cores"
    )
    assert out.splitlines()[2:] == ["", "Table of a", "what  figure", "----  ------", "a       1.00"]
    assert re.fullmatch(r"\[1/2\] first: 00:0\d\n\[2/2\] second: 00:0\d\nfastuq: no second part\n", err)


def test_a_table_is_written_before_the_next_part_begins(two_parts, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))  # buffers, as a file or a pipe does
    seen = []
    (first, second) = run.parts_of(None)
    late = replace(second, measure=lambda advance: seen.append(written.getvalue().decode()) or {})
    monkeypatch.setattr(run, "parts_of", lambda scope: [first, late])
    assert main(["bench"]) == 0
    assert seen[0].endswith("a       1.00\n")


def test_standard_output_holds_the_json_alone(two_parts, capsys):
    assert main(["bench", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["b"] == 2
    assert err.splitlines()[-1].startswith("[2/2] done: ")


def test_lines_have_the_time_since_the_start(capsys):
    clock = iter([100, 131, 4000])
    with Progress(1, lambda: next(clock)) as progress, progress.part("heads"):
        progress.advance()
    assert capsys.readouterr().err == "[1/1] heads: 00:31\n[1/1] done: 1:05:00\n"


def test_a_terminal_has_a_bar_and_no_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(1) as progress, progress.part("heads"):
        progress.advance()
    assert "heads" in sys.stderr.getvalue()
    assert "[1/1]" not in sys.stderr.getvalue()


def test_figures_of_another_class_of_machine_stay(figures, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install 'fastuq[plot]'")
    (tmp_path / "bench-avx512-vnni.json").write_text("of another machine")
    (tmp_path / "bench-avx2.json").write_text("of a run before")
    monkeypatch.setattr(run, "machine_class", lambda: "AVX2")
    monkeypatch.setattr(run, "run_bench", lambda scope, show: figures)
    assert main(["bench", "--output", str(tmp_path / "bench")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "bench-avx512-vnni.json", "bench-avx2.json", "bench-avx2.md", "bench-avx2.png",
    }  # fmt: skip
    assert (tmp_path / "bench-avx512-vnni.json").read_text() == "of another machine"
    assert json.loads((tmp_path / "bench-avx2.json").read_text())["machine_class"] == "AVX2"
    assert (tmp_path / "bench-avx2.md").read_text() == markdown(figures)
    for output, words in ((str(tmp_path), "found a folder"), ("new/", "found a folder"), ("", "found no name")):
        assert main(["bench", "--output", output]) == 2
        assert words in capsys.readouterr().err
    taken = str(tmp_path / "bench-avx2.md")
    assert main(["bench", "--output", str(tmp_path / "bench"), "--markdown", taken]) == 2
    assert "--markdown goes there too" in capsys.readouterr().err


def test_class_of_the_machine_is_what_kernels_are_compiled_for():
    assert run.machine_class() == host_target().name


def test_processes_run_side_by_side(tmp_path):
    wait = (
        "import os, time\nopen({!r}, 'w').close()\ncount = 0\n"
        "while not os.path.exists({!r}) and count < 3000: count += 1; time.sleep(0.01)\n"
        "print({} if count < 3000 else 0)"
    )
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    assert run_pythons([wait.format(one, other, 1), wait.format(other, one, 2)]) == ["1\n", "2\n"]
    with pytest.raises(FastUQError, match="in another process failed: ValueError: of no use"):
        run_pythons(["raise ValueError('of no use')", "import time; time.sleep(1000)"])


def test_unknown_network_is_one_line(capsys):
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'fastuq[train]'")
    assert main(["bench", "--networks", "bundled", "vgg"]) == 2
    out, err = capsys.readouterr()
    assert "found 'vgg'" in err
    assert not out  # refused before anything is measured


def test_a_model_folder_is_a_network(tmp_path):
    assert open_network(str(TINY), tmp_path).network == "tiny"
