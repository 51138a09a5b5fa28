"""`qbackup restore`: writes the files of qubes into a folder."""

from __future__ import annotations

import argparse

from qbackup.cli.arguments import (
    add_backup,
    add_common,
    add_dask,
    add_names,
    add_output,
    add_passphrase,
)

EXAMPLES = """\
  qbackup restore BACKUP -o restored         all of it; interrupted? start it again
  qbackup restore BACKUP personal -o DIR     one qube
  qbackup restore BACKUP vault/private.img -o DIR
  qbackup restore BACKUP -o DIR --keep-damaged

each file becomes DIR/QUBE/FILE
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    add_backup(parser)
    add_names(parser)
    add_dask(parser)
    add_output(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files, and whole folders, that are already there and differ",
    )
    parser.add_argument(
        "--keep-damaged",
        action="store_true",
        help="keep what could be verified of a damaged file, as NAME.damaged",
    )
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="last resort, with --keep-damaged: keep what nothing proves of a damaged file, as"
        " NAME.unverified; whoever held the disk may have chosen these bytes (format 4 only)",
    )
    add_passphrase(parser)
    add_common(parser, json=True)


def run(options: argparse.Namespace) -> int:
    """Restores; returns the exit status."""
    from qbackup.cli.report import EarlyWarnings, print_report, shown_progress
    from qbackup.cli.unlocked import unlocked

    with (
        unlocked(options, whole=not options.names) as archive,
        shown_progress(quiet=options.quiet) as progress,
    ):
        warnings = EarlyWarnings(lambda: archive.warnings, progress)
        report = archive.restore(
            options.output,
            options.names,
            overwrite=options.overwrite,
            keep_damaged=options.keep_damaged,
            unverified=options.unverified,
            progress=warnings,
            check=False,
        )
        return print_report(options, report, progress, warnings.printed)
