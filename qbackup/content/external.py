"""Filters that the user names: programs of this machine, whose pipes are served in turn."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterable, Iterator
from typing import IO, cast

from qbackup.base.children import child_environment
from qbackup.base.errors import Damaged, MachineError
from qbackup.base.events import Event
from qbackup.content.detect import detect_filter
from qbackup.content.own_end import own_end_of
from qbackup.content.padding import Trimmed
from qbackup.content.slices import INPUT_SIZE, OUTPUT_SIZE, slices
from qbackup.storage.tar.fields import MAGIC_OFFSET


def run_filter(command: list[str], events: Iterable[Event]) -> Iterator[memoryview]:
    """Runs the user's own program as the filter; writes its input and reads its output in turn."""
    if (own_end := own_end_of(events)) is not None:
        own_end.is_stream_over = False  # a program does not tell, and reads ahead
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=child_environment(),
        )
    except OSError as error:
        raise MachineError(f"can't run the filter {command[0]}: {error.strerror}") from error
    try:
        pieces = _begun(slices(events, INPUT_SIZE))
        stream = Trimmed(command[0], detect_filter(next(pieces)), pieces)
        try:
            yield from _feed_and_drain(process, iter(stream))
        except BrokenPipeError:
            how = "ended before all its input was read"
            raise Damaged(_ended(command[0], how, stream.zeros)) from None
        if process.wait() != 0:
            how = f"ended with status {process.returncode}"
            raise Damaged(_ended(command[0], how, stream.zeros))
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait()


def _begun(pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    """Yields as many first bytes as show the stream's kind, and then the whole stream."""
    front = b""
    while len(front) <= MAGIC_OFFSET + 5 and (piece := next(pieces, None)) is not None:
        front += bytes(piece)
        del piece
    yield memoryview(front)
    if front:
        yield memoryview(front)
    yield from pieces


def _ended(program: str, how: str, zeros: int) -> str:
    reason = f"the filter {program} {how}"
    if zeros:
        reason += (
            f"; {zeros} zeros stand at the stream's end, which may be padding that this program"
            " does not pass: without --compression-filter the built-in decompressor does"
        )
    return reason


def _feed_and_drain(
    process: subprocess.Popen[bytes], pieces: Iterator[memoryview]
) -> Iterator[memoryview]:
    """Writes the program's input and yields its output.

    Raises:
        BrokenPipeError: the program ended before all its input was read.
    """
    stdin, stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
    source, sink = stdout.fileno(), stdin.fileno()
    os.set_blocking(sink, False)
    pending: memoryview | None = next(pieces, None)
    while True:
        if pending is None and not stdin.closed:
            stdin.close()
        readable, writable, _ = select.select([source], [sink] if pending is not None else [], [])
        if readable:
            output = os.read(source, OUTPUT_SIZE)
            if output:
                yield memoryview(output)
            elif pending is None:
                return
            else:
                raise BrokenPipeError
        if writable and pending is not None:
            pending = pending[os.write(sink, pending) :]
            if not len(pending):
                pending = None  # a view of the chunk: its memory must be free before the next one
                pending = next(pieces, None)
