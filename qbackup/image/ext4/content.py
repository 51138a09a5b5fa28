"""Content of a file: runs of blocks, or inline data → bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from qbackup.base.events import Extent
from qbackup.image.ext4.extents import BlockRun, RunTable

PIECE_SIZE = 1 << 20

ReadRun: TypeAlias = Callable[[BlockRun, int, int], bytes]


@dataclass(frozen=True, slots=True)
class StoredContent:
    """Places of a file's content.

    Args:
        size: of the file in bytes.
        inline: content in the inode itself, zeros behind it left out; None if it has blocks.
        runs: of blocks, in order; none of inline content.
        block_size: in bytes.
        read_run: reads bytes of a run: the run, an offset in it, a size.
    """

    size: int
    inline: bytes | None
    runs: Iterable[BlockRun]
    block_size: int
    read_run: ReadRun

    def extents(self) -> Iterator[Extent]:
        """Gives data and holes in order, from the first byte to the last.

        Raises:
            Damaged: at the place where the file makes no sense.
        """
        if self.inline is not None:
            yield from self._inline_extents(self.inline)
            return
        position = 0
        for run in self.runs:
            start = run.logical * self.block_size
            if start > position:
                yield Extent(position, start - position, None)
            end = min(start + run.count * self.block_size, self.size)
            for position in range(start, end, PIECE_SIZE):
                data = self.read_run(run, position - start, min(PIECE_SIZE, end - position))
                yield Extent(position, len(data), memoryview(data))
            position = end
        if position < self.size:
            yield Extent(position, self.size - position, None)

    def _inline_extents(self, data: bytes) -> Iterator[Extent]:
        if data:
            yield Extent(0, len(data), memoryview(data))
        if len(data) < self.size:
            yield Extent(len(data), self.size - len(data), None)


class BlockReader:
    """Reads a file at any position. Holes are zeros.

    Args:
        content: of the file; its runs are taken to their end here.
    """

    def __init__(self, content: StoredContent) -> None:
        self._inline = content.inline
        self._runs = RunTable(content.runs)
        self._block_size = content.block_size
        self._read_run = content.read_run

    def read(self, offset: int, size: int) -> bytes:
        """Reads up to this many bytes, from one run or one hole."""
        if self._inline is not None:
            return self._inline[offset : offset + size] or bytes(size)
        block = offset // self._block_size
        run = self._runs.at(block)
        if run is not None:
            start = offset - run.logical * self._block_size
            return self._read_run(run, start, min(size, run.count * self._block_size - start))
        following = self._runs.after(block)
        if following is not None:
            size = min(size, following * self._block_size - offset)
        return bytes(size)
