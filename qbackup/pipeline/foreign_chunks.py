"""`ForeignChunks`: the files beyond whose ends there are chunks of others, in one warning."""

from __future__ import annotations

from qbackup.base.locks import Lock
from qbackup.base.names import display
from qbackup.pipeline.second_tries import Note

_NAMED = 3  # files in the warning
_KEY = "foreign chunks"


class ForeignChunks:
    """Count of the whole files beyond whose ends there are chunks of another backup.

    Args:
        note: called with the warning, which takes the place of the last one.
    """

    def __init__(self, note: Note) -> None:
        self._note = note
        self._lock = Lock()
        self._names: dict[str, None] = {}

    def found(self, name: str) -> None:
        """Takes note of a file whose own end was verified."""
        with self._lock:
            if name in self._names:
                return
            self._names[name] = None
            shown = ", ".join(display(name) for name in list(self._names)[:_NAMED])
            more = len(self._names) - _NAMED
            files = f"{shown} and {more} more files" if more > 0 else shown
            self._note(
                _KEY,
                f"beyond the verified end of {files} there are chunks that nothing shows to be of"
                " this backup; nothing is missing by them. Another backup may have been stored"
                " here, e.g. an older and longer one",
            )
