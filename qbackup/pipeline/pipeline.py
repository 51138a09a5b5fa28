"""`Pipeline`: the threads and the budget of one archive."""

from __future__ import annotations

import contextlib
import functools
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
from qbackup.pipeline.chunk_opener import ChunkOpening, open_first
from qbackup.pipeline.foreign_chunks import ForeignChunks
from qbackup.pipeline.key_pool import KeyPool
from qbackup.pipeline.key_request import KeyFuture
from qbackup.pipeline.parallel import Message, ParallelFiles, Shared, Work
from qbackup.pipeline.remote import RemoteMixing
from qbackup.pipeline.second_tries import Note, SecondTries
from qbackup.pipeline.session import Session
from qbackup.pipeline.stage_queue import Tag
from qbackup.storage.chunk import StoredChunk

__all__ = ["Pipeline", "Session", "available_cores", "default_memory"]

_DEFAULT_MEMORY = 2 * 1024**3
_LINES_LIMIT = 16
_LINE_MEMORY = 2 * 100 * 1024**2  # two chunks, as the writers cut them
_JOBS_LIMIT = 1024  # more cores than a machine has; the number of chunks held grows with the jobs
_WORTH_LOADING_SECONDS = 0.8  # least time the kernel must save; loading takes a quarter second


def default_memory() -> int:
    """Gives half of this machine's memory, in bytes."""
    there = physical_memory()
    return _DEFAULT_MEMORY if there is None else there // 2


def available_cores() -> int:
    """Counts the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pipeline:
    """The threads and the budget of one archive.

    Args:
        deriver: derives keys.
        jobs: lanes derived side by side; default: the number of cores.
        memory: budget for derivations and held chunks, in bytes; default: half of RAM.
        seekable: chunks can be read when they are needed; else they are held.
        executor: derives keys on other machines too.
        executor_jobs: number of derivations that the executor gets at once.
        warn: called with a sentence if a worker of the executor can't derive keys.
        note: called with a key and a warning that takes the place of the last one with that key.
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
        warn: Callable[[str], None] = lambda text: None,
        note: Note = lambda key, text: None,
    ) -> None:
        self._jobs = min(jobs or available_cores(), _JOBS_LIMIT)
        self._memory = memory or default_memory()
        remote: RemoteMixing[KeyFuture] | None = None
        if executor is not None:
            remote = RemoteMixing(executor, executor_jobs, warn)
        self._deriver = deriver
        self._pool = KeyPool(deriver, self._jobs, self._memory, remote)
        self._window = 4 * self._jobs + 8 + (2 * remote.jobs if remote else 0)
        self._tries = SecondTries(note)
        self.foreign_chunks = ForeignChunks(note)
        self._seekable = seekable
        self._cipher: Cipher | None = None
        self._sessions: weakref.WeakSet[Session[Any]] = weakref.WeakSet()
        self._sessions_lock = threading.RLock()

    @property
    def jobs(self) -> int:
        """Number of lanes that may be derived side by side."""
        return self._jobs

    @property
    def lookahead(self) -> int:
        """Number of keys to ask for ahead, so that no job waits for the next one."""
        return self._window

    @property
    def cipher(self) -> Cipher:
        """The AES implementation, chosen once."""
        if self._cipher is None:
            self._cipher = choose_cipher()
        return self._cipher

    @property
    def load(self) -> tuple[int, int]:
        """Number of jobs that derive at this moment, and of keys that wait."""
        return self._pool.load

    @property
    def has_kernel(self) -> bool:
        """True if the lane kernel is in use."""
        return self._pool.has_kernel

    def expect_keys(self, parameters: ScryptParameters, count: int) -> None:
        """Announces how many keys will be asked for; loads the lane kernel if that saves time.

        Returns at once, and loads on a thread of its own. Replaces an earlier announcement.
        """
        self._pool.expect_lanes(count * parameters.p)
        if kernel_saves(count * parameters.p, self._jobs, parameters) >= _WORTH_LOADING_SECONDS:
            self._pool.warm_up(parameters)
            # Each job then always has lanes for a full pass, and for half of another.
            lanes = (WIDTH + WIDTH // 2) * self._jobs
            self._window = max(self._window, -(-lanes // parameters.p) + 8)

    def lanes_at_once(self, parameters: ScryptParameters) -> int:
        """Counts the lanes with these parameters that fit side by side, of any derivations."""
        return max(1, min(self._jobs, self._memory // max(1, parameters.lane_memory)))

    def lanes_of_pass(self, parameters: ScryptParameters, count: int) -> int:
        """Gives the lanes that each job derives at once by the lane kernel, for `count` keys.

        0: the keys are derived without the kernel.
        """
        lanes = count * parameters.p
        if kernel_saves(lanes, self._jobs, parameters) < _WORTH_LOADING_SECONDS:
            return 0
        if not self._deriver.has_kernel:
            return 0
        room = self._memory // self._jobs // parameters.lane_memory
        return first_pass(lanes, self._jobs, parameters, min(WIDTH, room))

    def request(self, derivation: Derivation) -> KeyFuture:
        """Asks for a key, for which the caller waits later."""
        return self._pool.start(derivation)

    def more_to_come(self) -> contextlib.AbstractContextManager[None]:
        """Gives each key one job and not all while the caller asks for several keys in a row."""
        return self._pool.more_to_come()

    def forget_expected(self) -> None:
        """Cancels the derivations that `expect` started."""
        self._pool.forget_speculated()

    def derive(self, derivation: Derivation) -> bytes:
        """Derives a key, and returns its 64 bytes.

        Raises:
            MachineError: there is no backend or no memory for the derivation.
            Interrupted: the pipeline was closed.
        """
        return self._pool.start(derivation).wait()

    def expect(self, derivation: Derivation) -> None:
        """Starts to derive a key that will probably be asked for."""
        self._pool.start(derivation, speculative=True)

    def accepts(self, format_: UnlockedFormat, chunk: StoredChunk) -> bool:
        """Tells if a chunk's head was made with this passphrase and its own name.

        Raises the errors that `open_chunk` raises. A chunk's other name is not tried: many chunks
        are asked for this, and each name costs a derivation.
        """
        opening = ChunkOpening(format_, format_.file(), chunk)
        return opening.accepts(self._key(opening))

    def open_chunk(
        self,
        format_: UnlockedFormat,
        chunk: StoredChunk,
        needed: Sequence[StoredChunk] = (),
        *,
        is_last: bool = False,
    ) -> memoryview:
        """Gives one chunk's verified plaintext, in a buffer that the caller may keep.

        Args:
            format_: format of the chunks.
            chunk: the chunk.
            needed: the chunks that `FileDecryptor.prerequisites` names.
            is_last: the chunk is the last one of its file.

        Raises:
            Damaged: the chunk can't be believed.
            LimitExceeded: the chunk asks for more than allowed.
            MachineError: this machine can't derive its key.
        """
        decryptor = format_.file()
        opening: ChunkOpening | None = None

        def open_one(stored: StoredChunk) -> Data:
            nonlocal opening
            if opening is None or not opening.is_of(stored):
                opening = ChunkOpening(format_, decryptor, stored)
            return opening.open(
                key=functools.partial(self._key, opening),
                derive=self.derive,
                read=opening.read,
                decrypt=self.cipher.decrypt,
            )

        for other in needed:
            open_first(other, open_one, self._tries)
        data = open_first(chunk, open_one, self._tries)
        return decryptor.standalone_plaintext(data, is_last=is_last)

    def _key(self, opening: ChunkOpening) -> bytes:
        return self.derive(opening.derivation) if opening.derivation is not None else b""

    def session(
        self, format_: UnlockedFormat, files: Iterable[tuple[Tag, Iterable[StoredChunk]]]
    ) -> Session[Tag]:
        """Makes a session that starts to read ahead when its first file is asked for."""
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
            self._tries,
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

        Two files are open for four jobs, three for six, and so on. At most two chunks are held
        for each file, so no more chunks than jobs. No more files are open than the budget has
        room for two chunks of, because the first chunk of a file is held even beyond the budget.
        From a pipe, the files come one after the other.

        Args:
            format_: format of the chunks.
            files: (tag, chunks in order) of each file; iterated on other threads.
            work: gets a tag, the file's events, and a function that takes messages. Runs on the
                caller's thread with one file at a time, else on other threads.
            tell: called with each message, always on the caller's thread; the messages of one
                file come in order.
            past_gaps: report a missing chunk as lost, and go on with the chunks after it;
                otherwise the file ends there.
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

    def run(
        self, format_: UnlockedFormat, chunks: Iterable[StoredChunk], *, past_gaps: bool = False
    ) -> Iterator[Event]:
        """Yields the events of one file in order, made ahead as far as the caller reads on."""
        session = self._session(format_, [((), chunks)], eager=False, past_gaps=past_gaps)
        try:
            for _, events in session:
                yield from events
        except GeneratorExit:  # this generator is perhaps being collected, so take no locks
            session.abandon()
            raise
        except BaseException:
            session.close()
            raise
        session.close()

    def close(self) -> None:
        """Abandons work under way. Never raises, never waits.

        Does nothing in a forked process: the threads are not there, and their locks stay locked.
        """
        if self._pool.is_elsewhere:
            return
        self._pool.close()
        with self._sessions_lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
