"""Partitions of a disk and their contents; a file system is opened when it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.base.errors import Damaged, UnsupportedFormat, without_traceback
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.image.device import ImageBytes
from qbackup.image.filesystem import AnyFileSystem
from qbackup.image.kinds import (
    CONTAINERS,
    UNKNOWN,
    WITHOUT_FILES,
    ContentKind,
    driver_of,
    identify,
)
from qbackup.image.partitions import Partition, find_partitions

#: Boot sectors of these have the mark of an MBR, and no table in them.
_WITH_BOOT_SECTOR = ("ntfs", "vfat", "exfat", "BitLocker")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePartition:
    """A partition of a disk image.

    Args:
        number: as on the running system, from 1.
        start: offset in bytes.
        size: in bytes.
        kind: of the content, as `blkid` names it (``ext4``, ``btrfs``, ``crypto_LUKS``); ``empty``
            for nothing but zeros, ``unknown`` for all else.
        description: of the content, for people.
        label: of the file system; "" without one, and where labels are not read.
        name: of the partition in GPT.
        uuid: of the file system, as `blkid` writes it; "" where UUIDs are not read.
        mounted_at: path of its files in the image; None where they are not shown.
        error: reason why its files can't be read; None where they can, where there are none, or
            where nobody tried.
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
        partition: place and size.
        disk: with the partition.
        limits: bounds on files of the image.

    Attributes:
        content: kind of the content.
    """

    def __init__(self, partition: Partition, disk: ImageBytes, limits: Limits) -> None:
        self.partition = partition
        self._limits = limits
        self._device = disk.part(partition.start, partition.size)
        self._is_cut = partition.start + partition.size > disk.size
        self.content: ContentKind = identify(self._device)
        self._driver = driver_of(self.content.kind)
        self._opened: AnyFileSystem | None = None
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
    def is_readable(self) -> bool:
        """True with the mark of a file system that can be read here."""
        return self._driver is not None

    @property
    def error(self) -> str | None:
        """Reason why the files can't be read, as far as one is known."""
        if self.content.kind in WITHOUT_FILES:
            return None
        if not self.is_readable:
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
        """Warning of files that may be missing; None without one, or before it was opened."""
        return None if self._opened is None else self._opened.warning

    @property
    def obstacle(self) -> str | None:
        """Damage that may have cost files; None without any, or before it was opened."""
        return None if self._opened is None else self._opened.obstacle

    def open(self) -> AnyFileSystem:
        """Opens the file system.

        Raises:
            UnsupportedFormat: no such file system can be read here.
            Damaged: the file system makes no sense.
        """
        if self._fault is not None:
            raise self._fault
        if self._opened is None:
            try:
                if self._driver is None:
                    raise UnsupportedFormat(f"the partition holds {self.content.words}")
                self._opened = self._driver.open(self._device, self._limits)
            except (Damaged, UnsupportedFormat) as error:
                without_traceback(error)
                self._fault = error
                raise
        return self._opened

    def forget(self) -> None:
        """Gives the memory of an open file system back; `open` opens it again."""
        self._opened = None

    def may_hide_files(self) -> bool:
        """Tells whether files may be inside that are not shown, e.g. in LUKS, or after damage."""
        if self._driver is not None:
            try:
                self._driver.check(self._device)
            except (Damaged, UnsupportedFormat):
                return True
            return False
        is_unknown = self.content.kind == UNKNOWN and self.partition.has_files
        return is_unknown or self.content.kind in CONTAINERS

    def as_partition(self, mounted_at: str | None) -> ImagePartition:
        """Describes the partition as a value."""
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
        content: kind of content by its first bytes.
        limits: bounds on files of the image.

    Raises:
        Damaged: the partition table is damaged.
    """
    if content.kind in _WITH_BOOT_SECTOR:
        return []
    return [Volume(partition, device, limits) for partition in find_partitions(device)]
