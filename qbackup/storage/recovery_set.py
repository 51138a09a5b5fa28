"""Description of the files that recovery blocks belong to, as the program ``par2`` wrote it.

Facts of the format: a file is a row of packets. A packet has a magic number, its length (8 bytes,
little-endian, a multiple of 4), the MD5 of all that follows (16 bytes), the set's id (16), its type
(16), and a body. The body that describes a file has the file's id, its MD5, the MD5 of its first
16 KiB (16 bytes each), its length (8), and its name, padded with zeros. A packet may stand
anywhere, and one with a wrong MD5 is passed over. Nothing of this is authenticated.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
from dataclasses import dataclass
from io import FileIO

from qbackup.base.errors import MachineError, UsageError
from qbackup.base.names import display
from qbackup.storage.folder import OPEN_FLAGS
from qbackup.storage.kept_front import FRONT_SUFFIX

INDEX_SUFFIX = ".par2"
_MAGIC = b"PAR2\0PKT"
_DESCRIPTION = b"PAR 2.0\0FileDesc"
_OTHER_NAME = b"PAR 2.0\0UniFileN"  # a second name of a file, which `par2` never writes
_HEAD = 64  # bytes in front of a packet's body
_NAME_AT = 56  # in the body
_PACKET_LIMIT = 8192  # bytes of a packet that describes a file
_PACKETS_LIMIT = 100_000  # descriptions in one file; `par2` writes a handful
_SETS_LIMIT = 40_000  # files with recovery blocks of one backup; `par2` writes 32 at most


@dataclass(frozen=True)
class DescribedFile:
    """File that recovery blocks belong to, as anybody could have described it.

    Args:
        untrusted_name: as the blocks name it.
        untrusted_size: its length in bytes.
        digest: its MD5; a mere checksum.
    """

    untrusted_name: bytes
    untrusted_size: int
    digest: bytes


def recovery_files(backup: str) -> list[str]:
    """Finds the files with recovery blocks beside a backup; the first one is the index.

    Args:
        backup: path of the backup.
    """
    folder, name = os.path.split(backup)
    volume = re.compile(re.escape(name) + r"\.vol\d+[+-]\d+\.par2", re.DOTALL)
    try:
        names = sorted(entry for entry in os.listdir(folder or ".") if volume.fullmatch(entry))
    except OSError:
        names = []
    found = [os.path.join(folder, entry) for entry in names[:_SETS_LIMIT]]
    index = backup + INDEX_SUFFIX
    return [index, *found] if os.path.lexists(index) else found


def kept_beside(backup: str) -> list[str]:
    """Gives the paths of all that protects a backup, also where the kept front is not there."""
    return [backup + FRONT_SUFFIX, *recovery_files(backup)]


def described_files(path: str) -> set[DescribedFile]:
    """Reads the descriptions of files in a file with recovery blocks.

    Raises:
        UsageError: this is no regular file, or it describes what no set for a backup has.
        MachineError: the file can't be read.
    """
    try:
        with FileIO(os.open(path, os.O_RDONLY | OPEN_FLAGS)) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise UsageError("not a regular file", file=display(path))
            if not state.st_size:
                return set()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _described(data, path)
    except (OSError, ValueError) as error:
        raise MachineError(f"can't be read: {error}", file=display(path)) from error


def _described(data: mmap.mmap, path: str) -> set[DescribedFile]:
    found: set[DescribedFile] = set()
    count, at = 0, data.find(_MAGIC)
    while at >= 0:
        kind = data[at + 48 : at + _HEAD]
        if kind in (_DESCRIPTION, _OTHER_NAME):
            count += 1
            if kind == _OTHER_NAME or count > _PACKETS_LIMIT:
                raise UsageError("these recovery blocks are none of a backup", file=display(path))
            found.update(_description(data, at))
        at = data.find(_MAGIC, at + 1)
    return found


def _description(data: mmap.mmap, at: int) -> list[DescribedFile]:
    """Parses one packet; gives nothing where its checksum is wrong, as `par2` passes over it."""
    length = int.from_bytes(data[at + 8 : at + 16], "little")
    if not _HEAD + _NAME_AT < length <= _PACKET_LIMIT:
        return [] if length < _PACKET_LIMIT else [DescribedFile(b"", 0, b"")]
    packet = data[at : at + length]
    digest = hashlib.md5(packet[32:], usedforsecurity=False).digest()
    if len(packet) < length or digest != packet[16:32]:
        return []
    body = packet[_HEAD:]
    size = int.from_bytes(body[48:_NAME_AT], "little")
    return [DescribedFile(body[_NAME_AT:].rstrip(b"\0"), size, body[16:32])]
