"""``qbackup``: arguments in, exit status out. Thin: what it does, the library does.

==============  ==================================================================
exit status     meaning
==============  ==================================================================
0               everything asked for is there and verified
1               done, but something is damaged, missing or in the way
2               wrong usage, or a qube that is not in the backup
3               could not be unlocked: wrong passphrase, or an altered header
4               not a backup that this program can read
5               this machine failed
130, 143, 141   interrupted, terminated, output closed
==============  ==================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Collection, Iterator, Sequence

from qbackup.base.errors import (
    Damaged,
    Incomplete,
    MachineError,
    PartitionUnreadable,
    QBackupError,
    Unlockable,
    Unreadable,
    UsageError,
)
from qbackup.cli import output, signals
from qbackup.cli.options import parse

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import BinaryIO

    from qbackup.archive.archive import BackupArchive
    from qbackup.archive.firewalls import Firewall
    from qbackup.base.report import Report
    from qbackup.cli.passphrase import Request
    from qbackup.cli.progress import ShowsProgress

EXIT_OK, EXIT_INCOMPLETE, EXIT_USAGE, EXIT_LOCKED, EXIT_UNREADABLE, EXIT_MACHINE = range(6)
EXIT_INTERRUPTED, EXIT_OUTPUT_CLOSED = 130, 141
EXIT_SIGNAL = 128  # and the signal's number: 143 for SIGTERM

_COPY_SIZE = 1 << 20

# Running a command


def main(arguments: Sequence[str] | None = None, *, held: Sequence[int] = ()) -> int:
    """Runs the command line; returns the exit status, whatever happens.

    Args:
        arguments: None means the program's own, which ends after this.
        held: numbers of signals that came before, while this was being loaded.
    """
    is_program = arguments is None
    if is_program:
        _leave_no_core()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    output.ready()
    with signals.unwinding(is_program=is_program):
        try:
            for number in held:
                signal.raise_signal(number)
            return _run(arguments)
        except (KeyboardInterrupt, signals.Terminated) as end:
            return _ended(arguments, end)
        except BrokenPipeError:
            return EXIT_OUTPUT_CLOSED
        except RuntimeError as error:  # a lock that a signal found half taken
            if not isinstance(error.__context__, KeyboardInterrupt | signals.Terminated):
                raise
            return _ended(arguments, error.__context__)


def _leave_no_core() -> None:
    """The passphrase and keys lie in this process's memory: a crash shall not write them down."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _run(arguments: list[str]) -> int:
    try:
        status = _command(arguments)
        output.flush()
    except QBackupError as error:
        return _failed(arguments, error)
    except MemoryError:
        return _failed(arguments, MachineError("out of memory"))
    except BrokenPipeError:
        raise
    except (OSError, ImportError, SystemError) as error:
        # a module that can't be loaded for want of memory, of which Python may have lost the error
        return _failed(arguments, MachineError(f"this machine failed: {error}"))
    return status


def _command(arguments: list[str]) -> int:
    try:
        options = parse(arguments)
    except SystemExit as end:  # argparse after --help and --version
        return int(end.code or 0)
    return _COMMANDS[options.command](options)


def exit_status(error: QBackupError) -> int:
    """The exit status that an error stands for."""
    for kind, status in (
        (Incomplete, EXIT_INCOMPLETE),
        (Damaged, EXIT_INCOMPLETE),
        (PartitionUnreadable, EXIT_INCOMPLETE),
        (UsageError, EXIT_USAGE),
        (Unlockable, EXIT_LOCKED),
        (Unreadable, EXIT_UNREADABLE),
    ):
        if isinstance(error, kind):
            return status
    return EXIT_MACHINE


def _wants_json(arguments: Sequence[str]) -> bool:
    """Known even when the arguments could not be parsed."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _failed(arguments: Sequence[str], error: QBackupError) -> int:
    if _wants_json(arguments):
        from qbackup.cli.show import error_document, to_json

        output.show(to_json(error_document(error, arguments[0])))
    if isinstance(error, MachineError) and error.report is not None:
        from qbackup.cli.show import report_text

        _tell_warnings(error.report.warnings)
        output.say(report_text(error.report, stopped=True))
    output.say(f"qbackup: {error}")
    if error.advice:
        output.say(f"  {error.advice}")
    return exit_status(error)


def _ended(arguments: Sequence[str], end: BaseException) -> int:
    """A signal came."""
    how, status = "interrupted", EXIT_INTERRUPTED
    if isinstance(end, signals.Terminated):
        how, status = "terminated", EXIT_SIGNAL + end.number
    with contextlib.suppress(BrokenPipeError, QBackupError):
        if _wants_json(arguments):
            from qbackup.cli.show import ended_document, to_json

            output.show(to_json(ended_document(how, arguments[0])))
        writes = arguments[:1] in (["restore"], ["cp"])
        rest = "; no half-written file was left under a final name" if writes else ""
        output.say(f"qbackup: {how}{rest}")
    return status


# The commands


@contextlib.contextmanager
def _opened(options: argparse.Namespace) -> Iterator[BackupArchive]:
    """The backup, with the cluster that helps to read it."""
    from qbackup.cli.cluster import connected

    with (
        connected(getattr(options, "dask", None)) as (executor, jobs),
        _open(options, executor, jobs) as archive,
    ):
        yield archive


def _open(
    options: argparse.Namespace, executor: Executor | None = None, executor_jobs: int | None = None
) -> BackupArchive:
    """Opens the backup; standard input when it is called ``-``."""
    from qbackup.archive.archive import BackupArchive

    source: str | BinaryIO = options.backup
    if source == "-":
        if sys.stdin.isatty():
            raise UsageError("standard input is a terminal: send the backup to it, < BACKUP")
        source = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)  # no lock at the end
    return BackupArchive(
        source,
        jobs=options.jobs,
        memory=options.memory,
        executor=executor,
        executor_jobs=executor_jobs,
        compression_filter=options.compression_filter,
        hmac_algorithm=options.hmac_algorithm,
        salvage=options.salvage,
        limits=options.limits,
    )


def _request(options: argparse.Namespace) -> Request:
    """What was said about the passphrase, checked; taken out of the environment."""
    from qbackup.cli.passphrase import Request, check, take_environment

    request = Request(
        file=options.passphrase_file,
        command=options.passphrase_command,
        environment=take_environment(os.environ),
        stdin_is_backup=options.backup == "-",
    )
    check(request)
    return request


@contextlib.contextmanager
def _unlocked(options: argparse.Namespace) -> Iterator[BackupArchive]:
    from qbackup.cli.passphrase import unlock

    request = _request(options)
    with _opened(options) as archive:
        if options.command != "script" and getattr(options, "names", None) == []:
            archive.expect_all()
        else:
            archive.expect_list()
        unlock(archive, request, quiet=options.quiet)
        _tell_backends(options, archive)
        _read_metadata(options, archive)
        yield archive


def _read_metadata(options: argparse.Namespace, archive: BackupArchive) -> None:
    """Reads qubes.xml; if it is damaged, what the command does next will say so."""
    with (
        output.working("reading the list of qubes", quiet=options.quiet),
        contextlib.suppress(Damaged, Unreadable),
    ):
        _ = archive.metadata


def _tell_backends(options: argparse.Namespace, archive: BackupArchive) -> None:
    fastest = archive.deriver.backends[0]
    if options.verbose:
        from qbackup.content.decoders import gzip_library

        names = ", ".join(backend.name for backend in archive.deriver.backends)
        output.say(f"key derivation: {names}; AES: {archive.pipeline.cipher.name}")
        output.say(f"lanes side by side: {archive.pipeline.jobs}")
        kernel = "used when it is ready" if archive.deriver.has_kernel else "not installed"
        output.say(f"lane kernel: {kernel}; gzip: {gzip_library()}")
    if fastest.slow:
        output.say(
            "warning: only the slow pure-Python key derivation can be loaded here, which takes"
            " minutes or hours for each chunk; install pycryptodome"
        )


def _info(options: argparse.Namespace) -> int:
    from qbackup.archive.estimate import estimate
    from qbackup.cli import show
    from qbackup.cli.passphrase import unlock

    request = _request(options)
    with _open(options) as archive:
        if request.is_given:
            unlock(archive, request, quiet=options.quiet)
        _tell_backends(options, archive)
        cost = estimate(archive)
        _tell_warnings(archive.warnings)
        if options.json:
            output.show(show.to_json(show.info_document(archive, cost)))
        else:
            output.show(show.info_text(archive, cost))
        return _tell_errors(show.archive_errors(archive))


def _list(options: argparse.Namespace) -> int:
    from qbackup.cli import show

    with _unlocked(options) as archive:
        qubes = archive.known_qubes if options.all else archive.qubes
        firewalls = _firewalls(options, archive) if options.json else {}
        archive.catalog.drain()
        _tell_warnings(archive.warnings)
        if options.json:
            output.show(show.to_json(show.list_document(archive, qubes, firewalls)))
        else:
            _show_list(show.list_rows(qubes))
        return _tell_errors(show.list_errors(archive, qubes, firewalls))


def _firewalls(
    options: argparse.Namespace, archive: BackupArchive, names: Collection[str] | None = None
) -> dict[str, Firewall]:
    """The firewall rules, which take a key for each qube; `names`: of these qubes only."""
    with output.working("reading the firewalls", quiet=options.quiet):
        return archive.firewalls(names)


def _show_list(rows: Sequence[Sequence[str]]) -> None:
    if output.is_pretty(sys.stdout):
        from qbackup.cli.pretty import qubes_table

        output.show_styled(qubes_table(sys.stdout, rows))
    else:
        from qbackup.cli.show import table

        output.show(table(rows))


def _show_report(text: str) -> None:
    if output.is_pretty(sys.stdout):
        from qbackup.cli import pretty

        output.show_styled(pretty.report(sys.stdout, text))
    else:
        output.show(text)


def _tell_errors(errors: Sequence[str]) -> int:
    """The status of a command that only looks at the archive."""
    for error in errors:
        output.say(f"qbackup: {error}")
    return EXIT_INCOMPLETE if errors else EXIT_OK


def _verify(options: argparse.Namespace) -> int:
    with _unlocked(options) as archive, _progress(options) as progress:
        report = archive.verify(options.names, progress=progress, check=False)
        return _finish(options, report, progress)


def _restore(options: argparse.Namespace) -> int:
    with _unlocked(options) as archive, _progress(options) as progress:
        report = archive.restore(
            options.output,
            options.names,
            overwrite=options.overwrite,
            keep_damaged=options.keep_damaged,
            progress=progress,
            check=False,
        )
        return _finish(options, report, progress)


def _make_progress() -> ShowsProgress:
    if output.is_pretty(sys.stderr):
        from qbackup.cli.pretty import LiveProgress

        return LiveProgress(sys.stderr)
    from qbackup.cli.progress import ProgressLine

    return ProgressLine(sys.stderr)


@contextlib.contextmanager
def _progress(options: argparse.Namespace) -> Iterator[ShowsProgress | None]:
    if options.quiet:
        yield None
        return
    progress = _make_progress()
    try:
        yield progress
    finally:
        progress.clear()


def _finish(options: argparse.Namespace, report: Report, progress: ShowsProgress | None) -> int:
    """The final report, and the status it means."""
    from qbackup.cli import show

    if progress is not None:
        progress.clear()
    _tell_warnings(report.warnings)
    if options.json:
        output.show(show.to_json(show.report_document(report)))
    else:
        _show_report(show.report_text(report))
    return EXIT_OK if report.ok else EXIT_INCOMPLETE


def _tell_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        output.say(f"warning: {warning}")


def _cat(options: argparse.Namespace) -> int:
    from qbackup.base.names import METADATA_PATH
    from qbackup.cli.commands import files

    if files.is_place(options):
        return _files(options)
    with _unlocked(options) as archive:
        if options.name == METADATA_PATH:
            output.copier()(archive.metadata)
        else:
            copy = output.copier()
            with archive.open(options.name) as stream:
                while data := stream.read(_COPY_SIZE):
                    copy(data)
        _tell_warnings(archive.warnings)
        return _tell_errors(archive.salvaged)


def _script(options: argparse.Namespace) -> int:
    from qbackup.cli.commands.script import write_script

    with _unlocked(options) as archive:
        losses = write_script(archive, options)
        _tell_warnings(archive.warnings)
        return _tell_errors(losses)


def _kit(options: argparse.Namespace) -> int:
    from qbackup.cli.kit.build import write_kit, write_plain_kit

    if options.no_wheels:
        folder = write_plain_kit(options.output)
    else:
        with output.working("getting wheels for other systems", quiet=False):
            folder = write_kit(options.output, options.wheels)
    output.show(f"{folder}: store it beside the backup; RECOVERY.txt in it says what to do")
    return EXIT_OK


def _completion(options: argparse.Namespace) -> int:
    from qbackup.cli.shell import completions

    output.show(completions(options.shell).rstrip("\n"))
    return EXIT_OK


def _files(options: argparse.Namespace) -> int:
    """`ls` and `cp`, and `cat` of a file inside an image."""
    from qbackup.cli.commands import files, folders

    if folders.is_place(options):
        return _folders(options)
    place = files.place_of(options)
    if place.qube is None:
        return files.in_image(options, place)
    with _unlocked(options) as archive:
        with _progress(options) as progress:
            image = files.browse(archive, options, place, progress)
        with image:
            status = files.run(image, options, place)
        _tell_warnings(archive.warnings)
        return max(status, _tell_errors(archive.salvaged))


def _folders(options: argparse.Namespace) -> int:
    """`ls` of folder archives."""
    from qbackup.cli.commands import folders

    with _unlocked(options) as archive:
        status = folders.run(archive, options)
        _tell_warnings(archive.warnings)
        return max(status, _tell_errors(archive.salvaged))


_COMMANDS = {
    "info": _info,
    "list": _list,
    "verify": _verify,
    "restore": _restore,
    "cat": _cat,
    "script": _script,
    "kit": _kit,
    "completion": _completion,
    "ls": _files,
    "cp": _files,
}
