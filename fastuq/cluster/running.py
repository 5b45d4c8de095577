"""Work on many items, one after the other here or spread over workers; results come as they are done."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from fastuq.cluster.connection import check_client, check_versions
from fastuq.cluster.luggage import Luggage
from fastuq.cluster.queue import Queue
from fastuq.errors import BusyError, FastUQError, InputError, RemoteError, short
from fastuq.util.progress import progress_bar

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 4
"""Items under way for each thread of the workers: no thread waits for its next, and few results wait to be fetched."""
RETRIES = 2
"""How often an item is tried again after an error of a disk or a network."""
PATIENCE = 30.0
"""Seconds without a result after which it is asked whether there are workers."""


def run(
    work: Callable[..., Any],
    items: Sequence[Any],
    *,
    client: "Client | None" = None,
    threads: int | None = None,
    unit: str = "shard",
) -> Iterator[tuple[int, Any]]:
    """Yield the place of each item and work(item, threads=threads), as they are done.

    On a cluster each thread of a worker does one item at a time, with one thread. Items of a worker that dies are done
    again by others. An item that another process is writing is tried again after all others.

    Parameters
    ----------
    work : callable
        Can be pickled; it may be called for one item more than once, and at the same time.
    items : sequence
    client : distributed.Client, optional
        Of the cluster that does it; without, it is done here.
    threads : int, optional
        For each item, where it is done here.
    unit : str
        What an item is called.

    Raises
    ------
    FastUQError
        That of an item, or the cluster fails.
    """
    if client is not None:
        check_client(client)
    with progress_bar(len(items), f"{unit}s", unit) as bar:
        here = ((place, work(item, threads=threads)) for place, item in enumerate(items))
        for done in here if client is None else _spread(client, work, items, unit):
            bar.update()
            yield done


def _spread(client: "Client", work: Any, items: Sequence[Any], unit: str) -> Iterator[tuple[int, Any]]:
    import dask

    check_versions(client)
    finished: SimpleQueue[Future] = SimpleQueue()
    flying: dict[Future, int] = {}
    queue, room = Queue(len(items)), 0
    luggage: Future | None = None
    try:
        while queue.left:
            if len(flying) <= room // 2:
                room = AHEAD * max(1, sum(client.ncores().values()))
                places = queue.take(room - len(flying))
                with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
                    # The luggage is a task, so that it is made again where its last holder dies.
                    luggage = luggage or client.submit(_itself, Luggage.of(work), pure=False)
                    sent = client.map(_do, [items[n] for n in places], luggage=luggage, retries=RETRIES, pure=False)
                flying |= zip(sent, places, strict=True)
                for future in sent:
                    future.add_done_callback(finished.put)
            done = _next(client, finished, queue.due if len(flying) <= room // 2 else math.inf)
            if done is None:
                continue
            place = flying.pop(done)
            try:
                result = _result(done, f"{unit} {place + 1} of {len(items)}")
            except BusyError as error:
                queue.put_back(place, error)
            else:
                queue.settle(place)
                yield place, result
    finally:
        client.cancel([*flying, luggage] if luggage else [])


def _itself(luggage: Luggage) -> Luggage:
    return luggage


def _do(item: Any, luggage: Luggage) -> Any:
    """Return the result of an item, or the error: Dask tries again what is raised, and most would fail again."""
    from distributed import get_worker

    try:
        return luggage.work(item, threads=1)
    except FastUQError as error:
        found = type(error)(f"worker {get_worker().address}: {error}")
    if isinstance(found, RemoteError):  # a connection may come back
        raise found
    return found


def _next(client: "Client", finished: "SimpleQueue[Future]", due: float) -> "Future | None":
    """Wait for an item, at most to a time; raises InputError where no workers are left."""
    alone = 0
    while alone < 2:
        try:
            return finished.get(timeout=min(PATIENCE, max(0.0, due - time.monotonic())))
        except Empty:
            if time.monotonic() >= due:
                return None
            alone = 0 if client.ncores() else alone + 1
    raise InputError(
        "cluster: expected workers, found that all of them are gone; start some and run again: what is done is kept"
    )


def _result(future: "Future", name: str) -> Any:
    """Return what became of an item; whatever a cluster fails with is an error of one line."""
    from distributed import KilledWorker

    try:
        result = future.result()
    except FastUQError:
        raise
    except KilledWorker as error:
        raise InputError(
            f"{name}: {error.allowed_failures + 1} workers died while they had it, the last at "
            f"{error.last_worker.address}; they may have too little memory: give them more, or fewer threads"
        ) from None
    except CancelledError as error:
        why = short(getattr(error, "reason", error))  # as in scheduler-connection-lost
        raise InputError(f"{name}: the cluster let go of it ({why}); run again: what is done is kept") from None
    except (OSError, MemoryError, ImportError) as error:
        raise InputError(f"{name}: a worker failed with {type(error).__name__}: {short(error)}") from None
    if isinstance(result, FastUQError):
        raise result
    return result
