"""How much work a backup is: read once from the backup itself.

A process of its own: run by `benchmarks.floor`, prints JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import qbackup
from benchmarks.workload import PASSPHRASE
from qbackup.archive.chunk import EncryptedChunks
from qbackup.content.inner import InnerArchive
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.storage.chunk import StoredFile

_BLOCK = 64 * 1024  # the writer leaves out blocks of zeros of this size
_ZEROS = bytes(_BLOCK)


@dataclass(frozen=True)
class FileCounts:
    """One file, in bytes.

    Args:
        derivations: keys, one for each chunk.
        stored: read, authenticated and decrypted.
        plaintext: inflated.
        written: data that reach the disk.
    """

    path: str
    derivations: int
    stored: int
    plaintext: int
    written: int


@dataclass(frozen=True)
class Counts:
    """All files of a backup, and the parameters of their derivations."""

    files: tuple[FileCounts, ...]
    parameters: ScryptParameters

    @property
    def keys(self) -> int:
        """Derivations, the header's included."""
        return 1 + sum(file.derivations for file in self.files)

    @property
    def stored(self) -> int:
        """Bytes of all chunks."""
        return sum(file.stored for file in self.files)

    @property
    def plaintext(self) -> int:
        """Bytes of all inner archives."""
        return sum(file.plaintext for file in self.files)

    @property
    def written(self) -> int:
        """Bytes of data, holes left out."""
        return sum(file.written for file in self.files)

    @classmethod
    def load(cls, values: dict[str, Any]) -> Counts:
        """From what `asdict` made of it."""
        files = tuple(FileCounts(**file) for file in values["files"])
        return cls(files, ScryptParameters(**values["parameters"]))

    @property
    def largest(self) -> FileCounts:
        """The file that takes longest to inflate."""
        return max(self.files, key=lambda file: file.plaintext)


def main(backup: Path, stream: Path) -> None:
    """Counts, and prints it."""
    print(json.dumps(asdict(count(backup, PASSPHRASE, stream))))


def count(backup: Path, passphrase: str, stream: Path) -> Counts:
    """Decodes the whole backup once.

    Args:
        backup: with the same scrypt parameters in all its chunks.
        passphrase: of the backup.
        stream: gets the first chunk of the largest file, decrypted: the beginning of a gzip stream.
    """
    with qbackup.open(str(backup), passphrase=passphrase) as archive:
        files = archive._opened.catalog.seen_files()
        parameters = EncryptedChunks(files[0].chunks, archive._opened)[0].parameters
        counts = Counts(tuple(_count(archive, file) for file in files), parameters)
        largest = next(file for file in files if file.path == counts.largest.path)
        with EncryptedChunks(largest.chunks, archive._opened)[0].open() as plaintext:
            stream.write_bytes(plaintext.read())
    return counts


def _count(archive: qbackup.BackupArchive, file: StoredFile) -> FileCounts:
    unlocked = archive._opened.unlocked()
    plaintext = 0

    def counted() -> Iterator[memoryview]:
        nonlocal plaintext
        for piece in unlocked.decompress(
            archive._opened.pipeline.run(unlocked.format, file.chunks)
        ):
            assert isinstance(piece, memoryview)
            plaintext += len(piece)
            yield piece

    inner = InnerArchive(counted(), file.path, archive._opened.limits)
    extents = inner.only_file().extents()
    written = sum(_data(extent.data) for extent in extents if extent.data is not None)
    inner.finish()
    return FileCounts(file.path, file.chunk_count, file.stored_size, plaintext, written)


def _data(piece: memoryview) -> int:
    """Bytes of a piece that are no blocks of zeros."""
    blocks = (piece[start : start + _BLOCK] for start in range(0, len(piece), _BLOCK))
    return sum(len(block) for block in blocks if block != _ZEROS[: len(block)])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
