"""File systems of one image by their places: that of ``/``, and those mounted below."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from qbackup.base.names import display
from qbackup.image.disk import ImagePartition, Volume
from qbackup.image.filesystem import AnyFileSystem
from qbackup.image.mount_plan import Mount

_MOUNTS_LIMIT = 24  # each costs a file system in memory; hardened servers mount ten partitions


class MountTable:
    """File systems by their places. Without partitions there is one, of number 0.

    Args:
        system: the file system of ``/``.
        volumes: the partitions of the disk.
        chosen: the partition with `system`; None without partitions.

    Attributes:
        root: number of the partition with ``/``.
    """

    def __init__(
        self,
        system: AnyFileSystem,
        volumes: Sequence[Volume] = (),
        chosen: Volume | None = None,
    ) -> None:
        self.root = 0 if chosen is None else chosen.number
        self._volumes = volumes
        self._systems = {self.root: system}
        self._mounts: dict[str, Mount] = {}

    def system(self, number: int) -> AnyFileSystem:
        """Gives the file system in a partition that was entered."""
        return self._systems[number]

    def is_place(self, path: str) -> bool:
        """Tells whether a mount is at exactly this path."""
        return path in self._mounts

    def hides(self, path: str) -> bool:
        """Tells whether a mount hides the folder at exactly this path."""
        return path in self._mounts and not self._mounts[path].note

    def add(self, path: str, mount: Mount) -> None:
        """Adds a mount; of two at one place the later one counts, if it is on this disk.

        Args:
            path: the place itself, with no symbolic link on the way.
            mount: for that place.
        """
        before = self._mounts.get(path)
        if mount.volume is not None and not mount.obstacle:
            mount = self._checked(path, mount, mount.volume)
        if before is None or before.note or not mount.note:
            self._mounts[path] = dataclasses.replace(mount, path=path)

    def _checked(self, path: str, mount: Mount, volume: Volume) -> Mount:
        """Gives the same mount; one with a reason instead if bytes of the disk had two places."""
        there = {number: place for number, place in self._places().items() if place != path}
        words = volume.words
        if volume.number in there:
            place = display(there[volume.number])
            note = f"/etc/fstab mounts {words} here, which is shown at {place} already"
            return dataclasses.replace(mount, volume=None, note=note)
        for other in self._volumes:
            if other.number in there and volume.partition.overlaps(other.partition):
                text = f"this is {words}, which overlaps partition {other.number}"
                return dataclasses.replace(mount, obstacle=text)
        if len(there) > _MOUNTS_LIMIT:
            text = f"this is {words}, and {_MOUNTS_LIMIT} partitions are mounted already"
            return dataclasses.replace(mount, obstacle=text)
        return mount

    def _places(self) -> dict[int, str]:
        """Gives places by the numbers of partitions."""
        places = {
            mount.volume.number: path
            for path, mount in self._mounts.items()
            if mount.volume is not None
        }
        return {**places, self.root: "/"}

    def enter(self, path: str) -> tuple[int, AnyFileSystem] | None:
        """Opens the partition that is mounted at a path, for its number and file system; else None.

        Raises:
            PartitionUnreadable: the partition can't be read.
        """
        mount = self._mounts.get(path)
        if mount is None or mount.note:
            return None
        number, system = mount.open()
        self._systems[number] = system
        return number, system

    @property
    def partitions(self) -> tuple[ImagePartition, ...]:
        """Partitions of the disk, with their places."""
        places = self._places()
        return tuple(volume.as_partition(places.get(volume.number)) for volume in self._volumes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of each file system that was entered."""
        found = [] if (warning := self._systems[self.root].warning) is None else [warning]
        for path, mount in self._mounts.items():
            if mount.volume is not None and mount.volume.warning is not None:
                found.append(f"{display(path)}: {mount.volume.warning}")
        return tuple(found)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Damage of each file system that was entered that may have cost files."""
        found = [] if (obstacle := self._systems[self.root].obstacle) is None else [obstacle]
        for path, mount in self._mounts.items():
            if mount.volume is not None and mount.volume.obstacle is not None:
                found.append(f"{display(path)}: {mount.volume.obstacle}")
        return tuple(found)

    def notes(self, path: str, below: bool) -> tuple[str, ...]:
        """Gives the notes on mounts at a path or above, and with `below` also below."""
        top = path.rstrip("/") + "/"
        found = []
        for mount in self._mounts.values():
            place = mount.path + "/"
            if mount.note and (top.startswith(place) or (below and place.startswith(top))):
                found.append(f"{display(mount.path)}: {mount.note}")
        return tuple(found)
