"""Puts file systems of other partitions into their places in a tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from qbackup.base.errors import NotInImage
from qbackup.base.names import display
from qbackup.image.faults import ENTRY_ERRORS
from qbackup.image.mount_plan import Mount
from qbackup.image.node import Node
from qbackup.image.tree import ImageTree


def mount_all(tree: ImageTree, plan: Callable[[], Iterable[Mount]]) -> None:
    """Mounts what a plan says. An error becomes an obstacle of the tree.

    Args:
        tree: with the file system of ``/`` alone.
        plan: gives the mounts, those above first, and may read files of the tree.
    """
    tree.is_planning = True
    try:
        mounts = list(plan())
        tree.begin_search()  # once for all mounts, or many long ways would take long
        _mount_each(tree, mounts)
    except ENTRY_ERRORS as error:
        text = f"the mounts of /etc/fstab are not shown, or not all of them: {error}"
        tree.obstacle = f"{tree.obstacle}; {text}" if tree.obstacle else text
    finally:
        tree.is_planning = False


def _mount_each(tree: ImageTree, mounts: Iterable[Mount]) -> None:
    late = [mount for mount in mounts if not mount.folder and not _mount(tree, mount)]
    for mount in mounts:
        if mount.folder:
            _bind(tree, mount)
    for mount in late:  # in a folder that was bound
        if not _mount(tree, mount):
            _note_missing(tree, mount)


def _mount(tree: ImageTree, mount: Mount) -> bool:
    """Mounts a file system; returns False if its place is not there."""
    if tree.mounts.is_place(mount.path):  # also if the mount there can't be read
        tree.mounts.add(mount.path, mount)
        return True
    node = _place(tree, mount.path)
    if node is None:
        return False
    tree.mounts.add(node.path, mount)
    return True


def _note_missing(tree: ImageTree, mount: Mount) -> None:
    """Adds a note: systemd makes such a folder, and other systems do not mount it."""
    if mount.volume is not None:
        text = f"/etc/fstab mounts {mount.volume.words} here, where there is no folder for it"
        note = dataclasses.replace(mount, volume=None, obstacle="", note=text)
        tree.mounts.add(mount.path, note)


def _place(tree: ImageTree, path: str) -> Node | None:
    """Finds the folder for a mount; None where there is none."""
    try:
        node = tree.find(path)
    except NotInImage:
        return None
    except ENTRY_ERRORS:
        tree.check_search()
        return None  # a request for this path meets the same error
    return node if node.kind == "folder" and node.path != "/" else None


def _bind(tree: ImageTree, mount: Mount) -> None:
    """Lets the place of a mount lead to the folder that is bound there."""
    place = _place(tree, mount.path)
    if place is None or tree.mounts.hides(place.path):
        return
    folder = None
    try:
        folder = tree.find(mount.folder)
    except NotInImage:
        pass
    except ENTRY_ERRORS as error:
        tree.check_search()
        text = f"this is {display(mount.folder)}, which can't be read: {error.reason}"
        mount = dataclasses.replace(mount, note="", obstacle=text)
    is_shown = folder is not None and not tree.mounts.notes(folder.path, below=False)
    tree.mounts.add(place.path, mount)
    if folder is not None and is_shown and folder.kind == "folder":
        tree.bound[place.path] = folder
