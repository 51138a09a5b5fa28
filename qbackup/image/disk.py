"""The partitions of a disk with what each holds; a file system is opened when it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.base.errors import Damaged, UnsupportedFormat, without_traceback
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.image.device import ImageBytes
from qbackup.image.ext4 import superblock
from qbackup.image.ext4.filesystem import Ext4
from qbackup.image.kinds import CONTAINERS, EXT, UNKNOWN, WITHOUT_FILES, ContentKind, identify
from qbackup.image.partitions import Partition, find_partitions

#: Boot sectors of these have the mark of an MBR, and no table in them.
_WITH_BOOT_SECTOR = ("ntfs", "vfat", "exfat", "BitLocker")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePartition:
    """A partition of a disk image.

    Args:
        number: as the system calls it, from 1.
        start: offset in bytes.
        size: in bytes.
        kind: of its content, as `blkid` names it (``ext4``, ``btrfs``, ``crypto_LUKS``); ``empty``
            where it is nothing but zeros, ``unknown`` for all else.
        description: of its content, for people.
        label: of the file system; "" where there is none, or where it is not read.
        name: that the partition has in GPT.
        uuid: of the file system, as `blkid` writes it; "" where it is not read.
        mounted_at: the path in the image at which its files are; None where they are not shown.
        error: why its files can't be read; None where they can, where it has none, or where
            nobody tried.
    """

    number: int
    start: int
    size: int
    kind: str
    description: str
    label: str
    name: str
    uuid: str
    mounted_at: str | None
    error: str | None


class Volume:
    """A partition and its content.

    Args:
        partition: its place.
        disk: that it is on.
        limits: bounds on what its file system may ask for.

    Attributes:
        content: what it holds.
    """

    def __init__(self, partition: Partition, disk: ImageBytes, limits: Limits) -> None:
        self.partition = partition
        self._limits = limits
        self._device = disk.part(partition.start, partition.size)
        self._is_cut = partition.start + partition.size > disk.size
        self.content: ContentKind = identify(self._device)
        self._opened: Ext4 | None = None
        self._fault: Damaged | UnsupportedFormat | None = None

    @property
    def number(self) -> int:
        """Number of the partition."""
        return self.partition.number

    @property
    def size(self) -> int:
        """Size of the partition in bytes."""
        return self.partition.size

    @property
    def is_ext(self) -> bool:
        """True with the mark of a file system that can be read here."""
        return self.content.kind in EXT

    @property
    def error(self) -> str | None:
        """Reason why the files can't be read, as far as one is known."""
        if self.content.kind in WITHOUT_FILES:
            return None
        if not self.is_ext:
            return f"{self.content.name} can't be read here"
        return None if self._fault is None else self._fault.reason

    @property
    def words(self) -> str:
        """Number and content, for a sentence."""
        label = f' "{display(self.content.label)}"' if self.content.label else ""
        return f"partition {self.number} ({self.content.name}{label})"

    @property
    def description(self) -> str:
        """Content, for a list."""
        cut = ", reaches past the image's end" if self._is_cut else ""
        return self.content.name + cut

    @property
    def warning(self) -> str | None:
        """Warning of files that may be missing; None without one, or if nobody looked."""
        return None if self._opened is None else self._opened.warning

    def open(self) -> Ext4:
        """Opens the file system.

        Raises:
            UnsupportedFormat: it is none that can be read.
            Damaged: it makes no sense.
        """
        if self._fault is not None:
            raise self._fault
        if self._opened is None:
            try:
                if not self.is_ext:
                    raise UnsupportedFormat(f"it holds {self.content.words}")
                self._opened = Ext4(self._device, self._limits)
            except (Damaged, UnsupportedFormat) as error:
                without_traceback(error)
                self._fault = error
                raise
        return self._opened

    def forget(self) -> None:
        """Gives the memory of an open file system back; `open` opens it again."""
        self._opened = None

    def may_hide_files(self) -> bool:
        """True where files can be that nothing here shows: inside of something, or by damage."""
        if self.is_ext:
            data = self._device.peek(superblock.OFFSET, superblock.SIZE)
            try:
                superblock.parse_superblock(data)
            except (Damaged, UnsupportedFormat):
                return True
            return False
        is_unknown = self.content.kind == UNKNOWN and self.partition.has_files
        return is_unknown or self.content.kind in CONTAINERS

    def as_partition(self, mounted_at: str | None) -> ImagePartition:
        """Gives all that is known as a value."""
        return ImagePartition(
            number=self.number,
            start=self.partition.start,
            size=self.size,
            kind=self.content.kind,
            description=self.description,
            label=self.content.label,
            name=self.partition.name,
            uuid=self.content.uuid,
            mounted_at=mounted_at,
            error=self.error,
        )


def read_volumes(device: ImageBytes, content: ContentKind, limits: Limits) -> list[Volume]:
    """Finds the partitions of a disk; none without a table.

    Args:
        device: all of the disk.
        content: what its beginning looks like.
        limits: bounds on what is in it.

    Raises:
        Damaged: its table is damaged.
    """
    if content.kind in _WITH_BOOT_SECTOR:
        return []
    return [Volume(partition, device, limits) for partition in find_partitions(device)]
