"""`qbackup completion`: prints what a shell reads to complete arguments."""

from __future__ import annotations

import argparse

from qbackup.cli import output
from qbackup.cli.exit_status import EXIT_OK

EXAMPLES = """\
  eval "$(qbackup completion bash)"          in ~/.bashrc
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's argument to its parser."""
    parser.add_argument(
        "shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"
    )


def run(options: argparse.Namespace) -> int:
    """Prints the completions; returns the exit status."""
    from qbackup.cli.shell import completions

    output.print_result(completions(options.shell).rstrip("\n"))
    return EXIT_OK
