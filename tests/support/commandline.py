"""The command line as a person or a script meets it: as a process of its own, with pipes (`run`)
or a terminal (`Terminal`); and, where nothing of that matters, as a function (`call`), which is
faster.

Whatever a test is about, every run here is also held to what holds always: no traceback, no
passphrase in any output, nothing that a terminal would obey in text (what `cat` hands to a pipe is
a file's content and excepted), and with `--json` exactly one document on standard output.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from unittest import mock

import pytest

from qbackup.cli.main import main
from tests.support import vectorfiles

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
#: Two qubes and dom0, N=2^14.
SAMPLE = EXAMPLES / "sample-backup"
SAMPLE_FILE = EXAMPLES / "sample-passphrase.txt"
SAMPLE_SECRET = "a sample passphrase"
#: One qube with one image of 3 MiB, N=2^10.
SMALL = vectorfiles.backup_path("gzip-published-header")
SMALL_SECRET = "correct horse battery staple"

SECRETS = (SAMPLE_SECRET, SMALL_SECRET)
#: Long enough for the slowest machine; nothing is measured against it.
PATIENCE_SECONDS = 120

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
_Stream = int | IO[bytes] | None


def backup_command(
    name: str, backup: str | Path, folder: Path, *options: str | Path
) -> list[str | Path]:
    """A command on a backup, with what it cannot do without; a restore goes to `folder/out`."""
    needed: dict[str, list[str | Path]] = {
        "restore": ["-o", folder / "out"],
        "cat": ["personal/private.img"],
    }
    return [name, backup, *needed.get(name, []), *options]


@dataclass(frozen=True)
class Ended:
    """A run that is over."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def err(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", "surrogateescape")

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document, which must be all of standard output."""
        return one_document(self.stdout)


def one_document(data: bytes) -> dict[str, Any]:
    """Reads one JSON document and makes sure that there is no other, and that it is valid UTF-8
    without lone surrogates.
    """
    document: dict[str, Any] = json.loads(data.decode("ascii"))
    assert document["schema"] == 1
    json.dumps(document, ensure_ascii=False).encode("utf-8")
    return document


def command(*arguments: str | Path) -> list[str]:
    """The command line of a run."""
    return [sys.executable, "-m", "qbackup", *(str(argument) for argument in arguments)]


def environment(
    more: Mapping[str, str] | None = None, *, is_measured: bool = True
) -> dict[str, str]:
    """This process's own, without what would change how a run behaves.

    Args:
        more: variables besides.
        is_measured: its coverage is, if this process's is: that takes memory to the very end.
    """
    others = ("QBACKUP_", "PYTHONUNBUF", *(() if is_measured else ("COVERAGE_PROCESS", "COV_")))
    mine = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return {**mine, "TERM": "dumb", **(more or {})}


def start(
    *arguments: str | Path,
    stdin: _Stream = subprocess.DEVNULL,
    stdout: _Stream = subprocess.PIPE,
    stderr: _Stream = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
    terminal: int | None = None,
    cwd: Path | None = None,
    before: Callable[[], object] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a run in a session of its own, so without a terminal unless one is given.

    `limits`: resource → value, as for `resource.setrlimit`; `before`: called in the new process.
    """

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for kind, value in (limits or {}).items():
            resource.setrlimit(kind, (value, value))
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        if before is not None:
            before()

    return subprocess.Popen(
        command(*arguments),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment(env, is_measured=resource.RLIMIT_AS not in (limits or {})),
        start_new_session=True,
        preexec_fn=prepare,
        cwd=cwd,
    )


def run(
    *arguments: str | Path,
    stdin: bytes | IO[bytes] = b"",
    env: Mapping[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
    stdout: _Stream = subprocess.PIPE,
    stderr: _Stream = subprocess.PIPE,
    cwd: Path | None = None,
    before: Callable[[], object] | None = None,
) -> Ended:
    """Runs it to its end; `stdin` as bytes goes through a pipe."""
    feed = stdin if isinstance(stdin, bytes) else None
    source = subprocess.PIPE if isinstance(stdin, bytes) else stdin
    with start(
        *arguments,
        stdin=source,
        stdout=stdout,
        stderr=stderr,
        env=env,
        limits=limits,
        cwd=cwd,
        before=before,
    ) as process:
        return finish(process, arguments, feed)


def call(*arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
    """As `run`, within this process: `main` with streams and an environment of its own."""
    buffers = [io.BytesIO(data) for data in (stdin, b"", b"")]
    streams = [io.TextIOWrapper(buffer, "utf-8") for buffer in buffers]
    with (
        mock.patch.dict(os.environ, environment(env), clear=True),
        mock.patch.object(sys, "stdin", streams[0]),
        contextlib.redirect_stdout(streams[1]),
        contextlib.redirect_stderr(streams[2]),
    ):
        status = main([str(argument) for argument in arguments])
        for stream in streams[1:]:
            stream.flush()
    ended = Ended(status, buffers[1].getvalue(), buffers[2].getvalue())
    check_always(arguments, ended)
    return ended


def finish(
    process: subprocess.Popen[bytes], arguments: Sequence[str | Path], feed: bytes | None = None
) -> Ended:
    """Waits for a run's end and checks what holds always."""
    try:
        out, err = process.communicate(feed, PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    ended = Ended(process.returncode, out or b"", err or b"")
    check_always(arguments, ended)
    return ended


def check_always(arguments: Sequence[str | Path], ended: Ended) -> None:
    """What holds for every run, see above."""
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err
    for secret in SECRETS:
        assert secret.encode() not in ended.stdout + ended.stderr
    shown = ended.err if arguments[:1] == ("cat",) else ended.out + ended.err
    assert not _INVISIBLE.search(shown), shown
    if "--json" in arguments and ended.stdout:
        assert ended.document


class Terminal:
    """A run whose controlling terminal is a pseudo-terminal; streams that are not given are it."""

    def __init__(
        self,
        *arguments: str | Path,
        stdin: _Stream = None,
        stdout: _Stream = None,
        stderr: _Stream = None,
        env: Mapping[str, str] | None = None,
        columns: int = 120,
    ) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        streams = [slave if stream is None else stream for stream in (stdin, stdout, stderr)]
        self.process = start(
            *arguments,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            env=env,
            terminal=slave,
        )
        os.close(slave)
        self._arguments = arguments
        self._unread = ""
        self.seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        os.close(self._master)

    def expect(self, pattern: str) -> re.Match[str]:
        """Reads until the pattern has come; what it matched, and what was before, is then read."""
        while not (match := re.search(pattern, self._unread)):
            if not self._read():
                pytest.fail(f"{pattern!r} did not come; the terminal shows {self.seen!r}")
        self._unread = self._unread[match.end() :]
        return match

    def send(self, text: str | bytes) -> None:
        """Types; `\\x03` is Ctrl-C."""
        os.write(self._master, text if isinstance(text, bytes) else text.encode())

    def type_secret(self, text: str | bytes) -> None:
        """Answers a prompt, once the terminal has stopped to echo."""
        self.expect("Passphrase of the backup: ")
        self.wait_for(lambda: not self.echoes)
        self.send(text)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits until something holds."""
        wait_for(condition)

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def finish(self) -> Ended:
        """Reads to the end; `stdout` is what the terminal was sent if it was not another stream."""
        out, err = self._other_streams()
        while self._read():
            pass
        self.process.wait(PATIENCE_SECONDS)
        assert "Traceback" not in self.seen
        ended = Ended(self.process.returncode, out, err)
        check_always(("cat",), ended)
        for secret in SECRETS:
            assert secret not in self.seen
        return ended

    def _other_streams(self) -> tuple[bytes, bytes]:
        if self.process.stdout is None and self.process.stderr is None:
            return b"", b""
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return out or b"", err or b""

    def _read(self) -> bool:
        """More of what the terminal is sent; False at the end."""
        readable, _, _ = select.select([self._master], [], [], PATIENCE_SECONDS)
        if not readable:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        text = data.decode("utf-8", "replace")
        self._unread += text
        self.seen += text
        return bool(data)


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until something holds, which is for another process to bring about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it did not come about")
        time.sleep(0.01)
