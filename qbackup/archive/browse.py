"""A backup's image, opened for its files: read to its end and verified first, then looked at."""

from __future__ import annotations

import os
from contextlib import closing
from typing import BinaryIO, cast

from qbackup.archive.file import BackupFile
from qbackup.base.errors import MachineError, UsageError
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.base.report import OnProgress, Progress
from qbackup.image.open import open_image
from qbackup.image.spool import BLOCK_SIZE, MEMORY_BLOCKS, Spool, SpoolStream, default_folder, fill
from qbackup.image.tree import Image


def browse(
    file: BackupFile,
    *,
    partition: int | None = None,
    spool: str | os.PathLike[str] | None = None,
    limits: Limits,
    total: int | None = None,
    progress: OnProgress | None = None,
) -> Image:
    """Spools an image of a backup, and opens the file system in it.

    Nothing of it is looked at before its end was proven.

    Args:
        file: the image.
        partition: see `open_image`.
        spool: folder for what does not stay in memory; default: the system's for such files.
        limits: bounds on what it may ask for.
        total: stored bytes of the image, where they are known before.
        progress: called after every chunk.

    Raises:
        UsageError: it is a folder archive, whose files need no image to be opened.
        Damaged: it is not whole, or its file system makes no sense.
        UnsupportedFormat: there is no ext4 in it.
        MachineError: there is no room for it.
    """
    if file.is_folder:
        raise UsageError(
            "it is a folder and no disk image: restore it, and its files are there",
            file=display(file.name),
        )
    reader = file.reader
    if total is not None and reader.least_size > MEMORY_BLOCKS * BLOCK_SIZE:
        _check_space(spool if spool is not None else default_folder(), reader.least_size)
    held = Spool(spool, MEMORY_BLOCKS)
    counted = _CountedReader(file.name, total, progress)
    try:
        with reader.naming_errors(), closing(reader.decode(on_chunk=counted)) as inner:
            size = fill(held, reader.content(inner).extents())
            reader.finish(inner)
    except BaseException:
        held.close()
        raise
    stream = cast(BinaryIO, SpoolStream(held, size))
    with reader.naming_errors():
        return open_image(stream, partition=partition, limits=limits)


def _check_space(folder: str | os.PathLike[str], needed: int) -> None:
    """No filter makes an image much larger than it is."""
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
    """Turns the sizes of chunks into progress."""

    def __init__(self, name: str, total: int | None, progress: OnProgress | None) -> None:
        self._name = name
        self._total = total
        self._progress = progress
        self._done = 0

    def __call__(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(Progress(self._done, self._total, self._name))
