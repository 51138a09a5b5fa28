"""Loop over a backup's files: choice of the chunks to read, progress, and all results."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from qbackup.base.errors import MachineError
from qbackup.base.events import Event
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.base.report import FileResult, OnProgress, Progress, UnprovenFiles
from qbackup.pipeline.reader import FileReader, OnChunk
from qbackup.restore.entries import pending
from qbackup.restore.file_restore import FileRestore, Task
from qbackup.restore.plan import Plan, Target
from qbackup.restore.results import kept
from qbackup.restore.sinks import Writer
from qbackup.restore.unproven import Believed, UnprovenResults
from qbackup.storage.chunk import StoredChunk


@dataclass(frozen=True)
class Step:
    """Report on a task under way.

    Args:
        task: the task.
        stored: bytes of the backup finished since the last step.
        results: the task's results, at its end.
        is_proven: some chunk of the task's file was believed.
    """

    task: Task
    stored: int = 0
    results: tuple[FileResult, ...] = ()
    is_proven: bool = False


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
        self._restore = FileRestore(plan, writer, limits)
        self._total = total
        self._done = 0
        self._on_progress = on_progress
        self._load = load
        self._under_way: dict[int, str] = {}  # files by number, as they are shown
        self._metadata: list[FileResult] = []
        self._begun: dict[int, str] = {}  # labels of the files without results yet, by number
        self._results: dict[int, tuple[FileResult, ...]] = {}
        self._files: dict[int, FileReader] = {}  # files with results, by number
        self._seen: set[tuple[str, str]] = set()
        self._seen_qubes: set[str] = set()
        self._unproven = UnprovenResults()
        self._missing: list[FileResult] = []

    @property
    def results(self) -> list[FileResult]:
        """Results of the files so far, in the archive's order; then the missing files."""
        in_order = [self._counted(number) for number in sorted(self._results)]
        return [*self._metadata, *itertools.chain.from_iterable(in_order), *self._missing]

    @property
    def unproven(self) -> tuple[UnprovenFiles, ...]:
        """Files that nothing proves and that are not among the results."""
        return self._unproven.counted

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
        self._check_results()
        self._missing = [self._or_kept(result) for result in self._plan.missing(self._seen)]

    def revise(
        self, revise: Callable[[FileReader, Target, FileResult, OnChunk], FileResult]
    ) -> None:
        """Goes through the results of damaged files once more, after all files.

        Args:
            revise: gives a file's new result; the last argument is called after each chunk.
        """
        for number, (first, *others) in self._results.items():
            file = self._files[number]
            target = self._plan.target(file.path)
            if first.status == "damaged" and target is not None and not target.entries:
                on_chunk = functools.partial(self._read_again, Step(Task(number, file, target)))
                self._results[number] = (revise(file, target, first, on_chunk), *others)
                self._under_way.pop(number, None)

    def _read_again(self, step: Step, size: int) -> None:
        """Reports progress on a chunk that was counted already."""
        if self._on_progress is not None:
            self._on_progress(self._progress(step))

    def _check_results(self) -> None:
        """Checks that each file that was begun has a result, whatever became of its thread."""
        for label in self._begun.values():
            raise MachineError(
                f"this machine failed: the work on {display(label)} was begun and has no result;"
                " start the same command again"
            )

    def _take(self, step: Step) -> None:
        """Notes a step, and reports progress."""
        target = step.task.target
        for asked in target.entries.values() or (target,):
            self._see(asked)
        self._done += step.stored
        if step.results:
            self._begun.pop(step.task.number, None)
            self._keep(step)
        if self._on_progress is not None and not target.unsafe:
            self._on_progress(self._progress(step))

    def _see(self, target: Target) -> None:
        """Notes that a file was found, as far as `Plan.missing` needs it."""
        is_first = target.qube not in self._seen_qubes and self._plan.is_listed(target.qube)
        if is_first or self._plan.is_expected(target.qube, target.name):
            self._seen_qubes.add(target.qube)
            self._seen.add((target.qube, target.name))

    def _keep(self, step: Step) -> None:
        """Keeps the results of a file; of too many files that nothing proves, their number."""
        task, results = step.task, step.results
        is_proven = step.is_proven or all(result.ok for result in results)
        if not (is_proven or task.target.entries):
            expected = self._plan.is_expected(task.target.qube, task.target.name)
            results = results if expected else self._unproven.named(results)
        if results:
            self._results[task.number] = results
            self._files[task.number] = task.file

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
            if target is not None:
                self._begun[number] = target.label
                needed = self._is_needed(target)
                yield Task(number, file, target), file.stored.chunks if needed else ()
            elif not self._plan.is_known(file.path):
                ignored(file)

    def _is_needed(self, target: Target) -> bool:
        """Tells if the file's content has to be read."""
        if target.entries:
            return any(pending(self._writer, target.entries))
        return not target.unsafe and self._writer.is_needed(target.qube, target.name)

    def _unpack_file(self, task: Task, events: Iterator[Event], tell: Tell) -> None:
        """Restores one file, perhaps while other threads restore others, and reports each step."""
        told = 0

        def on_chunk(size: int) -> None:
            nonlocal told
            told += size
            tell(Step(task, size))

        tell(Step(task))
        believed = Believed(events)
        results = self._restore.run(task, iter(believed), on_chunk)
        left = max(0, task.file.stored.stored_size - told)  # not read if the file was given up
        tell(Step(task, left, tuple(results), is_proven=believed.any))

    def _or_kept(self, result: FileResult) -> FileResult:
        """Gives "kept" for a file that an earlier run restored and that stands there whole.

        The archive may have been cut since then. Otherwise the result stays "missing".
        """
        found = self._writer.found(result.qube, result.name)
        if not found.is_whole:
            return result
        return self._placed(kept(result.qube, result.name, found))
