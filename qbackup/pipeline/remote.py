"""The middle step of derivations, on other machines, by an executor.

Only a derivation's blocks and N and r travel. The passphrase and the data stay here, and
the key is made here (`qbackup.crypto.scrypt_steps`). No answer is believed: the caller proves
the key. An executor that can't be called, that has never given a right answer, or that has a worker
without the lane kernel is not asked again; its derivations are done here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Executor, Future
from typing import Generic, TypeVar

from qbackup.base.names import display
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.scrypt_steps import NoLaneKernel, romix

_UNKNOWN_JOBS = 16
_USELESS = 3  # failures without any right answer; after them the executor is not asked again

Key = TypeVar("Key", bound=Hashable)

# Called with the result: the mixed blocks, or None if the derivation has to be done here.
OnMixed = Callable[[Key, "bytes | None"], None]


class RemoteMixing(Generic[Key]):
    """Derivations that an executor has. The caller owns the executor and shuts it down.

    Args:
        executor: any executor; its processes must have qbackup and llvmlite installed.
        jobs: derivations that the executor gets at once; default: its workers and some more, so
            that no worker has to wait for the next one; 16 where their number is unknown.
        warn: called once with a sentence if a worker can't derive keys.
    """

    def __init__(
        self,
        executor: Executor,
        jobs: int | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._executor = executor
        workers = getattr(executor, "_max_workers", None)
        self._jobs = jobs or (workers + 1 + workers // 4 if workers else _UNKNOWN_JOBS)
        self._lock = threading.RLock()  # a garbage collection may call methods here at any time
        self._futures: dict[Key, Future[bytes] | None] = {}
        self._forgotten: list[Future[bytes]] = []
        self._failures: int | None = 0  # None: a right answer has come
        self._warn = warn
        self._losses = 0  # keys derived here sooner, since the last answer
        self.works = True
        self.is_silent = False  # the executor has not answered for too long

    @property
    def jobs(self) -> int:
        """Number of derivations that the executor gets at once."""
        return self._jobs

    @property
    def has_room(self) -> bool:
        """True if the executor can get another derivation."""
        return not self.is_silent and len(self._futures) < self._jobs

    @property
    def keys(self) -> list[Key]:
        """Keys of the executor's derivations, the oldest first."""
        with self._lock:
            return list(self._futures)

    @property
    def has_forgotten(self) -> bool:
        """True if `cancel_forgotten` has something to do."""
        return bool(self._forgotten)

    def has(self, key: Key) -> bool:
        """Tells if the executor has this derivation, or gets it next."""
        return key in self._futures

    def expect(self, key: Key) -> None:
        """Notes that this derivation will be launched next."""
        with self._lock:
            self._futures[key] = None

    def launch(
        self, key: Key, blocks: bytes, parameters: ScryptParameters, on_mixed: OnMixed[Key]
    ) -> None:
        """Hands an expected derivation over. Call without any lock that `on_mixed` takes.

        Args:
            key: the caller's key for the derivation.
            blocks: p blocks of 128·r bytes.
            parameters: N and r.
            on_mixed: called once, on any thread. For a forgotten derivation, called with None and
                only if there is an answer, as a silent executor can be asked again then.
        """

        def done(future: Future[bytes]) -> None:
            mixed = self._result(future, len(blocks))
            with self._lock:
                if mixed is not None:
                    self.is_silent = False
                    self._losses = 0
                wanted = key in self._futures
            if wanted or mixed is not None:
                on_mixed(key, mixed if wanted else None)

        try:
            future = self._executor.submit(romix, blocks, parameters.log2_n, parameters.r)
            with self._lock:
                wanted = key in self._futures
                if wanted:
                    self._futures[key] = future
            if wanted:
                future.add_done_callback(done)
            else:
                future.cancel()
        except Exception:  # a broken executor may raise anything, or return no future
            self.works = False
            on_mixed(key, None)

    def _result(self, future: Future[bytes], size: int) -> bytes | None:
        """Gives the mixed blocks; None if the worker did not give any."""
        try:
            mixed: object = future.result()
        except NoLaneKernel as error:
            self._retire(error)
            return None
        except (Exception, CancelledError):
            return None
        return mixed if isinstance(mixed, bytes) and len(mixed) == size else None

    def _retire(self, error: NoLaneKernel) -> None:
        """Asks the executor for nothing more.

        An executor can't be told which worker to take. A worker that fails at once is always free,
        so it would get one derivation after another.
        """
        with self._lock:
            is_first, self.works = self.works, False
        if is_first:
            self._warn(
                f"a worker of the executor can't derive keys: {display(error.reason)}. All keys"
                " that are still missing are derived here"
            )

    def judge(self, *, good: bool) -> None:
        """Counts a right or wrong answer. A right one makes up for all failures."""
        with self._lock:
            if good:
                self._failures = None
            elif self._failures is not None:
                self._failures += 1
                self.works = self.works and self._failures < _USELESS

    def lose(self) -> None:
        """Counts a key that was derived here sooner.

        After as many as the executor gets at once, without an answer, it counts as silent.
        """
        with self._lock:
            self._losses += 1
            self.is_silent = self.is_silent or self._losses >= self._jobs

    def forget(self, key: Key) -> None:
        """Notes that this derivation is not wanted from the executor any more."""
        with self._lock:
            future = self._futures.pop(key, None)
            if future is not None:
                self._forgotten.append(future)

    def cancel_forgotten(self) -> None:
        """Cancels the unwanted derivations at the executor.

        Call without any lock that `on_mixed` takes: Dask's `cancel` waits for the thread that
        calls `on_mixed`.
        """
        with self._lock:
            futures, self._forgotten = self._forgotten, []
        for future in futures:
            with contextlib.suppress(Exception):  # the executor may have ended
                future.cancel()

    def close(self) -> None:
        """Forgets all derivations."""
        for key in self.keys:
            self.forget(key)
