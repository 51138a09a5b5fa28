"""The middle step of derivations, on other machines, by an executor.

What travels is a derivation's blocks and N and r; the passphrase and the data stay here, and
the key is made here (`qbackup.mixing`). Nothing that comes back is believed: who gets it
proves the key. An executor that can't be called is not asked again; what it had is done here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Executor, Future
from typing import Generic, TypeVar

from qbackup.mixing import mix
from qbackup.scrypt import ScryptParameters

_UNKNOWN_JOBS = 16

Key = TypeVar("Key", bound=Hashable)

# told what came of it: the mixed blocks, or None when it has to be done here
OnMixed = Callable[[Key, "bytes | None"], None]


class RemoteMixing(Generic[Key]):
    """Derivations that an executor has. It is its owner's, and never shut down here.

    Args:
        executor: any; its processes must have qbackup installed.
        jobs: derivations that it is given at once; default: its workers and some more, so
            that none has to wait for the next one; 16 where it does not say how many it has.
    """

    def __init__(self, executor: Executor, jobs: int | None = None) -> None:
        self._executor = executor
        workers = getattr(executor, "_max_workers", None)
        self._jobs = jobs or (workers + 1 + workers // 4 if workers else _UNKNOWN_JOBS)
        self._lock = threading.RLock()  # a collection may come back here, from anywhere
        self._futures: dict[Key, Future[bytes] | None] = {}
        self._forgotten: list[Future[bytes]] = []
        self.works = True
        self.is_silent = False  # nothing came of what it has, for too long

    @property
    def jobs(self) -> int:
        """Derivations that it is given at once."""
        return self._jobs

    @property
    def has_room(self) -> bool:
        """Whether it can be given another one."""
        return not self.is_silent and len(self._futures) < self._jobs

    @property
    def keys(self) -> list[Key]:
        """What it has, the oldest first."""
        with self._lock:
            return list(self._futures)

    @property
    def has_forgotten(self) -> bool:
        """Whether `cancel_forgotten` has something to do."""
        return bool(self._forgotten)

    def has(self, key: Key) -> bool:
        """Whether it is here."""
        return key in self._futures

    def expect(self, key: Key) -> None:
        """It will be launched next."""
        with self._lock:
            self._futures[key] = None

    def launch(
        self, key: Key, blocks: bytes, parameters: ScryptParameters, on_mixed: OnMixed[Key]
    ) -> None:
        """Hands one over that was expected. Call it with no lock that `on_mixed` takes.

        Args:
            key: what the caller calls it.
            blocks: p blocks of 128·r bytes.
            parameters: N and r.
            on_mixed: called once, on any thread, unless it was forgotten.
        """

        def done(future: Future[bytes]) -> None:
            mixed = _result(future, len(blocks))
            with self._lock:
                if mixed is not None:
                    self.is_silent = False
                if key not in self._futures:
                    return
            on_mixed(key, mixed)

        try:
            future = self._executor.submit(mix, blocks, parameters.log2_n, parameters.r)
        except Exception:  # broken or shut down: each kind of executor has its own exception
            self.works = False
            on_mixed(key, None)
            return
        with self._lock:
            wanted = key in self._futures
            if wanted:
                self._futures[key] = future
        if wanted:
            future.add_done_callback(done)
        else:
            future.cancel()

    def forget(self, key: Key) -> None:
        """It is not wanted from here any more."""
        with self._lock:
            future = self._futures.pop(key, None)
            if future is not None:
                self._forgotten.append(future)

    def cancel_forgotten(self) -> None:
        """Tells the executor of what is not wanted any more.

        Call it with no lock that `on_mixed` takes: Dask's waits for the thread that calls it.
        """
        with self._lock:
            futures, self._forgotten = self._forgotten, []
        for future in futures:
            with contextlib.suppress(Exception):  # of an executor that has ended
                future.cancel()

    def close(self) -> None:
        """Nothing is wanted any more."""
        for key in self.keys:
            self.forget(key)


def _result(future: Future[bytes], size: int) -> bytes | None:
    try:
        mixed: object = future.result()
    except (Exception, CancelledError):
        return None
    return mixed if isinstance(mixed, bytes) and len(mixed) == size else None
