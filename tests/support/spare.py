"""A spare file in memory."""

from __future__ import annotations


class MemorySpare:
    is_kept = True

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, offset: int, data: memoryview) -> None:
        self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
        self.data[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> memoryview:
        return memoryview(bytes(self.data[offset : offset + size]))

    def cut(self, size: int) -> None:
        del self.data[size:]
