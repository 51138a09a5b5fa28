"""Warnings of one backup, in words; a hostile backup can't make the list long."""

from __future__ import annotations

_WARNINGS_LIMIT = 1000
_MORE = "more warnings follow, which are left out"


class WarningList:
    """List of warnings with a bound.

    Attributes:
        texts: the warnings until now.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._noted: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Adds a warning, or, once, a note that more were left out."""
        if len(self.texts) < _WARNINGS_LIMIT:
            self.texts.append(text)
        elif len(self.texts) == _WARNINGS_LIMIT:
            self.texts.append(_MORE)

    def note(self, key: str, text: str) -> None:
        """Adds a warning, or puts it in the place of the last one with the same key."""
        before = self._noted.get(key)
        self._noted[key] = text
        if before in self.texts:
            self.texts[self.texts.index(before)] = text
        else:
            self.texts.append(text)
