"""Files and paths of a seekable backup in the archive's order, each made on access."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import overload

from qbackup.storage.chunk import StoredFile
from qbackup.storage.chunk_table import ChunkTable, RunsByPath


class IndexedPaths(Collection[str]):
    """Paths of the files; to find one takes no pass over all of them.

    Args:
        table: table of the chunks.
        runs: its runs by path.
    """

    def __init__(self, table: ChunkTable, runs: RunsByPath) -> None:
        self._table = table
        self._runs = runs

    def __len__(self) -> int:
        return len(self._runs.first_runs)

    def __iter__(self) -> Iterator[str]:
        return map(self._table.path, self._runs.first_runs)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and bool(self._runs.of(path))


class IndexedFiles(Sequence[StoredFile]):
    """Files of the backup.

    Args:
        file_at: makes the file that a run belongs to.
        first_runs: the first run of each file.
    """

    def __init__(self, file_at: Callable[[int], StoredFile], first_runs: Sequence[int]) -> None:
        self._file_at = file_at
        self._first_runs = first_runs

    def __len__(self) -> int:
        return len(self._first_runs)

    @overload
    def __getitem__(self, position: int) -> StoredFile: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[StoredFile]: ...
    def __getitem__(self, position: int | slice) -> StoredFile | Sequence[StoredFile]:
        if isinstance(position, slice):
            return IndexedFiles(self._file_at, self._first_runs[position])
        return self._file_at(self._first_runs[position])
