"""`BackupFile`: public object for a file of a qube."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from qbackup.archive.chunk import EncryptedChunk, EncryptedChunks
from qbackup.base.events import Extent
from qbackup.base.names import display
from qbackup.content.inner import Entry
from qbackup.pipeline.reader import FileReader


class BackupFile:
    """File of a backup. Nothing is read or derived before its content is asked for.

    Args:
        reader: reads the file.
    """

    __slots__ = ("_reader",)

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader

    def __repr__(self) -> str:
        return f"<BackupFile {display(self.name)}>"

    @property
    def path(self) -> str:
        """Path in the archive without the chunk number: ``vm1/private.img``."""
        return self._reader.path

    @property
    def chunks(self) -> Sequence[EncryptedChunk]:
        """Chunks in order; on a pipe they can be iterated once, as they come."""
        return EncryptedChunks(self._reader.stored.chunks, self._reader.access)

    @property
    def name(self) -> str:
        """``QUBE/FILE``, or the path in the archive where no qube is known."""
        return self._reader.name

    @property
    def stored_size(self) -> int:
        """Size of its chunks in the archive, in bytes; on a pipe, of the chunks read so far."""
        return self._reader.stored.stored_size

    @property
    def chunk_count(self) -> int:
        """Number of its chunks; on a pipe, of the chunks read so far."""
        return self._reader.stored.chunk_count

    @property
    def is_folder(self) -> bool:
        """True for a folder archive, which has `entries` and no single stream.

        Until something of the file was read, its name decides, which is a guess: an archive that
        begins with a folder of the file's own name is a folder under any name.
        """
        return self._reader.is_folder

    def extents(self) -> Iterator[Extent]:
        """Yields data and holes of an image, in order, from the first byte to the last.

        The iteration ends only after the whole file was verified.

        Raises:
            FolderArchive: the file is a folder; see `entries`. Where the name is no folder's, the
                first step of the iteration raises this.
            SymbolicLink: the file is a link, raised by the first step of the iteration.
            Damaged: its content can't be believed from this place on.
        """
        return self._reader.extents()

    def entries(self) -> Iterator[Entry]:
        """Yields the entries of a folder archive, in order; read each before the next.

        Raises:
            Damaged: its content can't be believed from this place on.
        """
        return self._reader.entries()

    def open(self) -> BinaryIO:
        """Opens its content as a binary stream: verified, decompressed, holes filled with zeros.

        Raises:
            FolderArchive: the file is a folder; see `entries`. Where the name is no folder's, the
                first read raises this.

        Reads raise:
            SymbolicLink: the file is a link, with a target and no content.
            Damaged: its content can't be believed from this place on.
        """
        return self._reader.open()
