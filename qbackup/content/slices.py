"""Plaintext of chunks in slices; each buffer is let go before the next chunk is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qbackup.base.events import Event, Lost

INPUT_SIZE = 32 * 1024
OUTPUT_SIZE = 128 * 1024  # more are given back to the system each time, and faulted in again


def _buffers(events: Iterable[Event]) -> Iterator[memoryview]:
    """Hands on the chunks' plaintext, and lets each buffer go before the next one."""
    for event in events:
        if isinstance(event, Lost):
            error = event.error
            del event
            try:
                raise error
            finally:
                del error  # no cycle through its own traceback, which would keep the chunk
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
    """Hands on plaintext that is not compressed."""
    return slices(events, OUTPUT_SIZE)
