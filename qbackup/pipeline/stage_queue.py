"""`Item`, which goes from stage to stage of a session, and the queues between the stages."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from qbackup.base.errors import ChunkMissing, QBackupError
from qbackup.base.events import Event, Lost
from qbackup.base.names import display
from qbackup.formats.protocol import FileDecryptor
from qbackup.pipeline.chunk_opener import ChunkOpening
from qbackup.pipeline.key_request import KeyFuture
from qbackup.pipeline.threads import SIGNAL_SECONDS
from qbackup.storage.chunk import StoredChunk

_MISSING = "this chunk is missing"
_MARKS_LIMIT = 64  # items besides chunks: beginnings and ends of files

Tag = TypeVar("Tag")


@dataclass(slots=True)
class Item(Generic[Tag]):
    """Item that goes from stage to stage: a chunk, or a mark where a file or everything ends.

    Args:
        number: number of the file.
        tag: the file's tag, in the mark that a file begins.
        chunk: a chunk of the file; the other fields hold what the stages know of the chunk.
        opening: the chunk's opening, once its head was read.
        fault: error by which the chunk can't be opened, found before its turn came.
        ticket: request for the chunk's key.
        event: the chunk's plaintext or loss, at last.
        held: bytes charged for the chunk.
        error: error that ends the session.
        decryptor: decryptor of the chunk's file, or of the file that ends.
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
        """Waits for room, and puts an item; False when closed. Marks have a limit of their own."""
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

    def get(self, check: Callable[[], None] | None = None) -> Item[Tag] | None:
        """Waits for the next item; None when closed. A signal ends the wait.

        Args:
            check: called again and again; raises an error if no item will come any more.
        """
        with self._changed:
            while not self._closed and not self._items:
                self._changed.wait(SIGNAL_SECONDS)
                if check is not None and not self._items:
                    check()
            if self._closed:
                return None
            item = self._items.popleft()
            self._chunks -= item.chunk is not None
            self._changed.notify_all()
            return item

    def close(self) -> list[Item[Tag]]:
        """Ends all waiting, and returns the items that were left."""
        with self._changed:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return left


def missing(chunk: StoredChunk, expected: int) -> Lost:
    """Names the missing chunks before this one, from the expected one on."""
    name = display(f"{chunk.name.rpartition('.')[0]}.{expected:03d}")
    more = chunk.index - expected - 1
    reason = f"this chunk and the {more} after it are missing" if more > 0 else _MISSING
    return Lost(name, None, ChunkMissing(reason, chunk=name))


def lost(chunk: StoredChunk, error: QBackupError, overhead: int, end: bytes | None = b"") -> Lost:
    """Names a chunk that can't be believed.

    Args:
        chunk: the chunk.
        error: the fault.
        overhead: bytes of a chunk that are not its content.
        end: see `Lost`.
    """
    size = max(0, chunk.size - overhead)
    return Lost(chunk.name, size, error, chunk.size, chunk.file_offset, end)
