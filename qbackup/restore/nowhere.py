"""Writer that writes nothing, with which a backup is verified."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from qbackup.restore.sinks import ExistingFile, FileSink, SpareSink, TreeSink


class _NullSink:
    """File or tree that is not written. All content was verified before it came here."""

    keeps_modes = True

    def write(self, offset: int, data: memoryview) -> None: ...
    def folder(self, path: str) -> None: ...
    def hard_link(self, path: str, target: str) -> None: ...
    def symbolic_link(self, path: str, target: str, mtime_ns: int) -> None: ...
    def finish_folder(self, path: str, mode: int, mtime_ns: int) -> None: ...
    def commit(
        self,
        size: int = 0,
        chunks: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None: ...
    def keep(self, size: int = 0) -> str | None: ...

    def copy(self, path: str, source: str) -> int:
        return 0

    def file(
        self, path: str, size: int, mode: int, mtime_ns: int
    ) -> contextlib.AbstractContextManager[FileSink]:
        return contextlib.nullcontext(self)


class _NullSpare:
    """Spare file that is not written. Its bytes are counted and go nowhere."""

    is_kept = False

    def write(self, offset: int, data: memoryview) -> None: ...
    def cut(self, size: int) -> None: ...
    def keep(self, size: int) -> str | None: ...

    def read(self, offset: int, size: int) -> memoryview:
        return memoryview(bytes(size))


class NowhereWriter:
    """Writer that writes nothing, to verify a backup and find all damage."""

    goes_past_damage = True
    keeps_damaged = False

    def image(self, qube: str, name: str) -> contextlib.AbstractContextManager[FileSink]:
        """Gives a sink that writes nothing."""
        return contextlib.nullcontext(_NullSink())

    def tree(self, qube: str, name: str) -> contextlib.AbstractContextManager[TreeSink]:
        """Gives a sink that writes nothing."""
        return contextlib.nullcontext(_NullSink())

    def spare(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Gives a spare file that is not written."""
        return contextlib.nullcontext(_NullSpare())

    def beside(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Gives a file that is not written."""
        return contextlib.nullcontext(_NullSpare())

    def has_room(self, qube: str, name: str) -> bool:
        """Returns True, as nothing is in the way."""
        return True

    def is_needed(self, qube: str, name: str) -> bool:
        """Returns True, as every file is verified."""
        return True

    def found(self, qube: str, name: str) -> ExistingFile:
        """Returns that nothing is known."""
        return ExistingFile()

    def holds(self, name: str, data: bytes) -> bool:
        """Returns False, as there is no output folder."""
        return False

    def free_space(self) -> int | None:
        """Returns None, as nothing is written."""
        return None

    def foreseen(self, sizes: Mapping[str, int]) -> Sequence[str]:
        """Returns nothing, as nothing is written."""
        return ()

    def check_size(self, size: int) -> None:
        """Accepts every length, as nothing is written."""

    def restored_as(self, qube: str, name: str) -> str | None:
        """Returns None, as nothing is written."""
        return None

    @property
    def warnings(self) -> Sequence[str]:
        """Empty, as nothing is written."""
        return ()
