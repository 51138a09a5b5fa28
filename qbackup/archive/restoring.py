"""`RestoreJob`: a single `restore` or `verify`, from the names asked for to the report."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from qbackup.archive.file_list import FileList
from qbackup.archive.prefetch import MANY_CHUNKS, KeyPrefetch
from qbackup.archive.qubes import QubeList
from qbackup.archive.unlock.header import HeaderAuthenticator
from qbackup.archive.warning_list import WarningList
from qbackup.base.errors import (
    AlreadyPassed,
    ChunkMissing,
    Incomplete,
    LimitExceeded,
    MachineError,
    UsageError,
)
from qbackup.base.limits import Limits
from qbackup.base.names import METADATA_PATH, display, encode, must_have_content
from qbackup.base.notices import MemberWarning
from qbackup.base.report import FileResult, OnProgress, Report, Status
from qbackup.content.filters import same_filter
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.pipeline.reader import FileReader
from qbackup.restore.metadata_file import write_metadata
from qbackup.restore.nowhere import NowhereWriter
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.plan import Plan
from qbackup.restore.results import failed
from qbackup.restore.resume.journal import JOURNAL_NAME
from qbackup.restore.resume.writer import ResumingWriter
from qbackup.restore.run import FilesLoop
from qbackup.restore.sinks import Writer, require_writer
from qbackup.restore.space import check_space
from qbackup.storage.catalog import Catalog
from qbackup.storage.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.restore.unverified import UnverifiedRestore

_FAILING_DRIVE = (
    "some bytes of the backup could not be read, at least at the first try: the drive may be"
    " failing. Copy the backup to a healthy drive (e.g. with ddrescue) and restore from the copy"
)
_FAILING_SERVER = (
    "the server, or the connection to it, failed to give some bytes of the backup, at least at the"
    " first try: what is called damaged may be whole there, so start the same command again, or"
    " copy the backup to this machine first"
)
_NO_JOURNAL = (
    f"the header can't be authenticated, so {JOURNAL_NAME} is not used: a second run can't tell"
    " which files this one has restored"
)
_NOT_ALONE = (
    "--unverified (unverified) needs --keep-damaged (keep_damaged) beside it, which keeps what is"
    " verified in a file of its own"
)
_FROM_A_PIPE = (
    "--unverified (unverified) reads damaged files a second time, so the backup can't come from a"
    " pipe: give the path of a file"
)
_OTHER_FORMAT = (
    "--unverified (unverified) is for backups of format 4 only: in this format nothing in a chunk"
    " that fails is proven"
)
_LARGE = 1 << 31
_LARGE_COUNT = 1000
_OVERHEAD_PART = 32  # no filter and no inner archive makes images longer by more than this part
_NOT_REACHED = "not found in the part of the archive that can be read"


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Figures on the files to restore, as far as they are known beforehand.

    Args:
        chunks: number of their chunks.
        stored: stored bytes; None where unknown.
        to_write: stored bytes of the files that will be written; 0 where unknown.
        large: least lengths in bytes of some large images that will be written, by their names.
    """

    chunks: int
    stored: int | None
    to_write: int
    large: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RestoreJob:
    """A single `restore` or `verify`, with the parts of an unlocked backup that it needs.

    Args:
        names: ``QUBE`` or ``QUBE/FILE``; none means all.
        progress: called after every chunk.
        check: raise Incomplete unless every file is there and whole.
        source: the backup's bytes.
        catalog: its files.
        files: the same files with their readers.
        front: authenticator of its header.
        contents: its qubes, and the owner of each file.
        pipeline: gives the files' plaintext.
        ahead: takes the number of keys that will be needed.
        format: opens the chunks.
        filter: name of the compression filter of its files; None for none.
        limits: bounds for folder archives.
        is_salvage: the archive was opened for salvage.
        warnings: warnings so far.
        warn: adds a warning.
        causes: gives causes of damage that show in the file as a whole, in sentences.
    """

    names: Sequence[str]
    progress: OnProgress | None
    check: bool
    source: Source
    catalog: Catalog
    files: FileList
    front: HeaderAuthenticator
    contents: QubeList
    pipeline: Pipeline
    ahead: KeyPrefetch
    format: UnlockedFormat
    filter: str | None
    limits: Limits
    is_salvage: bool
    warnings: WarningList
    warn: Callable[[str], None]
    causes: Callable[[], Sequence[str]]

    def restore(
        self,
        output: str | os.PathLike[str] | Writer,
        *,
        overwrite: bool,
        keep_damaged: bool,
        unverified: bool = False,
    ) -> Report:
        """Restores files, see `BackupArchive.restore`."""
        if unverified:
            self._check_unverified(keep_damaged=keep_damaged)
        if not isinstance(output, str | bytes | os.PathLike):
            require_writer(output)
            if overwrite or keep_damaged:  # unverified comes with keep_damaged only
                raise UsageError(
                    "overwrite and keep_damaged are for folders: a Writer decides both"
                )
            return self._run(self._plan(), output, keep_metadata=True)
        plan = self._plan()
        writer = self._writer(output, overwrite, keep_damaged, plan)
        try:
            last_resort = self._last_resort(writer) if unverified else None
            return self._run(plan, writer, keep_metadata=True, last_resort=last_resort)
        finally:
            writer.close()

    def _check_unverified(self, *, keep_damaged: bool) -> None:
        """Checks that unverified bytes can be had. Raises UsageError before anything is written."""
        if not keep_damaged:
            raise UsageError(_NOT_ALONE)
        if not self.source.seekable:
            raise UsageError(_FROM_A_PIPE)
        from qbackup.pipeline.unverified import has_unverified

        if not has_unverified(self.format):
            raise UsageError(_OTHER_FORMAT)

    def _last_resort(self, writer: ResumingWriter | FolderWriter) -> UnverifiedRestore:
        from qbackup.pipeline.unverified import with_unverified
        from qbackup.restore.unverified import UnverifiedRestore

        return UnverifiedRestore(
            writer,
            lambda chunks: with_unverified(self.pipeline, self.format, chunks),
            ranges_limit=self.limits.damaged_ranges,
        )

    def verify(self) -> Report:
        """Verifies files, see `BackupArchive.verify`."""
        return self._run(self._plan(), NowhereWriter(), keep_metadata=False)

    def _plan(self) -> Plan:
        table = self.contents.table
        seen = self.catalog.seen_paths()
        known = seen if self.source.seekable else None
        plan = Plan(table, self.names, known, self.files.holds_folder)
        if not self.source.seekable:
            for target in filter(None, map(plan.target, seen)):
                raise AlreadyPassed(
                    "this file has already passed on the pipe", file=display(target.label)
                )
        return plan

    def _writer(
        self, output: str | os.PathLike[str], overwrite: bool, keep_damaged: bool, plan: Plan
    ) -> ResumingWriter | FolderWriter:
        if not self.front.is_authentic:
            self.warn(_NO_JOURNAL)
            return FolderWriter(
                output, overwrite=overwrite, keep_damaged=keep_damaged, is_taken=plan.holds
            )
        return ResumingWriter(
            output,
            key=self._journal_key(),
            limits=self.limits,
            overwrite=overwrite,
            keep_damaged=keep_damaged,
            is_taken=plan.holds,
            by_path=self.contents.error is not None,
            warn=self.warn,
        )

    def _journal_key(self) -> bytes:
        """Derives the key of this backup's records in an output folder; see docs/security.md.

        The key depends on everything that decides a file's name and content: the header, the
        list of qubes (none where ``qubes.xml`` can't be used, as files then keep their paths), and
        the filter.
        """
        return self.front.root_key(self.pipeline).derive(
            "journal 1", self.front.digest, self.contents.digest, encode(same_filter(self.filter))
        )

    def _run(
        self,
        plan: Plan,
        writer: Writer,
        *,
        keep_metadata: bool,
        last_resort: UnverifiedRestore | None = None,
    ) -> Report:
        sizes = self._sizes(plan, writer)
        self.ahead.expect(sizes.chunks)
        self._check_disk(plan, writer, sizes)
        run = FilesLoop(
            plan,
            writer,
            self.limits,
            total=sizes.stored,
            on_progress=self.progress,
            load=lambda: self.pipeline.load,
        )
        try:
            run.metadata(self._metadata_result(writer, keep_metadata))
            unpack = functools.partial(
                self.pipeline.unpack, self.format, past_gaps=writer.goes_past_damage
            )
            run.files(self.files.coming(), unpack, self._ignored)
            if last_resort is not None:
                run.revise(last_resort.revise)
        except MachineError as error:
            error.report = self._report(run, writer)
            raise
        report = self._report(run, writer)
        if self.check and not report.ok:
            raise Incomplete(report)
        return report

    def _check_disk(self, plan: Plan, writer: Writer, sizes: _Sizes) -> None:
        """Warns of what the disk can't hold, before the first byte is written."""
        short = check_space(writer, sizes.to_write, plan.estimated_size())
        for warning in (*writer.foreseen(sizes.large), *([short] if short else [])):
            if warning not in self.warnings.texts:
                self.warn(warning)

    def _report(self, run: FilesLoop, writer: Writer) -> Report:
        errors = (*self.front.faults, *self.catalog.faults)  # the error of qubes.xml is a result
        fault = self.catalog.error
        results = run.results
        warnings = [w for w in self.warnings.texts if w not in errors]  # name nothing twice
        warnings += writer.warnings
        if self.source.troubles:
            is_remote = getattr(self.source, "is_remote", False)
            warnings.append(_FAILING_SERVER if is_remote else _FAILING_DRIVE)
        if errors or fault is not None:
            warnings += self.causes()
        if self.catalog.error is not None:
            errors = (*errors, str(self.catalog.error))
            results = [
                replace(r, error=_NOT_REACHED) if r.status == "missing" and not r.chunks else r
                for r in results
            ]
        return Report(
            files=tuple(results),
            errors=errors,
            warnings=tuple(warnings),
            is_salvage=self.is_salvage,
            keeps_damaged=writer.keeps_damaged,
            archive_limit=fault.advice if isinstance(fault, LimitExceeded) else "",
            unproven=run.unproven,
        )

    def _sizes(self, plan: Plan, writer: Writer) -> _Sizes:
        """Adds up the files to restore, in one pass: a backup may have many."""
        if not self.source.seekable:
            return _Sizes(chunks=MANY_CHUNKS, stored=None, to_write=0)
        chunks = stored = to_write = 0
        large: dict[str, int] = {}
        for file in self.catalog.seen_files():
            target = plan.target(file.path)
            if target is None:
                continue
            chunks += file.chunk_count
            stored += file.stored_size
            if not (target.entries or target.unsafe) and writer.has_room(target.qube, target.name):
                size = file.readable_size(self.limits.chunk)
                to_write += size
                if size > _LARGE and len(large) < _LARGE_COUNT and self._is_image(file.path):
                    large[target.label] = size - size // _OVERHEAD_PART
        return _Sizes(chunks, stored, to_write, large)

    def _is_image(self, path: str) -> bool:
        return must_have_content(path) and not self.files.holds_folder(path)

    def _ignored(self, file: FileReader) -> None:
        self.warn(MemberWarning(file.path, "belongs to no qube of this backup, ignored"))

    def _metadata_result(self, writer: Writer, keep: bool) -> FileResult:
        """Gives the result of qubes.xml, which was read before everything else."""
        data = self.contents.usable_metadata
        if data is None:
            error = self.contents.error
            reason = (
                f"{error.reason}; files are called by their paths in the archive" if error else ""
            )
            gone = isinstance(error, ChunkMissing) and error.chunk is None
            status: Status = "missing" if gone else "damaged"
            result = FileResult(qube="", name=METADATA_PATH, status=status, error=reason)
            return result if gone or error is None else failed(result, error, reason=reason)
        if not keep:
            return FileResult(qube="", name=METADATA_PATH, status="ok", size=len(data))
        return write_metadata(writer, data)
