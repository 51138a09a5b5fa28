"""Restore of single files of a folder archive; each gets its name once the end is verified."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qbackup.base.errors import QBackupError
from qbackup.base.names import folded
from qbackup.base.report import Status
from qbackup.content.folder_files import why_no_file
from qbackup.content.inner import Entry, InnerArchive
from qbackup.restore.plan import Target
from qbackup.restore.sinks import AlreadyExists, CannotWrite, FileSink, NotHere, Writer

_TWICE = "the folder archive has it twice, and nothing shows which one counts"
_NOT_THERE = "not in the folder archive"
_SAME_NAME = "another file that is asked for has the same name here"


@dataclass(frozen=True)
class Outcome:
    """Result of one file.

    Args:
        status: as in a report; ``exists`` where something is in the way.
        error: message; None if the file is whole.
        size: length of the file in bytes.
        cause: error that has cost the file; None where `error` has all there is to report.
        advice: a remedy, where there is one besides the usual.
    """

    status: Status
    error: str | None = None
    size: int = 0
    cause: QBackupError | None = None
    advice: str = ""


class EntriesRestore:
    """Writer of the files that are asked for, while the archive is read once.

    Args:
        writer: writes the files.
        targets: path in the archive → target of the file.
    """

    def __init__(self, writer: Writer, targets: Mapping[str, Target]) -> None:
        self._writer = writer
        self._targets = targets
        self._held: dict[str, tuple[FileSink, int]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._names: set[str] = set()  # as the disk may see them

    def run(self, inner: InnerArchive, chunks: int) -> dict[str, Outcome]:
        """Reads the archive, writes the files, and gives results by the paths in the archive.

        Args:
            inner: the archive.
            chunks: number of chunks that the archive came from.

        Raises:
            Damaged: the archive is not whole; no file has got its name.
        """
        with contextlib.ExitStack() as open_files:
            for entry in inner.entries():
                if entry.path in self._targets:
                    self._take(entry, open_files)
            for path, (sink, size) in self._held.items():
                if path not in self._outcomes:
                    self._outcomes[path] = _committed(sink, size, chunks)
        absent = Outcome("missing", _NOT_THERE)
        return {path: self._outcomes.get(path, absent) for path in self._targets}

    def _take(self, entry: Entry, open_files: contextlib.ExitStack) -> None:
        path, target = entry.path, self._targets[entry.path]
        if path in self._held or path in self._outcomes:
            self._outcomes[path] = Outcome("damaged", _TWICE)
            return
        error = why_no_file(entry)
        if error is not None:
            self._outcomes[path] = Outcome("missing", f"not restored: {error.reason}")
            return
        label = folded(target.label)
        if label in self._names:  # on this disk both files could have the same `.part`
            self._outcomes[path] = Outcome("missing", _SAME_NAME)
            return
        self._names.add(label)
        try:
            self._writer.check_size(entry.size)
            sink = open_files.enter_context(self._writer.image(target.qube, target.name))
            for extent in entry.extents():
                if extent.data is not None:
                    sink.write(extent.offset, extent.data)
            self._held[path] = sink, entry.size
        except (AlreadyExists, CannotWrite) as failure:
            self._outcomes[path] = _outcome_of(failure)


def _committed(sink: FileSink, size: int, chunks: int) -> Outcome:
    try:
        sink.commit(size, chunks)
    except (AlreadyExists, CannotWrite) as failure:
        return _outcome_of(failure)
    return Outcome("ok", size=size)


def _outcome_of(failure: AlreadyExists | CannotWrite) -> Outcome:
    if isinstance(failure, AlreadyExists):
        return Outcome("exists")
    if isinstance(failure, NotHere):
        return Outcome("missing", str(failure), advice=failure.advice)
    return Outcome("damaged", str(failure))


def pending(writer: Writer, targets: Mapping[str, Target]) -> Iterator[str]:
    """Yields the archive paths of targets for which the archive has to be read."""
    for path, target in targets.items():
        if not target.unsafe and writer.is_needed(target.qube, target.name):
            yield path
