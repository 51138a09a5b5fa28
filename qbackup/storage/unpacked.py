"""Unpacked backup: a folder that is read like the archive that was unpacked into it.

Step 1 of the published emergency procedure leaves such a folder. `UnpackedSource` gives its files
as one tar archive in Qubes' own shape, whose headers are made while they are read; so the code
that reads archives also reads folders, and the packages above need not distinguish them. The
header comes first, then folder by folder, chunk by chunk, whatever order the file system has.

A folder is as little trusted as a file. No symbolic link in it is followed, only regular files
are opened, and never in a way that waits (a pipe could); their number is bounded. Files that are
no part of a backup are ignored, also the plain files that later steps of the procedure leave
beside the chunks. Each read opens the file anew, and a file whose length changed is an error.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from io import FileIO
from typing import BinaryIO, NamedTuple

from qbackup.base.errors import LimitExceeded, MachineError, NotABackup
from qbackup.base.limits import Limits
from qbackup.base.names import (
    ENCRYPTED_SUFFIX,
    HEADER_COPY_NAME,
    HEADER_NAME,
    METADATA_PATH,
    decode,
    display,
    parse_chunk_name,
    too_deep,
)
from qbackup.storage.folder import OPEN_FLAGS, RootFolder
from qbackup.storage.kept_front import FRONT_SUFFIX
from qbackup.storage.parts import join_parts
from qbackup.storage.source import SeekableSource, Source, open_source
from qbackup.storage.tar.fields import BLOCK_SIZE, MAGIC_OFFSET
from qbackup.storage.tar.plain_header import make_header
from qbackup.storage.url import is_url
from qbackup.storage.use import Use

_HMAC_SUFFIX = ".hmac"
_ENC = ENCRYPTED_SUFFIX.encode()
_DECRYPTED = b".dec"  # in a decrypted chunk's file name, in the procedure for format 2
_RECORD_SIZE = 20 * BLOCK_SIZE
_NOTES_LIMIT = 100
_CANDIDATES_LIMIT = 10
_LOOKED_AT = 10_000  # entries of a folder, in search of backups to name in a message


class _Part(NamedTuple):
    """A file that is a part of the backup; sorted, such values are in Qubes' order.

    Args:
        path: of the file of the backup, without a chunk's number; ``""`` for the files at the
            backup's beginning (header and ``qubes.xml``).
        number: the chunk's; for the files at the beginning, a number that sorts them.
        kind: 0: a chunk named as in format 4, 1: named as in the other formats, 2: its HMAC.
        name: of the file on the disk.
        size: in bytes.
    """

    path: str
    number: int
    kind: int
    name: bytes
    size: int


class UnpackedSource:
    """A source that gives an unpacked folder as an archive. Several threads may read at once.

    Args:
        path: of the folder.
        limits: bounds on its files and their names.

    Attributes:
        notes: messages about ignored files that could belong to the backup.

    Raises:
        LimitExceeded: the folder holds more files and folders than a backup may have members.
        MachineError: the folder can't be read.
    """

    seekable = True

    def __init__(self, path: str, limits: Limits) -> None:
        self.troubles = 0
        self.notes: list[str] = []
        self._root = RootFolder(os.fsencode(path))
        self._use = Use(self._root, owned=True)
        self._names: list[bytes] = []
        self._sizes = array("Q")
        self._starts = array("Q")
        self._end = 0
        self._last_header = (-1, b"")
        try:
            for part in _FolderWalk(self._root, limits, self._note).parts():
                self._names.append(part.name)
                self._sizes.append(part.size)
                self._starts.append(self._end)
                self._end += _archive_size(part.name, part.size)
        except BaseException:
            self.close()
            raise

    def _note(self, text: str) -> None:
        if len(self.notes) < _NOTES_LIMIT:
            self.notes.append(text)

    def forget(self, offset: int, size: int) -> None:
        """Does nothing: the system may still have its copy of a file."""

    def end(self) -> int:
        """Gives the length of the archive in bytes."""
        return self._end

    def close(self) -> None:
        """Closes the folder once no read is under way."""
        self._use.close()

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills buffer from offset on, as `Source.read_into` does."""
        done = 0
        with self._use:
            while done < len(buffer) and offset + done < self._end:
                done += self._read_some(offset + done, buffer[done:])
        return done

    def _read_some(self, offset: int, buffer: memoryview) -> int:
        """Reads from one section of the archive: headers, a file's data, or zeros."""
        member = bisect_right(self._starts, offset) - 1
        name, size = self._names[member], self._sizes[member]
        start = offset - self._starts[member]
        header = self._header(member)
        if start < len(header):
            piece = header[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            return len(piece)
        start -= len(header)
        if start < size:
            count = min(len(buffer), size - start)
            self._read_file(name, size, start, buffer[:count])
            return count
        is_last = member + 1 == len(self._starts)
        end = self._end if is_last else self._starts[member + 1]
        count = min(len(buffer), end - offset)
        buffer[:count] = bytes(count)
        return count

    def _header(self, member: int) -> bytes:
        """Makes the headers in front of a file's data; those of the last file are kept."""
        known, header = self._last_header
        if known != member:
            header = make_header(self._names[member], self._sizes[member])
            self._last_header = member, header
        return header

    def _read_file(self, name: bytes, size: int, offset: int, buffer: memoryview) -> None:
        try:
            file = self._root.open(name)
        except OSError as error:
            raise MachineError(f"can't open its file: {error.strerror}") from error
        source = SeekableSource(file, owned=True)
        try:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_size != size:
                raise MachineError("its file has changed since the folder was opened")
            if source.read_into(offset, buffer) < len(buffer):
                raise MachineError("its file was cut off while it was read")
        finally:
            self.troubles += source.troubles
            source.close()


def _archive_size(name: bytes, size: int) -> int:
    """Gives the size of a member's whole archive, padded like GNU tar's."""
    whole = len(make_header(name, size)) + size + -size % BLOCK_SIZE + 2 * BLOCK_SIZE
    return whole + -whole % _RECORD_SIZE


class _FolderWalk:
    """Search through a folder for the parts of the backup in it.

    Args:
        root: of the backup.
        limits: bounds on its files and their names.
        note: called with a message about an ignored file that could be a part.
    """

    def __init__(self, root: RootFolder, limits: Limits, note: Callable[[str], None]) -> None:
        self._root = root
        self._limits = limits
        self._note = note
        self._count = 0

    def parts(self) -> Iterator[_Part]:
        """Gives all parts, each folder's together and in order; header and metadata come first."""
        folders = [b""]
        while folders:
            folder = folders.pop()
            parts, below = self._look(folder)
            names = {part.name for part in parts}
            yield from (part for part in sorted(parts) if not _is_left_over(part, names))
            folders += sorted(below, reverse=True)

    def _look(self, folder: bytes) -> tuple[list[_Part], list[bytes]]:
        """Gives the parts in a folder, and the folders in it."""
        parts: list[_Part] = []
        below: list[bytes] = []
        for entry, mode, size in self._entries(folder):
            name = folder + b"/" + entry if folder else entry
            if stat.S_ISDIR(mode):
                fault = too_deep(decode(name), self._limits.depth)
                if fault is not None:
                    self._note(f"{fault} (see --limit depth={fault.needed}), ignored")
                elif len(name) < self._limits.name:
                    below.append(name)
            elif len(name) <= self._limits.name and (part := _part(name, size)) is not None:
                if stat.S_ISREG(mode):
                    parts.append(part)
                else:
                    self._note(f"{display(decode(name))}: not a regular file, ignored")
        return parts, below

    def _entries(self, folder: bytes) -> list[tuple[bytes, int, int]]:
        try:
            entries = self._root.scan(folder, self._limits.members + 1)
        except OSError as error:
            name = display(decode(folder))
            if not folder:
                raise MachineError(f"can't read the folder: {error.strerror}") from error
            self._note(f"{name}: this folder can't be read ({error.strerror}), ignored")
            return []
        self._count += len(entries)
        if self._count > self._limits.members:
            raise LimitExceeded(
                f"the folder has more than {self._limits.members} files and folders in it",
                limit="members",
            )
        return entries


def _part(name: bytes, size: int) -> _Part | None:
    """Gives the part of a backup that a file of this name may be; None if it can be none."""
    text = decode(name)
    if text in (HEADER_NAME, HEADER_COPY_NAME):
        return _Part("", len(text), 0, name, size)
    for kind, suffix in enumerate((ENCRYPTED_SUFFIX, "", _HMAC_SUFFIX)):
        chunk = parse_chunk_name(text.removesuffix(suffix), folders=True)
        if text.endswith(suffix) and chunk is not None:
            is_front = chunk.path == METADATA_PATH
            return _Part(
                "" if is_front else chunk.path, chunk.index + 100 * is_front, kind, name, size
            )
    return None


def _is_left_over(part: _Part, names: set[bytes]) -> bool:
    """Tells if a later step of the procedure left this file beside the backup's own.

    A decrypted chunk stands beside the encrypted one: as ``NAME.000`` beside ``NAME.000.enc`` in
    format 4, as ``NAME.dec.000`` beside ``NAME.000`` in format 2. macOS puts a file ``._NAME``
    beside NAME on a disk of another system.
    """
    folder, slash, name = part.name.rpartition(b"/")
    if name.startswith(b"._") and folder + slash + name[2:] in names:
        return True
    if part.kind != 1 or part.name + _HMAC_SUFFIX.encode() in names:
        return False
    plain, _, number = part.name.rpartition(b".")
    encrypted = plain.removesuffix(_DECRYPTED) + b"." + number
    return part.name + _ENC in names or (plain.endswith(_DECRYPTED) and encrypted in names)


def open_backup(source: str | os.PathLike[str] | BinaryIO, limits: Limits) -> Source:
    """Opens any backup that a user names: as `open_source` does, an unpacked folder, or parts.

    Raises:
        NotABackup: the folder is no backup; the message names the backups in it.
    """
    if isinstance(source, str | bytes | os.PathLike) and not is_url(source):
        path = os.fsdecode(source)
        with contextlib.suppress(OSError, ValueError):  # `open_source` reports the fault
            if os.path.isdir(path) and _holds_backup(path):
                return UnpackedSource(path, limits)
        joined = join_parts(path, limits)
        if joined is not None:
            return joined
    try:
        return open_source(source)
    except NotABackup as error:
        if error.file is not None and os.path.isdir(error.file):
            error.reason += _candidates(error.file)
        raise


def _holds_backup(path: str) -> bool:
    """Tells if a folder is an unpacked backup, by the names at its top."""
    fronts = (HEADER_NAME, f"{METADATA_PATH}.000", f"{METADATA_PATH}.000{ENCRYPTED_SUFFIX}")
    return any(os.path.lexists(os.path.join(path, name)) for name in fronts)


def _candidates(path: str) -> str:
    """Names the backups in a folder, for a message; nothing in them is trusted."""
    found: list[str] = []
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in itertools.islice(entries, _LOOKED_AT):
            with contextlib.suppress(OSError):
                if _looks_like_backup(entry):
                    found.append(entry.name)
    names = [display(os.path.join(path, name)) for name in sorted(found)[:_CANDIDATES_LIMIT]]
    more = ", …" if len(found) > len(names) else ""
    if not names:
        return ", and none was found in this one"
    return f": name {' or '.join(names)}{more}"


def _looks_like_backup(entry: os.DirEntry[str]) -> bool:
    if entry.name.endswith(FRONT_SUFFIX):
        return False  # kept beside a backup, and no whole one
    if entry.is_dir(follow_symlinks=False):
        return _holds_backup(entry.path)
    if not entry.is_file(follow_symlinks=False):
        return False
    with FileIO(os.open(entry.path, os.O_RDONLY | OPEN_FLAGS)) as file:
        beginning = file.read(4 * BLOCK_SIZE)
    is_tar = beginning[MAGIC_OFFSET : MAGIC_OFFSET + 5] == b"ustar"
    return is_tar and (HEADER_NAME.encode() in beginning or METADATA_PATH.encode() in beginning)
