"""Identification of the backups whose chunks a file holds: tries backup ids on chunks all over it.

A chunk's key depends on the backup's id, so its head (bytes 64 to 95) fits no key but that of
this passphrase, this id and this chunk's name. A file may hold chunks of several backups with one
passphrase: earlier content of a drive, or chunks that somebody planted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qbackup.base.errors import FILE_ERRORS
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.chunk import StoredChunk

_FRONT = 5  # number of first matching chunks that decide between two ids


@dataclass(frozen=True)
class IdMatches:
    """Ids that chunks have confirmed.

    Args:
        by: id → the chunks that it fits, in the archive's order; no id without a chunk.
        in_front: the id of most of the first matching chunks; if equal, the one that came first.
    """

    by: Mapping[str, Sequence[StoredChunk]] = field(default_factory=dict)
    in_front: str | None = None


def fits(format_: UnlockedFormat, chunk: StoredChunk, pipeline: Pipeline) -> bool:
    """Tells if a chunk's head was made with this passphrase, backup id and name."""
    try:
        return pipeline.accepts(format_, chunk)
    except FILE_ERRORS:
        return False


def identify(
    formats: Mapping[str, UnlockedFormat],
    witnesses: Iterable[StoredChunk],
    pipeline: Pipeline,
) -> IdMatches:
    """Tries ids on chunks: a single id until a chunk confirms it, several ids on all chunks.

    Args:
        formats: id → format that opens the chunks of that id.
        witnesses: the chunks, in the archive's order.
        pipeline: derives the keys, at most one for each id and chunk.
    """
    order = list(formats)
    by: dict[str, list[StoredChunk]] = {}
    proven: list[str] = []
    for chunk in witnesses:
        id_ = next((i for i in order if fits(formats[i], chunk, pipeline)), None)
        if id_ is None:
            continue
        by.setdefault(id_, []).append(chunk)
        proven.append(id_)
        if len(formats) == 1:
            break
        order.remove(id_)
        order.insert(0, id_)  # the next chunk is most likely of the same backup
    front = proven[:_FRONT]
    return IdMatches(by, max(front, key=front.count) if front else None)
