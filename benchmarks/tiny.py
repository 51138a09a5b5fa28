"""Backups of very many tiny chunks, written fast.

    python -m benchmarks.tiny CHUNKS one|many PATH

For measuring only. Fifty thousand runs of the `scrypt` program would take ten minutes, so the
chunks are encrypted here; that they are what `scrypt` writes is tried on some of them with
`scrypt dec`. Nothing of the product is used. All parameters are N=2^10, r=1, p=1.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from Crypto.Cipher import AES

from benchmarks.index import header
from tests.maker.backup import published_header
from tests.maker.qubesxml import Domain, qubes_xml

PASSPHRASE = "correct horse battery staple"
BACKUP_ID = "20240917T101112-1234"
LOG2_N, R, P = 10, 1, 1
CHUNK_BYTES = 1024
FILES_OF_A_QUBE = 1000
RECORD_BYTES = 10_240

Chunk = tuple[str, bytes]  # its name without suffix, its plaintext


def main(chunks: str, shape: str, path: str) -> None:
    """Writes one backup."""
    write_backup(Path(path), int(chunks), one_file=shape == "one")


def write_backup(path: Path, count: int, *, one_file: bool) -> Path:
    """A backup with this many chunks besides the one of qubes.xml; kept if it is there.

    Args:
        path: of the backup.
        count: number of chunks.
        one_file: all of one image; else each chunk is a file of its own.
    """
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    checked = {0, count // 2, count - 1}
    with part.open("wb") as out:
        plain = published_header(BACKUP_ID)
        append(out, "backup-header", plain)
        append(out, "backup-header.hmac", encrypt(f"backup-header!{PASSPHRASE}", plain))
        append_chunk(out, metadata(1 if one_file else -(-count // FILES_OF_A_QUBE)))
        for number, chunk in enumerate(image_chunks(count) if one_file else files(count)):
            stored = append_chunk(out, chunk)
            if number in checked:
                check(chunk, stored)
    part.rename(path)
    return path


def metadata(qubes: int) -> Chunk:
    """qubes.xml; no image is required, so that any file will do."""
    domains = [
        Domain(
            name=f"qube{qid}",
            qid=qid,
            klass="AppVM",
            label="red",
            template=None,
            netvm=None,
            volumes={},
            backup_path=f"vm{qid}/",
            backup_size=0,
        )
        for qid in range(1, qubes + 1)
    ]
    return "qubes.xml.000", packed("qubes.xml", qubes_xml(domains))


def image_chunks(count: int) -> Iterator[Chunk]:
    """One image whose stream is cut into this many chunks of about a KiB."""
    stream = packed("vm1/private.img", random.Random(1).randbytes(count * CHUNK_BYTES))
    for index in range(count):
        start, end = (len(stream) * i // count for i in (index, index + 1))
        yield f"vm1/private.img.{index:03d}", stream[start:end]


def files(count: int) -> Iterator[Chunk]:
    """Files of half a KiB, a thousand in each qube."""
    chance = random.Random(1)
    for number in range(count):
        qube, file = divmod(number, FILES_OF_A_QUBE)
        path = f"vm{qube + 1}/file-{file:03d}"
        yield f"{path}.000", packed(path, chance.randbytes(CHUNK_BYTES // 2))


def packed(name: str, data: bytes) -> bytes:
    """The compressed inner archive of one file."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(data))
    return gzip.compress(archive.getvalue(), compresslevel=1, mtime=0)


def encrypt(passphrase: str, data: bytes) -> bytes:
    """The scrypt encrypted-data format (Tarsnap/scrypt, FORMAT)."""
    salt = os.urandom(32)
    key = hashlib.scrypt(passphrase.encode(), salt=salt, n=1 << LOG2_N, r=R, p=P, dklen=64)
    head = b"scrypt\0" + bytes([LOG2_N]) + R.to_bytes(4, "big") + P.to_bytes(4, "big") + salt
    head += hashlib.sha256(head).digest()[:16]
    head += hmac.digest(key[32:], head, "sha256")
    counter = AES.new(key[:32], AES.MODE_CTR, nonce=b"", initial_value=bytes(16))
    body = head + counter.encrypt(data)
    return body + hmac.digest(key[32:], body, "sha256")


def append_chunk(out: BinaryIO, chunk: Chunk) -> bytes:
    """Encrypts and appends; returns what is stored."""
    name, data = chunk
    stored = encrypt(f"{BACKUP_ID}!{name}!{PASSPHRASE}", data)
    append(out, f"{name}.enc", stored)
    return stored


def append(out: BinaryIO, name: str, data: bytes) -> None:
    """A complete tar archive with one member, padded to whole records."""
    archive = header(name, len(data)) + data
    archive += bytes(-len(archive) % 512 + 1024)
    out.write(archive + bytes(-len(archive) % RECORD_BYTES))


def check(chunk: Chunk, stored: bytes) -> None:
    """The real program gives the same plaintext. Raises SystemExit."""
    name, data = chunk
    with tempfile.NamedTemporaryFile() as file:
        file.write(stored)
        file.flush()
        line = f"{BACKUP_ID}!{name}!{PASSPHRASE}\n".encode()
        command = ["scrypt", "dec", "-P", file.name]
        done = subprocess.run(command, input=line, capture_output=True, check=False)
    if done.returncode or done.stdout != data:
        raise SystemExit(f"scrypt reads another {name}: {os.fsdecode(done.stderr)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
