"""The readings of a passphrase file: the passphrases that its bytes can mean, in order.

The bytes as they are come first, so whoever has a file that fits never pays for another
derivation. Then follow the accidents that change a passphrase on its way into a file: white
space at the end of its line, an editor's byte order mark, another encoding than UTF-8, accented
letters in Unicode's other form. A passphrase of plain ASCII letters has no second reading.

No I/O here, and no passphrase in any text: `Reading.remark` says what was done to the bytes.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from qbackup.base.errors import UsageError

READINGS_LIMIT = 8  # of one source: each costs a derivation where the passphrase is wrong

_LINE_END = re.compile(r"\r\n|\r|\n")
_BYTE_ORDER_MARK = "\ufeff"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_FORMS: tuple[tuple[Literal["NFC", "NFD"], str], ...] = (
    ("NFC", "composed"),
    ("NFD", "decomposed"),
)


@dataclass(frozen=True)
class Reading:
    """A passphrase that a source can mean.

    Args:
        passphrase: the bytes that a key is derived from.
        remark: a sentence for the user where this is the passphrase; ``""`` for the bytes as they
            are.
        note: a sentence for the user before this reading is tried; ``""`` for none.
    """

    passphrase: bytes = field(repr=False)
    remark: str = ""
    note: str = ""


def readings_of_file(data: bytes, what: str) -> Iterator[Reading]:
    """The passphrases that a file, or a program's output, can mean; each once.

    Args:
        data: the whole content.
        what: the source, for messages.

    Raises:
        UsageError: the bytes can be no passphrase.
    """
    seen: set[bytes] = set()
    for text, changes in _texts(data, what):
        line, has_more = _first_line(text)
        if not line:
            raise UsageError(
                f"the first line of {what} is empty" if has_more else f"{what} is empty"
            )
        note = f"{what} has several lines: only the first one is used, as Qubes' own tools do"
        for passphrase, more in _variants(line, what):
            if passphrase not in seen and len(seen) < READINGS_LIMIT:
                seen.add(passphrase)
                yield Reading(passphrase, _remark([*changes, *more]), note if has_more else "")
    if not seen:
        raise UsageError(f"{what} is not text: it has a NUL byte")


def readings_of_text(text: bytes, what: str) -> Iterator[Reading]:
    """The passphrases that a typed line can mean: itself, then in Unicode's other forms.

    Args:
        text: the line, not empty.
        what: the source, for messages.
    """
    seen: set[bytes] = set()
    for passphrase, changes in [(text, []), *_forms(_decoded(text), what)]:
        if passphrase not in seen:
            seen.add(passphrase)
            yield Reading(passphrase, _remark(changes))


def _texts(data: bytes, what: str) -> Iterator[tuple[str, list[str]]]:
    """Texts that the bytes can be, each with the changes that lead to it."""
    utf_16 = _as_utf_16(data)
    if b"\0" not in data:  # the scrypt program reads no further
        yield _decoded(data), []
        if _decoded(data).startswith(_BYTE_ORDER_MARK):
            text = _decoded(data).removeprefix(_BYTE_ORDER_MARK)
            yield text, [f"the byte order mark of {what} was left out"]
        elif utf_16 is None and not _is_utf_8(data):
            yield _as_latin_1(data), [f"{what} was read as Latin-1 (Windows-1252)"]
    if utf_16 is not None:
        yield utf_16, [f"{what} was read as UTF-16"]


def _as_utf_16(data: bytes) -> str | None:
    """The text, where a mark or the place of the NUL bytes says that the file is UTF-16."""
    if data.startswith(_UTF_16_MARKS):
        name = "utf-16"
    elif b"\0" in data:
        name = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
    else:
        return None
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode(name)
        return None if "\0" in text else text
    return None


def _as_latin_1(data: bytes) -> str:
    """The text in Windows' form of Latin-1, which has letters where Latin-1 has control codes."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _variants(line: str, what: str) -> Iterator[tuple[bytes, list[str]]]:
    """A line as it is, without white space at its end, then both in Unicode's other forms."""
    stripped = line.rstrip()  # as Qubes' own tools do
    shorter = [(stripped, [f"white space at the end of {what} was left out"])]
    lines: list[tuple[str, list[str]]] = [(line, []), *(shorter if stripped else [])]
    for text, changes in lines:
        yield _encoded(text), changes
    if line.startswith(_BYTE_ORDER_MARK):  # the same line without the mark follows
        return
    for text, changes in lines:
        for passphrase, more in _forms(text, what):
            yield passphrase, [*changes, *more]


def _forms(text: str, what: str) -> Iterator[tuple[bytes, list[str]]]:
    """The text with accented letters as one character each, and as letter and accent."""
    for form, name in _FORMS:
        changes = [f"the accented letters of {what} were {name} (Unicode {form})"]
        yield _encoded(unicodedata.normalize(form, text)), changes


def _first_line(text: str) -> tuple[str, bool]:
    """The first line; True if more than white space follows."""
    line, *rest = _LINE_END.split(text, maxsplit=1)
    return line, any(part.strip() for part in rest)


def _remark(changes: list[str]) -> str:
    return f"{'; '.join(changes)}: with that the passphrase fits" if changes else ""


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
