"""A Dask cluster that helps to derive keys: the extra ``cluster``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor

from qbackup.errors import MachineError, UsageError

_CONNECT_SECONDS = 10


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[tuple[Executor | None, int | None]]:
    """An executor on the cluster at this address, and how many workers' threads it has.

    How to encrypt what travels is read from Dask's own configuration.

    Args:
        address: of its scheduler; None for no cluster.

    Raises:
        UsageError: Dask is not installed.
        MachineError: there is no cluster, or it has no workers.
    """
    if address is None:
        yield None, None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("--dask needs Dask: pip install 'qbackup[cluster]'") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is told here
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise MachineError(f"can't reach the Dask cluster at {address}: {error}") from error
    try:
        threads = sum(client.nthreads().values())
        if not threads:
            raise MachineError(f"the Dask cluster at {address} has no workers")
        yield client.get_executor(), threads
    finally:
        client.close(timeout=0)
