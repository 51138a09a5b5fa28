"""Backups behind ``sftp://``: what the URL means, and the connection.

The host may be an alias of ``~/.ssh/config``, as for ``ssh`` and ``sftp`` themselves. A path may
hold any character: ``#`` and ``?``, which end a path in other URLs, belong to it here, and ``%23``
is tried as it stands before it is taken for an escape.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

_URL = re.compile(r"(?:sftp|ssh)://(?P<server>[^/]*)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)
_SERVER = re.compile(
    r"(?:(?P<user>[^:@]*)(?::(?P<password>.*))?@)?(?P<host>\[[^\]@]+\]|[^:@\[\]\s?#]+)"
    r"(?::(?P<port>\d{1,5}))?"
)
_CONFIG = "~/.ssh/config"
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Address:
    """Where a backup is, and how to get there.

    Args:
        host: a name, an address, or an alias.
        path: of the file there.
        user: None: the name that is used here.
        password: None: a key is used.
        port: None: the usual one.
        keys: files of private keys, besides the usual ones.
        proxy: a program whose input and output lead there; None: none is needed.
    """

    host: str
    path: str
    user: str | None = None
    password: str | None = None
    port: int | None = None
    keys: tuple[str, ...] = ()
    proxy: str | None = None


def is_sftp(url: str) -> bool:
    """Tells whether `open_sftp` reads this."""
    return _URL.fullmatch(url) is not None


def parse_address(url: str) -> Address:
    """Parts of a URL. Raises ValueError where they make no sense."""
    match = _URL.fullmatch(url)
    server = _SERVER.fullmatch(match["server"]) if match else None
    if match is None or server is None:
        raise ValueError(
            "an sftp URL is sftp://HOST/PATH or sftp://HOST:PORT/PATH; a user's name and @ may"
            " stand in front of HOST"
        )
    if not match["path"] or "\0" in match["path"]:
        raise ValueError("the URL names no file on that machine: sftp://HOST/PATH")
    port = int(server["port"]) if server["port"] else None
    if port is not None and not 0 < port < 1 << 16:
        raise ValueError("there is no such port")
    host = server["host"].strip("[]")
    return Address(host, match["path"], server["user"] or None, server["password"], port)


def with_config(address: Address, config: Any) -> Address:
    """The same, with what the user's ssh configuration says of its host.

    Args:
        address: as the URL has it, which counts for more.
        config: a `paramiko.SSHConfig`.
    """
    found = config.lookup(address.host)
    host = str(found.get("hostname", address.host))
    port = address.port or int(found.get("port", 0)) or None
    proxy = found.get("proxycommand")
    jump = found.get("proxyjump")
    if proxy is None and jump and jump.lower() != "none":
        proxy = _jump(jump, host, port)
    keys = tuple(key for key in found.get("identityfile", ()) if os.path.isfile(key))
    user = address.user or found.get("user")
    return replace(address, host=host, port=port, user=user, keys=keys, proxy=proxy)


def _jump(jump: str, host: str, port: int | None) -> str:
    """The ``ssh`` command that leads through other machines; the last one opens the way."""
    *first, last = jump.split(",")
    through = ["-J", ",".join(first)] if first else []
    name, colon, number = last.rpartition(":")
    with_port = ["-p", number] if colon and number.isdigit() else []
    target = f"[{host}]:{port or 22}"
    words = ["ssh", *through, *with_port, "-W", target, "--", name if with_port else last]
    return shlex.join(words)


def read_config() -> Any:
    """The user's ssh configuration; None if there is none. Raises what paramiko raises."""
    import paramiko

    path = os.path.expanduser(_CONFIG)
    return paramiko.SSHConfig.from_path(path) if os.path.isfile(path) else None


class RemoteFile:
    """A file on another machine, with the connection that it owns."""

    def __init__(self, client: Any, file: Any, size: int) -> None:
        self._client = client
        self._file = file
        self.size = size

    def readv(self, parts: list[tuple[int, int]]) -> Any:
        """See `paramiko.SFTPFile.readv`."""
        return self._file.readv(parts)

    def close(self) -> None:
        """Closes both. Never raises."""
        for closable in (self._file, self._client):
            with contextlib.suppress(Exception):
                closable.close()


def open_sftp(address: Address) -> RemoteFile:
    """Connects and opens the file.

    Raises:
        FileNotFoundError: it is not there.
        ConnectionError: there is no way to the machine, in words.
        Exception: whatever else paramiko raises.
    """
    client = _connect(address)
    try:
        ftp = client.open_sftp()
        path = _existing(ftp, address.path)
        file = ftp.open(path, "rb")
        return RemoteFile(client, file, int(file.stat().st_size or 0))
    except BaseException:
        client.close()
        raise


def _existing(ftp: Any, path: str) -> str:
    """The path, or what it is an escape of, whichever is there."""
    try:
        ftp.stat(path)
    except FileNotFoundError:
        if (plain := unquote(path)) == path:
            raise
        ftp.stat(plain)
        return plain
    return path


def _connect(address: Address) -> Any:
    import paramiko

    try:
        proxy = paramiko.ProxyCommand(address.proxy) if address.proxy else None
        client = paramiko.SSHClient()
        client.load_system_host_keys()
        # a new server is believed as little as a drive: whatever it gives has to be proven
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507
        client.connect(
            address.host,
            port=address.port or 22,
            username=address.user,
            password=address.password,
            key_filename=list(address.keys) or None,
            timeout=_TIMEOUT_SECONDS,
            sock=proxy,
        )
    except OSError as error:  # a missing program or key is no missing backup
        raise ConnectionError(f"can't connect: {error}") from None
    return client
