"""Values that one stage of a read hands to the next: verified data, or the loss of some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from qbackup.base.errors import Damaged, QBackupError


@dataclass(frozen=True, slots=True)
class Data:
    """Verified plaintext of one chunk, with its place. The buffer belongs to the receiver.

    In an uncompressed file whose chunks are all S bytes long the data stand at index·S + offset.

    Args:
        buffer: the plaintext.
        stored_size: bytes that the chunk takes in the backup.
        index: the chunk's number in the file, from 0. Data that `FileDecryptor.finish` gives have
            the last chunk's number once more.
        offset: see above; in bytes.
        span: the value of S, if this is not the file's last chunk; None: the buffer's length.
        carried: number of bytes at its beginning that are stored in the chunk before.
        end: rest of the plaintext if the file ended in front of this chunk; None if the cipher
            shows that it does not end there.
    """

    buffer: memoryview
    stored_size: int = 0
    index: int = 0
    offset: int = 0
    span: int | None = None
    carried: int = 0
    end: bytes | None = b""


@dataclass(frozen=True, slots=True)
class UnverifiedData(Data):
    """Plaintext of a chunk whose key fits and whose MAC does not. Whoever held the disk may have
    chosen it.

    Only the last resort of a restore makes these values, see `qbackup.restore.unverified`.

    Args:
        is_hole: the disk lost these bytes, and zeros stand in for them.
    """

    is_hole: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """A chunk of which nothing can be believed.

    Args:
        chunk: its member name without suffix.
        size: number of missing plaintext bytes, where that is known.
        error: the fault.
        stored_size: bytes that the chunk takes in the backup.
        offset: of these bytes in the backup's file; None where that is not known.
        end: see `Data`.
    """

    chunk: str
    size: int | None
    error: QBackupError
    stored_size: int = 0
    offset: int | None = None
    end: bytes | None = b""


Event: TypeAlias = Data | Lost


@dataclass(frozen=True, slots=True)
class Gap:
    """Lost bytes in the middle of a stream.

    Args:
        length: in bytes.
        error: the fault at its beginning.
    """

    length: int
    error: QBackupError


@dataclass(frozen=True, slots=True)
class VolumeBoundary:
    """Place where one volume of a multi-volume archive ends and the next one begins.

    Args:
        name: of the member that goes on, or that begins here, cut at 100 bytes; ``b""``: the volume
            names none, so its first block is a member's header or the archive's end.
        left: number of that member's stored bytes that are still to come.
        error: the fault of the volume before this place, if that volume is lost; else None.
        strange: the fault of the volume's first block, if that is neither a header nor zeros. Only
            a volume that goes on in the middle of a member begins so.
        is_whole: the volume before this place consists of whole records, as tar writes them.
        before: length in bytes of the volume before this place; 0 if that one is lost.
    """

    name: bytes = b""
    left: int = 0
    error: QBackupError | None = None
    strange: Damaged | None = None
    is_whole: bool = True
    before: int = 0


@dataclass(frozen=True, slots=True)
class Misfit:
    """A volume that does not belong where it stands; the next one may again.

    Args:
        error: the fault.
    """

    error: Damaged


@dataclass(frozen=True, slots=True)
class ArchiveEnd:
    """End of an inner archive that holds one file, as far as the file's header tells it.

    Args:
        position: number of the archive's bytes that were read.
        data_end: offset in the archive of the first byte behind the file's data.
        is_sparse: the file has a map of its holes. Two writers write such archives, and each ends
            them in its own way.
    """

    position: int
    data_end: int
    is_sparse: bool


@dataclass(frozen=True, slots=True)
class OpenGap:
    """Lost bytes in the middle of a stream, of unknown length. All that follows has been decoded.

    Args:
        error: the fault at its beginning.
        place: gives the pieces from there on; None if nothing shows where they belong.
    """

    error: QBackupError
    place: Callable[[ArchiveEnd], Iterator[memoryview | Gap] | None]


Piece: TypeAlias = "memoryview | Gap | OpenGap | VolumeBoundary"


class Extent(NamedTuple):
    """A run of a file: data, or a hole where data is None. Extents come in order, gapless.

    In a file of many runs, holes shorter than 4 KiB can be zeros in the data of an extent.

    Args:
        offset: where it starts in the file, in bytes.
        length: in bytes.
        data: the content; a view that is valid until the next extent is fetched.
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
        error: the fault.
    """

    offset: int
    length: int
    error: QBackupError
