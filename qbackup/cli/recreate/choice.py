"""The choice of the qubes that a script makes, and of their new names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qbackup.archive.qube import Qube
from qbackup.base.errors import NotInBackup, UsageError
from qbackup.base.names import display
from qbackup.formats.metadata.record import DOM0_NAME

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,30}", re.ASCII)
_RESERVED = ("none", "default", "dom0", "domain-0")
_STUB_SUFFIX = "-dm"  # of the helper domain that Xen runs beside a qube


@dataclass(frozen=True)
class ChosenQubes:
    """The qubes of a script.

    Args:
        qubes: those that are asked for.
        names: old name to new name of each.
    """

    qubes: tuple[Qube, ...]
    names: Mapping[str, str]

    def new_name(self, name: str) -> str:
        """The name of a qube on the new Qubes; the old one where the script does not make it."""
        return self.names.get(name, name)


def name_fault(name: str) -> str | None:
    """The reason why Qubes would not give this name to a qube; None if it would."""
    if not _NAME.fullmatch(name):
        return "Qubes allows letters, digits, -, _ and . behind a letter, 31 at most"
    if name.lower() in _RESERVED or name.lower().endswith(_STUB_SUFFIX):
        return "Qubes keeps this name for itself"
    return None


def choose(arguments: Sequence[str], known: Iterable[Qube]) -> ChosenQubes:
    """The qubes that ``QUBE`` and ``QUBE=NEWNAME`` ask for; no argument asks for all.

    Args:
        arguments: from the command line.
        known: all qubes that ``qubes.xml`` names.

    Raises:
        NotInBackup: no such qube is in the backup.
        UsageError: a new name can't be used.
    """
    by_name = {qube.name: qube for qube in known}
    if not arguments:
        chosen = {name: name for name, qube in by_name.items() if qube.in_backup}
    else:
        chosen = _named(arguments, by_name)
    _check_distinct(chosen, by_name)
    return ChosenQubes(tuple(by_name[name] for name in chosen), chosen)


def _named(arguments: Sequence[str], by_name: Mapping[str, Qube]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for argument in arguments:
        name, equals, new_name = argument.partition("=")
        qube = by_name.get(name)
        if qube is None:
            raise NotInBackup(f"there is no qube {display(name)!r} in this backup")
        if not qube.in_backup:
            raise NotInBackup(
                f"the qube {display(name)!r} is known, but its files are not in this backup"
            )
        if equals:
            _check_new_name(name, new_name)
        if chosen.setdefault(name, new_name or name) != (new_name or name):
            raise UsageError(f"the qube {display(name)!r} is asked for under two names")
    return chosen


def _check_new_name(name: str, new_name: str) -> None:
    if name == DOM0_NAME:
        raise UsageError("dom0 can't have another name")
    fault = name_fault(new_name)
    if fault is not None:
        raise UsageError(f"no qube can be called {display(new_name)!r}: {fault}")


def _check_distinct(chosen: Mapping[str, str], by_name: Mapping[str, Qube]) -> None:
    """A reference to a qube must not lead to another one that has its name now."""
    taken: set[str] = set()
    for name, new_name in chosen.items():
        if new_name in taken:
            raise UsageError(f"two qubes would be called {display(new_name)!r}")
        taken.add(new_name)
        if new_name != name and new_name in by_name and new_name not in chosen:
            raise UsageError(
                f"{display(new_name)!r} is the name of another qube that this backup knows, and"
                " what refers to that one would mean this one: choose another name"
            )
