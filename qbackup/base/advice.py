"""Sentences of advice that errors and reports have in common."""

from __future__ import annotations

DAMAGED = (
    "try another copy of the backup; restore with --keep-damaged leaves what could be verified"
)
ARCHIVE_DAMAGED = (
    "was the backup copied to its end? Compare its length with the original's; --salvage looks for"
    " members behind a broken place"
)
