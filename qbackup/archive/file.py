"""`BackupFile`: one file of a qube as callers hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from qbackup.archive.chunk import EncryptedChunk, EncryptedChunks
from qbackup.base.events import Extent
from qbackup.base.names import display
from qbackup.content.inner import Entry
from qbackup.pipeline.reader import FileReader


class BackupFile:
    """One file of a backup. Nothing is read or derived before its content is asked for.

    Attributes:
        path: its name in the archive, chunk number left off: ``vm1/private.img``.
        chunks: its chunks in order; on a pipe they can be gone through once, as they come.
    """

    __slots__ = ("reader",)

    def __init__(self, reader: FileReader) -> None:
        self.reader = reader

    def __repr__(self) -> str:
        return f"<BackupFile {display(self.name)}>"

    @property
    def path(self) -> str:
        """Its name in the archive, chunk number left off: ``vm1/private.img``."""
        return self.reader.path

    @property
    def chunks(self) -> Sequence[EncryptedChunk]:
        """Its chunks in order; on a pipe they can be gone through once, as they come."""
        return EncryptedChunks(self.reader.stored.chunks, self.reader.access)

    @property
    def name(self) -> str:
        """``QUBE/FILE``, or the path in the archive where no qube is known."""
        return self.reader.name

    @property
    def stored_size(self) -> int:
        """Bytes that its chunks take in the archive; on a pipe, those that came so far."""
        return self.reader.stored.stored_size

    @property
    def chunk_count(self) -> int:
        """Number of its chunks; on a pipe, those that came so far."""
        return self.reader.stored.chunk_count

    @property
    def is_folder(self) -> bool:
        """True for a folder archive, which has `entries` and no single stream.

        Until something of the file was read, its name decides, which is a guess: an archive that
        begins with a folder of the file's own name is a folder under any name.
        """
        return self.reader.is_folder

    def extents(self) -> Iterator[Extent]:
        """Data and holes of an image, in order, from the first byte to the last.

        The iteration ends only when all of the file has been proven to be there.

        Raises:
            FolderArchive: it is a folder; see `entries`. Where the name does not say so, the
                first step of the iteration raises this.
            SymbolicLink: it is a link, raised there too.
            Damaged: at the place where its content can't be believed.
        """
        return self.reader.extents()

    def entries(self) -> Iterator[Entry]:
        """The entries of a folder archive, in order; each to be read before the next.

        Raises:
            Damaged: at the place where its content can't be believed.
        """
        return self.reader.entries()

    def open(self) -> BinaryIO:
        """Its content as a binary stream: verified, decompressed, holes filled with zeros.

        Raises:
            FolderArchive: it is a folder; see `entries`. Where the name does not say so, the
                first read raises this.

        Reads raise:
            SymbolicLink: it is a link, with a target and no content.
            Damaged: at the place where its content can't be believed.
        """
        return self.reader.open()
