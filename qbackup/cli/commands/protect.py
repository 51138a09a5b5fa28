"""`qbackup protect`: keeps a good backup's front and recovery blocks beside it."""

from __future__ import annotations

import argparse

from qbackup.base.errors import UsageError
from qbackup.cli import output
from qbackup.cli.arguments import add_limit, add_quiet, percent
from qbackup.cli.exit_status import EXIT_INCOMPLETE, EXIT_OK

EXAMPLES = """\
  qbackup protect BACKUP                     when a backup was made and verified
  qbackup protect BACKUP --redundancy 10     for a disk that is not to be trusted
  qbackup protect --repair BACKUP -o BACKUP.repaired

no passphrase is needed: what is kept are bytes of the backup as they are
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    parser.add_argument(
        "backup", metavar="BACKUP", help="the backup's file, its first part, or its folder"
    )
    parser.set_defaults(json=False)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--redundancy",
        metavar="PERCENT",
        type=percent,
        default=5,
        help="length of the recovery blocks, in percent of the backup's (default: 5)",
    )
    what.add_argument(
        "--front-only", action="store_true", help="keep the front, and make no recovery blocks"
    )
    what.add_argument(
        "--repair",
        action="store_true",
        help="repair the backup with the recovery blocks beside it, into the new file that -o"
        " names; the backup itself is left as it is",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="with --repair: the new file")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the front and the recovery blocks that are there",
    )
    add_limit(parser)
    add_quiet(parser)


def run(options: argparse.Namespace) -> int:
    """Protects or repairs; returns the exit status."""
    from qbackup.cli.protect.files import local_path

    if options.repair != (options.output is not None):
        raise UsageError("--repair and -o FILE belong together: the new file is named with -o")
    path = local_path(options.backup)
    return _repair(options, path) if options.repair else _protect(options, path)


def _repair(options: argparse.Namespace, path: str) -> int:
    from qbackup.base.names import display
    from qbackup.cli.protect.program import need_par2
    from qbackup.cli.protect.repair import repair

    with output.working("repairing", quiet=options.quiet):
        is_made = repair(need_par2(), path, options.output)
    if is_made:
        shown = display(options.output)
        output.print_result(
            f"{shown}: the backup as the recovery blocks describe it, of which nothing is verified"
            f" yet. Restore from it, or see what it holds: qbackup verify {shown}"
        )
    else:
        output.print_result(
            "nothing to repair: the backup is as the recovery blocks describe it; no file was"
            " written. If verify reports damage, the backup was damaged before it was protected"
        )
    return EXIT_OK


def _protect(options: argparse.Namespace, path: str) -> int:
    """Writes the front, then the recovery blocks."""
    from qbackup.base.limits import Limits
    from qbackup.base.names import display
    from qbackup.cli.progress import human_size
    from qbackup.cli.protect.blocks import refuse_existing
    from qbackup.cli.protect.files import files_of, shown_path
    from qbackup.cli.protect.front import front_of, write_front

    files = [] if options.front_only else files_of(path)
    if not (options.front_only or options.overwrite):
        refuse_existing(path)
    data = front_of(path, options.limits or Limits())
    front = write_front(path, data, overwrite=options.overwrite)
    shown = display(shown_path(options.backup, front))
    output.print_result(f"{shown}: the backup's first {human_size(len(data))}")
    status = EXIT_OK if options.front_only else _write_blocks(options, path, files)
    output.print_result(
        "protected as it is now, good or bad: qbackup verify BACKUP shows which. Keep these files"
        " with the backup; verify and restore look for them beside it"
    )
    return status


def _write_blocks(options: argparse.Namespace, path: str, files: list[str]) -> int:
    """Makes recovery blocks where the program for that is installed; returns the exit status."""
    from qbackup.base.names import display
    from qbackup.cli.protect.blocks import write_blocks
    from qbackup.cli.protect.files import shown_path
    from qbackup.cli.protect.program import HOW_TO_GET, find_par2

    par2 = find_par2()
    if par2 is None:
        output.print_message(
            "NO RECOVERY BLOCKS were made, as the program par2 is not installed\n"
            f"what to do: {HOW_TO_GET}; then run the same command again, or add --front-only"
        )
        return EXIT_INCOMPLETE
    with output.working("making recovery blocks", quiet=options.quiet):
        made = write_blocks(par2, path, files, options.redundancy, overwrite=options.overwrite)
    for name in made:
        output.print_result(f"{display(shown_path(options.backup, name))}: recovery blocks")
    return EXIT_OK
