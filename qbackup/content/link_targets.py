"""Targets of symbolic links, as they were before the writer's tar changed them."""

from __future__ import annotations

from qbackup.base.names import (
    begins_as_tar_matches,
)


def original_target(target: str, path: str, *, every_link: bool) -> str:
    """Removes the prefix that ``--xform`` put before the target of a symbolic link in a folder.

    The writer calls tar with ``s:^USER:dom0-home/\\0:``, where USER is a regular expression: in a
    home ``jo.doe``, targets that begin with ``joxdoe`` got the prefix as well. Where a whole folder
    is stored the expression is ``^.``, so every target was changed. In format 2 the expression is
    ``^[^/]``, so every target that is not absolute was changed.
    """
    folder, slash, name = path.rpartition("/")
    if not target.startswith(folder + slash):
        return target
    original = target[len(folder + slash) :]
    return original if every_link or begins_as_tar_matches(name, original) else target
