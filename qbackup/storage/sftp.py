"""Backups behind ``sftp://``: the meaning of the URL, and the connection.

The host may be an alias of ``~/.ssh/config``, as for ``ssh`` and ``sftp`` themselves. A path may
hold any character: ``#`` and ``?``, which end a path in other URLs, belong to it here. A path with
``%23`` is first tried literally, then with the escape decoded.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from qbackup.base.children import without_secrets_of_environment

_URL = re.compile(r"(?:sftp|ssh)://(?P<server>[^/]*)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)
_SERVER = re.compile(
    r"(?:(?P<user>[^:@]*)(?::(?P<password>.*))?@)?(?P<host>\[[^\]@]+\]|[^:@\[\]\s?#]+)"
    r"(?::(?P<port>\d{1,5}))?"
)
_CONFIG = "~/.ssh/config"
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Address:
    """Place of a backup on another machine, and the way to it.

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
    """Tells if `open_sftp` reads this URL."""
    return _URL.fullmatch(url) is not None


def parse_address(url: str) -> Address:
    """Parses a URL. Raises ValueError where it makes no sense."""
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
    """Applies the user's ssh configuration of its host to an address.

    Args:
        address: from the URL; its values take precedence.
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
    """Makes the ``ssh`` command for a proxy: the last jump host connects to the target."""
    *first, last = jump.split(",")
    through = ["-J", ",".join(first)] if first else []
    name, colon, number = last.rpartition(":")
    with_port = ["-p", number] if colon and number.isdigit() else []
    target = f"[{host}]:{port or 22}"
    words = ["ssh", *through, *with_port, "-W", target, "--", name if with_port else last]
    return shlex.join(words)


def read_config() -> Any:
    """Reads the user's ssh configuration; None if there is none. Raises paramiko's exceptions."""
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
        """Reads several (offset, size) ranges, in order, with all requests sent at once."""
        return self._file.readv(parts)

    def close(self) -> None:
        """Closes file and connection. Never raises."""
        for closable in (self._file, self._client):
            with contextlib.suppress(Exception):
                closable.close()


def open_sftp(address: Address) -> RemoteFile:
    """Connects and opens the file.

    Raises:
        FileNotFoundError: there is no such file.
        ConnectionError: the machine can't be reached; the message gives the reason.
        Exception: any other error of paramiko.
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
    """Gives the path itself if it exists, else the path with its escapes decoded."""
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
        proxy = None
        if address.proxy:
            proxy = paramiko.ProxyCommand(without_secrets_of_environment(address.proxy))
        client = paramiko.SSHClient()
        client.load_system_host_keys()
        # an unknown server needs no trust: all data from it are authenticated, like a drive's
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
    except OSError as error:  # a missing program or key must not look like a missing backup
        raise ConnectionError(f"can't connect: {error}") from None
    return client
