"""The outer archive when it is damaged: what salvage finds."""

from __future__ import annotations

from qbackup.base.errors import QBackupError
from qbackup.formats import v3
from qbackup.formats.v4 import NAMING
from qbackup.storage.archive_padding import Warn
from qbackup.storage.catalog import SalvageCatalog
from qbackup.storage.resync import scan_past_damage
from qbackup.storage.scan import StoredMember, scan
from tests.fuzz.common import LIMITS, archives, drained, outcome, seekable
from tests.support.tarbytes import member, padded

_PLANTED = "vm9/planted.img.000.enc"
_CONTENT = b"planted"


def check(data: bytes) -> None:
    """A whole archive is read as without salvage, a broken one to its end, and never backwards."""
    for archive in archives(data):
        _check(archive)


def _say(text: str) -> None:
    """Nobody listens."""


def _check(archive: bytes) -> None:
    sound, error = drained(scan(seekable(archive), LIMITS, _say, _say))
    found, resumed = _salvaged(archive, _say)
    assert found[: len(sound)] == sound
    assert error is not None or (found == sound and not resumed)
    places = [place for place in resumed if place is not None]
    assert places == sorted(set(places))
    assert all(0 <= member.offset <= member.offset + member.size for member in found)
    outcome(lambda: _list_files(archive))
    _check_behind(archive)


def _salvaged(archive: bytes, warn: Warn) -> tuple[list[StoredMember], list[int | None]]:
    resumed: list[int | None] = []

    def broken(error: QBackupError, found: int | None) -> None:
        resumed.append(found)

    members, _ = drained(
        scan_past_damage(seekable(archive), LIMITS, warn, _say, broken, is_part=_is_part)
    )
    return members, resumed


def _is_part(name: str) -> bool:
    return NAMING.chunk(name) is not None


def _list_files(archive: bytes) -> None:
    source = seekable(archive)

    catalog = SalvageCatalog(source, LIMITS, _say, (NAMING, v3.NAMING))
    for file in catalog.files():
        assert list(file.chunks)
    catalog.header()


def _check_behind(archive: bytes) -> None:
    """A sound member behind all of it is found, unless it is said to be the data of another, or of
    something that is ignored as no regular file.
    """
    front, ignored = padded(archive), list[str]()
    found, _ = _salvaged(front + member(_PLANTED.encode(), _CONTENT), ignored.append)
    planted = StoredMember(_PLANTED, len(front) + 512, len(_CONTENT))
    swallowed = any(m.offset <= planted.offset < m.offset + m.size + 512 for m in found)
    assert planted in found or swallowed or ignored or len(found) >= LIMITS.members
