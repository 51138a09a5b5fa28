"""Reports of a command that failed or that a signal ended: as text, and in JSON where asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from qbackup.base.errors import MachineError, QBackupError
from qbackup.cli import output, signals
from qbackup.cli.commands import results_of, writes_files
from qbackup.cli.exit_status import EXIT_INTERRUPTED, EXIT_SIGNAL, exit_status
from qbackup.cli.json_stream import JsonStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.cli.documents import Document


def wants_json(arguments: Sequence[str]) -> bool:
    """Tells if ``--json`` is given, even where the arguments can't be parsed."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def report_failure(arguments: Sequence[str], error: QBackupError, document: JsonStream) -> int:
    """Reports the error that ended a command; returns the exit status.

    Args:
        arguments: of the command line.
        error: the reason.
        document: that the command has begun, if it has begun one.
    """
    if wants_json(arguments):
        from qbackup.cli.documents import error_document

        _finish(document, lambda results: error_document(error, results), arguments)
    if isinstance(error, MachineError) and error.report is not None:
        from qbackup.cli.report import print_warnings, report_text

        print_warnings(error.report.warnings)
        output.print_message(report_text(error.report, stopped=True))
    output.print_message(f"qbackup: {error}")
    if error.advice:
        output.print_message(f"  {error.advice}")
    return exit_status(error)


def report_signal(arguments: Sequence[str], end: BaseException, document: JsonStream) -> int:
    """Reports the signal that ended a command; returns the exit status.

    Args:
        arguments: of the command line.
        end: the exception that the signal became.
        document: that the command has begun, if it has begun one.
    """
    how, status = "interrupted", EXIT_INTERRUPTED
    if isinstance(end, signals.Terminated):
        how, status = "terminated", EXIT_SIGNAL + end.number
    with contextlib.suppress(BrokenPipeError, QBackupError):
        if wants_json(arguments):
            from qbackup.cli.documents import ended_document

            _finish(document, lambda results: ended_document(how, results), arguments)
        rest = ""
        if arguments and writes_files(arguments[0]):
            rest = "; no half-written file was left under a final name"
        output.print_message(f"qbackup: {how}{rest}")
    return status


def _finish(
    document: JsonStream, make: Callable[[str], Document], arguments: Sequence[str]
) -> None:
    """Writes the document of a failed command, or the rest of the one that the command has begun.

    Args:
        document: that may be begun.
        make: gives the failure's values; called with the key of the command's list, or with "".
        arguments: of the command line.
    """
    if document.is_begun:
        document.end(make(""))
    else:
        from qbackup.cli.documents import to_json

        output.print_result(to_json(make(results_of(arguments[0]))))
