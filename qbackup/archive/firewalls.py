"""Firewall rules of qubes, from their ``firewall.xml``; several files are read side by side.

Each file costs the derivation of one key, however short the file: seconds with the parameters of
real backups. So the files are read only on request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from qbackup.archive.file_list import FileList
from qbackup.base.errors import (
    Damaged,
    LimitExceeded,
    NotEnoughMemory,
    QBackupError,
    UnsupportedFormat,
)
from qbackup.base.events import Event
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.base.naming import name_error
from qbackup.content.inner import InnerArchive
from qbackup.formats.metadata import QubeTable
from qbackup.formats.metadata.firewall import FIREWALL_FILE, Rule, parse_firewall
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.pipeline.reader import FileReader
from qbackup.storage.catalog import Catalog
from qbackup.storage.chunk import StoredChunk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.archive.opened import OpenedBackup

Firewall: TypeAlias = tuple[Rule, ...] | QBackupError  # the rules, or the error that cost them

_LOSSES = (Damaged, LimitExceeded, NotEnoughMemory, UnsupportedFormat)


@dataclass(frozen=True)
class _Answer:
    """Content of one qube's file, or the error that cost it."""

    qube: str
    file: str
    content: bytes | QBackupError


_Task: TypeAlias = tuple[str, FileReader]


def read_firewall(file: FileReader, limits: Limits) -> tuple[Rule, ...]:
    """Reads the rules of one qube.

    Raises:
        Damaged: the file is not whole, or its content is not valid.
        UnsupportedFormat: the file is of a version that is not known.
        LimitExceeded: the file is longer than `Limits.metadata`.
    """
    with file.naming_errors():
        with file.open() as stream:
            data = stream.read(limits.metadata + 1)
            if len(data) <= limits.metadata:
                data += stream.read(1)  # makes the stream verify its end
        return parse_firewall(data, limits, file=display(file.name))


@dataclass(frozen=True)
class FirewallReader:
    """Reader of the firewalls of many qubes.

    Args:
        catalog: the archive's files.
        files: the same files with their readers.
        table: gives the qube that a file belongs to.
        pipeline: gives the files' plaintext.
        expect: called with the number of keys that will be needed.
        format: opens the chunks.
        limits: `Limits.metadata` bounds each file, and all of them together.
    """

    catalog: Catalog
    files: FileList
    table: QubeTable
    pipeline: Pipeline
    expect: Callable[[int], None]
    format: UnlockedFormat
    limits: Limits

    def read(self, wanted: Callable[[str], bool]) -> dict[str, Firewall]:
        """Gives, for each qube with a ``firewall.xml``, its rules or the error that cost them.

        From a pipe, the whole backup is read.

        Args:
            wanted: tells if a qube's rules are asked for.

        Raises:
            MachineError: this machine can't go on.
        """
        found: dict[str, Firewall] = {}
        total = 0

        def take(answer: _Answer) -> None:
            nonlocal total
            total += len(answer.content) if isinstance(answer.content, bytes) else 0
            found[answer.qube] = self._judged(answer, total)

        seen = map(self._owner, self.catalog.seen_paths())
        self.expect(sum(1 for qube in seen if qube is not None and wanted(qube)))
        self.pipeline.unpack(self.format, self._files(wanted), self._read, take)
        return found

    def _owner(self, path: str) -> str | None:
        """Gives the qube that a firewall file belongs to; None for any other file."""
        owner = self.table.owner(path)
        return owner[0] if owner is not None and owner[1] == FIREWALL_FILE else None

    def _files(
        self, wanted: Callable[[str], bool]
    ) -> Iterator[tuple[_Task, Iterable[StoredChunk]]]:
        for file in self.files.coming():
            qube = self._owner(file.path)
            if qube is not None and wanted(qube):
                yield (qube, file), file.stored.chunks

    def _read(self, task: _Task, events: Iterator[Event], tell: Callable[[_Answer], None]) -> None:
        """Reads one file. Several threads may call this at once."""
        qube, file = task
        name = f"{qube}/{FIREWALL_FILE}"
        try:
            content: bytes | QBackupError = self._content(file.decode(events))
        except _LOSSES as error:
            name_error(error, name)
            content = error
        tell(_Answer(qube, display(name), content))

    def _content(self, inner: InnerArchive) -> bytes:
        entry = inner.only_file()
        if entry.size > self.limits.metadata:
            raise LimitExceeded(f"{FIREWALL_FILE} is too long", limit="metadata")
        content = bytearray(entry.size)
        for extent in entry.extents():
            if extent.data is not None:
                content[extent.offset : extent.offset + extent.length] = extent.data
        inner.finish()
        return bytes(content)

    def _judged(self, answer: _Answer, total: int) -> Firewall:
        if isinstance(answer.content, QBackupError):
            return answer.content
        try:
            if total > self.limits.metadata:
                raise LimitExceeded(
                    f"all {FIREWALL_FILE} together are too long", limit="metadata", file=answer.file
                )
            return parse_firewall(answer.content, self.limits, file=answer.file)
        except _LOSSES as error:
            return error


def read_firewalls(opened: OpenedBackup, qubes: Collection[str] | None) -> dict[str, Firewall]:
    """Reads the firewall rules of qubes, see `BackupArchive.firewalls`."""
    reader = FirewallReader(
        catalog=opened.catalog,
        files=opened.files,
        table=opened.qubes.table,
        pipeline=opened.pipeline,
        expect=opened.prefetch.expect,
        format=opened.unlocked().format,
        limits=opened.limits,
    )
    listed = {record.name for record in opened.qubes.table.records}
    return reader.read(lambda name: name in listed and (qubes is None or name in qubes))
