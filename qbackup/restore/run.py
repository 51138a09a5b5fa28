"""The loop over a backup's files: decode, write, and say what came of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from qbackup.chunk import EncryptedChunk
from qbackup.errors import Damaged, LimitExceeded, MachineError, NotEnoughMemory
from qbackup.file import BackupFile
from qbackup.formats import Event
from qbackup.limits import Limits
from qbackup.metadata import METADATA_PATH
from qbackup.names import display
from qbackup.pipeline import Session
from qbackup.restore.plan import Plan, Target
from qbackup.restore.report import FileResult, OnProgress, Progress
from qbackup.restore.sinks import CannotWrite, InTheWay, Writer
from qbackup.restore.tree import TreeRestore

_IN_THE_WAY = "something of this name is there already; it was left alone (see --overwrite)"


_Wanted: TypeAlias = tuple[tuple[BackupFile, Target], Iterable[EncryptedChunk]]
OpenSession: TypeAlias = Callable[[Iterable[_Wanted]], Session[tuple[BackupFile, Target]]]


class Run:
    """One pass over the files of a backup.

    Args:
        plan: what is asked for.
        writer: where it goes.
        limits: bounds for folder archives.
        total: stored bytes in all, None where not known.
        on_progress: told after every chunk.
    """

    def __init__(
        self,
        plan: Plan,
        writer: Writer,
        limits: Limits,
        *,
        total: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.results: list[FileResult] = []
        self._plan = plan
        self._writer = writer
        self._limits = limits
        self._total = total
        self._done = 0
        self._on_progress = on_progress

    def files(
        self,
        files: Iterable[BackupFile],
        open_session: OpenSession,
        ignored: Callable[[BackupFile], None],
    ) -> None:
        """Goes through all files; at the end adds what should have been there.

        Args:
            files: in the archive's order.
            open_session: the pipeline over all of them.
            ignored: told of files that belong to no qube.

        Raises:
            MachineError: this machine can't go on; `results` has what was done until then.
        """
        seen: set[tuple[str, str]] = set()
        with open_session(self._wanted(files, ignored)) as session:
            for (file, target), events in session:
                seen.add((target.qube, target.name))
                start = self._done
                self.results.extend(self._file(file, target, events))
                self._done = max(self._done, start + file.stored_size)  # also if given up
        self.results.extend(self._plan.missing(seen))

    def _wanted(
        self, files: Iterable[BackupFile], ignored: Callable[[BackupFile], None]
    ) -> Iterator[_Wanted]:
        """The files that are asked for, with the chunks that have to be read for them.

        The pipeline goes through this ahead of the restore, on a thread of its own.
        """
        for file in files:
            target = self._plan.target(file.path)
            if target is not None:
                needed = not target.unsafe and self._writer.has_room(target.qube, target.name)
                yield (file, target), file.chunks if needed else ()
            elif not self._plan.is_known(file.path):
                ignored(file)

    def _file(self, file: BackupFile, target: Target, events: Iterator[Event]) -> list[FileResult]:
        """One file's result, and one for each thing in a folder that was refused."""
        if target.unsafe:
            return [self._result(file, target, "damaged", f"refused: {target.unsafe}")]
        self._tell(0, target)
        try:
            if file.is_folder:
                return self._tree(file, target, events)
            return [self._image(file, target, events)]
        except InTheWay:
            return [self._result(file, target, "exists", _IN_THE_WAY)]
        except (Damaged, LimitExceeded, NotEnoughMemory) as error:
            place = f"{error.chunk}: " if error.chunk else ""
            # where memory is short nothing is known to be wrong with the file
            status = "missing" if isinstance(error, NotEnoughMemory) else "damaged"
            return [self._result(file, target, status, place + error.reason)]
        except CannotWrite as error:
            return [self._result(file, target, "damaged", str(error))]

    def _image(self, file: BackupFile, target: Target, events: Iterator[Event]) -> FileResult:
        with self._writer.image(target.qube, target.name) as sink:
            inner = file.decode(events, lambda size: self._tell(size, target))
            entry = inner.only_file()
            for extent in entry.extents():
                if extent.data is not None:
                    sink.write(extent.offset, extent.data)
            inner.finish()
            sink.commit(entry.size)
        return self._result(file, target, "ok", size=entry.size)

    def _tree(self, file: BackupFile, target: Target, events: Iterator[Event]) -> list[FileResult]:
        with self._writer.tree(target.qube, target.name) as sink:
            restore = TreeRestore(sink, self._limits)
            inner = file.decode(events, lambda size: self._tell(size, target))
            for entry in inner.entries():
                restore.add(entry)
            restore.finish()
        result = self._result(file, target, "ok", size=restore.size, notes=tuple(restore.notes))
        return [result, *(_refused(target, path, why) for path, why in restore.refused)]

    def _result(
        self,
        file: BackupFile,
        target: Target,
        status: str,
        error: str | None = None,
        *,
        size: int = 0,
        notes: tuple[str, ...] = (),
    ) -> FileResult:
        return FileResult(
            qube=target.qube,
            name=target.name,
            status=status,  # type: ignore[arg-type]
            error=error,
            chunks=file.chunk_count,
            size=size,
            notes=notes,
        )

    def _tell(self, size: int, target: Target) -> None:
        self._done += size
        if self._on_progress is not None:
            self._on_progress(Progress(self._done, self._total, display(target.label)))


def _refused(target: Target, path: str, reason: str) -> FileResult:
    return FileResult(
        qube=target.qube,
        name=f"{target.name}/{path}",
        status="missing",
        error=f"not restored: {reason}",
    )


def check_space(writer: Writer, stored: int, estimated: int) -> str | None:
    """Compares the room there is with what is needed, before the first byte.

    The stored size is a floor: no filter makes files much larger. The backup's own figure
    is an estimate, so it only warns.

    Returns:
        A warning, or None.

    Raises:
        MachineError: not even the stored bytes fit.
    """
    free = writer.free_space()
    if free is None:
        return None
    if free < stored:
        raise MachineError(
            f"not enough room: at least {stored} bytes are needed, {free} are free. Nothing was"
            " written; free some space, or restore qube by qube to different disks"
        )
    if free < estimated:
        return f"this may not fit: the backup names about {estimated} bytes, {free} are free"
    return None


def write_metadata(writer: Writer, data: bytes) -> FileResult:
    """Writes ``qubes.xml`` into the output folder, or keeps the same one that is there."""
    size = len(data)
    if writer.holds(METADATA_PATH, data):
        return FileResult(qube="", name=METADATA_PATH, status="kept", size=size)
    try:
        with writer.image("", METADATA_PATH) as sink:
            sink.write(0, memoryview(data))
            sink.commit(size)
    except InTheWay:
        return FileResult(qube="", name=METADATA_PATH, status="exists", error=_IN_THE_WAY)
    except CannotWrite as error:
        return FileResult(qube="", name=METADATA_PATH, status="damaged", error=str(error))
    return FileResult(qube="", name=METADATA_PATH, status="ok", size=size)
