"""Kinds of an archive's entries, by the type in their tar headers."""

from __future__ import annotations

from typing import Literal

from qbackup.storage.tar.fields import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR_TYPES,
    SYMBOLIC_LINK,
)

Kind = Literal["file", "folder", "symlink", "hardlink", "device", "pipe", "unknown"]
KINDS: dict[bytes, Kind] = {
    **dict.fromkeys(REGULAR_TYPES, "file"),
    HARD_LINK: "hardlink",
    SYMBOLIC_LINK: "symlink",
    CHARACTER_DEVICE: "device",
    BLOCK_DEVICE: "device",
    DIRECTORY: "folder",
    FIFO: "pipe",
}
