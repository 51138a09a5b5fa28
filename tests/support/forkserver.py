"""Runs of the command line that need no new interpreter, for the quick tests.

Most of a short run is the start of Python and the loading of modules. So each process of pytest
has one server, a Python that has loaded the package and does nothing but fork. A run is a process
of its own as any other: with its streams, its terminal, its session, its folder, and an end that
the test waits for. Only the start differs, and `processes_are_forked` says when it must not.

The process becomes a child of pytest's, and not of the server's, as it is orphaned while pytest
takes orphans (Linux has this). So `subprocess.Popen` waits for it and signals it as usual.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

SWITCH = "TESTS_FORK"
_MESSAGE_LIMIT = 1 << 17
_TAKE_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl
#: What Python itself reads when it starts, and a loader before that.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "COV", "MALLOC", "GLIBC")


def processes_are_forked(more: Mapping[str, str] | None) -> bool:
    """Tells if a run may be forked: quick tests are run, and no variable matters at the start.

    Args:
        more: variables of this run besides pytest's own.
    """
    is_measured = any(name.startswith("COV") for name in os.environ)
    is_same_start = not any(name.startswith(_READ_AT_START) for name in more or {})
    return SWITCH in os.environ and is_same_start and not is_measured


class ForkedRun(subprocess.Popen[bytes]):
    """A run of the command line, begun by the server.

    Args:
        arguments: of the command line.
        terminal: descriptor of its controlling terminal; None for none.
        options: `stdin`, `stdout`, `stderr`, `env` and `cwd`, as for any Popen.
    """

    def __init__(self, arguments: Sequence[str], *, terminal: int | None, **options: Any) -> None:
        self._terminal = terminal
        super().__init__(["qbackup", *arguments], **options)

    def _execute_child(self, args: Any, *given: Any) -> None:
        """Begins the process; the place where Popen itself forks."""
        cwd, env = given[4], given[5]
        pairs = [given[9:11], given[11:13][::-1], given[13:15][::-1]]  # the run's end, and ours
        streams = [own if theirs == -1 else theirs for own, (theirs, _) in enumerate(pairs)]
        try:
            self.pid = _server().start(list(args), cwd, env, streams, self._terminal)
            self._child_created = True
        finally:
            devnull = getattr(self, "_devnull", None)
            pipes = [theirs for theirs, ours in pairs if ours != -1 and theirs not in (-1, devnull)]
            for number in [*dict.fromkeys(pipes), *([] if devnull is None else [devnull])]:
                os.close(number)


class _Server:
    """The server's other end: asks for processes."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            program = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                program,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(
        self,
        arguments: list[str],
        cwd: Any,
        env: Mapping[str, str],
        streams: Sequence[int],
        terminal: int | None,
    ) -> int:
        """Begins a run; returns the number of its process, which is this one's child."""
        mask = os.umask(0o077)
        os.umask(mask)
        request = {
            "arguments": arguments,
            "folder": os.fspath(cwd if cwd is not None else os.getcwd()),
            "environment": dict(env),
            "mask": mask,
            "has_terminal": terminal is not None,
        }
        descriptors = [*streams, *([] if terminal is None else [terminal])]
        with _taking_orphans():
            socket.send_fds(self._link, [json.dumps(request).encode()], descriptors)
            number = int(self._link.recv(_MESSAGE_LIMIT))
            assert self._link.recv(_MESSAGE_LIMIT) == b"orphaned"
        return number


@functools.cache
def _server() -> _Server:
    """The server of this process, which ends with it."""
    return _Server()


@contextmanager
def _taking_orphans() -> Iterator[None]:
    prctl = ctypes.CDLL(None).prctl
    assert prctl(_TAKE_ORPHANS, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(_TAKE_ORPHANS, 0, 0, 0, 0)


def serve(link: socket.socket) -> None:
    """Forks for each request; returns in each such process, which is then to do the run.

    The process is forked twice, as the one between ends at once and leaves an orphan.
    """
    while True:
        data, descriptors, _, _ = socket.recv_fds(link, _MESSAGE_LIMIT, 4)
        if not data:
            os._exit(0)
        between = os.fork()
        if between == 0:
            number = os.fork()
            if number:
                link.send(str(number).encode())
                os._exit(0)
            link.close()
            _become(json.loads(data), descriptors)
            return
        os.waitpid(between, 0)
        for descriptor in descriptors:
            os.close(descriptor)
        link.send(b"orphaned")


def _become(request: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Gives this process all that a new one would have been started with."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(request["mask"])
    if request["has_terminal"]:
        fcntl.ioctl(descriptors[3], termios.TIOCSCTTY, 0)
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _opened(number, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _opened(number: int, like: Any) -> io.TextIOWrapper:
    """A standard stream as Python opens it."""
    raw = open(number, "wb" if number else "rb", closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(
        raw,
        encoding=like.encoding,
        errors=like.errors,
        line_buffering=number == 2 or os.isatty(number),
    )


def _load() -> None:
    """Loads the whole package, and leaves the current folder as `python -m qbackup` does."""
    if sys.path[:1] == [os.getcwd()]:
        del sys.path[0]
    package = importlib.import_module("qbackup")
    for module in pkgutil.walk_packages(package.__path__, "qbackup."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    importlib.import_module("Crypto.Protocol.KDF")


if __name__ == "__main__":
    _load()
    serve(socket.socket(fileno=int(sys.argv[1])))
    from qbackup.__main__ import main

    sys.exit(main())
