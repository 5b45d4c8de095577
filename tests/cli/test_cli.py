import argparse
import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from fastuq import __version__, cli
from fastuq.cli import scoring_options
from fastuq.errors import CacheError
from fastuq.scoring.options import Options
from fastuq.util import sigterm


def fastuq(*args, **options):
    return subprocess.run([sys.executable, "-m", "fastuq", *args], capture_output=True, text=True, **options)


@pytest.fixture
def command(monkeypatch):
    """Put a command of our own in the place of `download`."""

    def put(run):
        module = SimpleNamespace(add_arguments=lambda parser: None, run=run)
        monkeypatch.setattr(cli, "import_module", lambda name: module)
        return lambda: cli.main(["download"])

    return put


def raises(error):
    def run(args):
        raise error

    return run


def test_every_listed_command_has_help(capsys):
    assert set(cli.commands()) >= {"train", "quantize", "download", "corrupt"}
    for name in cli.commands():
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        out = capsys.readouterr().out
        assert out.startswith(f"usage: fastuq {name}")
        assert "--json" in out


def test_every_file_of_a_command_is_listed():
    files = {path.stem for path in importlib.resources.files(cli).iterdir() if path.suffix == ".py"}
    assert {name.replace("-", "_") for name in cli.commands()} == {
        name.removesuffix("_") for name in files - {"__init__", "scoring_options"}
    }


def test_help_loads_nothing_heavy():
    heavy = ["numpy", "numba", "h5py", "scipy", "tensorflow", "ai_edge_litert", "pooch", "tqdm"]
    code = (
        "import sys; from fastuq import cli\n"
        "for name in cli.commands():\n"
        "    try: cli.main([name, '--help'])\n"
        "    except SystemExit: pass\n"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_options_of_scoring_are_those_of_the_library():
    parser = argparse.ArgumentParser()
    scoring_options.add_scoring_options(parser, (*scoring_options.SCORING, *scoring_options.BY_SCORE))
    args, text = parser.parse_args([]), " ".join(parser.format_help().split())
    assert set(vars(args)) == set(vars(Options()))
    assert vars(scoring_options.scoring_options(args)) == vars(Options())
    known = [str(value) for value in vars(Options()).values() if value is not None]
    assert re.findall(r"\(default: (\S+)\)", text) == known


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"fastuq {__version__}"


@pytest.mark.parametrize("argv", [[], ["no-such"], ["--no-such"], ["download", "no-such"], ["download", "--outp", "x"]])
def test_wrong_arguments_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fastuq: ")
    assert said.err.endswith(f"; see fastuq{' download' if argv[:1] == ['download'] else ''} --help\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (CacheError("cache x: expected a,  found b"), 2, "fastuq: cache x: expected a, found b"),
        (KeyboardInterrupt(), 130, "fastuq: interrupted"),
        (MemoryError("Unable to allocate 9 TiB"), 2, "fastuq: out of memory (Unable to allocate 9 TiB)"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "fastuq: No space left on device (/x/y)"),
        (PermissionError(errno.EACCES, "Permission denied"), 2, "fastuq: Permission denied;"),
    ],
)
def test_known_errors_are_one_line(command, capsys, error, status, words):
    assert command(raises(error))() == status
    err = capsys.readouterr().err
    assert err.startswith(words)
    assert err.count("\n") == 1


def test_a_bug_is_not_hidden(command):
    with pytest.raises(ZeroDivisionError):
        command(raises(ZeroDivisionError()))()


def test_status_and_arguments_pass_through(command):
    assert command(lambda args: 7)() == 7


@pytest.mark.parametrize("error", [ImportError("initialization failed"), RuntimeError("un-acquired lock")], ids=str)
def test_what_a_library_makes_of_sigterm_is_sigterm(command, error):
    """LiteRT's import turns what the signal raises into the first, a condition of `threading` into the second."""

    def run(args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        except BaseException as end:
            raise error from end

    with pytest.raises(SystemExit) as ended:
        command(run)()
    assert ended.value.code == 143
    with pytest.raises(ImportError, match="no such"):
        command(raises(ImportError("no such library")))()


def test_sigterm_unwinds_and_all_is_as_before(command):
    left = []

    def run(args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            time.sleep(0.5)  # in which the signal would come again
            left.append("cleaned")

    def of_caller(number, frame):
        left.append(number)

    former = [signal.signal(number, of_caller) for number in (signal.SIGTERM, signal.SIGALRM)]
    hook = sys.unraisablehook
    try:
        with pytest.raises(SystemExit) as ended:
            command(run)()
        assert ended.value.code == 143
        assert left == ["cleaned"]
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)] == [of_caller] * 2
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert sys.unraisablehook is hook
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGALRM), former, strict=True):
            signal.signal(number, handler)


def test_alarms_of_the_caller_are_its_own(command):
    rung = []
    former = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert command(lambda args: time.sleep(0.3) or 0)() == 0
        assert rung == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, former)


def in_a_destructor(end):
    class Dies:
        def __del__(self):
            end()

    Dies()


def in_a_bare_except(end):
    try:
        end()
    except:  # noqa: E722
        return


@pytest.mark.parametrize("dropped", [in_a_destructor, in_a_bare_except])
@pytest.mark.parametrize("seconds", [5, 0], ids=["early", "at the end"])
def test_sigterm_that_is_dropped_comes_again(command, capfd, monkeypatch, dropped, seconds):
    monkeypatch.setattr(sigterm, "_TICK", 0.1 if seconds else 10)
    reached = []

    def run(args):
        dropped(lambda: signal.raise_signal(signal.SIGTERM))
        time.sleep(seconds)
        reached.append(seconds)
        return 0

    with pytest.raises(SystemExit) as ended:
        command(run)()
    assert ended.value.code == 143
    assert reached == ([] if seconds else [0])
    assert capfd.readouterr().err == ""


def test_ctrl_c_that_is_dropped_comes_again(command, capfd):
    def run(args):
        in_a_destructor(lambda: signal.raise_signal(signal.SIGINT))
        time.sleep(5)
        raise AssertionError("it came too late")

    assert command(run)() == 130
    assert capfd.readouterr().err == "fastuq: interrupted\n"


@pytest.mark.parametrize("after", [False, True], ids=["inside", "after the block"])
def test_what_hangs_after_sigterm_is_ended(after):
    code = (
        "import signal, sys, threading; from types import SimpleNamespace\n"
        "from fastuq import cli; from fastuq.util import sigterm\n"
        "lock = threading.Lock(); lock.acquire(); sigterm._GRACE = 0.5\n"
        "def run(args):\n"
        "    try: signal.raise_signal(signal.SIGTERM)\n"
        f"    finally: {after} or lock.acquire()\n"
        "cli.import_module = lambda name: SimpleNamespace(add_arguments=lambda parser: None, run=run)\n"
        "sys.argv = ['fastuq', 'download']\n"
        "try: cli.main()\n"
        "finally: lock.acquire()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (143, b"")


def test_other_things_that_python_drops_are_told(command, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))

    def run(args):
        in_a_destructor(lambda: sys.exit(1))
        return 0

    assert command(run)() == 0
    assert told == [SystemExit]


def test_a_reader_that_leaves_is_no_error():
    code = (
        "import sys; from types import SimpleNamespace; from fastuq import cli\n"
        "def run(args):\n"
        "    for _ in range(100_000): print('x' * 80)\n"
        "    return 0\n"
        "cli.import_module = lambda name: SimpleNamespace(add_arguments=lambda p: None, run=run)\n"
        "sys.exit(cli.main(['download']))"
    )
    shell = f'{sys.executable} -c "$CODE" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, env={**os.environ, "CODE": code}, check=True
    )
    assert done.stdout.split() == ["x" * 80, "141"]
    assert done.stderr == ""


def test_a_user_mistake_from_the_shell(tmp_path):
    done = fastuq("corrupt", "--images", str(tmp_path / "none"), "--output", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fastuq: ")
    assert done.stderr.count("\n") == 1
