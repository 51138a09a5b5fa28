"""From a stream to the files in it: a file system, or a disk with all that its system mounts."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import BinaryIO

from qbackup.base.errors import (
    Damaged,
    MachineError,
    NotInImage,
    PartitionUnreadable,
    Unreadable,
    UnsupportedFormat,
)
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.image.choosing import Choice, choose
from qbackup.image.device import ImageBytes
from qbackup.image.disk import Volume, read_volumes
from qbackup.image.ext4 import superblock
from qbackup.image.ext4.filesystem import Ext4
from qbackup.image.fstab import ENTRIES_LIMIT, SIZE_LIMIT, MountLine, parse_fstab
from qbackup.image.kinds import EMPTY, EXT, UNKNOWN, ContentKind, identify
from qbackup.image.mounts import Mount, plan, plan_by_type
from qbackup.image.partitions import MBR_MARK
from qbackup.image.tree import Image
from qbackup.restore.output.folders import DAMAGED_SUFFIX

_REMAINS = re.compile(re.escape(DAMAGED_SUFFIX) + r"(\.\d+)?$")  # see `restore.place`
_FSTAB = "/etc/fstab"
_SIGNS = (_FSTAB, "/etc/os-release", "/usr/lib/os-release")
_GLANCE = 8 << 20  # bytes of folders that are read to find these; a few KiB mostly
_NAMED_LIMIT = 20


def open_image(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    partition: int | None = None,
    limits: Limits | None = None,
) -> Image:
    """Opens the file system in an image.

    Args:
        source: a path, or a seekable binary stream, which the image then owns.
        partition: the number of the one with ``/``; default: the file system itself, or the
            partition with a system in it, or the largest one with ext4. What its `/etc/fstab`
            mounts from the same disk is found where that says.
        limits: bounds on what it may ask for.

    Raises:
        NotInImage: there is no such partition.
        UnsupportedFormat: no ext4; the text says what it looks like. PartitionUnreadable where
            that is said of a partition.
        Damaged: what is there makes no sense.
        MachineError: it can't be read.
    """
    is_remains = False
    if isinstance(source, str | os.PathLike):
        is_remains = bool(_REMAINS.search(os.fspath(source)))
        stream = _open(source)
    else:
        stream = source
    try:
        return _image(stream, partition, limits or Limits(), is_remains)
    except BaseException:
        stream.close()
        raise


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open(path, "rb", buffering=0)  # the reader keeps blocks itself
    except OSError as error:
        raise MachineError(f"can't open {display(os.fspath(path))}: {error.strerror}") from error


def _image(stream: BinaryIO, number: int | None, limits: Limits, is_remains: bool) -> Image:
    device = ImageBytes(stream)
    content = identify(device)
    if number is None and content.kind in EXT and not _has_table_in_front(device, content, limits):
        return Image(Ext4(device, limits), stream, is_remains=is_remains)
    volumes = read_volumes(device, content, limits)
    if number is not None:
        choice = Choice(_named(volumes, number))
    elif volumes:
        choice = choose(volumes, lambda volume: _has_system(volume, stream))
    else:
        text = f"the image holds {content.words}; only files in ext4 can be read"
        raise UnsupportedFormat(text + _copy_of_superblock(device))
    image = Image(choice.volume.open(), stream, is_remains=is_remains, disk=(volumes, choice))
    image.mount(lambda image: _mounts(image, volumes, choice.volume))
    return image


def _has_table_in_front(device: ImageBytes, content: ContentKind, limits: Limits) -> bool:
    """True of a disk with partitions that still has the mark of an older, larger file system.

    The table is the one of an MBR, as that of GPT lies on the mark. Content that is known, where a
    partition begins, shows that the table is one.
    """
    if device.peek(510, 2) != MBR_MARK:
        return False
    try:
        volumes = read_volumes(device, content, limits)
    except Damaged:
        return False
    return any(volume.content.kind not in (UNKNOWN, EMPTY) for volume in volumes)


def _named(volumes: Sequence[Volume], number: int) -> Volume:
    """The partition of this number, which can be opened."""
    for volume in volumes:
        if volume.number == number:
            if not volume.is_ext:
                text = f"partition {number}: {volume.content.words}; only files in ext4 can be read"
                raise PartitionUnreadable(text)
            volume.open()
            return volume
    there = ", ".join(str(volume.number) for volume in volumes[:_NAMED_LIMIT]) or "none"
    raise NotInImage(f"the image has no partition {number} (there is: {there})")


def _has_system(volume: Volume, stream: BinaryIO) -> bool:
    """True if the files are those of a system, as far as a few of them show."""
    image = Image(volume.open(), stream, search_limit=_GLANCE)
    for path in _SIGNS:
        with contextlib.suppress(NotInImage, Damaged, Unreadable):
            image.stat(path, follow=False)
            return True
    return False


def _mounts(image: Image, volumes: Sequence[Volume], chosen: Volume) -> list[Mount]:
    """The mounts that the system in an image makes from its disk."""
    entries = _fstab(image)
    taken = {entry.path for entry in entries}
    found = plan(entries, volumes, chosen)
    return found + plan_by_type(
        volumes, chosen, lambda path: path not in taken and _is_empty(image, path)
    )


def _fstab(image: Image) -> list[MountLine]:
    """The lines of `/etc/fstab` in an image; none without one."""
    try:
        if image.stat(_FSTAB).kind != "file":
            return []
    except NotInImage as error:
        with contextlib.suppress(NotInImage):
            if image.stat(_FSTAB, follow=False).kind == "symlink":
                raise Damaged(f"it is a link that leads nowhere ({error.reason})") from error
        return []
    with image.open(_FSTAB) as file:
        data = file.read(SIZE_LIMIT + 1)
    if len(data) > SIZE_LIMIT:
        raise Damaged(f"it is longer than {SIZE_LIMIT} bytes", file=_FSTAB)
    entries = parse_fstab(data)
    if len(entries) >= ENTRIES_LIMIT:  # more may follow, which were passed over
        raise Damaged(f"it mounts {ENTRIES_LIMIT} things or more", file=_FSTAB)
    return entries


def _is_empty(image: Image, path: str) -> bool:
    """True of a folder with nothing in it."""
    try:
        return image.stat(path).kind == "folder" and not any(image.list(path))
    except (NotInImage, Damaged, Unreadable):
        return False


def _copy_of_superblock(device: ImageBytes) -> str:
    """Where there is one, if the first is lost."""
    for block_size in (4096, 1024, 2048):
        block = block_size * 8 + (block_size == superblock.SIZE)
        if superblock.is_superblock(device.peek(block * block_size, superblock.SIZE)):
            return (
                f". It seems to have had it, and the beginning is lost: on a copy of the image try"
                f" e2fsck -b {block} -B {block_size}, then this again"
            )
    return ""
