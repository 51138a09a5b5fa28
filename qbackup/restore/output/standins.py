"""Names that stand in for those that can't be made; the same name always gets the same ones.

A stand-in shows the name: ``b:b.txt`` becomes ``b%3Ab.txt``. Each byte of a character that is in
the way is written as a percent sign and two hexadecimal digits. Two kinds of names get a stand-in:

* Names that a restore needs for itself, on every file system: ``qubes.xml`` stands in the output
  folder, and ``NAME.part`` is the name of an unfinished file. See `without_reserved`. A percent
  sign that could be taken for part of a stand-in is replaced as well, so no two names get the same
  stand-in.
* Names that the file system refuses, or takes for a name that is there already. See `stand_ins`:
  the caller tries one after the other, and never replaces anything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from qbackup.base.names import COMPONENT_LIMIT_BYTES, encode, is_reserved
from qbackup.restore.output.side_names import PART_SUFFIX

_SHORT = 64
# Characters that Windows, NTFS, exFAT or FAT refuse in names, and bytes that are not UTF-8.
_UNUSUAL = re.compile('["*:<>?|\\\\%\0-\x1f\x7f\udc80-\udcff]|[. ]\\Z')
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|\.\Z")
_ESCAPE = re.compile("%(?=[0-9A-Fa-f]{2})")


def stand_ins(name: str) -> Iterator[str]:
    """Yields names to try instead of one component that can't be made, the most readable first."""
    usual = _UNUSUAL.sub(_escaped, name)
    plain = _UNSAFE.sub(_escaped, name)
    mark = hashlib.sha256(encode(name)).hexdigest()[:16]
    tried = {name}
    for other in (usual, _first_escaped(usual), _first_escaped(plain), f"{plain[:_SHORT]}%{mark}"):
        if other not in tried and len(encode(other)) <= COMPONENT_LIMIT_BYTES:
            tried.add(other)
            yield other


def without_reserved(qube: str, file: str) -> str:
    """Gives the path of a qube's file below the output folder, without reserved components.

    Args:
        qube: name of the qube.
        file: the file's path in the qube; ``""`` for the qube's whole folder.
    """
    first = _unreserved(qube)
    if first == qube and is_reserved(qube):
        first = _dot_escaped(qube)
    rest = [_unreserved(component) for component in file.split("/")] if file else []
    return "/".join([first, *rest])


def _unreserved(component: str) -> str:
    escaped = _ESCAPE.sub("%25", component)
    return _dot_escaped(escaped) if escaped.lower().endswith(PART_SUFFIX) else escaped


def _dot_escaped(name: str) -> str:
    """Escapes a name's last dot; where there is none, its first character."""
    before, dot, after = name.rpartition(".")
    return f"{before}%2E{after}" if dot else _first_escaped(name)


def _first_escaped(name: str) -> str:
    """Escapes a name's first character, unless that is a percent sign."""
    return name if name.startswith("%") else _escape(name[:1]) + name[1:]


def _escaped(match: re.Match[str]) -> str:
    return _escape(match[0])


def _escape(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in encode(text))
