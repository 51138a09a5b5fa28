"""Time and memory of indexing an archive of 100,000 members.

    python -m benchmarks.index [--members N] [--runs N] [--folder DIR]

Three archives are made, each as a row of complete tar archives with a pax header for each
member, as Qubes writes them: all chunks of one file, 100 files, and every member a file of
its own. Their data are holes, so an archive takes 400 MB of disk. For each it prints the
median time of indexing on the clock and on the processor, the peak of what Python
allocated (tracemalloc, in a run of its own) and how far the process grew. The goal is 3 s
and 16 MiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import qbackup
from benchmarks.command import ask

MIB = 1 << 20
BLOCK = 512
STRIDE = 40_960  # four records of tar: each header on a page of its own
HEADER = b"version=4\nencrypted=True\ncompressed=True\ncompression-filter=gzip\nbackup-id=1\n"
SHAPES = ("one file", "100 files", "every member a file")


def main() -> None:
    """Makes the archives one by one and prints a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", help="where the archives are made")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.trace)))
        return
    print(f"{'shape':20} {'seconds':>8} {'CPU':>6} {'allocated':>10} {'grown':>9}  members")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for shape in SHAPES:
            path = Path(folder) / "archive"
            make_archive(path, names(shape, arguments.members))
            report(shape, path, arguments.runs)
            path.unlink()


def names(shape: str, count: int) -> Iterator[str]:
    """Names of the members, in order."""
    files = {"one file": 1, "100 files": 100, "every member a file": count}[shape]
    chunks = count // files
    for file in range(files):
        for chunk in range(chunks):
            yield f"vm{file}/private.img.{chunk:03d}.enc"


def make_archive(path: Path, members: Iterator[str]) -> None:
    """A backup whose chunks have these names and nothing but zeros in them."""
    with path.open("wb") as out:
        write_member(out, 0, "backup-header", HEADER)
        position = STRIDE
        write_member(out, position, "backup-header.hmac", b"no proof")
        for name in members:
            position += STRIDE
            out.seek(position)
            out.write(header(name, STRIDE - 5 * BLOCK))
        out.truncate(position + STRIDE)


def write_member(out: BinaryIO, position: int, name: str, data: bytes) -> None:
    """A member with data, in one record of tar."""
    out.seek(position)
    out.write(header(name, len(data)) + data)
    end = position + 3 * BLOCK + len(data)
    assert end < position + 20 * BLOCK
    out.seek(position + 20 * BLOCK)  # each in one record, then zeros that nobody needs


def header(name: str, size: int) -> bytes:
    """A pax header with the times that GNU tar writes, then the member's own."""
    records = b"".join(
        b"30 %s=1726567872.%09d\n" % (key, 123456789) for key in (b"mtime", b"atime", b"ctime")
    )
    extended = block(f"./PaxHeaders/{name.rpartition('/')[2]}", len(records), b"x")
    return extended + records + bytes(-len(records) % BLOCK) + block(name, size, b"0")


def block(name: str, size: int, type_flag: bytes) -> bytes:
    """One header block."""
    fields = bytearray(BLOCK)
    fields[0 : len(name)] = name.encode()
    fields[100:148] = b"0000644\x000000000\x000000000\x00%011o\x0014672252200\x00" % size
    fields[148:157] = b" " * 8 + type_flag
    fields[257:265] = b"ustar\x0000"
    fields[148:156] = b"%06o\0 " % sum(fields)
    return bytes(fields)


def report(shape: str, path: Path, runs: int) -> None:
    """Measures one archive and prints its line."""
    plain = [run(path) for _ in range(runs)]
    traced = run(path, "--trace")
    seconds = statistics.median(result["seconds"] for result in plain)
    processor = statistics.median(result["processor"] for result in plain)
    grown = statistics.median(result["grown"] for result in plain)
    memory = f"{traced['allocated'] / MIB:6.1f} MiB {grown / MIB:5.1f} MiB"
    print(f"{shape:20} {seconds:8.2f} {processor:6.2f} {memory}  {plain[0]['members']:.0f}")


def run(path: Path, *options: str) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.index", "--measure", str(path), *options]
    answer: dict[str, float] = ask(command)
    return answer


def measure(path: str, trace: bool) -> dict[str, float]:
    """Opens and indexes; nothing is derived, as no passphrase is given."""
    if trace:
        tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, processor_start = time.perf_counter(), time.process_time()
    with qbackup.open(path) as backup:
        files = backup._opened.catalog.seen_files()
        seconds = time.perf_counter() - start
        processor = time.process_time() - processor_start
        assert backup._opened.catalog.error is None, backup._opened.catalog.error
        return {
            "seconds": seconds,
            "processor": processor,
            "allocated": tracemalloc.get_traced_memory()[1] if trace else 0,
            "grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024,
            "members": backup._opened.catalog.member_count(),
            "files": len(files),
        }


if __name__ == "__main__":
    main()
