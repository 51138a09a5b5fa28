"""Access to the files in a backup's image, after the whole image was read and verified."""

from __future__ import annotations

import os
from contextlib import closing
from typing import BinaryIO, cast

from qbackup.archive.opened import OpenedBackup
from qbackup.base.errors import MachineError, UsageError
from qbackup.base.names import display
from qbackup.base.report import OnProgress, Progress
from qbackup.image.image import Image
from qbackup.image.open import open_image
from qbackup.image.spool import (
    MEMORY_BLOCKS,
    SPOOL_BLOCK_SIZE,
    Spool,
    SpoolStream,
    default_folder,
    fill,
)


def browse(
    backup: OpenedBackup,
    name: str,
    *,
    partition: int | None = None,
    spool: str | os.PathLike[str] | None = None,
    progress: OnProgress | None = None,
) -> Image:
    """Spools an image of a backup, and opens the file system in it.

    The image is parsed only after its end was verified.

    Args:
        backup: the backup.
        name: ``QUBE/FILE``, or its path in the archive.
        partition: number of the partition with ``/``; default: chosen by `open_image`.
        spool: folder for large images; default: the system's folder for temporary files.
        progress: called after every chunk.

    Raises:
        NotInBackup: there is no such image.
        UsageError: the file is a folder archive, whose files need no image to be opened.
        Damaged: the image is not whole, or its file system makes no sense.
        UnsupportedFormat: there is no ext4 in the image.
        MachineError: there is no room for the image.
    """
    file = backup.qubes.file(name)
    total: int | None = None
    if backup.source.seekable:
        backup.prefetch.expect(file.stored.chunk_count)
        total = file.stored.stored_size
    if file.is_folder:
        raise UsageError(
            "this is a folder, not a disk image; restore the folder to get its files",
            file=display(file.name),
        )
    if total is not None and file.least_size > MEMORY_BLOCKS * SPOOL_BLOCK_SIZE:
        _check_space(spool if spool is not None else default_folder(), file.least_size)
    held = Spool(spool, MEMORY_BLOCKS)
    counted = _CountedReader(file.name, total, progress)
    try:
        with file.naming_errors(), closing(file.decode(on_chunk=counted)) as inner:
            size = fill(held, file.content(inner).extents())
            file.finish(inner)
    except BaseException:
        held.close()
        raise
    stream = cast(BinaryIO, SpoolStream(held, size))
    with file.naming_errors():
        return open_image(stream, partition=partition, limits=backup.limits)


def _check_space(folder: str | os.PathLike[str], needed: int) -> None:
    """Raises MachineError if the folder has less room than the image needs at least."""
    where = display(os.fspath(folder))
    try:
        state = os.statvfs(folder)
    except OSError as error:
        raise MachineError(f"can't keep the image in {where}: {error.strerror}") from error
    if state.f_bavail * state.f_frsize < needed:
        raise MachineError(
            f"there is no room for the image in {where}: it has at least {needed} bytes;"
            " another folder can be named with --spool DIR"
        )


class _CountedReader:
    """Function that turns the sizes of chunks into progress."""

    def __init__(self, name: str, total: int | None, progress: OnProgress | None) -> None:
        self._name = name
        self._total = total
        self._progress = progress
        self._done = 0

    def __call__(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(Progress(self._done, self._total, self._name))
