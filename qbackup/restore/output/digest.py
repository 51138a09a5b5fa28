"""Hashes of a file's and of a folder's content, by which a later run recognizes them.

A file: SHA-256 over a list of its blocks of 64 KiB that are not all zeros, each as its number
(8 bytes, big-endian) and its own SHA-256, the last block filled up with zeros; then the length
(8 bytes). So the hash depends on the content alone, not on the order of writes or the file
system's holes. A hole costs nothing, while SHA-256 over 20 GiB of zeros takes 10 to 50
seconds. With SHA instructions, hashing in blocks runs at 1.7 GB/s, one long SHA-256 at 1.8.

A folder: SHA-256 over the sorted hashes of all entries in the folder. The hash of an entry covers
its path, and the mode of a folder, the target of a symbolic link, or the mode, length and content
of a file. A second name of a file counts as a file. Times are left out, as they are no content.
Modes are left out where the file system keeps none. Paths are the ones in the output folder.
"""

from __future__ import annotations

import hashlib

from qbackup.base.names import encode
from qbackup.restore.output.zeros import HOLE_SIZE, ZEROS, is_zeros

_HASH_SIZE = 32
_PLAIN_FOLDER_MODE = 0o700
ENTRIES_LIMIT = 200_000  # about 160 bytes each; a larger folder is not journaled


def _sha256(data: bytes = b"") -> hashlib._Hash:
    try:
        return hashlib.sha256(data)
    except ValueError as error:  # OpenSSL raises this when memory runs out
        raise MemoryError from error


_ZERO_HASH = _sha256(ZEROS).digest()


class ContentHash:
    """Hash of a file, fed with its data in order. Bytes that are not fed are holes."""

    def __init__(self) -> None:
        self._blocks = _sha256()
        self._number = 0  # number of the present block
        self._filled = 0
        self._block = _sha256()

    def update(self, offset: int, data: memoryview) -> None:
        """Adds data at an offset, which must not lie before the end of the last data."""
        number, start = divmod(offset, HOLE_SIZE)
        if number != self._number:
            self._next_block(number)
        if start > self._filled:
            self._fill(start)
        position = 0
        while position < len(data):
            piece = data[position : position + HOLE_SIZE - self._filled]
            position += len(piece)
            self._add(piece)

    def finish(self, size: int) -> str:
        """Gives the hash of a file of this length, in hexadecimal digits."""
        self._next_block(self._number + 1)
        self._blocks.update(size.to_bytes(8, "big"))
        return self._blocks.hexdigest()

    def _add(self, piece: memoryview) -> None:
        if len(piece) == HOLE_SIZE and is_zeros(piece):
            self._number += 1  # a whole block of zeros counts as a hole
            return
        self._block.update(piece)
        self._filled += len(piece)
        if self._filled == HOLE_SIZE:
            self._next_block(self._number + 1)

    def _fill(self, end: int) -> None:
        self._block.update(ZEROS[: end - self._filled])
        self._filled = end

    def _next_block(self, number: int) -> None:
        if self._filled:
            self._fill(HOLE_SIZE)
            block = self._block.digest()
            if block != _ZERO_HASH:
                self._blocks.update(self._number.to_bytes(8, "big") + block)
            self._block = _sha256()
        self._number = number
        self._filled = 0


class TreeHash:
    """Hash of a folder, fed with its entries in any order. ``.`` is the folder itself.

    A folder that has no entry of its own has mode 0700, the mode that the writer gives.

    Args:
        modes: permissions count; False where the file system keeps none.
    """

    def __init__(self, *, modes: bool = True) -> None:
        self._modes = modes
        self._whats = bytearray()  # for each file or link a hash of all but its path, 32 bytes
        self._paths: dict[int, int] = {}  # hash of a path → its offset in `_whats`
        self._entries = bytearray()
        self._folders: dict[str, int] = {".": _PLAIN_FOLDER_MODE}

    @property
    def is_too_large(self) -> bool:
        """True if there are more entries than the limit; then no more are kept."""
        return len(self._paths) + len(self._folders) > ENTRIES_LIMIT

    def folder(self, path: str, mode: int = _PLAIN_FOLDER_MODE) -> None:
        """Adds a folder; the last mode counts."""
        self._name_parents(path)
        self._folders[path] = mode

    def file(self, path: str, mode: int, size: int, content: str) -> None:
        """Adds a file, with the hash of its content."""
        self._add(path, b"file", mode, size, bytes.fromhex(content))

    def symbolic_link(self, path: str, target: str) -> None:
        """Adds a symbolic link with its text."""
        self._add(path, b"link", 0, 0, encode(target))

    def hard_link(self, path: str, target: str) -> None:
        """Adds a second name of a file or link that was added before."""
        place = self._paths.get(hash(encode(target)))
        if place is not None:
            self._put(path, bytes(self._whats[place : place + _HASH_SIZE]))

    def finish(self) -> str | None:
        """Gives the hash, in hexadecimal digits; None for a folder that is too large."""
        if self.is_too_large:
            return None
        hashes = [
            _entry(path, self._what(b"folder", m, 0, b"")) for path, m in self._folders.items()
        ]
        places = range(0, len(self._entries), _HASH_SIZE)
        hashes += [bytes(self._entries[place : place + _HASH_SIZE]) for place in places]
        return _sha256(b"".join(sorted(hashes))).hexdigest()

    def _add(self, path: str, kind: bytes, mode: int, size: int, content: bytes) -> None:
        self._put(path, self._what(kind, mode, size, content))

    def _what(self, kind: bytes, mode: int, size: int, content: bytes) -> bytes:
        return _what(kind, mode if self._modes else 0, size, content)

    def _put(self, path: str, what: bytes) -> None:
        if self.is_too_large:
            return
        self._name_parents(path)
        self._paths[hash(encode(path))] = len(self._whats)
        self._whats += what
        self._entries += _entry(path, what)

    def _name_parents(self, path: str) -> None:
        above = path.rpartition("/")[0]
        while above and above not in self._folders and not self.is_too_large:
            self._folders[above] = _PLAIN_FOLDER_MODE
            above = above.rpartition("/")[0]


def _what(kind: bytes, mode: int, size: int, content: bytes) -> bytes:
    return _sha256(b"%s %o %d " % (kind, mode, size) + content).digest()


def _entry(path: str, what: bytes) -> bytes:
    return _sha256(what + encode(path)).digest()
