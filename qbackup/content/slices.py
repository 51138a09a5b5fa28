"""Slices of chunks' plaintext; each chunk's memory is free before the next one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qbackup.base.events import Event, Lost

INPUT_SIZE = 32 * 1024
OUTPUT_SIZE = 512 * 1024  # with less, threads wait for each other more often


def _buffers(events: Iterable[Event]) -> Iterator[memoryview]:
    """Yields the chunks' plaintext, and drops each buffer before it asks for the next one."""
    for event in events:
        if isinstance(event, Lost):
            error = event.error
            del event
            try:
                raise error
            finally:
                del error  # else its traceback and this frame form a cycle that keeps the chunk
        buffer = event.buffer
        del event
        yield buffer
        del buffer


def slices(events: Iterable[Event], size: int) -> Iterator[memoryview]:
    """Cuts the chunks' plaintext into slices of size bytes. Raises the error of a lost chunk."""
    for buffer in _buffers(events):
        for start in range(0, len(buffer), size):
            yield buffer[start : start + size]
        del buffer


def raw(events: Iterable[Event]) -> Iterator[memoryview]:
    """Yields plaintext that is not compressed, in slices."""
    return slices(events, OUTPUT_SIZE)
