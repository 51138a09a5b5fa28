"""The inner archive of one file: by GNU tar, or by a re-creation of Qubes' own writer.

Qubes runs GNU tar for files that keep their name, and its own writer (QubesOS/qubes-core-admin,
`qubes/tarwriter.py`) for block devices and renamed files. Both are context managers here that give
the finished stream, compressed, as it leaves the filter; leaving the block checks that every
program ended well.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from tests.maker.tools import check, environment

BLOCK_BYTES = 512
PIECE_BYTES = 1 << 20
ZERO_BLOCK = bytes(BLOCK_BYTES)


def inner_tar_command(
    source: Path,
    subdir: str,
    *,
    compression_filter: str | None,
    dereference: bool,
    sparse: bool,
    name: str | None = None,
    pattern: str | None = None,
    rewrite_links: bool = True,
    archive: str = "-",
) -> list[str]:
    """GNU tar's command line as QubesOS/qubes-core-admin `qubes/backup.py` has it. `pattern`: what
    `--xform` puts the prefix before, by default the name. `archive`: where tar writes, by default
    its standard output.
    """
    name = source.name if name is None else name
    command = ["tar", "-Pc"]
    command += ["--sparse"] if sparse else []
    command += ["-f", archive, "-C", str(source if name == "." else source.parent)]
    command += ["--dereference"] if dereference else []
    pattern = f"^{name}" if pattern is None else pattern
    command += [f"--xform=s:{pattern}:{subdir}\\0:{'' if rewrite_links else 'S'}"]
    command += [f"--use-compress-program={compression_filter}"] if compression_filter else []
    return [*command, name]


@contextmanager
def inner_tar(
    source: Path,
    subdir: str,
    *,
    compression_filter: str | None = "gzip",
    dereference: bool = True,
    sparse: bool = True,
    name: str | None = None,
    rewrite_links: bool = True,
    named_pipe: bool = False,
) -> Iterator[BinaryIO]:
    """The inner archive that GNU tar writes of `source`, its names prefixed with `subdir` (`vm1/`,
    `dom0-home/`).

    Qubes passes `--dereference` for every file since late 2015, never for dom0's home. `name` "."
    stores a folder's content, as with templates of R2 and R3, where the dot in `--xform` stands for
    any character: so every symbolic link's target gets the prefix too. `rewrite_links` False leaves
    the targets as they are. `named_pipe`: tar writes onto one, as R2.1 to R3.2 and early R4.0 had
    it, and fills the compressed stream up to a whole record; later ones read its standard output.
    """
    with tempfile.TemporaryDirectory() as folder:
        pipe = os.path.join(folder, "backup_pipe") if named_pipe else "-"
        command = inner_tar_command(
            source,
            subdir,
            compression_filter=compression_filter,
            dereference=dereference,
            sparse=sparse,
            name=name,
            rewrite_links=rewrite_links,
            archive=pipe,
        )
        with onto_pipe(command, pipe) if named_pipe else process(command, None) as stream:
            yield stream


@contextmanager
def qubes_tarwriter(
    source: Path, name: str, *, compression_filter: str | None = "gzip", pid: int | None = None
) -> Iterator[BinaryIO]:
    """The inner archive that Qubes' own writer makes of `source`, named `name`
    (`vm1/private.img`).
    """
    read_end, write_end = os.pipe()
    failures: list[Exception] = []

    def write() -> None:
        try:
            with os.fdopen(write_end, "wb") as out:
                write_sparse_tar(source, name, out, pid=pid)
        except (OSError, EOFError) as error:  # told to the one who reads
            failures.append(error)

    thread = threading.Thread(target=write, name="qubes-tarwriter")
    thread.start()
    with os.fdopen(read_end, "rb") as archive:
        if compression_filter is None:
            yield archive
        else:
            with process([compression_filter], archive) as stream:
                yield stream
    thread.join()
    if failures:
        raise failures[0]


def write_sparse_tar(source: Path, name: str, out: BinaryIO, *, pid: int | None = None) -> None:
    """Writes pax 1.0 sparse as Qubes does: header, map, the data with no padding at their end, two
    zero blocks.

    Every image is stored so, one with no hole too. `tarfile` makes the header, as in Qubes: with
    more than 8 GiB of data the size stands in a pax record `size`, and the header's own field
    holds 0.
    """
    with source.open("rb") as data:
        extents = sparse_map(data)
        table = _map_blocks(extents)
        header = sparse_header(name, extents, len(table), os.getpid() if pid is None else pid)
        out.write(header + table)
        for offset, size in extents:
            _copy(data, offset, size, out)
        out.write(ZERO_BLOCK * 2)


def sparse_header(name: str, extents: Sequence[tuple[int, int]], map_bytes: int, pid: int) -> bytes:
    folder, base = os.path.split(name)
    info = tarfile.TarInfo(f"{folder}/GNUSparseFile.{pid}/{base}")
    info.size = map_bytes + sum(size for _, size in extents)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(sum(extents[-1])),
    }
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _map_blocks(extents: Sequence[tuple[int, int]]) -> bytes:
    """The map: a count, then offset and length of each extent, decimal lines, NUL-padded to whole
    blocks.
    """
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % BLOCK_BYTES)


def sparse_map(data: BinaryIO) -> list[tuple[int, int]]:
    """(offset, length) of every run of 512-byte blocks that are not all zero.

    The last entry always reaches the end of the file: `(end, 0)` where the file ends in zeros, or
    is empty.
    """
    end_of_file = data.seek(0, os.SEEK_END)
    extents: list[tuple[int, int]] = []
    for start, end in _runs(data, end_of_file):
        if extents and sum(extents[-1]) == start:
            start = extents.pop()[0]
        extents.append((start, end - start))
    if not extents or sum(extents[-1]) != end_of_file:
        extents.append((end_of_file, 0))
    return extents


def _runs(data: BinaryIO, end_of_file: int) -> Iterator[tuple[int, int]]:
    """(start, end) of runs of data, which may touch each other."""
    for start, end in _allocated(data, end_of_file):
        data.seek(start)
        for position in range(start, end, PIECE_BYTES):
            piece = data.read(min(PIECE_BYTES, end - position))
            for first, last in _runs_in(piece):
                yield position + first, position + last


def _allocated(data: BinaryIO, end_of_file: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what the file system holds, so that a hole of many GiB costs nothing; starts
    are whole blocks.
    """
    position = 0
    while position < end_of_file:
        try:
            start = os.lseek(data.fileno(), position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        start -= start % BLOCK_BYTES
        position = os.lseek(data.fileno(), start, os.SEEK_HOLE)
        position = min(position + -position % BLOCK_BYTES, end_of_file)
        yield start, position


def _runs_in(piece: bytes) -> Iterator[tuple[int, int]]:
    if ZERO_BLOCK not in piece and len(piece) % BLOCK_BYTES == 0:  # the common case, fast
        yield 0, len(piece)
        return
    for offset in range(0, len(piece), BLOCK_BYTES):
        block = piece[offset : offset + BLOCK_BYTES]
        if block != ZERO_BLOCK[: len(block)]:
            yield offset, offset + len(block)


def _copy(data: BinaryIO, offset: int, size: int, out: BinaryIO) -> None:
    data.seek(offset)
    while size:
        piece = data.read(min(PIECE_BYTES, size))
        if not piece:
            raise EOFError("the image became shorter while it was read")
        out.write(piece)
        size -= len(piece)


@contextmanager
def process(command: list[str], stdin: BinaryIO | None) -> Iterator[BinaryIO]:
    """A program's output as a stream; leaving the block checks that it ended well."""
    source = subprocess.DEVNULL if stdin is None else stdin
    with tempfile.TemporaryFile() as messages:
        running = subprocess.Popen(
            command, stdin=source, stdout=subprocess.PIPE, stderr=messages, env=environment()
        )
        if stdin is not None:
            stdin.close()  # so that the writer meets a closed pipe when the filter stops
        with running:
            yield cast(BinaryIO, running.stdout)
        messages.seek(0)
        check(command, running.returncode, messages.read())


@contextmanager
def onto_pipe(command: list[str], pipe: str) -> Iterator[BinaryIO]:
    """Runs a program as `process` does, which writes onto a named pipe made here."""
    os.mkfifo(pipe)
    with tempfile.TemporaryFile() as messages:
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=messages, env=environment()
        )
        with running, open(pipe, "rb") as stream:
            yield stream
        messages.seek(0)
        check(command, running.returncode, messages.read())
