"""Restore of one file: by what its archive begins with, into a file or a folder of the writer.

A whole file gets its name. A file with damage gets none, or the name of a damaged file where the
writer keeps these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qbackup.base.errors import Damaged, LimitExceeded, NotEnoughMemory
from qbackup.base.events import Event
from qbackup.base.limits import Limits
from qbackup.base.locks import Lock
from qbackup.base.names import must_have_content, too_deep
from qbackup.base.report import FileResult
from qbackup.content.entry_kinds import Kind
from qbackup.content.inner import InnerArchive
from qbackup.pipeline.reader import FileReader, OnChunk
from qbackup.restore import damaged
from qbackup.restore.aside import KeptAside, with_unplaced
from qbackup.restore.damaged import Losses, PartialFile
from qbackup.restore.entries import EntriesRestore, Outcome, pending
from qbackup.restore.kept_ranges import with_ranges
from qbackup.restore.plan import Plan, Target
from qbackup.restore.results import DIFFERS, IN_THE_WAY, failed, kept, lost_to, part_of, result_of
from qbackup.restore.sinks import AlreadyExists, CannotWrite, FileSink, NotHere, Writer
from qbackup.restore.tree import TreeRestore


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


class FileRestore:
    """Restore of single files into one writer. Several threads may restore files at once.

    Args:
        plan: tells which files ``qubes.xml`` requires.
        writer: destination of the files' content.
        limits: bounds for folder archives.
    """

    def __init__(self, plan: Plan, writer: Writer, limits: Limits) -> None:
        self._plan = plan
        self._writer = writer
        self._limits = limits
        self._entries_turn = Lock()

    def run(self, task: Task, events: Iterator[Event], on_chunk: OnChunk) -> list[FileResult]:
        """Restores one file; gives its result, and one for each refused entry of a folder."""
        file, target = task.file, task.target
        if target.unsafe:
            return [result_of(file, target, "damaged", f"refused: {target.unsafe}")]
        if target.entries:
            return self._some_of(task, events, on_chunk)
        try:
            fault = too_deep(target.label, self._limits.depth)
            if fault is not None:
                raise fault
            return self._content(task, events, on_chunk)
        except AlreadyExists:
            return self._in_the_way(file, target)
        except (Damaged, LimitExceeded, NotEnoughMemory) as error:
            return [lost_to(result_of(file, target, "damaged"), error)]
        except CannotWrite as error:
            return [_not_written(result_of(file, target, "damaged", str(error)), error)]

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
        return result_of(task.file, task.target, "ok", notes=(note,))

    def _go_through(self, task: Task, losses: Losses, on_chunk: OnChunk) -> list[FileResult]:
        """Restores one file past damage, to its end; the verified rest of it may be kept."""
        file = task.file
        past_gaps = self._writer.keeps_damaged or not file.is_folder
        with KeptAside(self._writer, task.target) as aside:
            room = None if file.is_folder else aside.room
            inner = file.decode(losses, on_chunk, past_gaps=past_gaps, room=room)
            losses.own_end = inner.own_end
            if _is_image(file):
                with self._writer.image(task.target.qube, task.target.name) as image:
                    if self._kind(task, inner) == "file":
                        return [self._go_through_image(task, inner, losses, image, aside)]
            kind = self._kind(task, inner)
            if kind == "symlink":
                return [self._link(task, inner)]
            if kind == "folder":
                return self._go_through_tree(task, inner, losses)
            with self._writer.image(task.target.qube, task.target.name) as image:
                return [self._go_through_image(task, inner, losses, image, aside)]

    def _go_through_image(
        self, task: Task, inner: InnerArchive, losses: Losses, image: FileSink, aside: KeptAside
    ) -> FileResult:
        remains = damaged.image(
            inner,
            image,
            losses,
            task.file.stored,
            self._writer.check_size,
            ranges_limit=self._limits.damaged_ranges,
        )
        result = self._remains(task, remains, losses, remains.size or 0)
        if result.ok:
            return result
        if remains.kept_as and remains.size is not None:
            damage = remains.ranges.as_map(remains.size, losses.named, losses.places)
            result = with_ranges(result, damage, self._writer)
        return with_unplaced(result, aside)

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
            failed(part_of(target, path, ""), error, reason=f"not restored: {error}")
            for path, error in restore.lost
        ]
        return [result, *lost, *(part_of(target, *what) for what in restore.refused)]

    def _remains(
        self, task: Task, remains: PartialFile, losses: Losses, size: int, notes: Sequence[str] = ()
    ) -> FileResult:
        result = result_of(task.file, task.target, "ok", size=0 if remains.error else size)
        if remains.error is not None:
            result = lost_to(result, remains.error)
        is_folder = task.file.is_folder
        return replace(
            result,
            notes=(*notes, *remains.notes),
            kept_as=remains.kept_as,
            ranges=() if is_folder else remains.byte_ranges,
            unplaced=remains.unplaced,
            lost_chunks=losses.named,
            lost_places=losses.places,
            ranges_left_out=0 if is_folder else remains.ranges.left_out,
        )

    def _image(
        self, file: FileReader, target: Target, inner: InnerArchive, sink: FileSink
    ) -> FileResult:
        entry = inner.only_file()
        self._writer.check_size(entry.size)
        for extent in entry.extents():
            if extent.data is not None:
                sink.write(extent.offset, extent.data)
        inner.finish()
        sink.commit(entry.size, file.stored.chunk_count)
        return result_of(file, target, "ok", size=entry.size)

    def _tree(self, file: FileReader, target: Target, inner: InnerArchive) -> list[FileResult]:
        with self._writer.tree(target.qube, target.name) as sink:
            restore = TreeRestore(sink, self._limits)
            for entry in inner.entries():
                restore.add(entry)
            restore.finish(file.stored.chunk_count)
        result = result_of(file, target, "ok", size=restore.size, notes=tuple(restore.notes))
        return [result, *(part_of(target, path, why) for path, why in restore.refused)]

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
            fault = too_deep(target.label, self._limits.depth)
            if target.unsafe:
                outcomes[path] = Outcome("damaged", f"refused: {target.unsafe}")
            elif fault is not None:
                outcomes[path] = Outcome("damaged", cause=fault)
                needed.pop(path, None)
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
        result = result_of(file, target, outcome.status, outcome.error, size=outcome.size)
        result = replace(result, advice=outcome.advice)
        return [result if outcome.cause is None else lost_to(result, outcome.cause)]

    def _in_the_way(self, file: FileReader, target: Target) -> list[FileResult]:
        """Keeps a file that an earlier run restored and that is still the same; else reports it."""
        found = self._writer.found(target.qube, target.name)
        if not found.is_whole:
            reason = DIFFERS if found.is_known else IN_THE_WAY
            return [result_of(file, target, "exists", reason)]
        return [
            kept(target.qube, target.name, found),
            *(part_of(target, path, why) for path, why in found.refused),
        ]


def _not_written(result: FileResult, error: CannotWrite) -> FileResult:
    """Gives a file's result, with the remedy if the file is sound and this disk can't hold it."""
    if isinstance(error, NotHere):
        return replace(result, status="missing", advice=error.advice)
    return result


def _is_image(file: FileReader) -> bool:
    """Tells if the name is a disk image's; the content is then almost always a disk image too.

    An image's name is reserved before its first chunk is waited for. Of two images that share a
    name on this disk, the one that waits so holds no chunk that the other needs room for. Nothing
    is made before the first bytes are verified. Other names are reserved when the kind is known.
    """
    return must_have_content(file.path) and not file.is_folder
