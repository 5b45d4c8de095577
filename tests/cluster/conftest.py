"""A cluster of programs, one of which dies."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest


@pytest.fixture
def dying_cluster(tmp_path):
    """Start a scheduler and two workers by their commands; the first is killed when it has written its second batch.

    Yields the address and that worker, which has the first shards: the other one starts later.
    """
    from distributed import Client

    with ExitStack() as stack:

        def start(*command):
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command], stderr=subprocess.DEVNULL, cwd=tmp_path
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        found = tmp_path / "scheduler.json"
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(found))
        worker = ["worker", "--scheduler-file", str(found), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        dying = start(*worker, "--preload", "dying_worker")
        while not found.exists() or not found.read_text().strip():
            time.sleep(0.05)
        address = json.loads(found.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        start(*worker)
        yield address, dying
