"""URLs and messages about them, as they may be shown: without user, password and query.

A password may hold ``/``, ``?`` or ``#``, where a URL's grammar ends the part that it stands in. So
everything up to the last ``@`` is hidden, at the price of a path that has one.
"""

from __future__ import annotations

import re

from qbackup.base.names import display

TORN_ADVICE = "an @ stands behind a /, ? or #; in a password write these as %2F, %3F and %23"
_CHAINED = re.compile(r"::(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)  # fsspec's zip::http://…
_USER = re.compile(r"(?://|(?<=:)/)(.*)@", re.DOTALL)  # a password may hold spaces and line ends
_QUERY = re.compile(r"(://[^\s?#'\"<>]*)[?#][^\s'\"<>]*")
_ENDS_SERVER = re.compile("[/?#]")


def without_secrets(url: str) -> str:
    """Makes a URL that may be shown: without user, password, and anything behind ``?``."""
    return "::".join(map(_without_secrets, _CHAINED.split(url)))


def _without_secrets(url: str) -> str:
    hidden = _USER.sub(lambda user: "//…@" if _is_torn(user[1]) else "//", url)
    return hidden.partition("?")[0].partition("#")[0]


def is_torn(url: str) -> bool:
    """Tells if an ``@`` stands where a password with ``/``, ``?`` or ``#`` in it would have it.

    A library that opens such a URL takes a part of the password for something else.
    """
    users = (_USER.search(part) for part in _CHAINED.split(url))
    return any(user is not None and _is_torn(user[1]) for user in users)


def _is_torn(user: str) -> bool:
    return _ENDS_SERVER.search(user) is not None


def printable(text: str) -> str:
    """Makes text that a server may have written safe: one line, printable, without secrets."""
    hidden = "::".join(_QUERY.sub(r"\1", _USER.sub("//", part)) for part in _CHAINED.split(text))
    return "".join(c if c == "\\" else display(c) for c in " ".join(hidden.split()))
