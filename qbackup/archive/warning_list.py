"""Warnings of one backup, in words; a hostile backup can't make the list long."""

from __future__ import annotations

from qbackup.base.locks import Lock
from qbackup.base.notices import MemberWarning

_WARNINGS_LIMIT = 1000
_EXAMPLES = 10
_MORE = "more warnings follow, which are left out"


class WarningList:
    """List of warnings with a bound; of those on members, the first of each kind and a count."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._lock = Lock()
        self._counts: dict[str, int] = {}  # of each kind of warnings on members
        self._noted: dict[str, str] = {}  # the last warning of each key

    def add(self, text: str) -> None:
        """Adds a warning, counts it, or notes, once, that more were left out."""
        with self._lock:
            if isinstance(text, MemberWarning) and self._count(text.kind) > _EXAMPLES:
                return
            self._append(text)

    def _count(self, kind: str) -> int:
        if kind in self._counts or len(self._texts) < _WARNINGS_LIMIT:
            self._counts[kind] = self._counts.get(kind, 0) + 1
        return self._counts.get(kind, 0)

    def _append(self, text: str) -> None:
        if len(self._texts) < _WARNINGS_LIMIT:
            self._texts.append(text)
        elif len(self._texts) == _WARNINGS_LIMIT:
            self._texts.append(_MORE)

    def note(self, key: str, text: str) -> None:
        """Adds a warning, or puts it in the place of the last one with the same key."""
        with self._lock:
            before = self._noted.get(key)
            self._noted[key] = text
            if before in self._texts:
                self._texts[self._texts.index(before)] = text
            else:
                self._texts.append(text)

    @property
    def texts(self) -> list[str]:
        """The warnings until now; behind the examples of each kind, the number of the others."""
        shown: list[str] = []
        examples: dict[str, int] = {}
        for text in self._texts:
            shown.append(str(text))
            if isinstance(text, MemberWarning):
                examples[text.kind] = have = examples.get(text.kind, 0) + 1
                more = self._counts[text.kind] - _EXAMPLES
                if have == _EXAMPLES and more > 0:
                    shown.append(f"{more} more members: {text.kind}")
        return shown
