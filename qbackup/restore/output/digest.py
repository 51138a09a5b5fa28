"""Hashes of a file's and of a folder's content, by which a later run recognizes them.

A file: only its blocks of 64 KiB that are not all zeros count, the last block filled up with zeros.
The hash is SHA-256 over the numbers of these blocks (8 bytes each, big-endian), the SHA-256 of all
their bytes one after another, and the length (8 bytes). So the hash depends on the content alone,
not on the order of writes or the file system's holes. A hole costs nothing, while SHA-256 over
20 GiB of zeros takes 10 to 50 seconds. As the bytes go through one SHA-256, hundreds of KiB can be
hashed in one call, without Python's lock: another thread works meanwhile.

Earlier versions hashed each of these blocks on its own: SHA-256 over the number and the SHA-256 of
each block, and the length. Their journals hold such hashes, so there are two `FORMS`.

A folder: SHA-256 over the sorted hashes of all entries in the folder. The hash of an entry covers
its path, and the mode of a folder, the target of a symbolic link, or the mode, length and content
of a file. A second name of a file counts as a file. Times are left out, as they are no content.
Modes are left out where the file system keeps none. Paths are the ones in the output folder.
"""

from __future__ import annotations

import hashlib

from qbackup.base.names import encode
from qbackup.restore.output.zeros import HOLE_SIZE, ZEROS, is_zeros

BLOCKWISE = 1  # the form of earlier versions
IN_ONE = 2  # the form that `ContentHash` gives
FORMS = (BLOCKWISE, IN_ONE)
_HASH_SIZE = 32
_PLAIN_FOLDER_MODE = 0o700
ENTRIES_LIMIT = 200_000  # about 160 bytes each; a larger folder is not journaled


def sha256(data: bytes = b"") -> hashlib._Hash:
    """Begins a SHA-256. Raises MemoryError where there is no memory for it."""
    try:
        return hashlib.sha256(data)
    except ValueError as error:  # OpenSSL raises this when memory runs out
        raise MemoryError from error


class ContentHash:
    """Hash of a file, fed with its data in order. Bytes that are not fed are holes."""

    def __init__(self) -> None:
        self._numbers = sha256()  # of the blocks that count
        self._bytes = sha256()  # of their bytes
        self._number = 0  # number of the present block
        self._passed = 0  # bytes of the present block that went by
        self._counts = False  # the present block counts, so what went by of it is hashed

    def update(self, offset: int, data: memoryview) -> None:
        """Adds data at an offset, which must not lie before the end of the last data."""
        self._pass_hole(offset)
        start = position = 0
        while position < len(data):
            end = min(len(data), position + HOLE_SIZE - self._passed)
            if not self._counts:
                if is_zeros(data[position:end]):
                    self._bytes.update(data[start:position])
                    start = end
                else:
                    self._begin_block()
            self._pass(end - position)
            position = end
        self._bytes.update(data[start:])

    def finish(self, size: int) -> str:
        """Gives the hash of a file of this length, in hexadecimal digits."""
        self._pass_hole((self._number + 1) * HOLE_SIZE)
        self._numbers.update(self._bytes.digest() + size.to_bytes(8, "big"))
        return self._numbers.hexdigest()

    def _pass_hole(self, offset: int) -> None:
        """Passes the zeros up to an offset."""
        number, start = divmod(offset, HOLE_SIZE)
        end = start if number == self._number else HOLE_SIZE
        if self._counts:
            self._bytes.update(ZEROS[self._passed : end])
        if number == self._number:
            self._passed = start
        else:
            self._number, self._passed, self._counts = number, start, False

    def _begin_block(self) -> None:
        """Takes note that the present block counts; zeros may have gone by."""
        self._counts = True
        self._numbers.update(self._number.to_bytes(8, "big"))
        self._bytes.update(ZEROS[: self._passed])

    def _pass(self, count: int) -> None:
        self._passed += count
        if self._passed == HOLE_SIZE:
            self._number, self._passed, self._counts = self._number + 1, 0, False


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
        return sha256(b"".join(sorted(hashes))).hexdigest()

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
    return sha256(b"%s %o %d " % (kind, mode, size) + content).digest()


def _entry(path: str, what: bytes) -> bytes:
    return sha256(what + encode(path)).digest()
