"""Opens an image: one file system, or a disk with all mounts of its system."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from qbackup.base.errors import (
    Damaged,
    MachineError,
    NotInImage,
    PartitionUnreadable,
    UnsupportedFormat,
    UsageError,
)
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.base.naming import naming
from qbackup.base.report import ByteRange
from qbackup.image.choosing import Choice, choose
from qbackup.image.device import ImageBytes
from qbackup.image.disk import Volume, read_volumes
from qbackup.image.faults import ENTRY_ERRORS, REMAINS
from qbackup.image.fstab import ENTRIES_LIMIT, SIZE_LIMIT, MountLine, parse_fstab
from qbackup.image.image import Image
from qbackup.image.kinds import (
    DRIVERS,
    EMPTY,
    READABLE_NAMES,
    UNKNOWN,
    ContentKind,
    driver_of,
    identify,
)
from qbackup.image.known_losses import LossesUnknown, is_remains, read_losses
from qbackup.image.lost_ranges import LostRanges
from qbackup.image.mount_plan import Mount, plan, plan_by_type
from qbackup.image.mount_table import MountTable
from qbackup.image.mounting import mount_all
from qbackup.image.partitions import MBR_MARK
from qbackup.image.tree import NO_DAMAGE, Damage, ImageTree
from qbackup.restore.output.side_names import UNVERIFIED_SUFFIX
from qbackup.storage.fileobject import require_binary

_UNVERIFIED = re.compile(re.escape(UNVERIFIED_SUFFIX) + r"(\.\d+)?$")
_FSTAB = "/etc/fstab"
_SYSTEM_FILES = (_FSTAB, "/etc/os-release", "/usr/lib/os-release")
_SYSTEM_SEARCH = 8 << 20  # bytes of folders that are read to find these; a few KiB mostly
_NAMED_LIMIT = 20
_TABLE_SIZE = 6 * 4096  # of an MBR, and of a GPT with its entries, also with large sectors
_LOST_TABLE = (
    "lost bytes are in its partition table, so partitions, and all files in them, may be missing"
)


def open_image(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    partition: int | None = None,
    limits: Limits | None = None,
    ranges: Iterable[ByteRange] | None = None,
) -> Image:
    """Opens the file system in an image.

    Args:
        source: a path, or a seekable binary stream, which the image then owns.
        partition: number of the partition with ``/``; default: the file system itself, or the
            partition with a system in it, or the largest one with ext4. Other partitions of the
            disk are shown at their places in its `/etc/fstab`.
        limits: bounds on files of the image.
        ranges: the good and lost bytes of a damaged image, as `FileResult.ranges` gives them, from
            its first byte to its last; default: for the path of a ``NAME.damaged``, those of
            ``NAME.damaged.json`` beside it, if there is one.

    Raises:
        UsageError: this is no path and no binary file, or what `restore` kept without verifying.
        NotInImage: there is no such partition.
        UnsupportedFormat: the image holds no ext4; the text names its content.
            PartitionUnreadable if a partition was named, or if there are partitions.
        Damaged: the partition table or the file system makes no sense.
        MachineError: the image can't be read.
    """
    limits = limits or Limits()
    path = None
    if isinstance(source, str | os.PathLike):
        stream = _open(source)
        path = os.path.realpath(source)  # a link may have any name
    else:
        require_binary(source, "an image")
        stream = source
    try:
        if ranges is not None:
            bad = [(part.start, part.end) for part in ranges if part.state != "good"]
            damage = Damage(lost=LostRanges(bad)) if bad else NO_DAMAGE
        else:
            damage = NO_DAMAGE if path is None else _damage_of(path, stream, limits)
        return _image(stream, partition, limits, damage)
    except BaseException:
        stream.close()
        raise


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    if _UNVERIFIED.search(os.path.realpath(path)):
        raise UsageError(
            "nothing proves what is in this file, so no command here reads it: whoever held the"
            " disk may have chosen it",
            file=display(os.fspath(path)),
        )
    try:
        return open(path, "rb", buffering=0)  # the file system keeps blocks itself
    except OSError as error:
        raise MachineError(f"can't open {display(os.fspath(path))}: {error.strerror}") from error


def _damage_of(path: str, stream: BinaryIO, limits: Limits) -> Damage:
    """Finds out what is lost of an image, by its name and the file beside it."""
    if not is_remains(path):
        return NO_DAMAGE
    try:
        return Damage(lost=read_losses(path, stream, limits))
    except LossesUnknown as error:
        return Damage(doubt=f"{REMAINS} ({error})")


def _image(stream: BinaryIO, number: int | None, limits: Limits, damage: Damage) -> Image:
    device = ImageBytes(stream, lost=damage.lost)
    content = identify(device)
    driver = driver_of(content.kind) if number is None else None
    if driver is not None and not _has_table_in_front(device, content, limits):
        mounts = MountTable(driver.open(device, limits))
        tree = ImageTree(mounts, limits, damage=damage, held_bytes=device.held_bytes)
        return Image(tree, stream)
    volumes = read_volumes(device, content, limits)
    if number is not None:
        choice = Choice(_named(volumes, number))
    elif volumes:
        choice = choose(volumes, lambda volume: _has_system(volume, limits))
    else:
        text = f"the image holds {content.words}; only files in {READABLE_NAMES} can be read"
        raise UnsupportedFormat(text + "".join(driver.hint(device) for driver in DRIVERS))
    mounts = MountTable(choice.volume.open(), volumes, choice.volume)
    tree = ImageTree(
        mounts,
        limits,
        damage=damage,
        obstacle=_obstacle(device, choice),
        held_bytes=device.held_bytes,
    )
    image = Image(tree, stream)
    mount_all(tree, lambda: _mounts(image, volumes, choice.volume))
    return image


def _obstacle(device: ImageBytes, choice: Choice) -> str | None:
    """Gives reasons why files of a disk may be missing without a trace; None without any."""
    lost = _LOST_TABLE if device.is_lost(0, _TABLE_SIZE) else None
    return "; ".join(filter(None, (choice.obstacle, lost))) or None


def _has_table_in_front(device: ImageBytes, content: ContentKind, limits: Limits) -> bool:
    """Tells whether a disk with partitions still has the mark of an older, larger file system.

    Only an MBR can be there, as a GPT would lie on the mark. The same bytes may be no table at all:
    known content where a partition begins shows that they are one.
    """
    if device.peek(510, 2) != MBR_MARK:
        return False
    try:
        volumes = read_volumes(device, content, limits)
    except Damaged:
        return False
    return any(volume.content.kind not in (UNKNOWN, EMPTY) for volume in volumes)


def _named(volumes: Sequence[Volume], number: int) -> Volume:
    """Finds the partition of this number, and opens it."""
    for volume in volumes:
        if volume.number == number:
            if not volume.is_readable:
                raise PartitionUnreadable(
                    f"partition {number}: {volume.content.words};"
                    f" only files in {READABLE_NAMES} can be read"
                )
            volume.open()
            return volume
    there = ", ".join(str(volume.number) for volume in volumes[:_NAMED_LIMIT]) or "none"
    raise NotInImage(f"the image has no partition {number} (there is: {there})")


def _has_system(volume: Volume, limits: Limits) -> bool:
    """Tells whether the files are those of a system, as far as a few of them show."""
    tree = ImageTree(MountTable(volume.open()), limits, search_limit=_SYSTEM_SEARCH)
    for path in _SYSTEM_FILES:
        with contextlib.suppress(NotInImage, *ENTRY_ERRORS):
            tree.stat(path, follow=False)
            return True
    return False


def _mounts(image: Image, volumes: Sequence[Volume], chosen: Volume) -> list[Mount]:
    """Gives the mounts that the system in an image makes from its disk."""
    entries = _fstab(image)
    taken = {entry.path for entry in entries}
    found = plan(entries, volumes, chosen)
    return found + plan_by_type(
        volumes, chosen, lambda path: path not in taken and _is_empty(image, path)
    )


def _fstab(image: Image) -> list[MountLine]:
    """Reads the lines of `/etc/fstab` in an image; none without that file."""
    try:
        if image.stat(_FSTAB).kind != "file":
            return []
    except NotInImage as error:
        with contextlib.suppress(NotInImage):
            if image.stat(_FSTAB, follow=False).kind == "symlink":
                raise Damaged(f"{_FSTAB} is a link that leads nowhere ({error.reason})") from error
        return []
    if image.knows_losses and image.is_hit(image.stat(_FSTAB)):
        raise Damaged(f"bytes of {_FSTAB} are lost")
    with image.open(_FSTAB) as file:
        data = file.read(SIZE_LIMIT + 1)
    with naming(_FSTAB):
        if len(data) > SIZE_LIMIT:
            raise Damaged(f"the file is longer than {SIZE_LIMIT} bytes")
        entries = parse_fstab(data)
        if len(entries) >= ENTRIES_LIMIT:  # lines behind these were passed over
            raise Damaged(f"the file mounts {ENTRIES_LIMIT} things or more")
    return entries


def _is_empty(image: Image, path: str) -> bool:
    """Tells whether a path is a folder with nothing in it."""
    try:
        return image.stat(path).kind == "folder" and not any(image.list(path))
    except (NotInImage, *ENTRY_ERRORS):
        return False
