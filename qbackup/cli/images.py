"""Paths inside disk images, of a backup or restored, for `ls`, `cp` and `cat`."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from qbackup.archive.archive import BackupArchive
from qbackup.base.errors import Damaged, NotInImage, Unreadable, UsageError
from qbackup.base.names import decode, display
from qbackup.cli import output, partitions
from qbackup.cli.progress import human_size
from qbackup.cli.report import print_errors, print_warnings, shown_progress
from qbackup.cli.unlocked import unlocked
from qbackup.image.image import Image
from qbackup.image.open import open_image
from qbackup.image.spool import MEMORY_BLOCKS, SPOOL_BLOCK_SIZE, default_folder

_PRIVATE = "private.img"
#: Where a qube sees parts of its private image, and where they are in there.
_MOUNTS = (("/rw", ""), ("/usr/local", "/usrlocal"))

Work: TypeAlias = Callable[[Image, str], int]


@dataclass(frozen=True)
class ImagePlace:
    """A path in an image.

    Args:
        image: ``QUBE/FILE`` in a backup, or the path of an image.
        path: in the image.
        qube: None for an image that is no backup's.
        is_named: the image was named, and not only its qube.
    """

    image: str
    path: str
    qube: str | None = None
    is_named: bool = True


def place_of(backup: str, name: str | None) -> ImagePlace:
    """The place that is asked for.

    Args:
        backup: a backup; an image where there is no name.
        name: ``QUBE:/path`` or ``QUBE/FILE:/path``; None for an image.

    Raises:
        UsageError: the arguments name no place in an image.
    """
    if name is None:
        return _place_in_file(backup)
    qube, colon, path = name.partition(":/")
    if not colon or not qube:
        raise UsageError(f"{display(name)}: write QUBE:/path, e.g. vault:/home/user")
    if qube == "dom0":
        raise UsageError(
            "dom0 has no image: qbackup ls BACKUP dom0 lists its home; restore makes a folder of it"
        )
    is_named = "/" in qube
    image = qube if is_named else f"{qube}/{_PRIVATE}"
    return ImagePlace(image, f"/{path}", qube.partition("/")[0], is_named)


def _place_in_file(text: str) -> ImagePlace:
    """``IMAGE:/path``, or an image for all of it; the first ``:/`` behind a file's name counts."""
    at = -1
    while (at := text.find(":/", at + 1)) >= 0:
        if os.path.exists(text[:at]):
            return ImagePlace(text[:at], decode(os.fsencode(text[at + 1 :])))
    if os.path.exists(text):
        return ImagePlace(text, "/")
    raise UsageError(f"there is no image {display(text.partition(':/')[0])}")


def run_in_image(options: argparse.Namespace, place: ImagePlace, work: Work, *, below: bool) -> int:
    """Opens the image and does a command's work in it; returns the exit status.

    Args:
        options: of the command line.
        place: the image, and the path in it.
        work: called with the image and the path as the image has it.
        below: the work goes into folders below the path.
    """
    if place.qube is None:
        with open_image(place.image, partition=options.partition, limits=options.limits) as image:
            return _run(image, options, place, work, below=below)
    with unlocked(options) as archive:
        with _browse(archive, options, place) as image:
            status = _run(image, options, place, work, below=below)
        print_warnings(archive.warnings)
        return max(status, print_errors(archive.salvaged))


def _browse(archive: BackupArchive, options: argparse.Namespace, place: ImagePlace) -> Image:
    """Reads an image of a backup to its end, after a message about what that takes."""
    with shown_progress(quiet=options.quiet) as progress:
        size = _expected_size(archive, place)
        if not options.quiet:
            output.print_message(_announcement(place, options.spool, size))
        return archive.browse(
            place.image, partition=options.partition, spool=options.spool, progress=progress
        )


def _expected_size(archive: BackupArchive, place: ImagePlace) -> int:
    """Bytes of data in the image, as far as is known: at most what the qube takes."""
    stored = archive.file(place.image).stored_size if archive.is_seekable else 0
    sizes: list[int | None] = []
    with contextlib.suppress(Damaged, Unreadable):  # files then go by their paths in the archive
        sizes = [qube.size for qube in archive.qubes if qube.name == place.qube]
    return max([stored, *(size for size in sizes if size)])


def _announcement(place: ImagePlace, spool: str | None, size: int) -> str:
    where = display(spool if spool is not None else default_folder())
    text = f"{display(place.image)} is read to its end and verified first"
    if not size:
        return f"{text}, and kept in {where} meanwhile, encrypted, if it is large"
    if size <= MEMORY_BLOCKS * SPOOL_BLOCK_SIZE:
        return f"{text}; it is small and stays in memory"
    return (
        f"{text}, and kept in {where} meanwhile, encrypted: about {human_size(size)}"
        " (--spool DIR names another folder)"
    )


def _run(
    image: Image, options: argparse.Namespace, place: ImagePlace, work: Work, *, below: bool
) -> int:
    before = image.warnings
    print_warnings(before)
    if not options.quiet:
        partitions.print_partitions(image)
    try:
        path = _seen_from_qube(image, place)
        status = work(image, path)
        print_warnings([warning for warning in image.warnings if warning not in before])
        for note in mount_notes(image, path, below=below):
            output.print_message(f"note: {note}")
        return status
    except NotInImage as error:
        if place.qube is not None and not place.is_named:
            error.reason += (
                f" (this is {display(place.image)};"
                f" what is not in a qube's home may be in {display(place.qube)}/root.img)"
            )
        raise


def _seen_from_qube(image: Image, place: ImagePlace) -> str:
    """The path in the image for a path in the qube, which sees its private image as /rw."""
    if place.qube is None or place.is_named:
        return place.path
    for mount, folder in _MOUNTS:
        if place.path == mount or place.path.startswith(mount + "/"):
            try:
                image.stat(mount)
            except NotInImage:
                return folder + place.path[len(mount) :] or "/"
    return place.path


def mount_notes(image: Image, path: str, *, below: bool) -> tuple[str, ...]:
    """Sentences on mounts that are not followed at the path; on those below it, if asked for."""
    return image.notes(image.stat(path).path, below=below)


def doubts_about(image: Image) -> list[str]:
    """The reasons why an image may not show everything that was in it."""
    doubts = [] if image.doubt is None else [image.doubt]
    return doubts if image.obstacle is None else [*doubts, image.obstacle]
