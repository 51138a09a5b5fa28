"""Backups that are named by a URL, as binary files: any URL that fsspec opens, and ``sftp://``.

Each request goes over a network, so requests are few and large. A small read also fetches the
bytes behind it, because the next small reads need them. A large read is cut into blocks, so that
the library's own copy of a block takes little memory. A server is trusted as little as a drive.
"""

from __future__ import annotations

import contextlib
import errno
import io
import re
import sys
from collections import OrderedDict
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from qbackup.base.errors import MachineError, UsageError
from qbackup.storage.sftp import is_sftp, open_sftp, parse_address, read_config, with_config
from qbackup.storage.url_secrets import TORN_ADVICE, is_torn, printable, without_secrets

# with fsspec's simplecache::http://…, and with a slip that would show a password as a path
_SLIP = re.compile(r"(?:https?|s?ftp|ssh|s3):/(?!/)", re.IGNORECASE)
_URL = re.compile(rf"(?:[a-z][a-z0-9+.-]*::)*[a-z][a-z0-9+.-]+://|{_SLIP.pattern}", re.IGNORECASE)
_NOT_FOUND, _PART = 404, 206  # of HTTP
_SMALL = 16 * 1024
_WINDOW = 128 * 1024  # fetched for a small read: headers, and the beginning of the data
_WINDOWS = 16
_PIECE = 8 * 1024**2
_TRIES = 3
_CONNECT_SECONDS, _SILENCE_SECONDS = 30, 60
_END_SECONDS = 0.3
_NEEDED = "a backup on another machine needs: pip install 'fsspec[http,sftp]'"
_NOTHING = "the server sends nothing where the backup should go on"
_TOO_MUCH = "the server sends more than was asked for"


def is_url(source: object) -> bool:
    """Tells if this names a backup on another machine, and no file here."""
    return isinstance(source, str) and _URL.match(source) is not None


def open_url(url: str) -> BinaryIO:
    """Opens a URL: a seekable file, or a stream if the server can't give ranges.

    Raises:
        UsageError: there is no such file or protocol, or a package that is needed is not installed.
        MachineError: the server can't be reached, or refuses.
    """
    if _SLIP.match(url):
        raise UsageError("a URL has two slashes behind its first colon, e.g. https://HOST/BACKUP")
    open_it = _open_sftp if is_sftp(url) else _open_any
    try:
        return cast(BinaryIO, open_it(url))
    except (ValueError, ImportError) as error:  # an unknown protocol; a package that is missing
        raise UsageError(_shown(error, url), file=without_secrets(url)) from error
    except Exception as error:  # of any class: every protocol has its own
        reason = _first(error)
        if isinstance(reason, FileNotFoundError) or getattr(reason, "status", 0) == _NOT_FOUND:
            raise UsageError("there is no such file", file=without_secrets(url)) from error
        raise MachineError(
            f"can't open the backup: {_shown(reason, url)}", file=without_secrets(url)
        ) from error


def end_requests() -> None:
    """Cancels all requests that are under way, at the end of a program that has no others.

    After Ctrl-C some still are. If Python's own end destroyed them, asyncio would print a complaint
    for each.
    """
    fsspec_asyn = sys.modules.get("fsspec.asyn")
    if fsspec_asyn is None:
        return
    import asyncio

    with contextlib.suppress(Exception):  # whatever they end with, nobody waits for it
        loop = fsspec_asyn.loop[0]
        if loop is not None and loop.is_running():
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(_END_SECONDS)


async def _cancel_all() -> None:
    import asyncio

    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _open_any(url: str) -> io.RawIOBase:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(_NEEDED) from error
    urlsplit(url)  # raises ValueError for a broken URL, which not every protocol checks
    filesystem, path = url_to_fs(url, **_options(url))
    return _opened(filesystem, path)


def _open_sftp(url: str) -> io.RawIOBase:
    try:
        import paramiko  # noqa: F401
    except ImportError as error:
        raise ImportError(_NEEDED) from error
    address = parse_address(url)
    config = read_config()
    if config is not None:
        address = with_config(address, config)
    file = open_sftp(address)
    return _Ranged(file, file.size)


def _options(url: str) -> dict[str, Any]:
    """Gives the options for fsspec.

    By default aiohttp ends an answer after five minutes, even while data flow; a whole backup in
    one answer takes longer.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


def _opened(filesystem: Any, path: str) -> io.RawIOBase:
    file = filesystem.open(path, "rb", cache_type="none")
    size = getattr(file, "size", None)
    if not isinstance(size, int):  # some file systems give the size only by another request
        size = filesystem.info(path).get("size")
    if isinstance(size, int):
        ranged = _Ranged(file, size)
        if ranged.knows_ranges():
            return ranged
    file.close()
    return _Streamed(filesystem.open(path, "rb", block_size=0))


def _first(error: BaseException) -> BaseException:
    """Gives the first cause of an error: HTTP's "not found" may stand for any other trouble."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _shown(error: BaseException, url: str) -> str:
    """Describes an error in one line, without the secrets in the URL."""
    status = getattr(error, "status", None)  # of HTTP
    if isinstance(status, int):
        message = getattr(error, "message", "")
        answer = f"answers {status} {message}" if status else "redirects without end"
        return printable(f"the server {answer}".rstrip())
    if is_torn(url):  # the text may have a part of the password for a host, a port or a path
        return f"{TORN_ADVICE} ({type(error).__name__})"
    return printable(str(error).replace(url, without_secrets(url)) or type(error).__name__)


def _words(error: Exception) -> str:
    return printable(str(error) or type(error).__name__)


class _Raw(io.RawIOBase):
    """A file of fsspec's. All its exceptions are reported as an error of a device.

    So a failed read is repeated like that of a drive, and if it fails for good, one chunk is lost.
    """

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        """Returns True: the file can be read."""
        return True

    def close(self) -> None:
        """Closes the file. Errors of fsspec are ignored."""
        if not self.closed:
            with contextlib.suppress(Exception):
                self._file.close()
        super().close()

    def _failed(self, error: Exception) -> OSError:
        return OSError(errno.EIO, _words(error))


class _Ranged(_Raw):
    """A file that can be read anywhere.

    Args:
        file: of fsspec's.
        size: its length in bytes.
    """

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file)
        self._size = size
        self._position = 0
        self._windows: OrderedDict[int, bytes] = OrderedDict()  # by offset

    def knows_ranges(self) -> bool:
        """Tells if the server gives only a range of the file where one is requested."""
        if self._size < 2:
            return False
        for _ in range(_TRIES):  # the other choice is a pipe, which ends for good at any error
            with contextlib.suppress(OSError):
                return bool(self._fetch(self._size - 1, 1))
        return False

    def seekable(self) -> bool:
        """Returns True: the file can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Sets the position; returns it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        """Returns the position."""
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Reads up to a buffer full at the position; returns the number of bytes, 0 at the end."""
        view = memoryview(buffer)
        size = min(len(view), self._size - self._position, _PIECE)
        if size <= 0:
            return 0
        data = self._small(size) if size <= _SMALL else self._fetch(self._position, size)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _small(self, size: int) -> bytes:
        start = self._position
        for offset, window in self._windows.items():
            if offset <= start and start + size <= offset + len(window):
                return window[start - offset : start - offset + size]
        window = self._fetch(start, min(_WINDOW, self._size - start))
        self._windows[start] = window
        if len(self._windows) > _WINDOWS:
            self._windows.popitem(last=False)
        return window[:size]

    def forget(self) -> None:
        """Drops all bytes that are kept, so that the next read asks the server."""
        self._windows.clear()

    def _fetch(self, start: int, size: int) -> bytes:
        try:
            data = self._fetch_any(start, size)
            if len(data) > size:
                raise ValueError(_TOO_MUCH)
            if not data:  # the file's length is known, and its end is not here
                raise ValueError(_NOTHING)
        except Exception as error:
            raise self._failed(error) from error
        return data

    def _fetch_any(self, start: int, size: int) -> bytes:
        if hasattr(self._file, "readv"):  # paramiko's, which sends many requests at once
            return b"".join(self._file.readv([(start, size)]))
        if hasattr(self._file, "async_fetch_range"):
            return _http_part(self._file, start, size)
        self._file.seek(start)
        return bytes(self._file.read(size))


def _http_part(file: Any, start: int, size: int) -> bytes:
    """Fetches a range by a request of its own: fsspec would read a body of any length."""
    from fsspec.asyn import sync

    return cast(bytes, sync(file.loop, _http_part_of, file, start, size))


async def _http_part_of(file: Any, start: int, size: int) -> bytes:
    options = dict(file.kwargs)
    headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
    headers["Range"] = f"bytes={start}-{start + size - 1}"
    response = await file.session.get(file.fs.encode_url(file.url), headers=headers, **options)
    async with response:
        response.raise_for_status()
        place = response.headers.get("Content-Range", f"bytes {start}-")
        if response.status != _PART or not place.startswith(f"bytes {start}-"):
            raise ValueError("the server does not send the part that was asked for")
        data = bytearray()
        while len(data) <= size and (more := await response.content.read(size + 1 - len(data))):
            data += more
        return bytes(data)


class _Streamed(_Raw):
    """A file that can be read only once, from its beginning."""

    def readinto(self, buffer: Any, /) -> int:
        """Reads up to a buffer full at the position; returns the number of bytes, 0 at the end."""
        view = memoryview(buffer)
        try:
            data = self._file.read(min(len(view), _PIECE))
        except Exception as error:  # of any class; the bytes behind can't be asked for again
            raise ConnectionResetError(errno.ECONNRESET, _words(error)) from error
        view[: len(data)] = data
        return len(data)
