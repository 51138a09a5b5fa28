"""Events of a file for the last resort of a restore: with what decrypting gives of a lost chunk.

A chunk's first 96 bytes have an HMAC of their own, so where only the chunk's last HMAC fails the
passphrase and the parameters are proven, and no byte of the content is. Only format 4 has such
chunks. No other part of this program uses these events.
"""

from __future__ import annotations

from collections.abc import Iterator

from qbackup.base.errors import FILE_ERRORS, ChunkDamaged
from qbackup.base.events import Event, Lost, UnverifiedData
from qbackup.content.stream import close_quietly
from qbackup.formats.protocol import ProvenHead, UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.chunk import StoredChunk, StoredChunks


def has_unverified(format_: UnlockedFormat) -> bool:
    """Tells if a chunk of this format can be decrypted without its last HMAC."""
    return format_.proves_heads


def with_unverified(
    pipeline: Pipeline, format_: UnlockedFormat, chunks: StoredChunks
) -> Iterator[Event]:
    """Yields the events of one file; what is left of a lost chunk comes as `UnverifiedData`.

    A chunk that stays lost is a `Lost`, and so is the rest of one in which the archive ends. The
    memory that the lost chunk was charged for holds what is left of it.
    """
    events = pipeline.run(format_, chunks, past_gaps=True)
    try:
        for event in events:
            if isinstance(event, Lost):
                yield from _rest_of(pipeline, format_, chunks, event)
            else:
                yield event
            del event  # lets its buffer go before the next chunk comes
    finally:
        close_quietly(events)


def _rest_of(
    pipeline: Pipeline, format_: UnlockedFormat, chunks: StoredChunks, lost: Lost
) -> Iterator[Event]:
    chunk = next((chunk for chunk in chunks if chunk.name == lost.chunk), None)
    for member in () if chunk is None else (chunk, *chunk.others):
        try:
            parts = _decrypt(pipeline, format_, member.afresh())
        except FILE_ERRORS:
            continue
        yield from parts
        if sum(len(part.buffer) for part in parts) < member.size - format_.overhead:
            yield lost  # the archive ends in the chunk
        return
    yield lost


def _decrypt(
    pipeline: Pipeline, format_: UnlockedFormat, chunk: StoredChunk
) -> list[UnverifiedData]:
    """Decrypts one chunk without its last HMAC. Raises ChunkDamaged where the key does not fit."""
    head = chunk.read_head(format_.head_size)
    sealed = format_.file().parse_head(chunk.name, chunk.index, head)
    if not isinstance(sealed, ProvenHead):
        raise ChunkDamaged("this format proves no part of a chunk that fails")
    key = pipeline.derive(sealed.derivation)
    sealed.require(key)  # before the body is read, as in a restore
    body = chunk.read_past_damage(format_.head_size)
    size = chunk.size - format_.head_size
    return sealed.open_unverified(key, body, size, pipeline.cipher.decrypt)
