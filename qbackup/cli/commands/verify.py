"""`qbackup verify`: everything that `restore` does, but for the writing."""

from __future__ import annotations

import argparse

from qbackup.cli.arguments import add_backup, add_common, add_dask, add_names, add_passphrase

EXAMPLES = """\
  qbackup verify BACKUP                      is all of it good?
  qbackup verify BACKUP personal             one qube
  qbackup verify BACKUP --salvage            even if its beginning is damaged
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    add_backup(parser)
    add_names(parser)
    add_dask(parser)
    add_passphrase(parser)
    add_common(parser, json=True)


def run(options: argparse.Namespace) -> int:
    """Verifies; returns the exit status."""
    from qbackup.cli.report import print_report, shown_progress
    from qbackup.cli.unlocked import unlocked

    with (
        unlocked(options, whole=not options.names) as archive,
        shown_progress(quiet=options.quiet) as progress,
    ):
        report = archive.verify(options.names, progress=progress, check=False)
        return print_report(options, report, progress)
