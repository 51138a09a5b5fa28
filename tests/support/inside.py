"""State of an open backup that the public class keeps to itself."""

from __future__ import annotations

from qbackup import BackupArchive
from qbackup.archive.chunk import EncryptedChunk
from qbackup.archive.file import BackupFile
from qbackup.archive.opened import OpenedBackup
from qbackup.pipeline.reader import FileReader
from qbackup.storage.chunk import StoredChunk


def inside(archive: BackupArchive) -> OpenedBackup:
    """Gives the state behind an archive."""
    return archive._opened


def reader_of(file: BackupFile) -> FileReader:
    """Gives the reader behind a file."""
    return file._reader


def stored_of(chunk: EncryptedChunk) -> StoredChunk:
    """Gives the stored chunk behind a chunk."""
    return chunk._stored
