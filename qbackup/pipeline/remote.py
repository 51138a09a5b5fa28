"""The middle step of derivations, on other machines, by an executor.

What travels is a derivation's blocks and N and r; the passphrase and the data stay here, and
the key is made here (`qbackup.crypto.scrypt_steps`). Nothing that comes back is believed: who gets
it proves the key. An executor that can't be called, or of which nothing good ever came, is not
asked again; what it had is done here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Executor, Future
from typing import Generic, TypeVar

from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.scrypt_steps import romix

_UNKNOWN_JOBS = 16
_USELESS = 3  # failures, with nothing good before

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
        self._failures: int | None = 0  # None: something good has come
        self._losses = 0  # since the last answer
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
            on_mixed: called once, on any thread; if it was forgotten, with None and only when
                there is an answer: who was thought to be silent can be asked again.
        """

        def done(future: Future[bytes]) -> None:
            mixed = _result(future, len(blocks))
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
        except Exception:  # broken or shut down, each kind in its own way; or this is no future
            self.works = False
            on_mixed(key, None)

    def judge(self, *, good: bool) -> None:
        """Says whether what came of one was right. A good one makes up for all failures."""
        with self._lock:
            if good:
                self._failures = None
            elif self._failures is not None:
                self._failures += 1
                self.works = self.works and self._failures < _USELESS

    def lose(self) -> None:
        """One was derived here sooner. As many as it has at once, with no answer: it is silent."""
        with self._lock:
            self._losses += 1
            self.is_silent = self.is_silent or self._losses >= self._jobs

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
