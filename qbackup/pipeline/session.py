"""Verified plaintext of one file after the other, made ahead of need.

Three stages run side by side: one thread looks ahead, reads the coming chunks' heads and
asks for their keys; the `KeyPool` derives them; one thread opens chunks, that is reads,
authenticates and decrypts the next one while the caller inflates and writes the one
before. From a pipe, whole chunks, and their HMACs, are read by the first thread.

Where a format derives no keys the second stage is left out: the other two are as they are.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic

from qbackup.base.errors import (
    Damaged,
    Interrupted,
    LimitExceeded,
    MachineError,
    NotEnoughMemory,
    QBackupError,
)
from qbackup.base.events import Data, Event, Lost
from qbackup.crypto.ciphers import Cipher
from qbackup.crypto.kdf import Derivation
from qbackup.formats.protocol import FileDecryptor, UnlockedFormat, fitting
from qbackup.pipeline.key_pool import KeyPool
from qbackup.pipeline.key_request import ChunkQuota
from qbackup.pipeline.stage_queue import Item, Queue, Tag, missing
from qbackup.pipeline.threads import start_daemon
from qbackup.storage.chunk import StoredChunk

_READY_LIMIT = 1  # opened chunks that wait for the caller


class Session(Generic[Tag]):
    """Verified plaintext of one file after the other, made ahead of need.

    Args:
        files: (tag, chunks in order) of each file; gone through on another thread.
        format_: how chunks are locked and opened.
        pool: derives the keys.
        decrypt: AES-256-CTR in place.
        window: chunks looked ahead.
        chunks: whole chunks held at once.
        hold_bodies: read whole chunks ahead, as a pipe needs it.
        eager: look ahead from the start; else only as far as the caller reads on, like a
            file system's read-ahead: nothing but the first chunk for the first bytes.
        past_gaps: a file goes on behind chunks that are missing; else it ends there.
    """

    def __init__(
        self,
        files: Iterable[tuple[Tag, Iterable[StoredChunk]]],
        format_: UnlockedFormat,
        pool: KeyPool,
        cipher: Cipher,
        *,
        window: int,
        chunks: int,
        hold_bodies: bool,
        eager: bool,
        past_gaps: bool = False,
    ) -> None:
        self._files = files
        self._format = format_
        self._pool = pool
        self._cipher = cipher
        self._hold_bodies = hold_bodies
        self._changed = threading.Condition()
        self._coming: Queue[Tag] = Queue(window, self._changed)
        self._ready: Queue[Tag] = Queue(_READY_LIMIT, self._changed)
        self._holder = ChunkQuota(chunks, lambda: self._is_wanted(self._reading))
        self._reading = 0  # the file whose chunk waits to be held
        self._unwanted = -1  # files up to this number are done with
        self._window = window
        self._eager = eager
        self._past_gaps = past_gaps
        self._outstanding = 0  # chunks prepared and neither given to the caller nor dropped
        self._asked = 0  # events that the caller has asked for
        self._in_hand = 0  # bytes held of the chunk that the caller has
        self._is_waiting = False  # for the last of them
        self._failed: BaseException | None = None  # what ended the session, told for ever
        self._closed = False
        self._started = False

    def __enter__(self) -> Session[Tag]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[Tag, Iterator[Event]]]:
        """Each file with its events. What is left of a file is dropped with the next one."""
        self._start()
        while True:
            item = self._take()
            self._pool.release(item.held, self._holder)
            if item.is_last:
                return
            if item.tag is not None:
                yield item.tag, self._events(item.number)
                self._pool.check_process()
                self._take_back()
                self._give_up(item.number)

    def _events(self, number: int) -> Iterator[Event]:
        while self._unwanted < number:
            self._pool.check_process()
            item = self._next_event()
            if item.ends:
                return
            event, self._in_hand = item.event, item.held
            del item
            if event is not None:
                yield event
                self._pool.check_process()
            del event  # the buffer is the receiver's; the next chunk needs the room
            self._take_back()

    def _take_back(self) -> None:
        """The caller is done with the chunk that it was given last."""
        with self._changed:
            held, self._in_hand = self._in_hand, 0
        self._pool.release(held, self._holder)

    def _next_event(self) -> Item[Tag]:
        with self._changed:
            self._asked += 1
            self._is_waiting = True
            self._changed.notify_all()
        item = self._take()
        self._is_waiting = False
        return item

    def _take(self) -> Item[Tag]:
        if self._failed is not None:
            raise self._failed
        item = self._ready.get()
        if item is None:
            raise self._failed or Interrupted("the backup was closed")
        if item.chunk is not None:
            self._settle()
        if item.error is not None:
            self._failed = item.error
            self._pool.release(item.held, self._holder)
            raise item.error
        return item

    def _settle(self) -> None:
        """A chunk is not outstanding any more."""
        with self._changed:
            self._outstanding -= 1
            self._changed.notify_all()

    def _give_up(self, number: int) -> None:
        """The caller is done with a file; what is left of it is not wanted."""
        with self._changed:
            self._unwanted = number
            self._changed.notify_all()
        self._pool.wake()

    def close(self) -> None:
        """Cancels what waits, abandons what runs. Never raises, never waits.

        When the interpreter ends, threads are stopped wherever they are, with locks held: a
        stream that is collected only then must not ask for one.
        """
        if sys.is_finalizing() or self._pool.is_elsewhere:
            return
        self._take_back()  # also when another thread has closed it meanwhile
        if self._closed:
            return
        self._closed = True
        self._give_up(self._unwanted)
        self._drop_all()

    def abandon(self) -> None:
        """`close` on a thread of its own: for who may be a stream that is being collected.

        A collection can fall anywhere, also where this thread or another one that waits for it
        holds the very locks that `close` asks for.
        """
        if sys.is_finalizing() or self._pool.is_elsewhere:
            return
        # threading's own start takes locks too; without a thread the pipeline's `close` is left
        with contextlib.suppress(RuntimeError, MemoryError):
            _thread.start_new_thread(self.close, ())

    def _drop_all(self) -> None:
        for item in (*self._coming.close(), *self._ready.close()):
            self._drop(item)

    def _start(self) -> None:
        self._pool.check_process()
        if not self._started:
            self._started = True
            try:
                for stage in (self._look_ahead, self._open_chunks):
                    start_daemon(functools.partial(self._run, stage), "qbackup-stage")
            except MachineError:
                self.close()
                raise

    def _run(self, stage: Callable[[], None]) -> None:
        """A stage that ends where nobody can be told, as for want of memory, ends the session."""
        try:
            stage()
        except BaseException as error:
            self._failed = self._failed or error
            self._drop_all()

    def _is_wanted(self, number: int) -> bool:
        return not self._closed and number > self._unwanted

    def _drop(self, item: Item[Tag]) -> None:
        if item.ticket is not None:
            item.ticket.cancel()
        self._pool.release(item.held, self._holder)
        item.held = 0

    # First stage: what comes

    def _look_ahead(self) -> None:
        with self._pool.more_to_come() if self._eager else contextlib.nullcontext():
            self._ask_for_all()

    def _ask_for_all(self) -> None:
        number = -1
        try:
            for number, (tag, chunks) in enumerate(self._files):
                if not self._coming.put(Item(number, tag=tag)):
                    return
                expected, opener = 0, self._format.file()
                for chunk in chunks:
                    self._wait_for_turn(number)
                    if not self._is_wanted(number):
                        self._settle()
                        break
                    if self._past_gaps and chunk.index != expected:
                        self._coming.put(Item(number, event=missing(chunk, expected)))
                        expected = chunk.index
                    item = self._prepare(number, opener, chunk, expected)
                    if not self._coming.put(item):
                        self._drop(item)
                        return
                    if chunk.index != expected:
                        break
                    expected += 1
                self._coming.put(Item(number, opener=opener, ends=True))
            self._coming.put(Item(number + 1, is_last=True))
        except BaseException as error:  # handed over whole, raised where it is waited for
            self._coming.put(Item(number, error=error, is_last=True))

    def _wait_for_turn(self, number: int) -> None:
        """Waits until the next chunk is near enough to what the caller reads."""
        with self._changed:
            while self._is_wanted(number) and self._outstanding >= self._reach():
                self._changed.wait()
            self._outstanding += 1

    def _reach(self) -> int:
        """Chunks that may be outstanding now."""
        ahead = self._window if self._eager else min(self._window, 2 * max(0, self._asked - 1))
        return ahead + self._is_waiting

    def _prepare(
        self, number: int, opener: FileDecryptor, chunk: StoredChunk, expected: int
    ) -> Item[Tag]:
        item: Item[Tag] = Item(number, chunk=chunk, opener=opener)
        try:
            if chunk.index != expected:
                raise missing(chunk, expected).error
            head = chunk.read_head(self._format.head_size)
            item.locked = opener.lock(chunk.name, chunk.index, head)
            if item.locked.derivation is not None:
                item.ticket = self._pool.start(item.locked.derivation, proves=item.locked.fits)
            if self._hold_bodies:
                self._read(item, chunk)
        except (Damaged, LimitExceeded) as error:
            item.event = self._lost(chunk, error)
        return item

    def _read(self, item: Item[Tag], chunk: StoredChunk) -> None:
        self._reading = item.number
        # an empty one, as a stream may end with, is nothing to hold
        if not chunk.size or self._pool.hold(chunk.size, self._holder):
            item.held = chunk.size
            item.body = chunk.read_body(self._format.head_size, self._format.room)
            item.hmac = chunk.read_hmac()

    # Second stage: open

    def _open_chunks(self) -> None:
        is_whole = True  # nothing was lost of the file last
        while (item := self._coming.get()) is not None:
            if item.chunk is not None:
                if not self._is_wanted(item.number):
                    self._drop(item)
                    self._settle()
                    continue
                self._open(item, item.chunk)
                self._try_others(item, item.chunk)
            if item.ends and is_whole and (end := self._finish(item)) is not None:
                self._ready.put(end)
            is_whole = item.event is None or isinstance(item.event, Data)
            if not self._ready.put(item):
                self._drop(item)
            if item.is_last:
                return
            self._ready.wait_for_room()  # the next body is read when this one is under way

    def _open(self, item: Item[Tag], chunk: StoredChunk) -> None:
        if item.event is not None or item.locked is None:
            return
        try:
            key = item.ticket.wait() if item.ticket is not None else b""
            item.locked, key = fitting(item.locked, key, self._derive)
            item.locked.check_key(key)
            if item.body is None:
                self._read(item, chunk)
            if item.body is not None:
                item.event = item.locked.open(key, item.body, item.hmac, self._cipher.decrypt)
            elif self._is_wanted(item.number):
                item.error = Interrupted("the backup was closed")
        except (Damaged, LimitExceeded, NotEnoughMemory) as error:
            item.event = self._lost(chunk, error)
        except BaseException as error:  # handed over whole, raised where it is waited for
            item.error = error
        item.body = None

    def _derive(self, derivation: Derivation) -> bytes:
        """A key that nobody asked for ahead."""
        return self._pool.start(derivation).wait()

    def _try_others(self, item: Item[Tag], chunk: StoredChunk) -> None:
        """Puts another member of its name in the place of a chunk that can't be believed."""
        for other in chunk.others:
            if not isinstance(item.event, Lost) or item.opener is None:
                return
            if not self._is_wanted(item.number):
                return
            self._pool.release(item.held, self._holder)
            another = self._prepare(item.number, item.opener, other, other.index)
            self._open(another, other)
            item.held, item.error = another.held, another.error
            if not isinstance(another.event, Lost):
                item.event = another.event
                chunk.use(other)

    def _finish(self, item: Item[Tag]) -> Item[Tag] | None:
        """What is left at the end of a file whose last chunk was opened."""
        if item.opener is None or not self._is_wanted(item.number):
            return None
        try:
            event: Event | None = item.opener.finish()
        except Damaged as error:
            event = Lost(error.chunk or "", None, error)
        return Item(item.number, event=event) if event is not None else None

    def _lost(self, chunk: StoredChunk, error: QBackupError) -> Lost:
        size = max(0, chunk.size - self._format.overhead)
        return Lost(chunk.name, size, error, chunk.size)
