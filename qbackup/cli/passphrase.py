"""Sources of the passphrase: a terminal, a file, a program, or the environment.

A passphrase is never an argument, which every process of the machine can read. An option beats the
environment; two sources at one level are refused as a mistake.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from qbackup.archive.archive import BackupArchive
from qbackup.base.children import child_environment
from qbackup.base.errors import BackupIdUnknown, Unlockable, UsageError, WrongPassphrase
from qbackup.base.names import display
from qbackup.cli import output
from qbackup.cli.passphrase_readings import Reading, readings_of_file, readings_of_text

VARIABLE = "QBACKUP_PASSPHRASE"
FILE_VARIABLE = "QBACKUP_PASSPHRASE_FILE"
COMMAND_VARIABLE = "QBACKUP_PASSPHRASE_COMMAND"
VARIABLES = (VARIABLE, FILE_VARIABLE, COMMAND_VARIABLE)

_SIZE_LIMIT = 64 * 1024
_COMMAND_SECONDS = 300
_LOOK_SECONDS = 0.1  # between two looks at a program that may have ended
_TRIES = 3
_TERMINAL = "/dev/tty"
_OTHER_WAYS = (
    f"give it with --passphrase-file FILE, --passphrase-command CMD or the environment variable"
    f" {VARIABLE}, {FILE_VARIABLE} or {COMMAND_VARIABLE}"
)


@dataclass(frozen=True)
class Request:
    """The sources that options and environment name. The values are kept out of repr.

    Args:
        file: ``--passphrase-file``.
        command: ``--passphrase-command``.
        environment: the three variables, as they were when the program started.
        stdin_is_backup: the backup itself comes from standard input.
    """

    file: str | None
    command: str | None
    environment: dict[str, str]
    stdin_is_backup: bool

    def __repr__(self) -> str:
        return "<passphrase request>"

    @property
    def _has_flag(self) -> bool:
        return self.file is not None or self.command is not None

    @property
    def from_file(self) -> str | None:
        """The passphrase file to read, ``-`` for standard input; None if another source is meant.

        A flag beats the environment.
        """
        return self.file if self._has_flag else self.environment.get(FILE_VARIABLE)

    @property
    def from_command(self) -> str | None:
        """The command to run; None if another source is meant."""
        return self.command if self._has_flag else self.environment.get(COMMAND_VARIABLE)

    @property
    def is_given(self) -> bool:
        """True if a source is named, so that no question on the terminal is needed."""
        return self._has_flag or bool(self.environment)


def check(request: Request) -> None:
    """Refuses contradictory sources, before anything is read.

    Raises:
        UsageError: two sources at one level, or standard input for two things.
    """
    if request.file is not None and request.command is not None:
        raise UsageError("both --passphrase-file and --passphrase-command are given: use only one")
    if request.file is None and request.command is None and len(request.environment) > 1:
        raise UsageError(f"the environment has {' and '.join(request.environment)}: set only one")
    if request.from_file == "-" and request.stdin_is_backup:
        raise UsageError("standard input can't be the passphrase and the backup at once")


def unlock(
    archive: BackupArchive, request: Request, *, quiet: bool, window: str | None = None
) -> None:
    """Unlocks the backup with the first passphrase that fits.

    Args:
        archive: locked.
        request: checked.
        quiet: show no line while a key is derived.
        window: ids to search through where nothing else names the backup's id.

    Raises:
        UsageError: there is no passphrase, or one that can't be a passphrase.
        Unlockable: none fits, or the command failed.
    """
    last: WrongPassphrase | None = None
    note = ""
    for reading in _readings(request):
        if reading.note and reading.note != note:  # the readings of one source have the same note
            output.print_message(reading.note)
            note = reading.note
        try:
            _try(archive, reading.passphrase, quiet=quiet, window=window)
        except WrongPassphrase as error:
            last = error
            continue
        if reading.remark:
            output.print_message(reading.remark)
        return
    raise last or WrongPassphrase("no passphrase was given")


def _try(archive: BackupArchive, passphrase: bytes, *, quiet: bool, window: str | None) -> None:
    try:
        with output.working("checking the passphrase", quiet=quiet):
            archive.unlock(passphrase, ahead=True)
    except BackupIdUnknown:
        if window is None:
            raise
        from qbackup.cli.id_search import find_id

        find_id(archive, passphrase, window, quiet=quiet)
        archive.unlock(passphrase, ahead=True)


def _readings(request: Request) -> Iterator[Reading]:
    """Possible passphrases, in the order to try."""
    file, command = request.from_file, request.from_command
    if file is not None:
        yield from readings_of_file(_read_file(file), _called(file))
    elif command is not None:
        yield from readings_of_file(_run(command), "the passphrase command's output")
    elif VARIABLE in request.environment:
        text = os.fsencode(request.environment[VARIABLE])
        what = f"the environment's {VARIABLE}"
        yield from readings_of_text(_checked(text, what), what)
    else:
        yield from _from_terminal()


def _checked(text: bytes, what: str) -> bytes:
    if not text:
        raise UsageError(f"{what} is empty")
    if any(end in text for end in (b"\n", b"\r", b"\0")):
        raise UsageError(f"{what} has more than one line")
    return text


def _called(path: str) -> str:
    """The words for a passphrase file in messages."""
    return (
        "the passphrase on standard input"
        if path == "-"
        else f"the passphrase file {display(path)}"
    )


def _read_file(path: str) -> bytes:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_SIZE_LIMIT + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"can't read {_called(path)}: {error.strerror}") from error
    if len(data) > _SIZE_LIMIT:
        raise UsageError(f"{_called(path)} is longer than 64 KiB")
    return data


def _run(command: str) -> bytes:
    """Runs the user's program, without a shell and with an empty input; returns its output."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"the passphrase command can't be split: {error}") from error
    if not words:
        raise UsageError("the passphrase command is empty")
    try:
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=child_environment(),
        ) as process:
            try:
                data = _read_output(process)
            finally:
                process.kill()
    except OSError as error:
        raise Unlockable(f"the passphrase command can't be run: {error.strerror}") from error
    if process.returncode != 0:
        raise Unlockable(f"the passphrase command ended with status {process.returncode}")
    return data


def _read_output(process: subprocess.Popen[bytes]) -> bytes:
    """Reads the output until the program ends.

    The end of the pipe is no sign of that: a child that the program leaves behind, such as an
    agent, may keep the pipe open for ever.
    """
    deadline = time.monotonic() + _COMMAND_SECONDS
    data = b""
    while process.stdout is not None:
        has_ended = process.poll() is not None  # so all of the output is in the pipe
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unlockable(f"the passphrase command took longer than {_COMMAND_SECONDS} s")
        patience = 0.0 if has_ended else min(left, _LOOK_SECONDS)
        if not select.select([process.stdout], [], [], patience)[0]:
            if has_ended:
                break
            continue
        piece = os.read(process.stdout.fileno(), _SIZE_LIMIT)
        data += piece
        if len(data) > _SIZE_LIMIT:
            raise Unlockable("the passphrase command printed more than 64 KiB")
        if not piece:
            break
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise Unlockable(f"the passphrase command took longer than {_COMMAND_SECONDS} s") from None
    return data


def _from_terminal() -> Iterator[Reading]:
    """Asks on the terminal itself, three times at most."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise UsageError(f"there is no terminal to ask for the passphrase; {_OTHER_WAYS}") from None
    typed = False
    for attempt in range(_TRIES):
        if attempt:
            output.print_message("that passphrase does not fit; try again (Ctrl-C to stop)")
        try:
            text = _ask()
        except EOFError:
            break
        except UnicodeDecodeError:
            output.print_message("those characters are not in this terminal's encoding; try again")
            continue
        if text:
            typed = True
            yield from readings_of_text(
                text.encode("utf-8", "surrogateescape"), "the passphrase that was typed"
            )
    if not typed:
        raise UsageError(f"no passphrase was typed; {_OTHER_WAYS}")


def _ask() -> str:
    try:
        return getpass.getpass("Passphrase of the backup: ")
    except BaseException:  # e.g. Ctrl-C: the next message begins on a line of its own
        with contextlib.suppress(OSError), open(_TERMINAL, "w") as terminal:
            terminal.write("\n")
        raise
