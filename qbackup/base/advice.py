"""Sentences of advice that errors and reports have in common."""

from __future__ import annotations

DAMAGED = (
    "try another copy of the backup; restore with --keep-damaged leaves what could be verified"
)
ARCHIVE_DAMAGED = (
    "was it copied to its end? Compare its length with the original's; --salvage looks for"
    " what follows behind a broken place"
)
