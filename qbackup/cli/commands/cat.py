"""`qbackup cat`: the content of one file of the backup, or of a file inside an image."""

from __future__ import annotations

import argparse

from qbackup.base.errors import UsageError
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
    from typing import BinaryIO

    from qbackup.image.image import Image

EXAMPLES = """\
  qbackup cat BACKUP personal/firewall.xml
  qbackup cat BACKUP vault:/home/user/keys.kdbx > keys.kdbx
"""

_COPY_SIZE = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    add_backup(parser, or_image=True)
    parser.add_argument(
        "name",
        metavar="QUBE/FILE",
        nargs="?",
        type=name_argument,
        help="a file of the backup, or qubes.xml; QUBE:/path is a file inside the qube's private"
        " image",
    )
    add_image_options(parser)
    add_passphrase(parser)
    add_common(parser, json=False)


def run(options: argparse.Namespace) -> int:
    """Prints the content; returns the exit status.

    Raises:
        UsageError: no file is named.
    """
    if options.name is None and ":/" not in options.backup:
        raise UsageError(
            "the following arguments are required: QUBE/FILE, or QUBE:/path"
            " (see: qbackup cat --help)"
        )
    if options.name is None or ":/" in options.name:
        from qbackup.cli.images import place_of, run_in_image

        place = place_of(options.backup, options.name)
        return run_in_image(options, place, _print_from_image, below=False)
    return _print_file(options)


def _print_file(options: argparse.Namespace) -> int:
    from qbackup.base.names import METADATA_PATH
    from qbackup.cli.report import print_errors, print_warnings
    from qbackup.cli.unlocked import unlocked

    with unlocked(options) as archive:
        if options.name == METADATA_PATH:
            output.copier()(archive.metadata)
        else:
            with archive.open(options.name) as stream:
                _copy(stream)
        print_warnings(archive.warnings)
        return print_errors(archive.salvaged)


def _print_from_image(image: Image, path: str) -> int:
    from qbackup.cli.images import doubts_about
    from qbackup.cli.marks import content_errors
    from qbackup.cli.report import print_errors

    with image.open(path) as stream:
        _copy(stream)
    return print_errors([*content_errors(image, path), *doubts_about(image)])


def _copy(stream: BinaryIO) -> None:
    copy = output.copier()
    while data := stream.read(_COPY_SIZE):
        copy(data)
