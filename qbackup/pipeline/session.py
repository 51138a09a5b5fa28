"""Verified plaintext of one file after the other, made ahead of need.

Three stages run side by side. One thread looks ahead, reads the coming chunks' heads and
asks for their keys. The `KeyPool` derives them. One thread opens chunks: while the caller
inflates and writes a chunk, this thread reads, authenticates and decrypts the next one. From a
pipe, whole chunks and their HMACs are read by the first thread.

A format that derives no keys leaves out the second stage, and the other two stay as they are.
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
    FILE_ERRORS,
    Damaged,
    Interrupted,
    LimitExceeded,
    MachineError,
)
from qbackup.base.events import Data, Event, Lost
from qbackup.crypto.ciphers import Cipher
from qbackup.crypto.kdf import Derivation
from qbackup.formats.protocol import FileDecryptor, UnlockedFormat
from qbackup.pipeline.chunk_opener import ChunkOpening, Unwanted, open_first
from qbackup.pipeline.key_pool import KeyPool
from qbackup.pipeline.key_request import ChunkQuota
from qbackup.pipeline.lookahead import Demand
from qbackup.pipeline.second_tries import SecondTries
from qbackup.pipeline.stage_queue import Item, Queue, Tag, lost, missing
from qbackup.pipeline.threads import Daemon, start_daemon
from qbackup.storage.chunk import StoredChunk

_READY_LIMIT = 1  # opened chunks that wait for the caller


class Session(Generic[Tag]):
    """Verified plaintext of one file after the other, made ahead of need.

    Args:
        files: (tag, chunks in order) of each file; iterated on another thread.
        format_: format of the chunks.
        pool: derives the keys.
        cipher: AES-256-CTR in place.
        tries: count of the second tries of the archive.
        window: chunks looked ahead.
        chunks: whole chunks held at once.
        hold_bodies: read whole chunks ahead, as a pipe requires.
        eager: look ahead from the start; else only as far as the caller reads on, like a
            file system's read-ahead: nothing but the first chunk for the first bytes.
        past_gaps: go on behind missing chunks; else a file ends with the first chunk behind one.
    """

    def __init__(
        self,
        files: Iterable[tuple[Tag, Iterable[StoredChunk]]],
        format_: UnlockedFormat,
        pool: KeyPool,
        cipher: Cipher,
        tries: SecondTries,
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
        self._tries = tries
        self._hold_bodies = hold_bodies
        self._changed = threading.Condition()
        self._coming: Queue[Tag] = Queue(window, self._changed)
        self._ready: Queue[Tag] = Queue(_READY_LIMIT, self._changed)
        self._holder = ChunkQuota(chunks, lambda: self._demand.is_wanted(self._reading))
        self._reading = 0  # number of the file whose chunk waits to be held
        self._demand = Demand(self._changed, window, eager=eager)
        self._eager = eager
        self._past_gaps = past_gaps
        self._in_hand = 0  # bytes held of the chunk that the caller has
        self._failed: BaseException | None = None  # ended the session; raised again by each call
        self._started = False
        self._stages: list[Daemon] = []

    def __enter__(self) -> Session[Tag]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[Tag, Iterator[Event]]]:
        """Yields each file with its events. Unread events are dropped with the next file."""
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
        while self._demand.unwanted < number:
            self._pool.check_process()
            self._demand.ask()
            item = self._take()
            self._demand.answer()
            if item.ends:
                return
            event, self._in_hand = item.event, item.held
            del item
            if event is not None:
                yield event
                self._pool.check_process()
            del event  # a reference here would keep the receiver's buffer alive
            self._take_back()

    def _take_back(self) -> None:
        """Releases the bytes charged for the chunk that the caller got last."""
        with self._changed:
            held, self._in_hand = self._in_hand, 0
        self._pool.release(held, self._holder)

    def _take(self) -> Item[Tag]:
        if self._failed is not None:
            raise self._failed
        item = self._ready.get(self._check_stages)
        if item is None:
            raise self._failed or Interrupted("the backup was closed")
        if item.chunk is not None:
            self._demand.settle()
        if item.error is not None:
            self._failed = item.error
            self._pool.release(item.held, self._holder)
            raise item.error
        return item

    def _give_up(self, number: int) -> None:
        """Notes that the caller is done with a file, so the rest of it is not wanted."""
        self._demand.give_up(number)
        self._pool.wake()

    def close(self) -> None:
        """Cancels waiting work, abandons running work. Never raises, never waits.

        When the interpreter ends, threads are stopped wherever they are, with locks held.
        Therefore a stream that is collected only then must not take a lock.
        """
        if sys.is_finalizing() or self._pool.is_elsewhere:
            return
        self._take_back()  # needed even if another thread has closed the session meanwhile
        if self._demand.closed:
            return
        self._demand.closed = True
        self._give_up(self._demand.unwanted)
        self._drop_all()

    def abandon(self) -> None:
        """Closes on a thread of its own; for callers that may be a stream being collected.

        A collection can happen anywhere, also while this thread, or another one that waits for
        this one, holds the locks that `close` takes.
        """
        if sys.is_finalizing() or self._pool.is_elsewhere:
            return
        # threading's own start takes locks too. If no thread starts, the pipeline's `close` closes.
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
                    run = functools.partial(self._run, stage)
                    self._stages.append(start_daemon(run, "qbackup-stage"))
            except MachineError:
                self.close()
                raise

    def _check_stages(self) -> None:
        if self._failed is not None:
            raise self._failed
        for stage in self._stages:
            stage.check()

    def _run(self, stage: Callable[[], None]) -> None:
        """Runs a stage; one that fails with nobody to report to ends the session."""
        try:
            stage()
        except BaseException as error:
            self._failed = self._failed or error
            self._drop_all()

    def _drop(self, item: Item[Tag]) -> None:
        if item.ticket is not None:
            item.ticket.cancel()
        self._pool.release(item.held, self._holder)
        item.held = 0

    # First stage: look ahead

    def _look_ahead(self) -> None:
        with self._pool.more_to_come() if self._eager else contextlib.nullcontext():
            self._ask_for_all()

    def _ask_for_all(self) -> None:
        number = -1
        try:
            for number, (tag, chunks) in enumerate(self._files):
                if not self._coming.put(Item(number, tag=tag)) or not self._ask_for(number, chunks):
                    return
            self._coming.put(Item(number + 1, is_last=True))
        except BaseException as error:  # the caller's thread raises the same error
            self._coming.put(Item(number, error=error, is_last=True))

    def _ask_for(self, number: int, chunks: Iterable[StoredChunk]) -> bool:
        """Asks for the chunks of one file; False when the session was closed."""
        expected, decryptor = 0, self._format.file()
        for chunk in chunks:
            self._demand.wait_for_turn(number)
            if not self._demand.is_wanted(number):
                self._demand.settle()
                break
            is_behind_gap = chunk.index != expected
            if is_behind_gap:
                self._coming.put(Item(number, event=missing(chunk, expected)))
                expected = chunk.index
            item: Item[Tag] = Item(number, chunk=chunk, decryptor=decryptor)
            try:
                self._begin(item, decryptor, chunk)
            except (Damaged, LimitExceeded) as fault:
                item.fault = fault
            if not self._coming.put(item):
                self._drop(item)
                return False
            if is_behind_gap and not self._past_gaps:
                break
            expected += 1
        self._coming.put(Item(number, decryptor=decryptor, ends=True))
        return True

    def _begin(self, item: Item[Tag], decryptor: FileDecryptor, chunk: StoredChunk) -> None:
        """Reads a chunk's head and asks for its key; from a pipe reads the whole chunk."""
        item.opening = None  # lets an earlier body's memory go
        item.opening = opening = ChunkOpening(self._format, decryptor, chunk)
        if opening.derivation is not None and not opening.fits(item.ticket):
            item.ticket = self._pool.start(opening.derivation, proves=opening.accepts)
        if self._hold_bodies:
            with contextlib.suppress(Unwanted):
                self._read(item, opening, chunk)

    def _read(self, item: Item[Tag], opening: ChunkOpening, chunk: StoredChunk) -> None:
        """Reads the body when there is room for it. Raises Unwanted if nobody waits any more."""
        self._reading = item.number
        # The empty chunk that a stream may end with needs no memory.
        if chunk.size and not self._pool.hold(chunk.size, self._holder):
            raise Unwanted
        item.held = chunk.size
        opening.read()

    # Second stage: open

    def _open_chunks(self) -> None:
        is_whole = True  # the last event was no loss
        while (item := self._coming.get()) is not None:
            if item.chunk is not None and not self._demand.is_wanted(item.number):
                self._drop(item)
                self._demand.settle()
                continue
            self._open(item)
            if item.ends and is_whole and (end := self._finish(item)) is not None:
                self._ready.put(end)
            is_whole = item.event is None or isinstance(item.event, Data)
            if not self._ready.put(item):
                self._drop(item)
            if item.is_last:
                return
            self._ready.wait_for_room()  # read the next body when the caller has this chunk

    def _open(self, item: Item[Tag]) -> None:
        if (chunk := item.chunk) is None or item.event is not None:
            return
        try:
            item.event = open_first(chunk, functools.partial(self._open_one, item), self._tries)
        except Unwanted:
            if self._demand.is_wanted(item.number):
                item.error = Interrupted("the backup was closed")
        except FILE_ERRORS as error:
            end = item.decryptor.end_here() if item.decryptor is not None else b""
            item.event = lost(chunk, error, self._format.overhead, end)
        except BaseException as error:  # the caller's thread raises the same error
            item.error = error
        item.opening = None  # lets the body's memory go

    def _open_one(self, item: Item[Tag], chunk: StoredChunk) -> Data:
        """Opens the prepared chunk, or another member of the same name in its place."""
        if chunk is not item.chunk:
            self._begin_other(item, chunk)
        elif item.fault is not None:
            raise item.fault
        opening = item.opening
        if opening is None:
            raise Unwanted
        return opening.open(
            key=item.ticket.wait if item.ticket is not None else bytes,
            derive=self._derive,
            read=lambda: self._read(item, opening, chunk),
            decrypt=self._cipher.decrypt,
        )

    def _begin_other(self, item: Item[Tag], other: StoredChunk) -> None:
        if item.decryptor is None or not self._demand.is_wanted(item.number):
            raise Unwanted
        self._pool.release(item.held, self._holder)
        item.held = 0
        self._begin(item, item.decryptor, other)

    def _derive(self, derivation: Derivation) -> bytes:
        """Derives a key that nobody asked for ahead."""
        return self._pool.start(derivation).wait()

    def _finish(self, item: Item[Tag]) -> Item[Tag] | None:
        """Gives the last event of a file whose last chunk was opened; None if there is none."""
        if item.decryptor is None or not self._demand.is_wanted(item.number):
            return None
        try:
            event: Event | None = item.decryptor.finish()
        except Damaged as error:
            error.is_own_chunk = True  # the end of the file itself
            event = Lost(error.chunk or "", None, error)
        return Item(item.number, event=event) if event is not None else None
