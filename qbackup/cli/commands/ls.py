"""`qbackup ls`: lists files inside disk images, and in folder archives of a backup."""

from __future__ import annotations

import argparse
import functools
import itertools
import stat
from collections.abc import Iterator

from qbackup.cli import output
from qbackup.cli.arguments import (
    add_backup,
    add_common,
    add_image_options,
    add_passphrase,
    name_argument,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.base.errors import QBackupError
    from qbackup.cli.documents import Document
    from qbackup.cli.marks import Marks
    from qbackup.image.faults import OnError
    from qbackup.image.image import Image
    from qbackup.image.node import Node

EXAMPLES = """\
  qbackup ls BACKUP vault:/home/user
  qbackup ls BACKUP work/root.img:/etc       another image of a qube
  qbackup ls BACKUP dom0/user                a folder that was backed up as a folder
  qbackup ls restored/vault/private.img:/    an image that was restored
"""

_LINES_AT_ONCE = 500
_FAULTS_LIMIT = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    add_backup(parser, or_image=True)
    parser.add_argument(
        "name",
        metavar="QUBE:/path",
        nargs="?",
        type=name_argument,
        help="a path in the qube's private image; QUBE/root.img:/path: in another image; QUBE or"
        " QUBE/FOLDER: a folder that was backed up as a folder",
    )
    parser.add_argument(
        "-R", "--recursive", action="store_true", help="list everything below the path"
    )
    add_image_options(parser)
    add_passphrase(parser)
    add_common(parser, json=True)


def run(options: argparse.Namespace) -> int:
    """Prints the list; returns the exit status."""
    if options.name is not None and ":/" not in options.name:
        return _list_folder(options)
    from qbackup.cli.images import place_of, run_in_image

    place = place_of(options.backup, options.name)
    work = functools.partial(_list_image, options=options)
    return run_in_image(options, place, work, below=options.recursive)


def _list_folder(options: argparse.Namespace) -> int:
    from qbackup.cli.folder_listing import print_folder
    from qbackup.cli.report import print_errors, print_warnings
    from qbackup.cli.unlocked import unlocked

    with unlocked(options) as archive:
        status = print_folder(archive, options)
        print_warnings(archive.warnings)
        return max(status, print_errors(archive.salvaged))


def _list_image(image: Image, path: str, *, options: argparse.Namespace) -> int:
    from qbackup.cli.images import doubts_about
    from qbackup.cli.marks import Marks
    from qbackup.cli.report import print_errors

    faults, marks = _Faults(), Marks(image)
    if options.recursive:
        nodes = image.walk(path, on_error=faults)
    else:
        nodes = image.list(path, on_error=faults)
    if options.json:
        _write_document(image, path, nodes, faults, marks, options=options)
    else:
        _print_lines(_line(image, node, options.recursive, faults, marks) for node in nodes)
        marks.print_sum()
    return print_errors([*doubts_about(image), *faults.texts, *marks.errors])


def _write_document(
    image: Image,
    path: str,
    nodes: Iterator[Node],
    faults: _Faults,
    marks: Marks,
    *,
    options: argparse.Namespace,
) -> None:
    from qbackup.cli.documents import with_errors
    from qbackup.cli.images import doubts_about, mount_notes
    from qbackup.cli.partitions import partition_documents

    def rest() -> Document:
        notes = mount_notes(image, path, below=options.recursive)
        values: Document = {
            "partitions": partition_documents(image),
            "warnings": [*image.warnings, *notes],
        }
        if marks.is_used:
            values |= {"whole_count": marks.whole_count, "hit_count": marks.hit_count}
        return with_errors(values, [*doubts_about(image), *faults.texts, *marks.errors])

    entries = (_entry_document(image, node, faults, marks) for node in nodes)
    options.document.write("entries", entries, rest)


def _print_lines(lines: Iterator[str]) -> None:
    """Prints many lines at once, as each call waits for the reader of the output."""
    while some := list(itertools.islice(lines, _LINES_AT_ONCE)):
        output.print_result("\n".join(some))


def _line(image: Image, node: Node, full: bool, note: OnError, marks: Marks) -> str:
    """A line as `ls -l` writes it: mode, owner, group, length, time, name."""
    from qbackup.base.names import display
    from qbackup.cli.folder_listing import local_time
    from qbackup.cli.marks import MARK

    mode = stat.filemode(node.stat.type_bits | node.stat.mode)
    name = display(node.path if full or not node.name else node.name)
    if node.kind == "symlink" and (target := _target(image, node, note)) is not None:
        name += f" -> {display(target)}"
    owner = f"{node.stat.uid:5} {node.stat.gid:5}"
    if marks.is_hit(node):
        name += MARK
    return f"{mode} {owner} {node.size:12} {local_time(node.stat.mtime_ns)} {name}"


def _target(image: Image, node: Node, note: OnError) -> str | None:
    from qbackup.image.faults import ENTRY_ERRORS

    try:
        return image.link_of(node)
    except ENTRY_ERRORS as error:
        note(node.path, error)
        return None


def _entry_document(image: Image, node: Node, note: OnError, marks: Marks) -> Document:
    from qbackup.cli.documents import named

    document: Document = {
        **named("path", node.path),
        "kind": node.kind,
        "size": node.size,
        "mode": f"{node.stat.mode:04o}",
        "uid": node.stat.uid,
        "gid": node.stat.gid,
        "links": node.stat.links,
        "mtime_ns": node.stat.mtime_ns,
    }
    if node.kind == "symlink" and (target := _target(image, node, note)) is not None:
        document |= named("target", target)
    if marks.is_used:
        document["hit"] = marks.is_hit(node)
    return document


class _Faults:
    """Sentences on entries that can't be read; not more than people want to read."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._count = 0

    def __call__(self, path: str, error: QBackupError) -> None:
        """Notes the fault of one entry, as `Image.list` reports it, while there is room."""
        from qbackup.base.names import display

        self._count += 1
        if self._count <= _FAULTS_LIMIT:
            self.texts.append(f"{display(path)}: {error.reason}")
        elif self._count == _FAULTS_LIMIT + 1:
            self.texts.append("more follow, which are left out")
