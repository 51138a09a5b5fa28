"""From a stream to the file system in it: bare, or in a partition."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from qbackup.errors import Damaged, MachineError, NotInImage, UnsupportedFormat
from qbackup.image import superblock
from qbackup.image.device import Device
from qbackup.image.kinds import describe
from qbackup.image.partitions import Partition, find_partitions
from qbackup.image.reader import Ext4
from qbackup.image.tree import Image
from qbackup.limits import Limits
from qbackup.names import display
from qbackup.restore.folders import DAMAGED_SUFFIX

_REMAINS = re.compile(re.escape(DAMAGED_SUFFIX) + r"(\.\d+)?$")  # see `restore.place`


def open_image(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    partition: int | None = None,
    limits: Limits | None = None,
) -> Image:
    """Opens the file system in an image.

    Args:
        source: a path, or a seekable binary stream, which the image then owns.
        partition: its number; default: the file system itself, or the largest partition with one.
        limits: bounds on what it may ask for.

    Raises:
        NotInImage: there is no such partition.
        UnsupportedFormat: no ext4; the text says what it looks like.
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
        system = _file_system(Device(stream), partition, limits or Limits())
        return Image(system, stream, is_remains=is_remains)
    except BaseException:
        stream.close()
        raise


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open(path, "rb", buffering=0)  # the reader keeps blocks itself
    except OSError as error:
        raise MachineError(f"can't open {display(os.fspath(path))}: {error.strerror}") from error


def _file_system(device: Device, number: int | None, limits: Limits) -> Ext4:
    if number is None and _has_ext4(device):
        return Ext4(device, limits)
    partitions = find_partitions(device)
    if number is not None:
        partitions = [part for part in partitions if part.number == number]
        if not partitions:
            raise NotInImage(f"the image has no partition {number}")
    with_ext4 = [part for part in partitions if _has_ext4(_part(device, part))]
    if with_ext4:
        largest = max(with_ext4, key=lambda part: part.size)
        return Ext4(_part(device, largest), limits)
    raise UnsupportedFormat(_what_else(device, partitions))


def _part(device: Device, partition: Partition) -> Device:
    return device.part(partition.start, partition.size)


def _has_ext4(device: Device) -> bool:
    return superblock.is_superblock(device.peek(superblock.OFFSET, superblock.SIZE))


def _what_else(device: Device, partitions: list[Partition]) -> str:
    """What there is instead of ext4, in words."""
    if not partitions:
        text = f"the image holds {describe(device)}; only files in ext4 can be read"
        return text + _copy_of_superblock(device)
    found = (f"{part.number}: {_describe(device, part)}" for part in partitions)
    return f"no partition of the image has ext4 ({'; '.join(found)})"


def _copy_of_superblock(device: Device) -> str:
    """Where there is one, if the first is lost."""
    for block_size in (4096, 1024, 2048):
        block = block_size * 8 + (block_size == superblock.SIZE)
        if superblock.is_superblock(device.peek(block * block_size, superblock.SIZE)):
            return (
                f". It seems to have had it, and the beginning is lost: on a copy of the image try"
                f" e2fsck -b {block} -B {block_size}, then this again"
            )
    return ""


def _describe(device: Device, partition: Partition) -> str:
    try:
        return describe(_part(device, partition))
    except Damaged:
        return "it reaches past the image's end"
