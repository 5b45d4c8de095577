"""A process that forks a child per run: hundreds of runs can be killed without starting Python hundreds of times."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER = """
import json, os, resource, signal, sys
import works
from ai_edge_litert import interpreter  # once, and not in every run
from fastuq import cli

for line in sys.stdin:
    name, args, log_path, fsize = json.loads(line)
    work = getattr(works, name)(*args)
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # the parent reads its own lines there
        if fsize is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fsize, fsize))
        def run(args):  # the file that says it began, too: from here on SIGTERM is heard
            works.log = os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            work()
            return 0
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once the run is over
        try:
            status = cli._run(run, None)
        except SystemExit as end:
            status = end.code
        os._exit(status)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Runs of what `works` names in processes of their own."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)  # no limit on file size ends a pipe
        self._server = subprocess.Popen([sys.executable, "-c", SERVER], text=True, **pipes)
        os.set_blocking(self._server.stderr.fileno(), False)
        self._said, self._child = [], None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._child is not None:  # a test that failed in between
            os.kill(self._child, signal.SIGKILL)
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()
        self._server.stderr.close()
        self._folder.cleanup()

    def start(self, work, *args, fsize=None):
        """Begin a run, whose files may be `fsize` bytes long at most, and return its process."""
        self._log.unlink(missing_ok=True)
        self._say(json.dumps([work, [str(a) if isinstance(a, Path) else a for a in args], str(self._log), fsize]))
        child = self._child = int(self._server.stdout.readline())
        until = time.monotonic() + 30
        while not self._log.exists() and time.monotonic() < until:
            time.sleep(0.0005)
        self._began = time.monotonic()
        return child

    def end(self):
        """Wait for the run and return its exit status, a signal's number negative."""
        self._say("wait")
        status, self._child = int(self._server.stdout.readline()), None
        self.seconds = time.monotonic() - self._began
        self._said += self._server.stderr.readlines()
        return status

    def run(self, work, *args, kill_after=None, how=signal.SIGKILL, fsize=None):
        """Run to the end, or kill it so many seconds after its beginning; return its exit status."""
        child = self.start(work, *args, fsize=fsize)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, how)  # not reaped before `end`, so the number is still the child's
        return self.end()

    def computed(self):
        """Return how many batches of features the last run computed."""
        return self._log.stat().st_size

    def said(self):
        """Return the lines on stderr since the last call, but for news of compiling."""
        lines, self._said = self._said, []
        return [line for line in lines if not line.startswith("fastuq: compiling")]

    def check_no_traceback(self):
        """A run that SIGTERM ends says nothing, wherever it was."""
        said = "".join(self.said())
        assert "Traceback" not in said, said

    def _say(self, line):
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()
