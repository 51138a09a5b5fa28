"""Connection to a Dask cluster that helps to derive keys: the extra ``cluster``."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeVar

from qbackup.base.errors import MachineError, UsageError
from qbackup.cli.output import print_message
from qbackup.crypto.scrypt_steps import check_worker
from qbackup.pipeline.threads import SIGNAL_SECONDS, start_daemon

_CONNECT_SECONDS = 10
_GRACE_SECONDS = 1  # Dask's own message says more
_CLOSE_SECONDS = 0.3  # the whole program has one second to end in

Result = TypeVar("Result")


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[tuple[Executor | None, int | None]]:
    """Gives an executor on the cluster at this address, and the number of its workers' threads.

    Each worker is asked whether it can derive keys. One that can't is named on standard error and
    gets nothing to do. Encryption of the connection is set in Dask's own configuration.

    Args:
        address: of the cluster's scheduler; None for no cluster.

    Raises:
        UsageError: Dask is not installed.
        MachineError: there is no cluster, or it has no workers that can derive keys.
    """
    if address is None:
        yield None, None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("--dask needs Dask: pip install distributed") from error

    class QuickClient(Client):  # type: ignore[misc]
        """A client without Dask's own `__del__`, which waits twenty seconds for an answer."""

        def __del__(self) -> None:
            return

    def connect() -> tuple[Any, dict[str, int], dict[str, object]]:
        client = QuickClient(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        threads = client.nthreads()
        return client, threads, client.run(check_worker, on_error="return") if threads else {}

    with _quiet():
        try:
            client, threads, answers = _in_time(connect)
        except Exception as error:  # addresses and networks of each kind have their own errors
            raise MachineError(f"can't reach the Dask cluster at {address}: {error}") from error
        try:
            if not threads:
                raise MachineError(f"the Dask cluster at {address} has no workers")
            unfit = {worker: error for worker, error in answers.items() if error is not None}
            fit = [worker for worker in threads if worker not in unfit]
            _report_unfit(unfit)
            if not fit:
                raise MachineError(
                    f"no worker of the Dask cluster at {address} can derive keys: install this"
                    " program and llvmlite on them"
                )
            # Naming workers excludes those that join later, so all that is done without need.
            chosen = {"workers": fit} if unfit else {}
            yield client.get_executor(**chosen), sum(threads[worker] for worker in fit)
        finally:
            with contextlib.suppress(Exception):  # a cluster that does not answer is left alone
                client.close(timeout=_CLOSE_SECONDS)


def _report_unfit(unfit: Mapping[str, object]) -> None:
    """Names the workers that can't derive keys, with the reason of the first."""
    if unfit:
        names = ", ".join(sorted(unfit))
        reason = next(iter(unfit.values()))
        print_message(
            f"warning: these workers can't derive keys, and are left out: {names}: {reason}"
        )


def _in_time(function: Callable[[], Result]) -> Result:
    """Calls a function, and gives up on it after some seconds: a silent server never answers."""
    future: Future[Result] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # handed over whole
            future.set_exception(error)

    start_daemon(call, "qbackup-dask")
    end = time.monotonic() + _CONNECT_SECONDS + _GRACE_SECONDS
    while not wait([future], SIGNAL_SECONDS).done:
        if time.monotonic() > end:
            raise OSError("there is no answer")
    return future.result()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Switches off all logging within this context: the errors of Dask are reported here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
