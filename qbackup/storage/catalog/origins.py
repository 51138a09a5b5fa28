"""Count of what each copy of a backup gave, for the warning that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from qbackup.base.locks import Lock

# Called with a key and a warning; takes the place of an earlier warning with the same key.
Note = Callable[[str, str], None]

COPIES_KEY = "copies"  # of the note on what came from which copy
_MERGES_LIMIT = 256  # of one archive, tried in vain; each may cost a derivation


class ChunkOrigins:
    """Count of the chunks that each copy gave.

    Args:
        names: names of the copies.
        note: called with the sum as a warning, as soon as it says more than "all from the first".
        used: called with the number of a copy that gave something; None: parts of several did.
    """

    def __init__(
        self, names: Sequence[str], note: Note, used: Callable[[int | None], None]
    ) -> None:
        self._names = names
        self._note = note
        self._used = used
        self._from: dict[int, int | None] = {}  # hash of a chunk's name → copy
        self._counts: Counter[int | None] = Counter()
        self._header_from: int | None = 0
        self._lock = Lock()
        self.merges_left = _MERGES_LIMIT

    def count(self, name: str, copy: int | None) -> None:
        """Counts a chunk; copy None: the chunk was put together from several copies."""
        if copy == 0:
            return
        with self._lock:
            before = self._from.get(hash(name), 0)
            if before == copy:
                return
            self._from[hash(name)] = copy
            self._counts[copy] += 1
            self._counts[before] -= 1
            self._note(COPIES_KEY, self._sum())
            self._used(copy)

    def count_header(self, copy: int | None) -> None:
        """Notes where the header or its authenticated copy came from, as `count` does."""
        if copy == 0:
            return
        with self._lock:
            self._header_from = copy
            self._note(COPIES_KEY, self._sum())
            self._used(copy)

    def _sum(self) -> str:
        named = [(number, name) for number, name in enumerate(self._names) if number]
        places = [*named, (None, "parts of several copies, put together")]
        parts = [
            f"{' and '.join(given)} came from {name}"
            for number, name in places
            if (given := self._given_by(number))
        ]
        found = " and ".join(parts)
        return f"of what could not be verified in {self._names[0]}, {found}; each is verified"

    def _given_by(self, copy: int | None) -> list[str]:
        """Names what came from a copy; None: from several."""
        header = ["the header"] if self._header_from == copy else []
        count = self._counts[copy]
        return [*header, *([f"{count} chunk{'' if count == 1 else 's'}"] if count else [])]
