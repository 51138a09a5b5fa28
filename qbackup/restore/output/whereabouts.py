"""Path of a backup's file in the output folder.

The path is QUBE/FILE, unless a name there is needed by the restore itself (`standins`), or the file
system refuses a name or takes it for another file's name.
"""

from __future__ import annotations

import contextlib
import itertools

from qbackup.base.names import display, encode, without_dot
from qbackup.restore.output.folders import Folders, have_folder
from qbackup.restore.output.naming import listed_as
from qbackup.restore.output.standins import stand_ins, without_reserved
from qbackup.restore.sinks import CannotWrite, NameRefused


def plain_path(qube: str, name: str) -> list[str]:
    """Gives the components of QUBE/FILE."""
    name = without_dot(name)
    return [*(qube.split("/") if qube else []), *(name.split("/") if name else [])]


def path_of(qube: str, name: str) -> list[str]:
    """Gives the components of a file's path in the output folder, before any is refused there."""
    if not qube:  # a name that the restore, or the user, has chosen
        return plain_path(qube, name)
    return without_reserved(qube, without_dot(name)).split("/")


def make_parents(folders: Folders, names: list[str]) -> list[str]:
    """Makes the folders above a file that are not there; returns the names of all of them."""
    there: list[str] = []
    for name in names:
        there.append(_have_folder(folders.open(there), name))
    return there


def _have_folder(folder: int, name: str) -> str:
    for candidate in itertools.chain((name,), stand_ins(name)):
        with contextlib.suppress(NameRefused):
            if have_folder(folder, candidate):
                return candidate
    raise CannotWrite(f"its folder {display(name)} can't be made here: no name can be had for it")


def name_there(folder: int, name: str, is_known: bool) -> str:
    """Gives the name that an entry has in an open folder, or would get."""
    there = listed_as(folder, encode(name))
    if there == name or (there is None and not is_known):
        return name
    others = list(stand_ins(name))
    for other in others:
        if listed_as(folder, encode(other)) == other:
            return other
    return name if there is None else others[0]
