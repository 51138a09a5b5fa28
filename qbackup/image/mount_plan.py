"""Mounts of a disk's own system: lines of its `/etc/fstab` and partitions → mounts by path.

Each partition has one place. A line with a second place, or with a source on another disk, is not
followed; requests for that path get a note. A folder that is bound to a second place is found there
on request, and not in a walk through everything. A place is an error if its partition is not read,
or may be hidden in one that is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qbackup.base.errors import Damaged, PartitionUnreadable, UnsupportedFormat
from qbackup.base.names import display
from qbackup.image.disk import Volume
from qbackup.image.filesystem import AnyFileSystem
from qbackup.image.fstab import MountLine, MountSource, parse_source
from qbackup.image.kinds import WITHOUT_FILES

_NAMED_LIMIT = 3
_LUKS_NAME = "/dev/mapper/luks-"
#: Names that systems give to their first disk; the line of ``/`` counts more, see `_own_disks`.
_FIRST_DISKS = ("sda", "vda", "xvda", "hda", "nvme0n1p", "mmcblk0p", "nbd0p", "loop0p")

#: Places of partitions by their types, where no line names the place and the folder is empty.
_BY_TYPE = {  # the UAPI group's specification of discoverable partitions; systemd follows it
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "/home",
    "3b8f8425-20e0-4f3b-907f-1a25a76f98e8": "/srv",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "/boot",
}


@dataclass(frozen=True, slots=True)
class Mount:
    """A place in the tree that shows another file system, or another folder.

    Args:
        path: of the place.
        source: as in `/etc/fstab`.
        volume: the partition for this place; None without one.
        obstacle: reason why a source that is on this disk, or may be, is not shown; else "".
        note: reason why the line was not followed, where nothing of this disk is missing; else "".
        folder: path of the folder that is shown here a second time; else "".
    """

    path: str
    source: str
    volume: Volume | None = None
    obstacle: str = ""
    note: str = ""
    folder: str = ""

    def open(self) -> tuple[int, AnyFileSystem]:
        """Opens the partition; returns its number and its file system.

        Raises:
            PartitionUnreadable: the partition can't be read.
        """
        path = display(self.path)
        if self.volume is None or self.obstacle:
            raise PartitionUnreadable(self.obstacle, file=path)
        try:
            return self.volume.number, self.volume.open()
        except (Damaged, UnsupportedFormat) as error:
            reason = f"this is {self.volume.words}, which can't be read"
            if self.volume.is_readable:
                reason += f": {error.reason}"
            raise PartitionUnreadable(reason, file=path) from error


def plan(entries: Sequence[MountLine], volumes: Sequence[Volume], chosen: Volume) -> list[Mount]:
    """Gives a mount for each line, those above first.

    Args:
        entries: of `/etc/fstab`.
        volumes: all partitions of the disk.
        chosen: the one with ``/``.
    """
    planner = _Planner(entries, volumes, chosen)
    ordered = sorted(entries, key=lambda entry: entry.path.count("/"))
    return [planner.mount(entry) for entry in ordered if entry.path != "/"]


def plan_by_type(
    volumes: Sequence[Volume], chosen: Volume, is_free: Callable[[str], bool]
) -> list[Mount]:
    """Gives a mount for each partition whose type names its place.

    Args:
        volumes: all partitions of the disk.
        chosen: the one with ``/``.
        is_free: tells whether nothing else is at a place.
    """
    mounts = []
    for volume in volumes:
        path = _BY_TYPE.get(volume.partition.type, "")
        if path and volume is not chosen and is_free(path):
            obstacle = "" if volume.is_readable else _unreadable(volume)
            mounts.append(Mount(path, volume.words, volume, obstacle))
    return mounts


def _own_disks(entries: Sequence[MountLine], chosen: Volume) -> tuple[str, ...]:
    """Gives the names that this disk may have in names of devices."""
    for entry in entries:
        source = parse_source(entry.source)
        if entry.path == "/" and source.tag == "DEVICE" and source.number == chosen.number:
            return (source.value,)
    return _FIRST_DISKS


class _Planner:
    def __init__(
        self, entries: Sequence[MountLine], volumes: Sequence[Volume], chosen: Volume
    ) -> None:
        self._entries = entries
        self._volumes = volumes
        self._chosen = chosen
        self._own_disks = _own_disks(entries, chosen)
        self._used = {chosen.number}  # by earlier lines
        self._hiding: str | None = None  # computed when needed
        self._claimed: set[int] | None = None  # by any line; computed when needed

    def mount(self, entry: MountLine) -> Mount:
        """Gives the mount of a line."""
        source = parse_source(entry.source)
        found = None if entry.is_bind else self._find(source)
        note = obstacle = ""
        if entry.is_bind:
            note = f"/etc/fstab binds {display(entry.source)} here, which is not shown twice"
        elif found is None:
            obstacle = self._likely(entry, source) or self._hidden(entry, source)
            if not obstacle:
                note = f"/etc/fstab mounts {display(entry.source)} here, which is not in this image"
        else:
            obstacle = _obstacle(entry, found)
            self._used.add(found.number)
        folder = entry.source if entry.is_bind and entry.source.startswith("/") else ""
        return Mount(entry.path, entry.source, found, obstacle, note, folder)

    def _find(self, source: MountSource) -> Volume | None:
        """Finds the partition that is meant; if two have one UUID, each line gets another one."""
        matches = [volume for volume in self._volumes if self._is_meant(volume, source)]
        unused = [volume for volume in matches if volume.number not in self._used]
        return next(iter(unused or matches), None)

    def _is_meant(self, volume: Volume, source: MountSource) -> bool:
        content, partition = volume.content, volume.partition
        value = source.value
        if source.tag == "UUID":
            return bool(value) and content.uuid.lower() == value.lower()
        if source.tag == "LABEL":
            return bool(value) and content.label == value
        if source.tag == "PARTUUID":
            return bool(value) and partition.uuid == value.lower()
        if source.tag == "PARTLABEL":
            return bool(value) and partition.name == value
        if source.tag == "DEVICE":
            return value in self._own_disks and source.number == volume.number
        return _luks_uuid(source) == content.uuid != "" and content.kind == "crypto_LUKS"

    def _likely(self, entry: MountLine, source: MountSource) -> str:
        """Gives the reason why a device may be on this disk under another name; else "".

        Names of disks differ from start to start, and from one kind of name to another. Where the
        line of ``/`` gives this disk a name of the same kind, the other name is another disk's.
        """
        kind = source.value.rpartition("/")[0]
        is_named = self._own_disks is not _FIRST_DISKS
        if source.tag != "DEVICE" or (is_named and self._own_disks[0].rpartition("/")[0] == kind):
            return ""
        for volume in self._volumes:
            if (
                volume.number == source.number
                and volume.content.kind not in WITHOUT_FILES
                and volume.number not in self._claims()
            ):
                how = (
                    f"--partition {volume.number} shows it"
                    if volume.is_readable
                    else "can't be read"
                )
                return f"this is {display(entry.source)}, which may be {volume.words}: {how}"
        return ""

    def _claims(self) -> set[int]:
        """Gives the numbers of the partitions that some line means."""
        if self._claimed is None:
            sources = [parse_source(entry.source) for entry in self._entries]
            self._claimed = {self._chosen.number} | {
                volume.number
                for volume in self._volumes
                if any(self._is_meant(volume, source) for source in sources)
            }
        return self._claimed

    def _hidden(self, entry: MountLine, source: MountSource) -> str:
        """Gives the reason why a source that was not found may be on this disk; else ""."""
        if not _can_be_hidden(entry, source):
            return ""
        if self._hiding is None:
            hiding = [volume.words for volume in self._volumes if volume.may_hide_files()]
            self._hiding = ", or in ".join(hiding[:_NAMED_LIMIT])
        if not self._hiding:
            return ""
        where = self._hiding
        return (
            f"this is {display(entry.source)}, which may be in {where}, and that can't be read here"
        )


def _obstacle(entry: MountLine, volume: Volume) -> str:
    """Gives the reason why this partition is not shown at its place; else ""."""
    if not volume.is_readable:
        return _unreadable(volume)
    if entry.subvolume:
        folder = display(entry.subvolume)
        return f"this is only {folder} of {volume.words}: --partition {volume.number} shows it"
    return ""


def _unreadable(volume: Volume) -> str:
    return f"this is {volume.words}, which can't be read here"


def _luks_uuid(source: MountSource) -> str:
    """Finds the UUID in the name that installers of Fedora and Qubes give to an opened volume."""
    if source.tag == "OTHER" and source.value.startswith(_LUKS_NAME):
        return source.value.removeprefix(_LUKS_NAME).lower()
    return ""


def _can_be_hidden(entry: MountLine, source: MountSource) -> bool:
    """Tells whether a source can be in a volume group, an array, or an encrypted partition."""
    if source.tag in ("UUID", "LABEL"):
        return True
    value = source.value if source.tag == "OTHER" else f"/dev/{source.value}"
    if value.startswith("/dev/disk/"):
        return False
    if source.tag in ("OTHER", "DEVICE") and value.startswith("/dev/"):
        name = value.removeprefix("/dev/")
        return "/" in name or name.startswith(("dm-", "md"))
    return entry.kind == "zfs"
