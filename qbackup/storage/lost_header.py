"""Members whose tar headers are lost, though their bytes are there: what stands beside names them.

Between chunk 4 and chunk 6 of a file only chunk 5 can stand. All chunks of a file but the last have
the same length, so place and length of the lost member are known if its archive, padded as Qubes
pads each one, just fills the gap. That is a guess like any header. A MAC decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qbackup.storage.archive_padding import RECORD_SIZE
from qbackup.storage.scan import StoredMember
from qbackup.storage.tar.fields import BLOCK_SIZE

_NUMBERED = re.compile(r"(.*\.)(\d{3,})(\.enc|\.hmac)?", re.DOTALL)
_HMAC = ".hmac"
_HEADERS_SIZE = 3 * BLOCK_SIZE  # as Qubes writes them: a pax header, its records, the header


@dataclass(frozen=True)
class _Numbered:
    """Name of a chunk's member, or of its HMAC, in parts."""

    stem: str
    number: int
    suffix: str

    @classmethod
    def parse(cls, name: str) -> _Numbered | None:
        match = _NUMBERED.fullmatch(name)
        return cls(match[1], int(match[2]), match[3] or "") if match is not None else None

    def __str__(self) -> str:
        return f"{self.stem}{self.number:03d}{self.suffix}"


class LostHeaders:
    """Members around broken places of an archive."""

    def __init__(self) -> None:
        self._before: list[StoredMember] = []  # the last three members
        self._expected = 0  # offset at which the next header should stand
        self._is_broken = False
        self._guess: StoredMember | None = None

    def note(self, member: StoredMember) -> None:
        """Notes a member in front of what comes next."""
        self._before = [*self._before[-2:], member]
        self._expected = _end(member.offset - _HEADERS_SIZE, member.size)
        self._is_broken = False

    def note_break(self, guess: StoredMember | None = None) -> None:
        """Notes that no whole header stands behind the last member.

        Args:
            guess: the member that a broken header there names; None: there is none.
        """
        self._is_broken = True
        self._guess = guess

    def infer(self, found: StoredMember) -> StoredMember | None:
        """Infers the one member between the last one and the one found behind the broken place."""
        if not self._is_broken or not self._before:
            return None
        here, there = (_Numbered.parse(member.name) for member in (self._before[-1], found))
        if there is None:
            return None
        lost = _between(here, there)
        start = found.offset - _HEADERS_SIZE
        for like in (*self._before, found) if lost is not None else ():
            if _is_as_long(lost, like.name) and _end(self._expected, like.size) == start:
                member = StoredMember(str(lost), self._expected + _HEADERS_SIZE, like.size)
                return member if member != self._guess else None
        return None


def _is_as_long(lost: _Numbered | None, name: str) -> bool:
    """Tells if a member must have the length of another: chunks of one file, and all HMACs."""
    known = _Numbered.parse(name)
    if lost is None or known is None or known.suffix != lost.suffix:
        return False
    return known.stem == lost.stem or known.suffix == _HMAC


def _end(start: int, size: int) -> int:
    """Gives the end of a member's own archive, as GNU tar pads it."""
    length = _HEADERS_SIZE + size + -size % BLOCK_SIZE + 2 * BLOCK_SIZE
    return start + length + -length % RECORD_SIZE


def _between(before: _Numbered | None, behind: _Numbered) -> _Numbered | None:
    """Names the one member that can stand between two."""
    if behind.suffix == _HMAC:  # its chunk
        lost = _Numbered(behind.stem, behind.number, "")
        return None if lost == before else lost
    is_one_file = before is not None and before.stem == behind.stem
    if before is not None and is_one_file and behind.number == before.number + 1:
        # a chunk behind another: its HMAC is lost, where there are any
        return _Numbered(before.stem, before.number, _HMAC) if not before.suffix else None
    if is_one_file or behind.number == 1:
        return _Numbered(behind.stem, behind.number - 1, behind.suffix) if behind.number else None
    return None
