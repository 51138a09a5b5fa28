"""Nodes of an image: a path with the `FileStat` found there."""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.image.filesystem import FileStat, Kind


@dataclass(frozen=True, slots=True)
class Node:
    """A file, folder or link in an image.

    Args:
        path: from the image's root, ``/`` itself.
        stat: everything known but the name.
        partition: number of the partition with this file, and with its inode; 0 in an image
            without partitions.
        is_astray: what leads to it is hit by lost bytes, so it may be another file than its path
            says; only of a damaged image whose lost bytes are known.
    """

    path: str
    stat: FileStat
    partition: int = 0
    is_astray: bool = False

    @property
    def name(self) -> str:
        """The last component of the path; "" of the root."""
        return self.path.rpartition("/")[2]

    @property
    def kind(self) -> Kind:
        """Kind of file."""
        return self.stat.kind

    @property
    def size(self) -> int:
        """Length in bytes, holes included."""
        return self.stat.size

    @property
    def key(self) -> tuple[int, int]:
        """Partition and inode: the same for all names of one file."""
        return self.partition, self.stat.number
