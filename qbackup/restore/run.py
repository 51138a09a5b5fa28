"""The loop over a backup's files: decode, write, and report the result of each."""

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
from qbackup.content.entry_kinds import Kind
from qbackup.content.inner import InnerArchive
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
    """A file to restore.

    Args:
        number: position in the archive's order.
        file: reader of the file's chunks.
        target: destination in the output folder.
    """

    number: int
    file: FileReader
    target: Target


@dataclass(frozen=True)
class Step:
    """Report on a task under way.

    Args:
        task: the task.
        stored: bytes of the backup finished since the last step.
        results: the task's results, at its end.
    """

    task: Task
    stored: int = 0
    results: tuple[FileResult, ...] = ()


Tell: TypeAlias = Callable[[Step], None]
_Wanted: TypeAlias = tuple[Task, Iterable[StoredChunk]]
# Works on every file, perhaps on several side by side, and reports steps on the caller's thread.
Unpack: TypeAlias = Callable[
    [Iterable[_Wanted], Callable[[Task, Iterator[Event], Tell], None], Tell], None
]


class FilesLoop:
    """A single pass over the files of a backup.

    Args:
        plan: files to restore, and their targets.
        writer: destination of their content.
        limits: bounds for folder archives.
        total: stored bytes in all, None where not known.
        on_progress: called after every chunk.
        load: gives the jobs deriving keys now, and the number of waiting keys.
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
        self._files: dict[int, FileReader] = {}  # files with results, by number
        self._seen: set[tuple[str, str]] = set()
        self._missing: list[FileResult] = []

    @property
    def results(self) -> list[FileResult]:
        """Results of the files so far, in the archive's order; then the missing files."""
        in_order = [self._counted(number) for number in sorted(self._results)]
        return [*self._metadata, *itertools.chain.from_iterable(in_order), *self._missing]

    def _counted(self, number: int) -> tuple[FileResult, ...]:
        """Gives a file's results with its present number of chunks.

        From a pipe, the rest of a file that was given up passes after its result is reported, so
        the number can have grown since.
        """
        first, *others = self._results[number]
        first = replace(first, chunks=self._files[number].stored.chunk_count)
        return tuple(map(self._placed, (first, *others)))

    def _placed(self, result: FileResult) -> FileResult:
        """Adds a file's path to its result if the output folder has it under another name."""
        path = self._writer.restored_as(result.qube, result.name)
        if path is None or (result.status in ("damaged", "missing") and not result.kept_as):
            return result
        if result.kept_as:
            path = f"{path.rpartition('/')[0]}/{result.kept_as}"
        note = f"is called {display(path)} in the output folder, as its own name can't be had there"
        return replace(result, restored_as=path, notes=(note, *result.notes))

    def metadata(self, result: FileResult) -> None:
        """Takes the result of ``qubes.xml``, which stands before all others."""
        self._metadata = [result]

    def files(
        self, files: Iterable[FileReader], unpack: Unpack, ignored: Callable[[FileReader], None]
    ) -> None:
        """Goes through all files, and adds the missing ones at the end.

        Args:
            files: all files in the archive's order.
            unpack: the pipeline.
            ignored: called with each file that belongs to no qube.

        Raises:
            MachineError: this machine can't go on; `results` has the results until then.
        """
        unpack(self._wanted(files, ignored), self._unpack_file, self._take)
        self._missing = [self._or_kept(result) for result in self._plan.missing(self._seen)]

    def _take(self, step: Step) -> None:
        """Notes a step, and reports progress."""
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
        """Yields the files asked for, with the chunks that have to be read for them.

        The pipeline iterates ahead of the restore, on threads of its own.
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
        """Restores one file, perhaps while other threads restore others, and reports each step."""
        told = 0

        def on_chunk(size: int) -> None:
            nonlocal told
            told += size
            tell(Step(task, size))

        tell(Step(task))
        results = self._file(task, events, on_chunk)
        left = max(0, task.file.stored.stored_size - told)  # not read if the file was given up
        tell(Step(task, left, tuple(results)))

    def _file(self, task: Task, events: Iterator[Event], on_chunk: OnChunk) -> list[FileResult]:
        """Restores one file; gives its result, and one for each refused entry of a folder."""
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
        """Gives the kind that a file is restored as, by the beginning of its archive.

        The name does not decide.

        Raises:
            Damaged: the archive holds a folder where qubes.xml requires an image.
        """
        file, target = task.file, task.target
        is_folder_by_name = file.is_folder
        kind = file.own_kind(inner)
        is_required = self._plan.requires(target)
        if kind == "folder" and is_required and not is_folder_by_name:
            raise Damaged("this is a folder, and qubes.xml requires an image of this name")
        if kind == "symlink" and not is_required and not must_have_content(file.path):
            return "symlink"
        return "folder" if file.is_folder else "file"

    def _link(self, task: Task, inner: InnerArchive) -> FileResult:
        """Notes a file that is a symbolic link in dom0; nothing is written for it.

        The file behind the link was not stored, and whoever opens a link beside a qube's images
        would get a file of this machine.
        """
        target = inner.only_link()
        note = f"left out: it is a symbolic link to {target}, and nothing else of it was stored"
        return self._result(task.file, task.target, "ok", notes=(note,))

    def _go_through(self, task: Task, losses: Losses, on_chunk: OnChunk) -> list[FileResult]:
        """Restores one file past damage, to its end; the verified rest of it may be kept."""
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
        if remains.error is not None and not keeps:  # nothing of this folder was kept
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
        size = 0

        def write() -> None:
            nonlocal size
            entry = inner.only_file()
            for extent in entry.extents():
                if extent.data is not None:
                    sink.write(extent.offset, extent.data)
            inner.finish()
            size = entry.size

        inner.work_through(write)
        sink.commit(size, file.stored.chunk_count)
        return self._result(file, target, "ok", size=size)

    def _tree(self, file: FileReader, target: Target, inner: InnerArchive) -> list[FileResult]:
        with self._writer.tree(target.qube, target.name) as sink:
            restore = TreeRestore(sink, self._limits)
            for entry in inner.entries():
                restore.add(entry)
            restore.finish(file.stored.chunk_count)
        result = self._result(file, target, "ok", size=restore.size, notes=tuple(restore.notes))
        return [result, *(_part_of(target, path, why) for path, why in restore.refused)]

    def _some_of(self, task: Task, events: Iterator[Event], on_chunk: OnChunk) -> list[FileResult]:
        """Restores the files asked for from a folder archive; gives a result for each.

        Archives take turns: each reserves several names until its end, and two archives that
        reserve each other's next name (``Work/a`` and ``work/a`` may be one name on the disk)
        would wait forever.
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
        """Keeps a file that an earlier run restored and that is still the same; else reports it."""
        found = self._writer.found(target.qube, target.name)
        if not found.is_whole:
            reason = _DIFFERS if found.is_known else _IN_THE_WAY
            return [self._result(file, target, "exists", reason)]
        return [
            _kept(target.qube, target.name, found),
            *(_part_of(target, path, why) for path, why in found.refused),
        ]

    def _or_kept(self, result: FileResult) -> FileResult:
        """Gives "kept" for a file that an earlier run restored and that stands there whole.

        The archive may have been cut since then. Otherwise the result stays "missing".
        """
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
    """Tells if the name is a disk image's; the content is then almost always a disk image too.

    An image's `.part` is made before its first key is derived, so an unwritable folder shows at
    once. For other files nothing is made before their kind is known.
    """
    return must_have_content(file.path) and not file.is_folder


def _told(result: FileResult, error: QBackupError) -> FileResult:
    """Gives the result of a file lost to an error; the reason names the chunk where known."""
    place = f"{error.chunk}: " if error.chunk else ""
    return failed(result, error, reason=place + error.reason)


def _part_of(target: Target, path: str, reason: str) -> FileResult:
    """Gives the result of an entry in a folder that was not written."""
    return FileResult(
        qube=target.qube,
        name=f"{target.name}/{path}",
        status="missing",
        error=f"not restored: {reason}",
    )


def check_space(writer: Writer, stored: int, estimated: int) -> str | None:
    """Compares the free space with the space needed, before the first byte is written.

    The stored size is the lower bound, as no filter makes files much larger. The backup's own
    figure is an estimate, so a shortage by it is only a warning.

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
    """Writes ``qubes.xml`` into the output folder, or keeps an equal one."""
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
