"""A connection to the scheduler of a Dask cluster that somebody started."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastuq.errors import InputError, MissingExtraError, short

if TYPE_CHECKING:
    from distributed import Client

SECONDS = 5.0
"""How long a scheduler may take to answer."""


@contextmanager
def connected(address: str | None) -> Iterator["Client | None"]:
    """Yield a client of the scheduler at an address, None for none; where its dashboard is goes to standard error.

    Raises
    ------
    InputError
        No scheduler answers there, or it has no workers.
    MissingExtraError
        Dask is not installed.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise MissingExtraError("clusters need Dask: pip install 'fastuq[distributed]'") from None
    try:
        asyncio.run(_answer(address))
    except Exception as error:  # a client that cannot connect stays behind, and ends in a traceback
        raise InputError(
            f"scheduler {address}: expected a Dask scheduler, found {short(error)}; start one with `dask scheduler`, "
            "and give the address that it prints"
        ) from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what is lost is an error of one line
    with Client(address, timeout=SECONDS, set_as_default=False) as client:
        if not client.ncores():
            raise InputError(
                f"scheduler {address}: expected at least one worker, found none; start some with "
                f"`dask worker {address}`"
            )
        print(f"fastuq: dashboard at {client.dashboard_link}", file=sys.stderr)
        yield client


def check_client(client: Any) -> None:
    """Raise InputError unless that is a client that is connected and that can be waited for."""
    found = type(client).__name__
    if hasattr(client, "get_versions"):
        found = "an asynchronous one" if client.asynchronous else f"one that is {client.status}"
    if found != "one that is running":
        raise InputError(
            f"client: expected a connected distributed.Client, found {found}; make one with "
            "`distributed.Client(ADDRESS)` and keep it open"
        )


def check_versions(client: "Client") -> None:
    """Raise InputError where the scheduler or a worker has another fastuq than this process, or none."""
    found: Any = client.get_versions(packages=["fastuq"])
    here = found["client"]["packages"]["fastuq"]
    for name, about in {"scheduler": found["scheduler"], **found["workers"]}.items():
        there = about["packages"]["fastuq"]
        if there != here:
            raise InputError(
                f"{name}: expected fastuq {here} as here, found {there or 'none'}; install the same on all machines"
            )


async def _answer(address: str) -> None:
    """Raise what is wrong where no scheduler answers."""
    from distributed.core import rpc
    from distributed.security import Security

    how = Security().get_connection_args("client")  # certificates as Dask is configured, which clients use too
    async with asyncio.timeout(SECONDS), rpc(address, timeout=SECONDS, connection_args=how) as scheduler:
        kind = (await scheduler.identity())["type"]
    if kind != "Scheduler":
        raise ValueError(f"a {kind.lower()}")
