"""Properties of files that an output folder's file system does not keep, each reported once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

Property: TypeAlias = Literal[
    "locks", "permissions", "some permissions", "times", "file sync", "folder sync"
]

_BEFORE_UNPLUGGING = "eject or unmount the disk before unplugging it"
_TEXTS: dict[Property, str] = {
    "locks": (
        "the file system of the output folder has no folder locks: two restores into this folder"
        " at the same time are not kept apart, so run one after the other"
    ),
    "permissions": (
        "the file system of the output folder keeps no permissions: whoever can use that disk can"
        " read what was restored; a later run does not compare them"
    ),
    "some permissions": (
        "the file system of the output folder does not keep all permissions: some files and folders"
        " have other ones than in the backup"
    ),
    "times": (
        "the file system of the output folder does not take the times of all files and folders:"
        " some have the time of the restore"
    ),
    "file sync": (
        "the file system of the output folder can't write files to the disk on request (fsync): "
        + _BEFORE_UNPLUGGING
    ),
    "folder sync": (
        "the file system of the output folder can't write the names in folders to the disk on"
        " request (fsync): " + _BEFORE_UNPLUGGING
    ),
}


class Unkept:
    """Properties that are not kept in one output folder."""

    def __init__(self) -> None:
        self._noted: dict[Property, None] = {}

    def note(self, what: Property) -> None:
        """Notes a property, however often it is not kept."""
        self._noted[what] = None

    @property
    def texts(self) -> Sequence[str]:
        """A sentence for each property, in the order in which they were noted."""
        noted = dict(self._noted)
        if "permissions" in noted:
            noted.pop("some permissions", None)
        return tuple(_TEXTS[what] for what in noted)
