"""Reports of a command that failed or that a signal ended: as text, and in JSON where asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from qbackup.base.errors import MachineError, QBackupError
from qbackup.cli import output, signals
from qbackup.cli.commands import results_of, writes_files
from qbackup.cli.exit_status import EXIT_INTERRUPTED, EXIT_SIGNAL, exit_status


def wants_json(arguments: Sequence[str]) -> bool:
    """Tells if ``--json`` is given, even where the arguments can't be parsed."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def report_failure(arguments: Sequence[str], error: QBackupError) -> int:
    """Reports the error that ended a command; returns the exit status."""
    if wants_json(arguments):
        from qbackup.cli.documents import error_document, to_json

        output.print_result(to_json(error_document(error, results_of(arguments[0]))))
    if isinstance(error, MachineError) and error.report is not None:
        from qbackup.cli.report import print_warnings, report_text

        print_warnings(error.report.warnings)
        output.print_message(report_text(error.report, stopped=True))
    output.print_message(f"qbackup: {error}")
    if error.advice:
        output.print_message(f"  {error.advice}")
    return exit_status(error)


def report_signal(arguments: Sequence[str], end: BaseException) -> int:
    """Reports the signal that ended a command; returns the exit status."""
    how, status = "interrupted", EXIT_INTERRUPTED
    if isinstance(end, signals.Terminated):
        how, status = "terminated", EXIT_SIGNAL + end.number
    with contextlib.suppress(BrokenPipeError, QBackupError):
        if wants_json(arguments):
            from qbackup.cli.documents import ended_document, to_json

            output.print_result(to_json(ended_document(how, results_of(arguments[0]))))
        rest = ""
        if arguments and writes_files(arguments[0]):
            rest = "; no half-written file was left under a final name"
        output.print_message(f"qbackup: {how}{rest}")
    return status
