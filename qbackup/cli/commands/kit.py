"""`qbackup kit`: makes the folder that restores a backup with Python alone."""

from __future__ import annotations

import argparse

from qbackup.cli import output
from qbackup.cli.arguments import add_output
from qbackup.cli.exit_status import EXIT_OK

EXAMPLES = """\
  qbackup kit -o /media/usb/kit
  qbackup kit -o /media/usb/kit --no-wheels  without a network; restores take longer
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    add_output(parser)
    wheels = parser.add_mutually_exclusive_group()
    wheels.add_argument(
        "--wheels",
        metavar="FOLDER",
        help="take pycryptodome's wheels from this folder, instead of downloading them with pip",
    )
    wheels.add_argument(
        "--no-wheels",
        action="store_true",
        help="leave out everything that is compiled: the kit is smaller but slower",
    )


def run(options: argparse.Namespace) -> int:
    """Writes the kit; returns the exit status."""
    from qbackup.cli.kit.build import write_kit, write_plain_kit

    if options.no_wheels:
        folder = write_plain_kit(options.output)
    else:
        with output.working("getting wheels for other systems", quiet=False):
            folder = write_kit(options.output, options.wheels)
    output.print_result(f"{folder}: keep it beside the backup; RECOVERY.txt in it says what to do")
    return EXIT_OK
