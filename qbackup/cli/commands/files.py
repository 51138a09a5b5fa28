"""Files inside images: `ls`, `cp` and `cat`, from a backup or from an image that was restored."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qbackup.archive.archive import BackupArchive
from qbackup.base.errors import Damaged, NotInImage, QBackupError, Unreadable, UsageError
from qbackup.base.names import decode, display, encode, json_name
from qbackup.cli import output, show
from qbackup.cli.commands import disks
from qbackup.cli.progress import ShowsProgress, human_size
from qbackup.image.copying import CopyReport
from qbackup.image.faults import ENTRY_ERRORS, REMAINS, OnError
from qbackup.image.image import Image
from qbackup.image.node import Node
from qbackup.image.open import open_image
from qbackup.image.spool import MEMORY_BLOCKS, SPOOL_BLOCK_SIZE, default_folder
from qbackup.storage.url import is_url

_COPY_SIZE = 1 << 20
_LINES_AT_ONCE = 500
_FAULTS_LIMIT = 100
_PRIVATE = "private.img"
#: Where a qube sees parts of its private image, and where they are in there.
_MOUNTS = (("/rw", ""), ("/usr/local", "/usrlocal"))


@dataclass(frozen=True)
class ImagePlace:
    """A path in an image.

    Args:
        image: ``QUBE/FILE`` in a backup, or the path of an image.
        path: in it.
        qube: None for an image that is no backup's.
        is_named: whether the image was named, and not only its qube.
    """

    image: str
    path: str
    qube: str | None = None
    is_named: bool = True


def is_place(options: argparse.Namespace) -> bool:
    """Whether `cat` is asked for a file inside an image."""
    return options.name is None or ":/" in options.name


def place_of(options: argparse.Namespace) -> ImagePlace:
    """What was asked for.

    Raises:
        UsageError: it makes no sense.
    """
    backup, name = options.backup, options.name
    if options.command == "cp" and options.destination is None:  # cp IMAGE:/path DEST
        is_forgotten = name is not None and ":/" in name and (":/" not in backup or is_url(backup))
        if name is None or is_forgotten:
            raise UsageError("say where to copy to: cp BACKUP QUBE:/path DEST")
        options.destination, name = os.fsdecode(encode(name)), None
    if name is None:
        return _in_file(backup)
    qube, colon, path = name.partition(":/")
    if not colon or not qube:
        raise UsageError(f"{display(name)}: write QUBE:/path, e.g. vault:/home/user")
    if qube == "dom0":
        raise UsageError("dom0 has no image: restore it, and its home is a folder")
    is_named = "/" in qube
    image = qube if is_named else f"{qube}/{_PRIVATE}"
    return ImagePlace(image, f"/{path}", qube.partition("/")[0], is_named)


def _in_file(text: str) -> ImagePlace:
    """``IMAGE:/path``, or an image for all of it; the first ``:/`` behind a file's name counts."""
    at = -1
    while (at := text.find(":/", at + 1)) >= 0:
        if os.path.exists(text[:at]):
            return ImagePlace(text[:at], decode(os.fsencode(text[at + 1 :])))
    if os.path.exists(text):
        return ImagePlace(text, "/")
    raise UsageError(f"there is no image {display(text.partition(':/')[0])}")


def in_image(options: argparse.Namespace, place: ImagePlace) -> int:
    """The command on an image that is no backup's."""
    with open_image(place.image, partition=options.partition, limits=options.limits) as image:
        return run(image, options, place)


def browse(
    archive: BackupArchive,
    options: argparse.Namespace,
    place: ImagePlace,
    progress: ShowsProgress | None,
) -> Image:
    """Spools the image, after saying what that takes."""
    size = _expected_size(archive, place)
    if not options.quiet:
        output.say(_announcement(place, options.spool, size))
    return archive.browse(
        place.image, partition=options.partition, spool=options.spool, progress=progress
    )


def _expected_size(archive: BackupArchive, place: ImagePlace) -> int:
    """Of the image's data in bytes, as far as that is known: what the qube takes, at most."""
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


def run(image: Image, options: argparse.Namespace, place: ImagePlace) -> int:
    """The command."""
    told = image.warnings
    _tell_warnings(told)
    if not options.quiet:
        disks.tell_partitions(image)
    try:
        path = _seen_from_qube(image, place)
        status = {"ls": _ls, "cp": _cp, "cat": _cat}[options.command](image, options, path)
        _tell_warnings([warning for warning in image.warnings if warning not in told])
        for note in _notes(image, options, path):
            output.say(f"note: {note}")
        return status
    except NotInImage as error:
        if place.qube is not None and not place.is_named:
            error.reason += (
                f" (this is {display(place.image)};"
                f" what is not in a qube's home may be in {display(place.qube)}/root.img)"
            )
        raise


def _tell_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        output.say(f"warning: {warning}")


def _notes(image: Image, options: argparse.Namespace, path: str) -> tuple[str, ...]:
    """Mounts that are not followed at the path, and below it if all of that was asked for."""
    below = options.command == "cp" or getattr(options, "recursive", False)
    return image.notes(image.stat(path).path, below=below)


def _seen_from_qube(image: Image, place: ImagePlace) -> str:
    """A qube sees its private image as /rw, and parts of it elsewhere."""
    if place.qube is None or place.is_named:
        return place.path
    for mount, folder in _MOUNTS:
        if place.path == mount or place.path.startswith(mount + "/"):
            try:
                image.stat(mount)
            except NotInImage:
                return folder + place.path[len(mount) :] or "/"
    return place.path


# The commands


def _cat(image: Image, options: argparse.Namespace, path: str) -> int:
    copy = output.copier()
    with image.open(path) as stream:
        while data := stream.read(_COPY_SIZE):
            copy(data)
    doubts = [REMAINS] if image.is_remains else []
    doubts += [] if image.obstacle is None else [image.obstacle]
    for doubt in doubts:
        output.say(f"qbackup: {doubt}")
    return 1 if doubts else 0


def _cp(image: Image, options: argparse.Namespace, path: str) -> int:
    report = image.copy(path, options.destination, overwrite=options.overwrite, check=False)
    if options.json:
        document = {**copy_document(report), "partitions": disks.partition_documents(image)}
        output.show(show.to_json(document))
    else:
        output.show(copy_text(report))
    return 0 if report.ok else 1


def copy_document(report: CopyReport) -> show.Document:
    """`cp --json`."""
    return {
        **show.report_document(report),
        "written": json_name(decode(os.fsencode(report.written)))["name"],
        "file_count": report.file_count,
        "folder_count": report.folder_count,
        "link_count": report.link_count,
    }


def copy_text(report: CopyReport) -> str:
    """`cp` for people: what is lost, then what was copied."""
    whole, *lost = report.files
    lines = [f"{display(whole.name)}: {note}" for note in whole.notes]
    lines += [
        f"{result.status.upper()}  {display(result.name)}: {result.error}"
        for result in (report.files if not whole.ok else lost)
    ]
    if not whole.ok:
        return "\n".join([*lines, "NOTHING WAS COPIED."])
    made = (
        f"{_count(report.file_count, 'file')}, {_count(report.folder_count, 'folder')},"
        f" {_count(report.link_count, 'link')}"
        f" ({human_size(whole.size)}), to {display(decode(os.fsencode(report.written)))}"
    )
    verdict = "Copied" if not lost else "NOT EVERYTHING WAS COPIED. Copied:"
    return "\n".join([*lines, f"{verdict} {made}."])


def _ls(image: Image, options: argparse.Namespace, path: str) -> int:
    faults = _Faults()
    if image.is_remains:
        faults.note(REMAINS)
    if image.obstacle is not None:
        faults.note(image.obstacle)
    if options.recursive:
        nodes = image.walk(path, on_error=faults)
    else:
        nodes = image.list(path, on_error=faults)
    if options.json:
        entries = [_entry_document(image, node, faults) for node in nodes]
        errors = {"error": "; ".join(faults.texts)} if faults.count else {}
        found = {
            "entries": entries,
            "partitions": disks.partition_documents(image),
            "warnings": [*image.warnings, *_notes(image, options, path)],
        }
        output.show(show.to_json({**found, **errors}))
    else:
        _show_lines(_line(image, node, options.recursive, faults) for node in nodes)
    for text in faults.texts:
        output.say(f"qbackup: {text}")
    return 1 if faults.count else 0


def _show_lines(lines: Iterator[str]) -> None:
    """Many at once: each call waits for the other end."""
    while some := list(itertools.islice(lines, _LINES_AT_ONCE)):
        output.show("\n".join(some))


def _line(image: Image, node: Node, full: bool, note: OnError) -> str:
    """Shows a node as `ls -l` does: mode, owner, group, length, time, name."""
    mode = stat.filemode(node.stat.type_bits | node.stat.mode)
    name = display(node.path if full or not node.name else node.name)
    if node.kind == "symlink" and (target := _target(image, node, note)) is not None:
        name += f" -> {display(target)}"
    owner = f"{node.stat.uid:5} {node.stat.gid:5}"
    return f"{mode} {owner} {node.size:12} {show.local_time(node.stat.mtime_ns)} {name}"


def _target(image: Image, node: Node, note: OnError) -> str | None:
    try:
        return image.link_of(node)
    except ENTRY_ERRORS as error:
        note(node.path, error)
        return None


def _entry_document(image: Image, node: Node, note: OnError) -> show.Document:
    """An entry of `ls --json`."""
    document: show.Document = {
        **show.named("path", node.path),
        "kind": node.kind,
        "size": node.size,
        "mode": f"{node.stat.mode:04o}",
        "uid": node.stat.uid,
        "gid": node.stat.gid,
        "links": node.stat.links,
        "mtime_ns": node.stat.mtime_ns,
    }
    if node.kind == "symlink" and (target := _target(image, node, note)) is not None:
        document |= show.named("target", target)
    return document


class _Faults:
    """What is wrong with entries, in words; not more than people want to read."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.count = 0

    def __call__(self, path: str, error: QBackupError) -> None:
        self.note(f"{display(path)}: {error.reason}")

    def note(self, text: str) -> None:
        self.count += 1
        if self.count <= _FAULTS_LIMIT:
            self.texts.append(text)
        elif self.count == _FAULTS_LIMIT + 1:
            self.texts.append("more follow, which are left out")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
