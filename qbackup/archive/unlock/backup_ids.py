"""Which backup's chunks a file holds: backup ids, tried on chunks all over it.

A chunk's key depends on the backup's id, so its head (bytes 64 to 95) fits no key but that of
this passphrase, this id and this chunk's name. A file may hold chunks of several backups with one
passphrase: what a drive held before, or what somebody planted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qbackup.base.errors import FILE_ERRORS
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.chunk import StoredChunk

_FRONT = 5  # witnesses that decide between two proven ids


@dataclass(frozen=True)
class IdProofs:
    """What ids were proven.

    Args:
        by: id → the chunks that it fits, in the archive's order; no id without one.
        in_front: the id that most of the first proven chunks have; of two the earlier one.
    """

    by: Mapping[str, Sequence[StoredChunk]] = field(default_factory=dict)
    in_front: str | None = None


def fits(format_: UnlockedFormat, chunk: StoredChunk, pipeline: Pipeline) -> bool:
    """Tells whether a chunk's head was made with this passphrase, backup id and name."""
    try:
        return pipeline.fits(format_, chunk)
    except FILE_ERRORS:
        return False


def identify(
    formats: Mapping[str, UnlockedFormat],
    witnesses: Iterable[StoredChunk],
    pipeline: Pipeline,
) -> IdProofs:
    """Tries ids on chunks; a single one until a chunk proves it, several on all of them.

    Args:
        formats: id → how to open a chunk if it is the right one.
        witnesses: in the archive's order.
        pipeline: derives the keys, one for each id and chunk at most.
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
        order.insert(0, id_)  # the next one is most likely of the same backup
    front = proven[:_FRONT]
    return IdProofs(by, max(front, key=front.count) if front else None)
