"""What each part of a restore costs one core, while the other cores derive keys.

A process of its own: run by `benchmarks.floor`, prints JSON.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from Crypto.Cipher import AES

import qbackup
from benchmarks.derivation import busy, by_passes, by_product, by_pycryptodome
from benchmarks.machine import cores
from qbackup.content.decoders import Decoder, IsalDecoder, ZlibDecoder
from qbackup.crypto.scrypt_format import ScryptParameters

MIB = 1 << 20
PIECE = 128 * 1024  # what the product inflates and writes at once
RUN = 37 * MIB  # data between two holes, as in the workload
HOLE = 49 * MIB


@dataclass(frozen=True)
class Rates:
    """Seconds of one core, for one derivation, for one byte, or for the whole backup.

    Args:
        derivation: one key by the product, all cores deriving.
        derivation_wall: the same on the clock, time by cores over derivations.
        pycryptodome: one key by pycryptodome, all cores deriving.
        passes: one pass of the lane kernel with one lane, with two, and so on, in memory that was
            touched before; none where there is no kernel.
        read: a stored byte into a fresh buffer, from the page cache.
        mac: HMAC-SHA-256 of a byte.
        aes: AES-256-CTR of a byte, in place.
        zlib: inflating to a byte with zlib.
        isal: the same with isal; None where it is not installed.
        write: a byte of image written and synchronised: processor time.
        write_wall: the same on the clock, waiting for the disk included.
        index: opening and indexing the backup, in all.
    """

    derivation: float
    derivation_wall: float
    pycryptodome: float
    passes: list[float]
    read: float
    mac: float
    aes: float
    zlib: float
    isal: float | None
    write: float
    write_wall: float
    index: float

    @property
    def inflate(self) -> float:
        """By the faster decompressor that is there."""
        return self.zlib if self.isal is None else min(self.zlib, self.isal)


def main() -> None:
    """Measures everything once and prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("backup", type=Path)
    parser.add_argument("stream", type=Path, help="the beginning of a gzip stream from the backup")
    parser.add_argument("--parameters", type=int, nargs=3, metavar=("LOG2_N", "R", "P"))
    parser.add_argument("--mib", type=int, default=100, help="data for each measurement")
    parser.add_argument("--derivations", type=int, default=8, help="for each core")
    options = parser.parse_args()
    parameters = ScryptParameters(*options.parameters)
    rates = measure(
        options.backup, options.stream, parameters, options.mib * MIB, options.derivations
    )
    print(json.dumps(asdict(rates)))


def measure(
    backup: Path, stream: Path, parameters: ScryptParameters, size: int, rounds: int
) -> Rates:
    """All rates, in turn; size in bytes is the data for each."""
    product = by_product(parameters, cores(), rounds * cores())
    passes = by_passes(parameters, cores())
    plain = by_pycryptodome(parameters, cores(), max(1, rounds // 2) * cores())
    with busy(parameters, cores() - 1):
        write, write_wall = writing(backup.parent / "rates.part", size)
        return Rates(
            derivation=product.cpu,
            derivation_wall=product.wall,
            pycryptodome=plain.cpu,
            passes=passes,
            read=reading(backup, size),
            mac=authenticating(size),
            aes=decrypting(size),
            zlib=inflating(stream, ZlibDecoder),
            isal=_isal(stream),
            write=write,
            write_wall=write_wall,
            index=indexing(backup),
        )


def cpu_seconds(work: Callable[[], object], times: int = 3) -> float:
    """Processor time of this thread, median."""

    def once() -> float:
        start = time.thread_time()
        work()
        return time.thread_time() - start

    return statistics.median(once() for _ in range(times))


def reading(backup: Path, size: int) -> float:
    """Seconds for a byte: the backup's own bytes into a fresh buffer."""

    def read() -> None:
        with backup.open("rb", buffering=0) as file:
            file.readinto(bytearray(size))

    size = min(size, backup.stat().st_size)
    return cpu_seconds(read) / size


def authenticating(size: int) -> float:
    """Seconds for a byte of HMAC-SHA-256."""
    data = bytearray(size)
    return cpu_seconds(lambda: hmac.new(bytes(32), data, "sha256").digest()) / size


def decrypting(size: int) -> float:
    """Seconds for a byte of AES-256-CTR in place."""
    data = bytearray(size)

    def decrypt() -> None:
        counter = AES.new(bytes(32), AES.MODE_CTR, nonce=b"", initial_value=bytes(16))
        counter.decrypt(data, output=data)

    return cpu_seconds(decrypt) / size


def inflating(stream: Path, make: Callable[[], Decoder]) -> float:
    """Seconds for a byte of output; the stream may be cut off at its end."""
    data = memoryview(stream.read_bytes())
    produced = 0

    def inflate() -> None:
        nonlocal produced
        decoder, produced = make(), 0
        for start in range(0, len(data), PIECE // 4):
            rest: bytes | memoryview = data[start : start + PIECE // 4]
            while len(rest) or not (decoder.needs_input or decoder.eof):
                produced += len(decoder.decompress(rest, PIECE))
                rest = b""

    return cpu_seconds(inflate) / produced


def _isal(stream: Path) -> float | None:
    try:
        IsalDecoder()
    except ImportError:
        return None
    return inflating(stream, IsalDecoder)


def writing(path: Path, size: int) -> tuple[float, float]:
    """Seconds for a byte: of one core, and on the clock with the disk.

    As the restore writes: pieces at their places, holes left out, then length and fsync.
    """
    piece = random.Random(1).randbytes(PIECE)
    size -= size % PIECE
    start, start_cpu = time.perf_counter(), time.thread_time()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for offset in range(0, size, PIECE):
            os.pwrite(fd, piece, offset + offset // RUN * HOLE)
        os.ftruncate(fd, size + size // RUN * HOLE + HOLE)
        os.fsync(fd)
    finally:
        os.close(fd)
        path.unlink()
    return (time.thread_time() - start_cpu) / size, (time.perf_counter() - start) / size


def indexing(backup: Path) -> float:
    """Seconds to open the backup and to find all its members."""

    def index() -> None:
        with qbackup.open(str(backup)) as archive:
            archive._opened.catalog.seen_files()

    return cpu_seconds(index)


if __name__ == "__main__":
    main()
