"""Progress: silent, as a bar, or as lines in a log."""

import io
import subprocess
import sys

import pytest

from fastuq.util import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """Run 100 steps of work on a clock of our own, 1 s each; return what stands on standard error."""

    def run(stream, steps=100):
        monkeypatch.setattr("sys.stderr", stream)
        now = [1000.0]
        with progress.progress_bar(steps, "features") as bar:
            bar._time = lambda: now[0]
            bar.start_t = bar.last_print_t = now[0]
            for _ in range(steps):
                now[0] += 1
                bar.update()
        return stream.getvalue()

    return run


def test_a_log_is_silent_unless_it_is_asked_for(shown, monkeypatch):
    monkeypatch.delenv("FASTUQ_PROGRESS", raising=False)
    assert shown(io.StringIO()) == ""
    assert "\r" in shown(Terminal())


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_lines_in_a_log(shown, monkeypatch, stream):
    monkeypatch.setenv("FASTUQ_PROGRESS", "log")
    text = shown(stream())
    assert text.endswith("\n")
    assert text.isascii()
    assert [line.split()[2] for line in text.splitlines()] == ["30/100", "60/100", "90/100", "100/100"]
    assert text.splitlines()[0].startswith("features:  30% 30/100 [00:30<01:10")
    assert shown(stream(), steps=1) == ""


def test_without_standard_error(monkeypatch):
    monkeypatch.setenv("FASTUQ_PROGRESS", "log")
    monkeypatch.setattr("sys.stderr", None)
    with progress.progress_bar(1, "x") as bar:
        bar.update()


def test_a_child_that_ends_in_the_midst_of_a_bar_stops_no_other_process():
    code = (
        "import os, signal; from fastuq.util.progress import progress_bar\n"
        "with progress_bar(1, 'x') as bar: pass\n"
        "for _ in range(2):\n"
        "    child = os.fork()\n"
        "    signal.alarm(20)\n"
        "    if child == 0:\n"
        "        type(bar).get_lock().acquire()\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "with progress_bar(1, 'x') as bar: bar.update()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
