"""A Dask cluster that helps to derive keys: the extra ``cluster``."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeVar

from qbackup.base.errors import MachineError, UsageError
from qbackup.pipeline.threads import SIGNAL_SECONDS

_CONNECT_SECONDS = 10
_GRACE_SECONDS = 1  # Dask's own message says more
_CLOSE_SECONDS = 0.3  # the whole program has one second to end in

Result = TypeVar("Result")


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
        raise UsageError("--dask needs Dask: pip install distributed") from error

    class QuickClient(Client):  # type: ignore[misc]
        """One that does not wait for an answer, twenty seconds long, when it is collected."""

        def __del__(self) -> None:
            return

    def connect() -> tuple[Any, int]:
        client = QuickClient(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        return client, sum(client.nthreads().values())

    with _quiet():
        try:
            client, threads = _in_time(connect)
        except Exception as error:  # each kind of address and of network has its own
            raise MachineError(f"can't reach the Dask cluster at {address}: {error}") from error
        try:
            if not threads:
                raise MachineError(f"the Dask cluster at {address} has no workers")
            yield client.get_executor(), threads
        finally:
            with contextlib.suppress(Exception):  # it does not answer, and need not
                client.close(timeout=_CLOSE_SECONDS)


def _in_time(function: Callable[[], Result]) -> Result:
    """What a function returns or raises. Who takes the call and says nothing is not waited for."""
    future: Future[Result] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # handed over whole
            future.set_exception(error)

    threading.Thread(target=call, name="qbackup-dask", daemon=True).start()
    end = time.monotonic() + _CONNECT_SECONDS + _GRACE_SECONDS
    while not wait([future], SIGNAL_SECONDS).done:
        if time.monotonic() > end:
            raise OSError("there is no answer")
    return future.result()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No word from Dask and what is below it: what matters of it is told here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
