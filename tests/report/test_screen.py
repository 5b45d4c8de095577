"""What a person reads at the end of `fastuq score`, and tables that fit the terminal."""

import argparse
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import caches
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import TINY

from fastuq import cli
from fastuq.cli.score import _next
from fastuq.report.samples import readable_rows, shortened, summary_lines, verdict_lines
from fastuq.scoring.scoring import score

MODEL = ["--model", str(TINY)]


@pytest.fixture(scope="module")
def result():
    found = score(caches.tiny_model(), caches.features()[:9], num_iter=5, labels=caches.images(9).labels)
    keep = np.array([1, 1, 0, 1, 0, 1, 1, 1, 1], bool)
    certain = np.array([0.9, 0.5, 0.6, 0.8, 0.7, 0.95, 0.4, 0.99, 0.98], np.float32)
    return replace(found, keep=keep, max_mean=certain)


def test_the_least_sure_come_first(result):
    names = caches.tiny_model().class_names
    first, *rows = verdict_lines(result, names)
    assert first == "Trust 7 of 9 predictions. The least sure, to look at first:"
    assert [row.split("  ")[1] for row in rows] == [f"image {n}" for n in (6, 1, 2, 4, 3)]
    files = replace(result, files=[f"cats/IMG {n}\n.jpg" for n in range(9)])
    assert verdict_lines(files, names)[1].startswith("  cats/IMG 6\\n.jpg  ")
    one = score(caches.tiny_model(), caches.features()[:1], num_iter=5)
    assert len(verdict_lines(one, names)) == 2


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_names_of_files_stay(result, width):
    files = replace(result, files=[f"summer/by the sea/IMG_2026_{n}.jpg" for n in range(9)])
    names = tuple(f"great white shark {n}" for n in range(100))
    lines = verdict_lines(files, names, width)
    assert max(map(len, lines[1:])) <= width
    for n, line in zip((6, 1, 2, 4, 3), lines[1:], strict=True):
        assert f"/IMG_2026_{n}.jpg " in line
        assert f"{files.predicted_mean[n]:5.2f}" in line
    long = replace(result, files=[f"{n}{'x' * 90}{n}.jpg" for n in range(9)])
    assert "x6.jpg" in verdict_lines(long, names, width)[1]


def test_the_summary_fits(result):
    summary = {**result.summary(), "seconds": {"features": 12.5, "head": 1.25, "compile": 10.5, "total": 100.5}}
    lines = summary_lines(summary, "folder:photos", 80)
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(summary_lines(summary, "folder:photos")).split())


@pytest.mark.parametrize("width", [62, 80, 120])
def test_tables_fit(result, width):
    names = tuple(f"a class with a long name, number {n} of them" for n in range(100))
    files = replace(result, files=[f"{'folder/' * 9}IMG_{n}.jpg" for n in range(9)])
    for lines in (verdict_lines(files, names, width), readable_rows(result, names, max(width, 80))):
        assert max(map(len, lines[1:])) <= max(width, 80 if lines[0].startswith(" ") else 0)
        assert all("…" in line for line in lines[1:])
    assert "IMG_6.jpg" in verdict_lines(files, names, 120)[1]
    assert not any("…" in line for line in [*verdict_lines(files, names), *readable_rows(result, names)])


@given(text=st.text(max_size=40), width=st.integers(1, 50))
def test_shortened(text, width):
    found = shortened(text, width)
    assert found.isprintable()
    assert len(found) <= max(width, 1)
    whole = shortened(text, 10_000)
    assert found == whole if len(whole) <= width else found.count("…") >= 1


def test_scoring_ends_with_what_to_type_next(workplace, capsys, monkeypatch):
    caches.write("a cache.h5")
    argv = ["score", "--cache", "a cache.h5", *MODEL, "--num-iter", "5"]
    assert cli.main(argv) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"Next, for the others: fastuq score --csv table.csv --report page.html {shlex.join(argv[1:])}"
    assert cli.main(shlex.split(last.partition(": fastuq ")[2])) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "The others are in table.csv and page.html."
    assert len(Path("table.csv").read_text().splitlines()) == 51
    assert [line for line in out if line.startswith("Trust ")]


@pytest.mark.parametrize("name", [b"-dir", b"caf\xe9", b"two\nlines 'a'", b"$HOME `a` \xe2\x80\xae"])
def test_the_next_command_names_the_images(name):
    given = ["score", "--", os.fsdecode(name)]
    said = _next(argparse.Namespace(csv=None, report=None, given=given)).partition(": fastuq ")[2]
    assert said.isprintable()
    found = subprocess.run(["bash", "-c", f"printf '%s\\0' {said}"], capture_output=True, check=True).stdout
    command, *options, separator, images, end = found.split(b"\0")
    assert (command, separator, images, end) == (b"score", b"--", name, b"")
    assert options == b"--csv table.csv --report page.html".split()


def test_the_width_is_that_of_the_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((93, 20)))
    assert cli.screen_width() == 93

    def no_terminal(*_):
        raise OSError

    monkeypatch.setattr("os.get_terminal_size", no_terminal)
    assert cli.screen_width() > 1000
