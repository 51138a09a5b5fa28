"""Sentences of advice that errors and reports have in common."""

from __future__ import annotations

ANOTHER_COPY = "try another copy of the backup"
DAMAGED = f"{ANOTHER_COPY}; restore --keep-damaged saves the parts that could be verified"
ARCHIVE_DAMAGED = (
    "was the backup copied completely? Compare its size with the original's; --salvage looks for"
    " files behind a damaged place"
)
REPAIR = "there are recovery blocks beside the backup, which may repair all of this: {}"
