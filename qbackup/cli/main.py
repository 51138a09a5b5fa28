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
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from qbackup import __version__
from qbackup.errors import (
    Damaged,
    Incomplete,
    MachineError,
    QBackupError,
    Unlockable,
    Unreadable,
    UsageError,
)

if TYPE_CHECKING:
    from qbackup.archive import BackupArchive
    from qbackup.cli.passphrase import Request
    from qbackup.cli.progress import ProgressLine
    from qbackup.restore.report import Report

EXIT_OK, EXIT_INCOMPLETE, EXIT_USAGE, EXIT_LOCKED, EXIT_UNREADABLE, EXIT_MACHINE = range(6)
EXIT_INTERRUPTED, EXIT_OUTPUT_CLOSED, EXIT_TERMINATED = 130, 141, 143

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_COPY_SIZE = 1 << 20
_TERMINAL_TEXT_LIMIT = 1 << 20

_EXAMPLES = """\
examples:
  qbackup list /media/usb/qubes-2024-09-17T101112
  qbackup restore /media/usb/qubes-2024-09-17T101112 -o restored
  qbackup restore BACKUP personal vault/private.img -o restored
  qbackup cat BACKUP work/notes.txt
"""


class Terminated(BaseException):
    """SIGTERM arrived: unwinds like KeyboardInterrupt, so that no half-written file stays."""


class _Parser(argparse.ArgumentParser):
    """Mistakes become UsageError, so that they too are told in JSON where that is wanted."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see: {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = _Parser(
        prog="qbackup",
        description="Restores Qubes OS backups on any machine, without Qubes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qbackup {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, run, text, json in (
        ("info", _info, "what the backup says of itself, and what a restore will cost here", True),
        ("list", _list, "the qubes in the backup and their files", True),
        ("verify", _verify, "everything that restore does but the writing", True),
        ("restore", _restore, "write DIR/QUBE/FILE for all that is asked for", True),
        ("cat", _cat, "one file's content to standard output", False),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, json=False)
        command.add_argument("backup", metavar="BACKUP", help="the file; - for standard input")
        _add_names(command, name)
        _add_passphrase(command)
        _add_common(command, json)
    return parser


def _add_names(command: argparse.ArgumentParser, name: str) -> None:
    if name in ("verify", "restore"):
        command.add_argument(
            "names", metavar="NAME", nargs="*", help="QUBE or QUBE/FILE; none means all"
        )
    if name == "cat":
        command.add_argument("name", metavar="QUBE/FILE", help="the file, or qubes.xml")
    if name == "restore":
        command.add_argument(
            "-o", "--output", metavar="DIR", required=True, help="the folder to write into"
        )
        command.add_argument(
            "--overwrite", action="store_true", help="replace files that are there already"
        )


def _add_passphrase(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "passphrase",
        "Asked on the terminal, or from the environment: QBACKUP_PASSPHRASE,"
        " QBACKUP_PASSPHRASE_FILE, QBACKUP_PASSPHRASE_COMMAND.",
    )
    group.add_argument("-p", "--passphrase-file", metavar="FILE", help="- for standard input")
    group.add_argument("--passphrase-command", metavar="CMD", help="a program that prints it")


def _add_common(command: argparse.ArgumentParser, json: bool) -> None:
    if json:
        command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    command.add_argument(
        "--jobs", metavar="N", type=_positive, help="lanes derived side by side (default: cores)"
    )
    command.add_argument(
        "--memory", metavar="SIZE", type=_size, help="budget, 400M say (default: half of RAM)"
    )
    command.add_argument(
        "--compression-filter",
        metavar="NAME",
        help="instead of the header's; none for no compression, or a program that takes -d",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="no progress")
    command.add_argument("-v", "--verbose", action="store_true", help="say what is used")


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _size(text: str) -> int:
    digits = text.upper().removesuffix("IB").removesuffix("B")
    unit = digits[-1:] if digits[-1:] in _SIZE_UNITS else ""
    if unit:
        digits = digits[:-1]
    if not digits.isascii() or not digits.isdigit() or not int(digits):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 400M or 2G")
    return int(digits) * _SIZE_UNITS[unit]


# Running a command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status, whatever happens."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _sigterm_unwinds():
            return _run(arguments)
    except KeyboardInterrupt:
        return _ended(arguments, "interrupted", EXIT_INTERRUPTED)
    except Terminated:
        return _ended(arguments, "terminated", EXIT_TERMINATED)
    except BrokenPipeError:
        _drop_stdout()
        return EXIT_OUTPUT_CLOSED


def _run(arguments: list[str]) -> int:
    try:
        options = build_parser().parse_args(arguments)
        status: int = options.run(options)
        sys.stdout.flush()
    except QBackupError as error:
        return _failed(arguments, error, exit_status(error))
    except MemoryError:
        return _failed(arguments, MachineError("out of memory"), EXIT_MACHINE)
    except SystemExit as end:  # argparse after --help and --version
        return int(end.code or 0)
    return status


def exit_status(error: QBackupError) -> int:
    """The exit status that an error stands for."""
    for kind, status in (
        (Incomplete, EXIT_INCOMPLETE),
        (Damaged, EXIT_INCOMPLETE),
        (UsageError, EXIT_USAGE),
        (Unlockable, EXIT_LOCKED),
        (Unreadable, EXIT_UNREADABLE),
    ):
        if isinstance(error, kind):
            return status
    return EXIT_MACHINE


def _wants_json(arguments: Sequence[str]) -> bool:
    """Known even when the arguments could not be parsed."""
    return "--json" in arguments


def _failed(arguments: Sequence[str], error: QBackupError, status: int) -> int:
    if _wants_json(arguments):
        from qbackup.cli.show import error_document, to_json

        _print(to_json(error_document(error, arguments[0])))
    if isinstance(error, MachineError) and error.report is not None:
        from qbackup.cli.show import report_text

        _say(report_text(error.report))
    _say(f"qbackup: {error}")
    return status


def _ended(arguments: Sequence[str], how: str, status: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        if _wants_json(arguments):
            from qbackup.cli.show import to_json

            _print(to_json({"ok": False, "error": how, "kind": how}))
        _say(f"qbackup: {how}; no half-written file was left under a final name")
    return status


def _say(text: str) -> None:
    """Something for people, on standard error; the wrong encoding is no reason to fail."""
    stream = sys.stderr
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _print(text: str) -> None:
    """Something asked for, on standard output."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _drop_stdout() -> None:
    """Nobody reads: keeps the interpreter from failing over what is still buffered."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    def unwind(number: int, frame: object) -> NoReturn:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, unwind)
    except ValueError:  # not the main thread: somebody else's program, somebody else's signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# The commands


def _open(options: argparse.Namespace) -> BackupArchive:
    """Opens the backup; standard input when it is called ``-``."""
    from qbackup.archive import BackupArchive

    source: str | BinaryIO = options.backup
    if source == "-":
        source = sys.stdin.buffer
    return BackupArchive(
        source,
        jobs=options.jobs,
        memory=options.memory,
        compression_filter=options.compression_filter,
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
    with _open(options) as archive:
        unlock(archive, request, _say)
        _tell_backends(options, archive)
        yield archive


def _tell_backends(options: argparse.Namespace, archive: BackupArchive) -> None:
    fastest = archive.deriver.backends[0]
    if options.verbose:
        names = ", ".join(backend.name for backend in archive.deriver.backends)
        _say(f"key derivation: {names}; AES: {archive.pipeline.cipher.name}")
        _say(f"lanes side by side: {archive.pipeline.jobs}")
    if fastest.slow:
        _say(
            "warning: only the slow pure-Python key derivation can be loaded here, which takes"
            " minutes or hours for each chunk; install pycryptodome"
        )


def _info(options: argparse.Namespace) -> int:
    from qbackup.cli import show
    from qbackup.cli.passphrase import unlock
    from qbackup.cost import estimate

    request = _request(options)
    with _open(options) as archive:
        if request.is_given:
            unlock(archive, request, _say)
        cost = estimate(archive)
        _tell_warnings(archive.warnings)
        if options.json:
            _print(show.to_json(show.info_document(archive, cost)))
        else:
            _print(show.info_text(archive, cost))
        return _archive_status(archive)


def _list(options: argparse.Namespace) -> int:
    from qbackup.cli import show

    with _unlocked(options) as archive:
        qubes = archive.qubes
        archive.catalog.drain()
        status = _archive_status(archive)
        document = show.list_document(archive, qubes)
        if archive.catalog.error:
            document["error"] = str(archive.catalog.error)
        _tell_warnings(archive.warnings)
        _print(show.to_json(document) if options.json else show.list_text(qubes))
        if any(show.missing_files(qube) for qube in qubes):
            _say("qbackup: files are missing from this backup")
            status = EXIT_INCOMPLETE
        return status


def _archive_status(archive: BackupArchive) -> int:
    """The status of a command that only looks at the archive."""
    if archive.catalog.error is None:
        return EXIT_OK
    _say(f"qbackup: {archive.catalog.error}")
    return EXIT_INCOMPLETE


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
            progress=progress,
            check=False,
        )
        return _finish(options, report, progress)


@contextlib.contextmanager
def _progress(options: argparse.Namespace) -> Iterator[ProgressLine | None]:
    from qbackup.cli.progress import ProgressLine

    if options.quiet:
        yield None
        return
    progress = ProgressLine(sys.stderr)
    try:
        yield progress
    finally:
        progress.clear()


def _finish(options: argparse.Namespace, report: Report, progress: ProgressLine | None) -> int:
    """The final report, and the status it means."""
    from qbackup.cli import show

    if progress is not None:
        progress.clear()
    _tell_warnings(report.warnings)
    if options.json:
        _print(show.to_json(show.report_document(report)))
    else:
        _print(show.report_text(report))
    return EXIT_OK if report.ok else EXIT_INCOMPLETE


def _tell_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        _say(f"warning: {warning}")


def _cat(options: argparse.Namespace) -> int:
    from qbackup.metadata import METADATA_PATH

    with _unlocked(options) as archive:
        if options.name == METADATA_PATH:
            _copier()(archive.metadata)
        else:
            copy = _copier()
            with archive.open(options.name) as stream:
                while data := stream.read(_COPY_SIZE):
                    copy(data)
        _tell_warnings(archive.warnings)
    return EXIT_OK


def _copier() -> Callable[[bytes], None]:
    """Writes to standard output: bytes as they are, but made visible on a terminal."""
    if not sys.stdout.isatty():
        return _write_bytes
    return _write_to_terminal


def _write_bytes(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _write_to_terminal(data: bytes) -> None:
    from qbackup.names import decode, display

    if b"\0" in data or len(data) >= _TERMINAL_TEXT_LIMIT:
        raise UsageError("this is no text for a terminal: send it to a file, > NAME")
    text = decode(data)
    for line in text.splitlines(keepends=True):
        end = "\n" if line.endswith("\n") else ""
        _print_raw("\t".join(display(part) for part in line.rstrip("\r\n").split("\t")) + end)


def _print_raw(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
