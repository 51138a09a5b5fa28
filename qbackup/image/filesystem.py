"""Interface of a file system: the bytes below it, and the values that it gives.

Each file system is a folder of this package, e.g. `ext4/`, that imports nothing of the package but
this module. A `FileSystemDriver` in `kinds.DRIVERS` is its only entry; the rest of the package
knows no superblock and no inode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from qbackup.base.events import Extent
from qbackup.base.limits import Limits

Kind: TypeAlias = Literal["file", "folder", "symlink", "pipe", "socket", "device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """A file, folder or link without its name.

    Args:
        number: of the inode, unique in its file system.
        kind: of file.
        type_bits: the kind as in ``st_mode``, where the two kinds of device differ.
        mode: permission bits, with setuid, setgid and sticky.
        uid: of the owner.
        gid: of the group.
        size: length in bytes, holes included.
        links: number of names.
        mtime_ns: modification time, nanoseconds since 1970.
        atime_ns: access time.
        ctime_ns: time of the last change to the inode.
    """

    number: int
    kind: Kind
    type_bits: int
    mode: int
    uid: int
    gid: int
    size: int
    links: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int

    @property
    def is_inline(self) -> bool:
        """True if the content is in the inode itself and takes no blocks."""
        return False


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A name in a folder.

    Args:
        name: as stored, not checked.
        number: of the inode.
    """

    name: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Identity:
    """The name of a file system, read from its first bytes.

    Args:
        kind: the name that `blkid` has for it.
        words: kind of file system in a sentence, with an article.
        label: as stored, with the zeros behind it.
        uuid: 16 bytes.
    """

    kind: str
    words: str
    label: bytes
    uuid: bytes


class ImageDevice(Protocol):
    """Bytes of an image, or of a part of it, read by position."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Reads exactly these bytes.

        Raises:
            Damaged: the device ends before them.
            MachineError: the stream below can't be read.
        """
        ...

    def peek(self, offset: int, size: int) -> bytes:
        """Reads these bytes, or fewer where the device ends."""
        ...

    @property
    def has_losses(self) -> bool:
        """True if this is the rest of a damaged image, and its lost bytes are known."""
        ...

    def is_lost(self, offset: int, size: int) -> bool:
        """Tells whether any of these bytes is lost, so that a zero stands in its place."""
        ...


class ContentReader(Protocol):
    """Content of one file, read by position."""

    def read(self, offset: int, size: int) -> bytes:
        """Reads up to `size` bytes, at least one. The range lies within the file.

        Raises:
            Damaged: the file makes no sense there.
        """
        ...


S = TypeVar("S", bound=FileStat)


class FileSystem(Protocol[S]):
    """A file system that is read and never written. One thread at a time.

    `S` is the file system's own `FileStat`. Every method may raise, besides the errors it names:
    Damaged, UnsupportedFormat, LimitExceeded, MachineError.
    """

    @property
    def root(self) -> int:
        """Number of the root folder's inode."""
        ...

    @property
    def label(self) -> bytes:
        """Name of the file system, as stored."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes, no more than the device has.

        The folders and files of a sound file system together are no larger.
        """
        ...

    @property
    def file_cost(self) -> int:
        """Number of bytes that each file takes at least, besides content that is not inline."""
        ...

    @property
    def warning(self) -> str | None:
        """Warning of files that may be missing, e.g. if it was not unmounted; else None."""
        ...

    @property
    def obstacle(self) -> str | None:
        """Damage that may have cost files without a trace, e.g. of a journal; else None."""
        ...

    @property
    def shares_blocks(self) -> bool:
        """True if several files may use the same blocks on purpose."""
        ...

    @property
    def table_count(self) -> int:
        """Number of tables that were read until now to find the blocks of files."""
        ...

    @property
    def table_limit(self) -> int:
        """Largest number of such tables that there is room for on the device."""
        ...

    def stat(self, number: int, /) -> S:
        """Reads the inode of this number.

        Raises:
            Damaged: there is no such inode, or no file in it.
        """
        ...

    def names(self, stat: S, /) -> Iterator[FolderEntry]:
        """Reads the entries of a folder in stored order, without ``.`` and ``..``.

        Raises:
            Damaged: after the last readable entry, if a part can't be read.
        """
        ...

    def link(self, stat: S, /) -> bytes:
        """Reads the text of a symbolic link."""
        ...

    def extents(self, stat: S, /) -> Iterator[Extent]:
        """Reads data and holes of a file in order, from its first byte to its last."""
        ...

    def content(self, stat: S, /) -> ContentReader:
        """Prepares to read a file at any position."""
        ...

    def is_hit(self, stat: S, /, *, content: bool = True) -> bool:
        """Tells whether bytes of a file are lost, or may be; of a folder, blocks with names.

        Args:
            stat: of the file.
            content: False: only what leads to the content counts, e.g. the inode.
        """
        ...


# A tree has file systems of several kinds and gives each only its own `FileStat` values back.
AnyFileSystem: TypeAlias = FileSystem[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystemDriver:
    """Functions of one file system, for the registry `kinds.DRIVERS`.

    Args:
        name: in messages.
        kinds: names that `blkid` has for it.
        identify: finds the identity in the first `kinds.HEAD_SIZE` bytes of a device; None if this
            is another file system.
        check: raises Damaged or UnsupportedFormat if the device can't be opened, at little cost.
        open: opens a device; raises Damaged or UnsupportedFormat.
        hint: gives a sentence for a device without the mark of any file system, to add to an
            error: traces of this one, and how to repair it; "" without any.
    """

    name: str
    kinds: tuple[str, ...]
    identify: Callable[[bytes], Identity | None]
    check: Callable[[ImageDevice], None]
    open: Callable[[ImageDevice, Limits], AnyFileSystem]
    hint: Callable[[ImageDevice], str]
