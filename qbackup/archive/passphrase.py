"""Passphrase as callers give it, and as bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeAlias

from qbackup.base.errors import UsageError

Passphrase: TypeAlias = str | bytes | Callable[[], str | bytes]


def passphrase_bytes(passphrase: Passphrase) -> bytes:
    """Gives the passphrase as bytes; text is encoded in UTF-8, and a callable is called once.

    Raises:
        UsageError: this is no str or bytes, or the text can't be written in UTF-8.
    """
    given = passphrase() if callable(passphrase) else passphrase
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str):
        raise UsageError(f"the passphrase is a str or bytes, not {type(given).__name__}")
    with contextlib.suppress(UnicodeEncodeError):  # the error would show the whole passphrase
        return given.encode("utf-8", "surrogateescape")
    raise UsageError("the passphrase has characters that can't be written in UTF-8")
