"""Backups that somebody else made, which tests share."""

from __future__ import annotations

from tests.support import vectorfiles


def passphrase_of(name: str) -> str:
    return str(vectorfiles.load(name)["passphrase"])
