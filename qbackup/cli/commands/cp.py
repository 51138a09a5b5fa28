"""`qbackup cp`: copies files and folders out of a disk image."""

from __future__ import annotations

import argparse
import functools
import os

from qbackup.base.errors import UsageError
from qbackup.cli import output
from qbackup.cli.arguments import (
    add_backup,
    add_common,
    add_image_options,
    add_passphrase,
    name_argument,
)
from qbackup.cli.exit_status import EXIT_INCOMPLETE, EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.cli.documents import Document
    from qbackup.image.copying import CopyReport
    from qbackup.image.image import Image

EXAMPLES = """\
  qbackup cp BACKUP vault:/home/user/Documents .
  qbackup cp restored/vault/private.img:/home/user/keys.kdbx keys.kdbx

modes, times, links and holes are kept; owners, extended attributes and ACLs are not,
and setuid and setgid bits are dropped; devices, pipes and sockets are left out and noted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    add_backup(parser, or_image=True)
    parser.add_argument(
        "name",
        metavar="QUBE:/path",
        nargs="?",
        type=name_argument,
        help="a file or folder in the qube's private image; QUBE/root.img:/path: in another image",
    )
    parser.add_argument(
        "destination", metavar="DEST", nargs="?", help="a folder to copy into, or a new name"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a file, or a whole folder, that already has the name",
    )
    add_image_options(parser)
    add_passphrase(parser)
    add_common(parser, json=True)


def run(options: argparse.Namespace) -> int:
    """Copies; returns the exit status."""
    from qbackup.cli.images import place_of, run_in_image

    name, destination = _name_and_destination(options)
    work = functools.partial(_copy, options=options, destination=destination)
    return run_in_image(options, place_of(options.backup, name), work, below=True)


def _name_and_destination(options: argparse.Namespace) -> tuple[str | None, str]:
    """The path in a backup, None in ``cp IMAGE:/path DEST``; then DEST.

    Raises:
        UsageError: there is no DEST.
    """
    from qbackup.base.names import encode
    from qbackup.storage.url import is_url

    backup, name = options.backup, options.name
    if options.destination is not None:
        return name, options.destination
    is_forgotten = name is not None and ":/" in name and (":/" not in backup or is_url(backup))
    if name is None or is_forgotten:
        raise UsageError("name the folder to copy into: cp BACKUP QUBE:/path DEST")
    return None, os.fsdecode(encode(name))


def _copy(image: Image, path: str, *, options: argparse.Namespace, destination: str) -> int:
    from qbackup.cli.images import mount_notes
    from qbackup.cli.report import print_warnings

    report = image.copy(path, destination, overwrite=options.overwrite, check=False)
    of_image = {*image.warnings, *mount_notes(image, path, below=True)}  # printed by the caller
    print_warnings([warning for warning in report.warnings if warning not in of_image])
    if options.json:
        from qbackup.cli.documents import to_json
        from qbackup.cli.partitions import partition_documents

        document = {**_document(report), "partitions": partition_documents(image)}
        output.print_result(to_json(document))
    else:
        output.print_result(_text(report))
    return EXIT_OK if report.ok else EXIT_INCOMPLETE


def _document(report: CopyReport) -> Document:
    from qbackup.base.names import decode, json_name
    from qbackup.cli.documents import report_document

    return {
        **report_document(report),
        "written": json_name(decode(os.fsencode(report.written)))["name"],
        "file_count": report.file_count,
        "folder_count": report.folder_count,
        "link_count": report.link_count,
        **_marks(report),
    }


def _marks(report: CopyReport) -> Document:
    """The counts of a damaged image whose lost bytes are known."""
    if report.hit_count is None:
        return {}
    return {"whole_count": report.whole_count, "hit_count": report.hit_count}


def _text(report: CopyReport) -> str:
    """The report for people: everything that is lost, then the sum of what was copied."""
    from qbackup.base.names import decode, display
    from qbackup.cli.marks import sum_of
    from qbackup.cli.progress import human_size

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
    if report.hit_count is not None:
        made += f"; {sum_of(report.whole_count or 0, report.hit_count)}"
    is_hit = bool(lost) and len(lost) == report.hit_count
    bad = "NOT EVERYTHING IS WHOLE." if is_hit else "NOT EVERYTHING WAS COPIED."
    return "\n".join([*lines, f"{bad} Copied: {made}." if lost else f"Copied {made}."])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
