"""Real servers on loopback that a backup can be read from."""

from __future__ import annotations

import contextlib
import getpass
import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
_SSHD_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/home/.ssh/id_ed25519.pub
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
"""
_LARGE = 256 << 20
_LITTLE = 4096
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Files(http.server.SimpleHTTPRequestHandler):
    """A folder's files, whole."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Ranges(Files):
    """As `Files`, and parts of them.

    `asked` holds (offset, length) of each; the first `failing` of them are answered with an error,
    in these `words`.
    """

    asked: list[tuple[int, int]]
    failing: int
    words: str | None = None

    def send_head(self) -> None:
        """Everything at once, so there is nothing for the caller to copy."""
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        data = path.read_bytes()
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        status, start, part = HTTPStatus.OK, 0, data
        if match:
            start = int(match[1])
            end = int(match[2]) if match[2] else len(data) - 1
            status, part = HTTPStatus.PARTIAL_CONTENT, data[start : end + 1]
            type(self).asked.append((start, len(part)))
            if len(type(self).asked) <= type(self).failing:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, self.words)
                return
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if match:
            whole = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
            self.send_header("Content-Range", whole)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)


class Endless(Ranges):
    """Any part that is asked for has no end; `given` is what it wrote of it, in bytes."""

    given: int

    def send_head(self) -> None:
        if self.command == "HEAD" or "Range" not in self.headers:
            super().send_head()
            return
        self.close_connection = True
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.end_headers()
        with contextlib.suppress(OSError):
            while type(self).given < _LARGE:
                type(self).given += self.wfile.write(bytes(1 << 20))


class Trickle(Ranges):
    """Server like `Ranges` that writes a little at a time; `given` counts the pieces."""

    given: int

    def setup(self) -> None:
        super().setup()
        self.wfile = cast(Any, self)
        self._socket = self.request.makefile("wb", 0)

    def write(self, data: bytes) -> int:
        """Stands in for the stream that the answer goes to."""
        with contextlib.suppress(OSError):  # who waits no longer
            for start in range(0, len(data), _LITTLE):
                self._socket.write(data[start : start + _LITTLE])
                type(self).given += 1
                time.sleep(0.02)
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""


class Elsewhere(Ranges):
    """Gives the beginning, whatever part is asked for."""

    def send_head(self) -> None:
        if match := _RANGE.fullmatch(self.headers.get("Range", "")):
            size = int(match[2]) - int(match[1])
            self.headers.replace_header("Range", f"bytes=0-{size}")
        super().send_head()


class Slow(Files):
    """As `Files`, the last byte after a while."""

    seconds: float

    def copyfile(self, source: Any, outputfile: Any) -> None:
        data = source.read()
        outputfile.write(data[:-1])
        outputfile.flush()
        time.sleep(self.seconds)
        with contextlib.suppress(OSError):  # who waits no longer
            outputfile.write(data[-1:])


class Breaking(Files):
    """As `Files`, but the connection breaks before the end, as long as `breaks` is true."""

    at: int
    breaks: bool = True

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if not type(self).breaks:
            super().copyfile(source, outputfile)
            return
        outputfile.write(source.read(self.at))
        outputfile.flush()
        self.close_connection = True


class Circle(Files):
    """Leads to itself."""

    def send_head(self) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Locked(Files):
    """Lets nobody in."""

    def send_head(self) -> None:
        self.send_error(HTTPStatus.UNAUTHORIZED)


@contextlib.contextmanager
def http_server(folder: Path, handler: type[Files]) -> Iterator[str]:
    """Its URL."""
    make = partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextlib.contextmanager
def sftp_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Its URL, and the home of who may use it, with the key."""
    assert SSHD
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for key in (folder / "host", home / ".ssh" / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    port = _free_port()
    config = folder / "config"
    config.write_text(_SSHD_CONFIG.format(port=port, folder=folder))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=log)
    try:
        _await(port)
        yield f"sftp://{getpass.getuser()}@127.0.0.1:{port}", home
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _await(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError("the server does not listen")
