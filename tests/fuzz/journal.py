"""The journal: any file in its place, and any text under a right MAC.

Only who has the passphrase can make the second, but that is also who hands out a backup, with a
folder that he has prepared beside it.
"""

from __future__ import annotations

import hmac
import os
import tempfile
from pathlib import Path

from qbackup.restore.resume.journal import JOURNAL_NAME, Journal
from qbackup.restore.resume.records import Codec, Record
from tests.fuzz.common import LIMITS
from tests.fuzz.tree import scratch

_KEY = bytes(range(32))
CODEC = Codec(_KEY)
_ID = CODEC.line("ready", Record(qube="", name="", kind="file", size=0, sha256="", chunks=0))[:16]
NEW = Record(qube="new", name="a", kind="file", size=1, sha256="00" * 32, chunks=1, refused=())


def check(data: bytes) -> None:
    """A line is believed whole or not at all, and no file keeps a new line from being read."""
    lines = data.split(b"\n")
    for line in lines:
        CODEC.parse(line)
        _check_record(sealed(line))
    _check_journal(data)
    _check_journal(b"\n".join(sealed(line) if line[:1] == b"{" else line for line in lines))


def sealed(text: bytes) -> bytes:
    """The line of any text, with the MAC that it takes."""
    mac = hmac.digest(_KEY, b"record " + text, "sha256").hex().encode()
    return b"%s %s %s" % (_ID, mac, text)


def _check_record(line: bytes) -> None:
    known = CODEC.parse(line)
    if known is None:
        return
    state, record = known
    assert state in ("ready", "whole")
    assert record.kind in ("file", "folder")
    assert all(type(text) is str for text in (record.qube, record.name, record.sha256))
    assert all(type(number) is int and number >= 0 for number in (record.size, record.chunks))
    assert all(type(path) is type(why) is str for path, why in record.refused)
    assert CODEC.parse(CODEC.line(state, record)[:-1]) == known


def _check_journal(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="qbackup-fuzz-", dir=scratch()) as folder:
        path = Path(folder, JOURNAL_NAME)
        path.write_bytes(data)
        path.chmod(0o600)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            warnings = _add(fd, NEW)
            assert len(data) <= LIMITS.journal or warnings
            text = path.read_bytes()
            assert text[: len(data)] == data
            assert _finds(fd, NEW) or warnings
        finally:
            os.close(fd)


def _open(folder: int, warnings: list[str]) -> Journal:
    return Journal(folder, _KEY, limit=LIMITS.journal, warn=warnings.append)


def _add(folder: int, record: Record) -> list[str]:
    warnings: list[str] = []
    journal = _open(folder, warnings)
    journal.ready(record)
    journal.whole(record)
    assert not journal.is_whole(record) or journal.find(record.qube, record.name) == record
    journal.close()
    return warnings


def _finds(folder: int, record: Record) -> bool:
    journal = _open(folder, [])
    found = journal.is_whole(record)
    journal.close()
    return found
