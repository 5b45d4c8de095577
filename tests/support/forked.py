"""A process that forks a child per run: hundreds of runs can be killed without starting Python hundreds of times."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from places import SUPPORT

SERVER = """
import os, resource, sys
sys.path.insert(0, {tests!r})
import caches, h5py, fastuq.model.backbone, fastuq.cli
from ai_edge_litert import interpreter
from fastuq.cache import cache_features, caching
caches.tiny_model()

class Logged(fastuq.model.backbone.Backbone):
    "Adds a byte to a file for every batch that was computed."
    def __call__(self, images):
        features = super().__call__(images)
        os.write(log, b".")
        return features

for line in sys.stdin:
    path, log_path, count, batch_size, fsize = line.split()
    caches.images(int(count)).fingerprint()
    child = os.fork()
    if child == 0:
        fastuq.model.backbone.Backbone = Logged
        if int(fsize):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(fsize), int(fsize)))
        def run(args):
            global log
            log = os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            caches.write(path, int(count), int(batch_size))
            return 0
        with fastuq.cli._sigterm_unwinds():
            try:
                status = fastuq.cli._run(run, None)
            except SystemExit as end:
                status = end.code
        os._exit(status)
    print(child, flush=True)
    if sys.stdin.readline() == "wait\\n":
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Forks:
    """Runs of `caches.write` in processes of their own."""

    def __init__(self, log: Path):
        code = SERVER.format(tests=SUPPORT)
        self._server = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._log = log

    def start(self, path, count, batch_size, fsize=0):
        self._log.unlink(missing_ok=True)
        self._say(f"{path} {self._log} {count} {batch_size} {fsize}\n")
        return int(self._server.stdout.readline())

    def end(self):
        """Wait for the run and return its exit status."""
        self._say("wait\n")
        return int(self._server.stdout.readline())

    def run(self, *args, kill_after=None, how=signal.SIGKILL, **options):
        """Run `caches.write`, kill it so many seconds after its beginning if wanted, and return its exit status."""
        child = self.start(*args, **options)
        if kill_after is not None:
            until = time.monotonic() + 30
            while not self._log.exists() and time.monotonic() < until:
                time.sleep(0.0005)
            time.sleep(kill_after)
            os.kill(child, how)  # not reaped before `end`, so the number is still the child's
        return self.end()

    def computed(self):
        """Return how many batches the last run computed."""
        return self._log.stat().st_size if self._log.exists() else 0

    def close(self):
        """End the process and return what the runs wrote to stderr."""
        if self._server.stdin.closed:
            return ""
        self._server.stdin.close()
        errors = self._server.stderr.read()
        self._server.wait()
        self._server.stdout.close()
        self._server.stderr.close()
        return errors

    def _say(self, line):
        self._server.stdin.write(line)
        self._server.stdin.flush()
