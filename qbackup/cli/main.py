"""``qbackup``: arguments in, exit status out. The work is the library's."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from qbackup.base.children import take_secrets
from qbackup.base.errors import MachineError, QBackupError
from qbackup.cli import commands, output, signals
from qbackup.cli.exit_status import EXIT_OUTPUT_CLOSED
from qbackup.cli.failure import report_failure, report_signal
from qbackup.cli.json_stream import JsonStream
from qbackup.cli.options import parse


def main(arguments: Sequence[str] | None = None, *, held: Sequence[int] = ()) -> int:
    """Runs the command line; returns the exit status, whatever happens.

    Args:
        arguments: None means the program's own, which ends after this.
        held: numbers of signals that came before, while this was being loaded.
    """
    is_program = arguments is None
    if is_program:
        _forbid_core_dumps()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    output.replace_closed_streams()
    document = JsonStream()
    with _requests_ended(is_program=is_program), signals.unwinding(is_program=is_program):
        try:
            for number in held:
                signal.raise_signal(number)
            return _run(arguments, document)
        except (KeyboardInterrupt, signals.Terminated) as end:
            return report_signal(arguments, end, document)
        except BrokenPipeError:
            return EXIT_OUTPUT_CLOSED
        except RuntimeError as error:  # a lock that a signal found half taken
            if not isinstance(error.__context__, KeyboardInterrupt | signals.Terminated):
                raise
            return report_signal(arguments, error.__context__, document)


@contextlib.contextmanager
def _requests_ended(*, is_program: bool) -> Iterator[None]:
    """Ends all requests to servers behind this context, where the program ends after it."""
    try:
        yield
    finally:
        if is_program and (url := sys.modules.get("qbackup.storage.url")) is not None:
            url.end_requests()


def _forbid_core_dumps() -> None:
    """Keeps a crash from writing this process's memory, with passphrase and keys, to a disk."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _run(arguments: list[str], document: JsonStream) -> int:
    try:
        status = _run_command(arguments, document)
        output.flush()
    except QBackupError as error:
        return report_failure(arguments, error, document)
    except MemoryError:
        return report_failure(arguments, MachineError("out of memory"), document)
    except BrokenPipeError:
        raise
    except (OSError, ImportError, SystemError) as error:
        # a module that can't be loaded for want of memory, of which Python may have lost the error
        failure = MachineError(f"this machine failed: {error}")
        return report_failure(arguments, failure, document)
    return status


def _run_command(arguments: list[str], document: JsonStream) -> int:
    environment = take_secrets(os.environ)  # of every command: some need no passphrase
    try:
        options = parse(arguments)
    except SystemExit as end:  # argparse after --help and --version
        return int(end.code or 0)
    options.document = document
    options.environment = environment
    return commands.load(options.command).run(options)
