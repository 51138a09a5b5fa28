"""From a stream to stored members: chunks, the scrypt encrypted-data format, the outer archive."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tests.maker.tools import check, environment, run

#: Cheap parameters: N=2^10, r=8, p=1 costs a few milliseconds. Real backups have N=2^18 to 2^21.
FAST_SCRYPT = ("--logN", "10", "-r", "8", "-p", "1")

COPY_BYTES = 1 << 20


def split_chunks(stream: BinaryIO, chunk_size: int, directory: Path) -> Iterator[Path]:
    """Cuts a stream into files of at most `chunk_size` bytes in `directory`; each is removed when
    the next is asked for.

    A stream that ends exactly at a full chunk is followed by one more, empty chunk, and an empty
    stream is one empty chunk, as with Qubes' writer: it learns of the end only by reading on.
    """
    index, size = 0, chunk_size
    while size == chunk_size:
        path = directory / f"chunk.{index}"
        with path.open("wb") as chunk:
            size = _copy_at_most(stream, chunk, chunk_size)
        yield path
        path.unlink()
        index += 1


def _copy_at_most(stream: BinaryIO, out: BinaryIO, limit: int) -> int:
    copied = 0
    while copied < limit:
        piece = stream.read(min(COPY_BYTES, limit - copied))
        if not piece:
            break
        copied += out.write(piece)
    return copied


def scrypt_encrypt(
    data: Path | bytes, out: Path, passphrase: bytes, options: Sequence[str] = FAST_SCRYPT
) -> Path:
    """Encrypts with the `scrypt` program; `passphrase` is the combined one,
    `BACKUP_ID!NAME!PASSPHRASE`.

    The passphrase goes through standard input as one line (`-P`), as in the published procedure,
    because only there the program cuts it at 2,047 bytes as it does on a terminal; so the data
    must come from a file.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, Path):
        run(["scrypt", "enc", *options, "-P", str(data), str(out)], stdin=passphrase + b"\n")
        return out
    with tempfile.NamedTemporaryFile() as plain:
        plain.write(data)
        plain.flush()
        return scrypt_encrypt(Path(plain.name), out, passphrase, options)


def outer_member(directory: Path, name: str) -> bytes:
    """The complete pax archive, padded to 10,240 bytes, that Qubes appends to the backup for one
    member.
    """
    return run(outer_command(directory, name))


def append_outer_member(directory: Path, name: str, out: BinaryIO) -> None:
    """As `outer_member`, straight into a file: tar itself writes there."""
    out.flush()
    command = outer_command(directory, name)
    done = subprocess.run(
        command, stdout=out, stderr=subprocess.PIPE, check=False, env=environment()
    )
    check(command, done.returncode, done.stderr)


def outer_command(directory: Path, name: str) -> list[str]:
    """The command line of QubesOS/qubes-core-admin `qubes/backup.py`, class SendWorker."""
    return ["tar", "-cO", "--posix", "-C", str(directory), name]
