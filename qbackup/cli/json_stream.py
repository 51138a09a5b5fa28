"""A JSON document with a long list, written while the list is made.

The text is the same as that of `documents.to_json`. Whatever ends the command in the middle, the
document is ended too, with the reason in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qbackup.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.cli.documents import Document

_PIECE_SIZE = 64 * 1024


class _Tail(bytearray):
    """The end of a document, as much of it as was not written yet."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self._size = len(text)

    @property
    def is_begun(self) -> bool:
        """True if the beginning was written."""
        return len(self) < self._size


class JsonStream:
    """At most one document, on standard output.

    A signal can come at any moment. So text is added to `_pending` by one step, and taken away by
    the step that has written it.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._is_begun = False

    @property
    def is_begun(self) -> bool:
        """True if a list was begun, so that no other document may be written."""
        return self._is_begun

    def write(self, key: str, entries: Iterable[Document], rest: Callable[[], Document]) -> None:
        """Writes a document whose first value is a list.

        An error before the first entry leaves the document to whoever reports the error.

        Args:
            key: of the list.
            entries: of the list, each written when it comes.
            rest: gives the other values; called behind the last entry.
        """
        from qbackup.cli.documents import SCHEMA, to_json, to_text

        head = to_text({"schema": SCHEMA})[:-2] + f',\n "{key}": ['
        for entry in entries:
            text = to_text(entry).replace("\n", "\n  ")
            self._add(f"{',' if self._is_begun else head}\n  {text}")
            self._is_begun = True
            if len(self._pending) >= _PIECE_SIZE:
                self._flush()
        values = rest()
        if self._is_begun:
            self.end(values)
        else:
            output.print_result(to_json({key: [], **values}))

    def end(self, values: Document) -> None:
        """Ends the list, and the document with more values.

        If a signal comes meanwhile, this can be called again, with the values of the failure. They
        count unless some of the first ones were written.
        """
        from qbackup.cli.documents import to_text

        if isinstance(self._pending, _Tail):
            if self._pending.is_begun:
                self._flush()
                return
        else:
            self._flush()
        tail = f",{to_text(values)[1:]}" if values else "\n}"
        self._pending = _Tail(f"\n ]{tail}\n".encode("ascii"))
        self._flush()

    def _add(self, text: str) -> None:
        self._pending += text.encode("ascii")

    def _flush(self) -> None:
        while self._pending:
            output.write_some(self._pending)
