"""Lines of a journal: records are written as text with an HMAC, and read back only with the key.

    ID MAC {"state":"ready","qube":"work","name":"private.img","kind":"file", …}

ID shows the line's backup: 16 hexadecimal digits from the key, so that the lines of several
backups can stand in one journal. MAC is HMAC-SHA-256 over the rest of the line, byte by byte.
The key comes from the backup's passphrase and is bound to its header and its list of
qubes (`qbackup.crypto.subkeys`), and the file's own name is in the line. So no line can be made,
changed, or carried over from another backup or another file without the passphrase.

A record describes a file of this backup, and does not claim that the file is there. The description
never changes, so lines may come twice, in any order, or be lost. No line is believed before the
file itself was read.
"""

from __future__ import annotations

import hmac
import itertools
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from qbackup.restore.output.digest import BLOCKWISE, FORMS

Kind = Literal["file", "folder"]
# ready: verified to its end, and about to be renamed; whole: renamed, and synced to the disk
State = Literal["ready", "whole"]

_NAMES = re.compile(rb'\{"state":"[a-z]+","qube":("(?:[^"\\]|\\.)*"),"name":("(?:[^"\\]|\\.)*")')
LINE_LIMIT = 64 * 1024
_REFUSED_LIMIT = 32 * 1024
_NOTES_LIMIT = 16 * 1024
_USUAL: dict[str, object] = {"form": BLOCKWISE, "modes": True, "notes": []}
_ID_SIZE = 16
_MAC_SIZE = 64
_HEAD_SIZE = _ID_SIZE + 1 + _MAC_SIZE + 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """Description of a restored file.

    Args:
        qube: name of its qube.
        name: name of the file.
        kind: a file, or a folder archive.
        size: length in bytes; for a folder, of all its files together.
        sha256: the hash of `qbackup.restore.output.digest`, in hexadecimal digits.
        form: form of that hash; the lines of earlier versions have none, and their form.
        chunks: number of chunks that the file came from.
        refused: (path, reason) of a folder's entries that were not made.
        modes: the hash of a folder includes modes; False where the file system keeps none.
        notes: sentences on a folder's entries that were left out or changed on purpose.
    """

    qube: str
    name: str
    kind: Kind
    size: int
    sha256: str
    chunks: int
    form: int = BLOCKWISE
    refused: tuple[tuple[str, str], ...] = ()
    modes: bool = True
    notes: tuple[str, ...] = ()


class Codec:
    """Encoder and decoder of one backup's lines.

    Args:
        key: key of this backup's journal.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._id = hmac.digest(key, b"id", "sha256").hex()[:_ID_SIZE].encode("ascii")

    def line(self, state: State, record: Record) -> bytes:
        """Gives the line of a record, with its newline."""
        fields = {"state": state, **vars(record), "refused": _shortened(record.refused)}
        fields["notes"] = _fitting(record.notes)
        for name, usual in _USUAL.items():  # left out, as in the lines of earlier releases
            if fields[name] == usual:
                del fields[name]
        text = json.dumps(fields, separators=(",", ":")).encode("ascii")
        return b"%s %s %s\n" % (self._id, self._mac(text), text)

    def is_own(self, line: bytes) -> bool:
        """Tells if a line has this backup's ID; its MAC is not checked here."""
        return line[: _ID_SIZE + 1] == self._id + b" "

    def parse(self, line: bytes) -> tuple[State, Record] | None:
        """Gives the record of a line without its newline; None if not authentic or not a record."""
        text = line[_HEAD_SIZE:]
        mac = line[_ID_SIZE + 1 : _HEAD_SIZE]
        if not self.is_own(line) or not hmac.compare_digest(mac, self._mac(text) + b" "):
            return None
        return _record(text)

    def _mac(self, text: bytes) -> bytes:
        return hmac.digest(self._key, b"record " + text, "sha256").hex().encode("ascii")


def _record(text: bytes) -> tuple[State, Record] | None:
    """Gives the record in an authentic line; None if there is none.

    Authentic lines are checked too, as the backup and its passphrase may come from a stranger, and
    with the passphrase any line can be made.
    """
    try:
        fields: dict[str, Any] = json.loads(text)
        state, refused = fields.pop("state"), fields.pop("refused")
        notes = fields.pop("notes", [])
        if type(notes) is not list:
            return None
        pairs = tuple((path, reason) for path, reason in refused)
        record = Record(**fields, refused=pairs, notes=tuple(notes))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return (state, record) if state in get_args(State) and _is_plain(record) else None


def _is_plain(record: Record) -> bool:
    """Tells if each field has its type."""
    texts = [record.qube, record.name, record.sha256, *itertools.chain(*record.refused)]
    texts += record.notes
    numbers = (record.size, record.chunks)
    return (
        record.kind in get_args(Kind)
        and type(record.modes) is bool
        and type(record.form) is int
        and record.form in FORMS
        and all(type(text) is str for text in texts)
        and all(type(number) is int and number >= 0 for number in numbers)
    )


def untrusted_name(line: bytes) -> str | None:
    """Gives QUBE/NAME from a line that anybody may have written; None if there is none."""
    match = _NAMES.match(line, _HEAD_SIZE)
    if match is None:
        return None
    try:
        qube, name = (json.loads(text) for text in match.groups())
    except ValueError:
        return None
    return f"{qube}/{name}"


def _shortened(refused: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Gives as many refusals as a line has room for, and the number of the rest."""
    kept: list[tuple[str, str]] = []
    size = 0
    for path, reason in refused:
        size += len(json.dumps((path, reason)))
        if size > _REFUSED_LIMIT:
            kept.append(("*", f"{len(refused) - len(kept)} more, not named one by one"))
            break
        kept.append((path, reason))
    return kept


def _fitting(notes: tuple[str, ...]) -> list[str]:
    """Gives as many notes as a line has room for, and the number of the rest."""
    kept: list[str] = []
    size = 0
    for note in notes:
        size += len(json.dumps(note))
        if size > _NOTES_LIMIT:
            kept.append(f"{len(notes) - len(kept)} more notes, not given one by one")
            break
        kept.append(note)
    return kept
