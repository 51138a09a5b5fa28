"""Parser of the two Python literals that ``qubes.xml`` of R2 and R3 holds as text.

R2 and R3 wrote a dictionary of services and a list of PCI addresses with Python 2's ``repr``. Only
these two forms are parsed, token by token: nothing is evaluated, and nested forms are refused.
"""

from __future__ import annotations

import re

_STRING = r"[uUbB]?'(?:[^'\\\n]|\\.)*'|[uUbB]?\"(?:[^\"\\\n]|\\.)*\""
_TOKEN = re.compile(rf"\s*(?P<token>{_STRING}|True|False|None|-?\d{{1,20}}|[{{}}\[\],:])\s*", re.A)
_ESCAPE = re.compile(
    r"\\(?:x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<c>.)|$)", re.S
)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_WORDS = {"True": True, "False": False}


class NotALiteral(Exception):
    """A text has neither of the two forms. Used inside this package only."""


def parse_dict(text: str) -> dict[str, bool | str]:
    """Parses ``{'a': True, …}`` into names and values.

    Raises:
        NotALiteral: the text has another form.
    """
    result: dict[str, bool | str] = {}
    for item in _items(_tokens(text), "{", "}"):
        if len(item) != 3 or item[1] != ":" or item[2] in tuple(":{}[]"):
            raise NotALiteral
        value = item[2]
        result[_string(item[0])] = (
            _string(value) if value[-1] in "'\"" else _WORDS.get(value, value)
        )
    return result


def parse_list(text: str) -> list[str]:
    """Parses ``['a', …]`` into texts.

    Raises:
        NotALiteral: the text has another form.
    """
    items = _items(_tokens(text), "[", "]")
    if any(len(item) != 1 for item in items):
        raise NotALiteral
    return [_string(item[0]) for item in items]


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotALiteral
        tokens.append(match["token"])
        position = match.end()
    return tokens


def _items(tokens: list[str], begin: str, end: str) -> list[list[str]]:
    """Divides tokens at commas; a comma may stand behind the last item."""
    if len(tokens) < 2 or tokens[0] != begin or tokens[-1] != end:
        raise NotALiteral
    items: list[list[str]] = [[]]
    for part in tokens[1:-1]:
        if part == ",":
            items.append([])
        else:
            items[-1].append(part)
    if not items[-1]:
        items.pop()
    return items


def _string(token: str) -> str:
    """Decodes a string literal; bytes are decoded as UTF-8, the encoding of dom0's locale."""
    if not token or token[-1] not in "'\"":
        raise NotALiteral
    is_unicode = token[0] in "uU"
    text = _ESCAPE.sub(_unescaped, token[token.index(token[-1]) + 1 : -1])
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise NotALiteral
    if not is_unicode and all(char < "\u0100" for char in text):
        return text.encode("latin-1").decode("utf-8", "backslashreplace")
    return text


def _unescaped(match: re.Match[str]) -> str:
    code = match["x"] or match["u"] or match["U"]
    if code is not None:
        number = int(code, 16)
        if number > 0x10FFFF:
            raise NotALiteral
        return chr(number)
    if match["c"] not in _PLAIN:
        raise NotALiteral
    return _PLAIN[match["c"]]
