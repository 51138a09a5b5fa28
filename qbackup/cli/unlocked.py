"""Opening and unlocking of the backup that a command works on."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator

from qbackup.base.errors import Damaged, HeaderAltered, NotABackup, Unreadable, UsageError
from qbackup.cli import output

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import BinaryIO

    from qbackup.archive.archive import BackupArchive
    from qbackup.cli.passphrase import Request


@contextlib.contextmanager
def unlocked(options: argparse.Namespace, *, whole: bool = False) -> Iterator[BackupArchive]:
    """Opens and unlocks the backup, and reads its list of qubes.

    Args:
        options: of the command line.
        whole: all of the backup is going to be read, so keys are derived ahead for that.
    """
    from qbackup.cli.cluster import connected
    from qbackup.cli.passphrase import unlock

    request = passphrase_request(options)
    with (
        repair_advised(options),
        connected(getattr(options, "dask", None)) as (executor, jobs),
        open_backup(options, executor, jobs) as archive,
    ):
        if whole:
            archive.expect_all()
        else:
            archive.expect_list()
        unlock(archive, request, quiet=options.quiet, window=options.backup_id_window)
        print_backends(options, archive)
        _read_metadata(options, archive)
        yield archive


@contextlib.contextmanager
def repair_advised(options: argparse.Namespace) -> Iterator[None]:
    """Adds to an error of damage the command that may repair the backup, where there is one."""
    try:
        yield
    except (Damaged, HeaderAltered, NotABackup) as error:
        from qbackup.base.advice import REPAIR
        from qbackup.cli.protect.repair import repair_command

        command = repair_command(options.backup)
        if command:
            error.advice = "; ".join(filter(None, (REPAIR.format(command), error.advice)))
        raise


def open_backup(
    options: argparse.Namespace, executor: Executor | None = None, executor_jobs: int | None = None
) -> BackupArchive:
    """Opens the backup, without unlocking it; ``-`` is standard input.

    Raises:
        UsageError: standard input is a terminal, or a copy of a backup.
    """
    from qbackup.archive.archive import BackupArchive
    from qbackup.cli.arguments import check_id_options

    check_id_options(options)
    source: str | BinaryIO = options.backup
    if "-" in options.also or (source == "-" and options.also):
        raise UsageError("--also needs files: write the backup from the pipe to one first")
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
        backup_id=options.backup_id,
        limits=options.limits,
        also=options.also,
    )


def passphrase_request(options: argparse.Namespace) -> Request:
    """Checks the sources of the passphrase that options and environment name."""
    from qbackup.cli.passphrase import VARIABLES, Request, check

    request = Request(
        file=options.passphrase_file,
        command=options.passphrase_command,
        environment={n: v for n, v in options.environment.items() if n in VARIABLES},
        stdin_is_backup=options.backup == "-",
    )
    check(request)
    return request


def _read_metadata(options: argparse.Namespace, archive: BackupArchive) -> None:
    """Reads qubes.xml; a fault of it is reported by what the command does next."""
    with (
        output.working("reading the list of qubes", quiet=options.quiet),
        contextlib.suppress(Damaged, Unreadable),
    ):
        _ = archive.metadata


def print_backends(options: argparse.Namespace, archive: BackupArchive) -> None:
    """Names the libraries that do the work, where asked for; warns where they are slow."""
    backends = archive.backends
    if options.verbose:
        names = ", ".join(backends.key_derivation)
        output.print_message(f"key derivation: {names}; AES: {backends.cipher}")
        output.print_message(f"lanes side by side: {backends.jobs}")
        kernel = "used when it is ready" if backends.has_kernel else "not installed"
        output.print_message(f"lane kernel: {kernel}; gzip: {backends.gzip}")
    if backends.is_slow:
        output.print_message(
            "warning: only the slow pure-Python key derivation can be loaded here, which takes"
            " minutes or hours for each chunk; install pycryptodome"
        )
