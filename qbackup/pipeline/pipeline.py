"""`Pipeline`: the threads and the budget of one archive."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

from qbackup.base.events import Data, Event
from qbackup.crypto.ciphers import Cipher, choose_cipher
from qbackup.crypto.kdf import Derivation, Deriver, physical_memory
from qbackup.crypto.romix.tuning import WIDTH, first_pass, kernel_saves
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.key_pool import KeyPool
from qbackup.pipeline.key_request import KeyFuture
from qbackup.pipeline.opening import ChunkOpening, open_first
from qbackup.pipeline.parallel import Message, ParallelFiles, Shared, Work
from qbackup.pipeline.remote import RemoteMixing
from qbackup.pipeline.session import Session
from qbackup.pipeline.stage_queue import Tag
from qbackup.storage.chunk import StoredChunk

__all__ = ["Pipeline", "Session", "available_cores", "default_memory"]

_DEFAULT_MEMORY = 2 * 1024**3
_LINES_LIMIT = 16
_LINE_MEMORY = 2 * 100 * 1024**2  # two chunks, as the writers cut them
_JOBS_LIMIT = 1024  # more cores than a machine has; what is held ahead grows with it
_WORTH_LOADING_SECONDS = 0.8  # what the kernel must save; loading it takes a quarter of a second


def default_memory() -> int:
    """Half of this machine's memory, in bytes."""
    there = physical_memory()
    return _DEFAULT_MEMORY if there is None else there // 2


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pipeline:
    """The threads and the budget of one archive.

    Args:
        deriver: how keys are derived.
        jobs: lanes derived side by side; default: the cores there are.
        memory: budget for derivations and held chunks, in bytes; default: half of RAM.
        seekable: chunks can be read when they are needed; else they are held.
        executor: derives keys on other machines too.
        executor_jobs: how many it is given at once.
    """

    def __init__(
        self,
        deriver: Deriver,
        *,
        jobs: int | None = None,
        memory: int | None = None,
        seekable: bool = True,
        executor: Executor | None = None,
        executor_jobs: int | None = None,
    ) -> None:
        self._jobs = min(jobs or available_cores(), _JOBS_LIMIT)
        self._memory = memory or default_memory()
        remote: RemoteMixing[KeyFuture] | None = None
        if executor is not None:
            remote = RemoteMixing(executor, executor_jobs)
        self._deriver = deriver
        self._pool = KeyPool(deriver, self._jobs, self._memory, remote)
        self._window = 4 * self._jobs + 8 + (2 * remote.jobs if remote else 0)
        self._seekable = seekable
        self._cipher: Cipher | None = None
        self._sessions: weakref.WeakSet[Session[Any]] = weakref.WeakSet()
        self._sessions_lock = threading.RLock()

    @property
    def jobs(self) -> int:
        """How many lanes may be derived side by side."""
        return self._jobs

    @property
    def cipher(self) -> Cipher:
        """The AES implementation, chosen once."""
        if self._cipher is None:
            self._cipher = choose_cipher()
        return self._cipher

    @property
    def load(self) -> tuple[int, int]:
        """Jobs that derive at this moment, and keys that wait."""
        return self._pool.load

    @property
    def has_kernel(self) -> bool:
        """Whether the lane kernel is in use."""
        return self._pool.has_kernel

    def expect_keys(self, parameters: ScryptParameters, count: int) -> None:
        """Says how many keys will be asked for: the lane kernel is loaded if that pays.

        Returns at once; it is loaded beside what the caller does next. What was said before
        does not count any more.
        """
        self._pool.expect_lanes(count * parameters.p)
        if kernel_saves(count * parameters.p, self._jobs, parameters) >= _WORTH_LOADING_SECONDS:
            self._pool.warm_up(parameters)
            # so that there is always a full pass for each job, and half of another
            lanes = (WIDTH + WIDTH // 2) * self._jobs
            self._window = max(self._window, -(-lanes // parameters.p) + 8)

    def lanes_at_once(self, parameters: ScryptParameters) -> int:
        """How many lanes with these parameters can run side by side, of any derivations."""
        return max(1, min(self._jobs, self._memory // max(1, parameters.lane_memory)))

    def lanes_of_pass(self, parameters: ScryptParameters, count: int) -> int:
        """How many lanes each job takes at once by the lane kernel, when so many keys are wanted.

        0: they are derived without it.
        """
        lanes = count * parameters.p
        if kernel_saves(lanes, self._jobs, parameters) < _WORTH_LOADING_SECONDS:
            return 0
        if not self._deriver.has_kernel:
            return 0
        room = self._memory // self._jobs // parameters.lane_memory
        return first_pass(lanes, self._jobs, parameters, min(WIDTH, room))

    def request(self, derivation: Derivation) -> KeyFuture:
        """Asks for a key, to be waited for later."""
        return self._pool.start(derivation)

    def more_to_come(self) -> contextlib.AbstractContextManager[None]:
        """For who asks for several keys in a row: each then gets one job rather than all."""
        return self._pool.more_to_come()

    def forget_expected(self) -> None:
        """What `expect` started is not needed after all."""
        self._pool.forget_speculated()

    def derive(self, derivation: Derivation) -> bytes:
        """The key, 64 bytes.

        Raises:
            MachineError: no backend or no memory for it.
            Interrupted: the pipeline was closed.
        """
        return self._pool.start(derivation).wait()

    def expect(self, derivation: Derivation) -> None:
        """Starts to derive a key that will probably be asked for."""
        self._pool.start(derivation, speculative=True)

    def fits(self, format_: UnlockedFormat, chunk: StoredChunk) -> bool:
        """Tells whether a chunk's head was made with this passphrase and its own name. Raises as
        `open_chunk`.

        A chunk's other name is left out: this is asked of many chunks, and each costs a derivation.
        """
        opening = ChunkOpening(format_, format_.file(), chunk)
        return opening.fits(self._key(opening))

    def open_chunk(
        self,
        format_: UnlockedFormat,
        chunk: StoredChunk,
        needed: Sequence[StoredChunk] = (),
        *,
        is_last: bool = False,
    ) -> memoryview:
        """One chunk's verified plaintext, in a buffer that is the caller's.

        Args:
            format_: how chunks are opened.
            chunk: which one.
            needed: those that `FileDecryptor.needs` names.
            is_last: it is the last one of its file.

        Raises:
            Damaged: it can't be believed.
            LimitExceeded: it asks for more than allowed.
            MachineError: this machine can't derive its key.
        """
        decryptor = format_.file()

        def open_one(stored: StoredChunk) -> Data:
            opening = ChunkOpening(format_, decryptor, stored)
            return opening.open(
                self._key(opening),
                derive=self.derive,
                read=opening.read,
                decrypt=self.cipher.decrypt,
            )

        for other in needed:
            open_first(other, open_one)
        return decryptor.alone(open_first(chunk, open_one), is_last=is_last)

    def _key(self, opening: ChunkOpening) -> bytes:
        return self.derive(opening.derivation) if opening.derivation is not None else b""

    def session(
        self, format_: UnlockedFormat, files: Iterable[tuple[Tag, Iterable[StoredChunk]]]
    ) -> Session[Tag]:
        """A session that looks ahead from the start, when the first file is asked for."""
        return self._session(format_, files)

    def _session(
        self,
        format_: UnlockedFormat,
        files: Iterable[tuple[Tag, Iterable[StoredChunk]]],
        *,
        eager: bool = True,
        lines: int = 1,
        past_gaps: bool = False,
    ) -> Session[Tag]:
        session = Session(
            files,
            format_,
            self._pool,
            self.cipher,
            window=max(2, self._window // lines),
            chunks=2 if self._seekable else max(2, self._jobs),
            hold_bodies=not self._seekable,
            eager=eager,
            past_gaps=past_gaps,
        )
        with self._sessions_lock:
            self._sessions.add(session)
        return session

    def unpack(
        self,
        format_: UnlockedFormat,
        files: Iterable[tuple[Tag, Iterable[StoredChunk]]],
        work: Work[Tag, Message],
        tell: Callable[[Message], None],
        *,
        past_gaps: bool = False,
    ) -> None:
        """Does work with every file; several side by side when there are four jobs or more.

        Two files are open for four jobs, and so on: at most two chunks are held for each, so
        no more than there are jobs, and no more files than have room for that in the budget:
        the first chunk of each is held whatever it says. From a pipe they come one after the
        other.

        Args:
            format_: how chunks are opened.
            files: (tag, chunks in order) of each; gone through on other threads.
            work: gets a tag, the file's events, and a function that takes what is to be told.
                With one file at a time it runs on the caller's thread, else on others.
            tell: is told, always on the caller's thread; of one file in its order.
            past_gaps: a file's chunks go on behind one that is missing, which is then told as
                lost; otherwise they end there.
        """
        count = min(self._jobs // 2, _LINES_LIMIT, self._memory // _LINE_MEMORY)
        count = count if self._seekable else 1
        if count < 2:
            with self._session(format_, files, past_gaps=past_gaps) as session:
                for tag, events in session:
                    work(tag, events, tell)
            return
        shared = Shared(files)
        sessions = [
            self._session(format_, shared, lines=count, past_gaps=past_gaps) for _ in range(count)
        ]
        with contextlib.closing(iter(ParallelFiles(sessions, work))) as messages:
            for message in messages:
                tell(message)

    def run(self, format_: UnlockedFormat, chunks: Iterable[StoredChunk]) -> Iterator[Event]:
        """The events of one file, in order, made ahead as far as the caller reads on."""
        session = self._session(format_, [((), chunks)], eager=False)
        try:
            for _, events in session:
                yield from events
        except GeneratorExit:  # perhaps because it is collected
            session.abandon()
            raise
        except BaseException:
            session.close()
            raise
        session.close()

    def close(self) -> None:
        """Abandons what runs. Never raises, never waits.

        In a process that was forked it does nothing: the threads are not there, and what they
        had locked stays so.
        """
        if self._pool.is_elsewhere:
            return
        self._pool.close()
        with self._sessions_lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
