"""The loop over a backup's files: decode, write, and say what came of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from qbackup.base.errors import Damaged, LimitExceeded, MachineError, NotEnoughMemory, QBackupError
from qbackup.base.events import Event
from qbackup.base.limits import Limits
from qbackup.base.locks import Lock
from qbackup.base.names import METADATA_PATH, display, must_have_content
from qbackup.base.report import FileResult, OnProgress, Progress
from qbackup.content.inner import InnerArchive
from qbackup.content.kinds import Kind
from qbackup.pipeline.reader import FileReader, OnChunk
from qbackup.restore import damaged
from qbackup.restore.damaged import Losses, PartialFile
from qbackup.restore.entries import EntriesRestore, Outcome, pending
from qbackup.restore.plan import Plan, Target
from qbackup.restore.results import failed
from qbackup.restore.sinks import AlreadyExists, CannotWrite, ExistingFile, FileSink, Writer
from qbackup.restore.tree import TreeRestore
from qbackup.storage.chunk import StoredChunk

_DIFFERS = (
    "something of this name is there, and it is not what this backup holds; it was left alone"
    " (see --overwrite)"
)
_IN_THE_WAY = "something of this name is there already; it was left alone (see --overwrite)"


@dataclass(frozen=True)
class Task:
    """A file that is asked for.

    Args:
        number: in the archive's order.
        file: its chunks.
        target: where it goes.
    """

    number: int
    file: FileReader
    target: Target


@dataclass(frozen=True)
class Step:
    """What is told of a task under way.

    Args:
        task: which.
        stored: bytes of the backup that are done with since the last step.
        results: what came of it, at its end.
    """

    task: Task
    stored: int = 0
    results: tuple[FileResult, ...] = ()


Tell: TypeAlias = Callable[[Step], None]
_Wanted: TypeAlias = tuple[Task, Iterable[StoredChunk]]
# does the work with every file, several side by side perhaps, and tells on the caller's thread
Unpack: TypeAlias = Callable[
    [Iterable[_Wanted], Callable[[Task, Iterator[Event], Tell], None], Tell], None
]


class FilesLoop:
    """One pass over the files of a backup.

    Args:
        plan: what is asked for.
        writer: where it goes.
        limits: bounds for folder archives.
        total: stored bytes in all, None where not known.
        on_progress: told after every chunk.
        load: jobs that derive keys now, and keys that wait.
    """

    def __init__(
        self,
        plan: Plan,
        writer: Writer,
        limits: Limits,
        *,
        total: int | None = None,
        on_progress: OnProgress | None = None,
        load: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._limits = limits
        self._total = total
        self._done = 0
        self._on_progress = on_progress
        self._load = load
        self._entries_turn = Lock()
        self._under_way: dict[int, str] = {}  # files by number, as they are shown
        self._metadata: list[FileResult] = []
        self._results: dict[int, tuple[FileResult, ...]] = {}
        self._files: dict[int, FileReader] = {}  # those that there are results of
        self._seen: set[tuple[str, str]] = set()
        self._missing: list[FileResult] = []

    @property
    def results(self) -> list[FileResult]:
        """What came of the files so far, in the archive's order; then what is missing."""
        in_order = [self._counted(number) for number in sorted(self._results)]
        return [*self._metadata, *itertools.chain.from_iterable(in_order), *self._missing]

    def _counted(self, number: int) -> tuple[FileResult, ...]:
        """A file's results, with the chunks that it has by now.

        From a pipe, what is left of a file that was given up passes after its result is told.
        """
        first, *others = self._results[number]
        first = replace(first, chunks=self._files[number].stored.chunk_count)
        return tuple(map(self._placed, (first, *others)))

    def _placed(self, result: FileResult) -> FileResult:
        """A result of a file, with where that is if it has another name in the output folder."""
        path = self._writer.restored_as(result.qube, result.name)
        if path is None or (result.status in ("damaged", "missing") and not result.kept_as):
            return result
        if result.kept_as:
            path = f"{path.rpartition('/')[0]}/{result.kept_as}"
        note = f"is called {display(path)} in the output folder, as its own name can't be had there"
        return replace(result, restored_as=path, notes=(note, *result.notes))

    def metadata(self, result: FileResult) -> None:
        """What came of ``qubes.xml``, which stands before all others."""
        self._metadata = [result]

    def files(
        self, files: Iterable[FileReader], unpack: Unpack, ignored: Callable[[FileReader], None]
    ) -> None:
        """Goes through all files; at the end adds what should have been there.

        Args:
            files: in the archive's order.
            unpack: the pipeline.
            ignored: told of files that belong to no qube.

        Raises:
            MachineError: this machine can't go on; `results` has what was done until then.
        """
        unpack(self._wanted(files, ignored), self._unpack_file, self._take)
        self._missing = [self._or_kept(result) for result in self._plan.missing(self._seen)]

    def _take(self, step: Step) -> None:
        """A step was made."""
        target = step.task.target
        for asked in target.entries.values() or (target,):
            self._seen.add((asked.qube, asked.name))
        self._done += step.stored
        if step.results:
            self._results[step.task.number] = step.results
            self._files[step.task.number] = step.task.file
        if self._on_progress is not None and not target.unsafe:
            self._on_progress(self._progress(step))

    def _progress(self, step: Step) -> Progress:
        label = display(step.task.target.label)
        if step.results:
            self._under_way.pop(step.task.number, None)
        else:
            self._under_way[step.task.number] = label
        files = tuple(self._under_way.values())
        return Progress(self._done, self._total, label, files, *self._load())

    def _wanted(
        self, files: Iterable[FileReader], ignored: Callable[[FileReader], None]
    ) -> Iterator[_Wanted]:
        """The files that are asked for, with the chunks that have to be read for them.

        The pipeline goes through this ahead of the restore, on threads of its own.
        """
        for number, file in enumerate(files):
            target = self._plan.target(file.path)
            if target is not None and target.entries:
                needed = any(pending(self._writer, target.entries))
                yield Task(number, file, target), file.stored.chunks if needed else ()
            elif target is not None:
                needed = not target.unsafe and self._writer.is_needed(target.qube, target.name)
                yield Task(number, file, target), file.stored.chunks if needed else ()
            elif not self._plan.is_known(file.path):
                ignored(file)

    def _unpack_file(self, task: Task, events: Iterator[Event], tell: Tell) -> None:
        """Everything that is done with one file; runs beside others' perhaps."""
        told = 0

        def on_chunk(size: int) -> None:
            nonlocal told
            told += size
            tell(Step(task, size))

        tell(Step(task))
        results = self._file(task, events, on_chunk)
        left = max(0, task.file.stored.stored_size - told)  # also if it was given up
        tell(Step(task, left, tuple(results)))

    def _file(self, task: Task, events: Iterator[Event], on_chunk: OnChunk) -> list[FileResult]:
        """One file's result, and one for each thing in a folder that was refused."""
        file, target = task.file, task.target
        if target.unsafe:
            return [self._result(file, target, "damaged", f"refused: {target.unsafe}")]
        if target.entries:
            return self._some_of(task, events, on_chunk)
        try:
            return self._content(task, events, on_chunk)
        except AlreadyExists:
            return self._in_the_way(file, target)
        except (Damaged, LimitExceeded, NotEnoughMemory) as error:
            return [_told(self._result(file, target, "damaged"), error)]
        except CannotWrite as error:
            return [self._result(file, target, "damaged", str(error))]

    def _content(self, task: Task, events: Iterator[Event], on_chunk: OnChunk) -> list[FileResult]:
        if self._writer.goes_past_damage:
            return self._go_through(task, Losses(events), on_chunk)
        inner = task.file.decode(events, on_chunk)
        if _is_image(task.file):
            with self._writer.image(task.target.qube, task.target.name) as sink:
                if self._kind(task, inner) == "file":
                    return [self._image(task.file, task.target, inner, sink)]
        kind = self._kind(task, inner)
        if kind == "symlink":
            return [self._link(task, inner)]
        if kind == "folder":
            return self._tree(task.file, task.target, inner)
        with self._writer.image(task.target.qube, task.target.name) as sink:
            return [self._image(task.file, task.target, inner, sink)]

    def _kind(self, task: Task, inner: InnerArchive) -> Kind:
        """Kind that a file is restored as; the beginning of its archive decides, whatever its name.

        Raises:
            Damaged: it is a folder where an image must be.
        """
        file, target = task.file, task.target
        is_folder_by_name = file.is_folder
        kind = file.own_kind(inner)
        is_required = self._plan.requires(target)
        if kind == "folder" and is_required and not is_folder_by_name:
            raise Damaged("it is a folder, and qubes.xml requires an image of this name")
        if kind == "symlink" and not is_required and not must_have_content(file.path):
            return "symlink"
        return "folder" if file.is_folder else "file"

    def _link(self, task: Task, inner: InnerArchive) -> FileResult:
        """Notes a file that is a symbolic link in dom0, of which nothing is made.

        The file behind the link was not stored, and a link beside a qube's images would lead who
        opens it to a file of this machine.
        """
        target = inner.only_link()
        note = f"left out: it is a symbolic link to {target}, and nothing else of it was stored"
        return self._result(task.file, task.target, "ok", notes=(note,))

    def _go_through(self, task: Task, losses: Losses, on_chunk: OnChunk) -> list[FileResult]:
        """As `_file`, to the end of a file that is damaged; what is left of it may be kept."""
        file = task.file
        keeps = self._writer.keeps_damaged
        inner = file.decode(losses, on_chunk, past_gaps=keeps or not file.is_folder)
        if _is_image(file):
            with self._writer.image(task.target.qube, task.target.name) as image:
                if self._kind(task, inner) == "file":
                    return [self._go_through_image(task, inner, losses, image)]
        kind = self._kind(task, inner)
        if kind == "symlink":
            return [self._link(task, inner)]
        if kind == "folder":
            return self._go_through_tree(task, inner, losses)
        with self._writer.image(task.target.qube, task.target.name) as image:
            return [self._go_through_image(task, inner, losses, image)]

    def _go_through_image(
        self, task: Task, inner: InnerArchive, losses: Losses, image: FileSink
    ) -> FileResult:
        remains = damaged.image(inner, image, losses, task.file.stored)
        return self._remains(task, remains, losses, remains.size or 0)

    def _go_through_tree(self, task: Task, inner: InnerArchive, losses: Losses) -> list[FileResult]:
        file, target = task.file, task.target
        keeps = self._writer.keeps_damaged
        with self._writer.tree(target.qube, target.name) as sink:
            restore = TreeRestore(sink, self._limits, past_damage=keeps)
            remains = damaged.tree(inner, restore, losses, file.stored)
        result = self._remains(task, remains, losses, restore.size, restore.notes)
        if remains.error is not None and not keeps:  # what else is in it is nowhere
            return [replace(result, notes=())]
        lost = [
            failed(_part_of(target, path, ""), error, reason=f"not restored: {error}")
            for path, error in restore.lost
        ]
        return [result, *lost, *(_part_of(target, *what) for what in restore.refused)]

    def _remains(
        self, task: Task, remains: PartialFile, losses: Losses, size: int, notes: Sequence[str] = ()
    ) -> FileResult:
        result = self._result(task.file, task.target, "ok", size=0 if remains.error else size)
        if remains.error is not None:
            result = _told(result, remains.error)
        is_folder = task.file.is_folder
        return replace(
            result,
            notes=(*notes, *remains.notes),
            kept_as=remains.kept_as,
            ranges=() if is_folder else remains.byte_ranges,
            unplaced=remains.unplaced,
            lost_chunks=losses.named,
        )

    def _image(
        self, file: FileReader, target: Target, inner: InnerArchive, sink: FileSink
    ) -> FileResult:
        entry = inner.only_file()
        for extent in entry.extents():
            if extent.data is not None:
                sink.write(extent.offset, extent.data)
        inner.finish()
        sink.commit(entry.size, file.stored.chunk_count)
        return self._result(file, target, "ok", size=entry.size)

    def _tree(self, file: FileReader, target: Target, inner: InnerArchive) -> list[FileResult]:
        with self._writer.tree(target.qube, target.name) as sink:
            restore = TreeRestore(sink, self._limits)
            for entry in inner.entries():
                restore.add(entry)
            restore.finish(file.stored.chunk_count)
        result = self._result(file, target, "ok", size=restore.size, notes=tuple(restore.notes))
        return [result, *(_part_of(target, path, why) for path, why in restore.refused)]

    def _some_of(self, task: Task, events: Iterator[Event], on_chunk: OnChunk) -> list[FileResult]:
        """Files that are asked for out of a folder archive, a result for each.

        One archive after the other: each holds several names until its end, and two that hold what
        the other one waits for (``Work/a`` and ``work/a`` may be one name) would wait forever.
        """
        wanted = task.target.entries
        needed = {path: wanted[path] for path in pending(self._writer, wanted)}
        outcomes = dict.fromkeys(wanted, Outcome("exists"))
        for path, target in wanted.items():
            if target.unsafe:
                outcomes[path] = Outcome("damaged", f"refused: {target.unsafe}")
        if needed:
            inner = task.file.decode(events, on_chunk)
            try:
                with self._entries_turn:
                    restore = EntriesRestore(self._writer, needed)
                    outcomes |= restore.run(inner, task.file.stored.chunk_count)
            except (Damaged, LimitExceeded, NotEnoughMemory) as error:
                outcomes |= dict.fromkeys(needed, Outcome("damaged", cause=error))
        return [
            result
            for path, outcome in outcomes.items()
            for result in self._outcome(task.file, wanted[path], outcome)
        ]

    def _outcome(self, file: FileReader, target: Target, outcome: Outcome) -> list[FileResult]:
        if outcome.status == "exists":
            return self._in_the_way(file, target)
        result = self._result(file, target, outcome.status, outcome.error, size=outcome.size)
        return [result if outcome.cause is None else _told(result, outcome.cause)]

    def _in_the_way(self, file: FileReader, target: Target) -> list[FileResult]:
        """What an earlier run restored is kept, if it is still the same."""
        found = self._writer.found(target.qube, target.name)
        if not found.is_whole:
            reason = _DIFFERS if found.is_known else _IN_THE_WAY
            return [self._result(file, target, "exists", reason)]
        return [
            _kept(target.qube, target.name, found),
            *(_part_of(target, path, why) for path, why in found.refused),
        ]

    def _or_kept(self, result: FileResult) -> FileResult:
        """What is not in the archive any more, but was, and stands there whole."""
        found = self._writer.found(result.qube, result.name)
        if not found.is_whole:
            return result
        return self._placed(_kept(result.qube, result.name, found))

    def _result(
        self,
        file: FileReader,
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
            chunks=file.stored.chunk_count,
            size=size,
            notes=notes,
        )


def _kept(qube: str, name: str, found: ExistingFile) -> FileResult:
    return FileResult(
        qube=qube,
        name=name,
        status="kept",
        chunks=found.chunks,
        size=found.size,
        notes=found.notes,
    )


def _is_image(file: FileReader) -> bool:
    """Says whether the name is a disk image's, which is hardly ever anything else.

    Its `.part` is made before its first key is derived, so a place that can't be written shows at
    once; for other files nothing is made before their kind is known.
    """
    return must_have_content(file.path) and not file.is_folder


def _told(result: FileResult, error: QBackupError) -> FileResult:
    """The result of a file that an error costs; the chunk is named where it is known."""
    place = f"{error.chunk}: " if error.chunk else ""
    return failed(result, error, reason=place + error.reason)


def _part_of(target: Target, path: str, reason: str) -> FileResult:
    """What came of something in a folder that was not made."""
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
    except AlreadyExists:
        return FileResult(qube="", name=METADATA_PATH, status="exists", error=_IN_THE_WAY)
    except CannotWrite as error:
        return FileResult(qube="", name=METADATA_PATH, status="damaged", error=str(error))
    return FileResult(qube="", name=METADATA_PATH, status="ok", size=size)
