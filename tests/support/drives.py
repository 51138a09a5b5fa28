"""Drives and connections that answer badly."""

from __future__ import annotations

from pathlib import Path

from tests.support.sources import Failing


class Several(Failing):
    """A drive with several bad sectors."""

    def __init__(self, path: Path, places: list[int]) -> None:
        super().__init__(path, range(0))
        self._places = places

    def answer(self, offset: int, size: int) -> bytes:
        for place in self._places:
            if offset < place + 512 and offset + size > place:
                raise OSError(5, "Input/output error")
        return super().answer(offset, size)
