"""Values that stages of a read hand on: verified data, and what is lost instead of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from qbackup.base.errors import Damaged, QBackupError


@dataclass(frozen=True, slots=True)
class Data:
    """Verified plaintext of one chunk, in its place. The buffer belongs to the receiver.

    In an uncompressed file whose chunks are all S bytes long it stands at index·S + offset.

    Args:
        buffer: the plaintext.
        stored_size: bytes that the chunk takes in the backup.
        index: its place in the file, from 0; the last one's again for what `FileDecryptor.finish`
        has. offset: see above; in bytes. span: what S is, if this is not the file's last chunk;
        None: the length of the buffer.
    """

    buffer: memoryview
    stored_size: int = 0
    index: int = 0
    offset: int = 0
    span: int | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """A chunk of which nothing can be believed.

    Args:
        chunk: its member name without suffix.
        size: plaintext bytes that are missing, where that is known.
        error: what was wrong.
        stored_size: bytes that the chunk takes in the backup.
    """

    chunk: str
    size: int | None
    error: QBackupError
    stored_size: int = 0


Event: TypeAlias = Data | Lost


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a stream that are lost, while it goes on behind them.

    Args:
        length: in bytes.
        error: what was wrong where it begins.
    """

    length: int
    error: QBackupError


@dataclass(frozen=True, slots=True)
class VolumeBoundary:
    """Here one volume of a multi-volume archive ended and the next one begins.

    Args:
        name: of the member that goes on, or that begins here, cut at 100 bytes; ``b""``: the volume
            names none, so it begins with a member, or the archive's end.
        left: how many of its stored bytes are still to come.
        error: what was wrong with the volume before it, which is lost; None if none is.
        strange: what is wrong with the volume's first block, if that is neither a header nor zeros:
            only what goes on in the middle of a member begins so.
        is_whole: the volume before it consists of whole records, as tar writes them.
    """

    name: bytes = b""
    left: int = 0
    error: QBackupError | None = None
    strange: Damaged | None = None
    is_whole: bool = True


Piece: TypeAlias = "memoryview | Gap | VolumeBoundary"


class Extent(NamedTuple):
    """A run of a file: data, or a hole where data is None. Extents come in order, gapless.

    In a file of many runs, holes shorter than 4 KiB can be zeros in the data of an extent.

    Args:
        offset: where it starts in the file, in bytes.
        length: in bytes.
        data: the content; a view that is valid until the next extent is asked for.
    """

    offset: int
    length: int
    data: memoryview | None


@dataclass(frozen=True, slots=True)
class Missing:
    """A run of a file whose content is lost, though its place is known.

    Args:
        offset: where it starts in the file, in bytes.
        length: in bytes.
        error: what was wrong.
    """

    offset: int
    length: int
    error: QBackupError
