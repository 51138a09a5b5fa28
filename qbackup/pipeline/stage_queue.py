"""`Item`, which goes from stage to stage of a session, and the queues between the stages."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from qbackup.base.errors import ChunkMissing, QBackupError
from qbackup.base.events import Event, Lost
from qbackup.base.names import display
from qbackup.formats.protocol import FileDecryptor
from qbackup.pipeline.key_request import KeyFuture
from qbackup.pipeline.opening import ChunkOpening
from qbackup.pipeline.threads import SIGNAL_SECONDS
from qbackup.storage.chunk import StoredChunk

_MISSING = "this chunk is missing"
_MARKS_LIMIT = 64  # beginnings and ends of files, besides the chunks

Tag = TypeVar("Tag")


@dataclass(slots=True)
class Item(Generic[Tag]):
    """One thing that goes from stage to stage: a file begins, a chunk, a file or everything ends.

    Args:
        number: of the file.
        tag: a file begins.
        chunk: a chunk of it; with what the stages find out, and at last its event.
        opening: of the chunk, once its head was read.
        fault: why it can't be opened, found before its turn came.
        ticket: for its key.
        held: bytes charged for it.
        decryptor: of the chunk's file, or of the one that ends.
        ends: the file ends.
        is_last: everything ends, with an error or without.
    """

    number: int
    tag: Tag | None = None
    chunk: StoredChunk | None = None
    opening: ChunkOpening | None = None
    fault: QBackupError | None = None
    ticket: KeyFuture | None = None
    event: Event | None = None
    held: int = 0
    error: BaseException | None = None
    decryptor: FileDecryptor | None = None
    ends: bool = False
    is_last: bool = False


class Queue(Generic[Tag]):
    """Items between two stages; closing it wakes everybody."""

    def __init__(self, limit: int, changed: threading.Condition) -> None:
        self._items: deque[Item[Tag]] = deque()
        self._limit = limit
        self._chunks = 0
        self._changed = changed
        self._closed = False

    def put(self, item: Item[Tag]) -> bool:
        """Waits for room; False when closed. The limit is for chunks; marks have some more."""
        with self._changed:
            while not self._closed and len(self._items) >= self._limit + _MARKS_LIMIT:
                self._changed.wait()
            if item.chunk is not None:
                self.wait_for_room()
            if self._closed:
                return False
            self._chunks += item.chunk is not None
            self._items.append(item)
            self._changed.notify_all()
            return True

    def wait_for_room(self) -> None:
        """Waits until a chunk could be put."""
        with self._changed:
            while not self._closed and self._chunks >= self._limit:
                self._changed.wait()

    def get(self) -> Item[Tag] | None:
        """The next item; None when closed. A signal ends the wait."""
        with self._changed:
            while not self._closed and not self._items:
                self._changed.wait(SIGNAL_SECONDS)
            if self._closed:
                return None
            item = self._items.popleft()
            self._chunks -= item.chunk is not None
            self._changed.notify_all()
            return item

    def close(self) -> list[Item[Tag]]:
        """Nobody waits any longer. Returns what was left."""
        with self._changed:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return left


def missing(chunk: StoredChunk, expected: int) -> Lost:
    """Names the chunks before this one that are not there, from the expected one on."""
    name = display(f"{chunk.name.rpartition('.')[0]}.{expected:03d}")
    more = chunk.index - expected - 1
    reason = f"this chunk and the {more} after it are missing" if more > 0 else _MISSING
    return Lost(name, None, ChunkMissing(reason, chunk=name))
