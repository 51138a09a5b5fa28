"""`BackupArchive`: the face that draws all of this together.

Trust comes in three steps, and each is a different object: `untrusted_header` is what
anybody could have written; `header` exists only after `unlock` has compared it with its
authenticated copy; `qubes` only after ``qubes.xml`` was read under that header. Nothing is
derived or read before it is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import Executor
from dataclasses import replace
from types import TracebackType
from typing import BinaryIO, TypeAlias

from qbackup.catalog import Catalog, PipeCatalog, SalvageCatalog, SeekableCatalog
from qbackup.chunk import EncryptedChunk, ReadProof
from qbackup.compression import choose_filter, same_filter
from qbackup.errors import (
    AlreadyPassed,
    ChunkMissing,
    Damaged,
    Incomplete,
    LimitExceeded,
    MachineError,
    NotInBackup,
    QBackupError,
    Unlockable,
    Unreadable,
    UsageError,
)
from qbackup.file import BackupFile, Unlocked
from qbackup.formats import Door, Format, choose_door
from qbackup.front import Front
from qbackup.gaps import DecompressPastGaps
from qbackup.header import BackupHeader
from qbackup.headerless import Beginning, HeaderlessFront, KeepingSource, read_beginning
from qbackup.keys import Deriver
from qbackup.limits import Limits
from qbackup.metadata import METADATA_PATH, QubeTable, parse_qubes_xml
from qbackup.names import ChunkName, display
from qbackup.pipeline import Pipeline
from qbackup.qube import Qube
from qbackup.restore.journal import JOURNAL_NAME
from qbackup.restore.plan import Plan
from qbackup.restore.report import FileResult, OnProgress, Report, Status
from qbackup.restore.resume import ResumingWriter
from qbackup.restore.run import Run, check_space, write_metadata
from qbackup.restore.sinks import NowhereWriter, Writer
from qbackup.restore.writer import FolderWriter
from qbackup.scrypt import ScryptParameters
from qbackup.source import Source, open_source
from qbackup.volumes import choose_volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.image.tree import Image

Passphrase: TypeAlias = str | bytes | Callable[[], str | bytes]

_WARNINGS_LIMIT = 1000
_MANY_CHUNKS = 64  # on a pipe nobody knows
_FAILING_DRIVE = (
    "the drive failed to read some bytes of the backup, at least at the first try: it may be"
    " dying, so make a copy of it first (with ddrescue, say) and restore from that"
)
_BY_FOLDER = "qubes are called by their folders in the archive, whose names nothing proves"
_NO_JOURNAL = (
    f"the header can't be authenticated, so {JOURNAL_NAME} is not used: a second run will not know"
    " what this one restores"
)
_NOT_REACHED = "not found: the archive can't be read to its end, so it may still be in there"


def _passphrase_bytes(passphrase: str | bytes) -> bytes:
    if isinstance(passphrase, bytes):
        return passphrase
    with contextlib.suppress(UnicodeEncodeError):  # which holds and shows the whole of it
        return passphrase.encode("utf-8", "surrogateescape")
    raise UsageError("the passphrase has characters that can't be written in UTF-8")


class BackupArchive:
    """A Qubes OS backup. A context manager; `close` gives everything back.

    Args:
        source: a path, or a binary file object, seekable or not.
        passphrase: unlocks at once; without it nothing is derived until `unlock`.
        limits: bounds on untrusted input.
        jobs: scrypt lanes derived side by side; default: the cores there are.
        memory: budget for derivations and held chunks, in bytes; default: half of RAM.
        executor: derives keys besides, on other machines say; any Executor of
            `concurrent.futures` whose workers have qbackup installed. It is told neither the
            passphrase nor a key nor any data, see docs/security.md. It is not shut down.
        executor_jobs: derivations that it is given at once; default: its workers and some
            more, 16 where it does not say how many it has.
        compression_filter: instead of the header's; ``none`` for no compression. A name
            that is not built in is a program of this machine, run as ``NAME -d``.
        hmac_algorithm: of formats 2 and 3: the only digest that may prove the header, as openssl
            calls it; default: each that is no weaker than SHA-1. The way to allow a weaker one.
        salvage: go on where the header can't be believed or the archive is broken; see
            docs/security.md for what that weakens. What was passed over is in `salvaged`, and no
            `restore` or `verify` then returns without raising.

    Raises:
        NotABackup: there is no Qubes backup here.
        UnsupportedFormat: a version that is not read.
        HeaderAltered: the header is malformed.
        UsageError: salvage from a pipe.
        Unlockable: with a passphrase, see `unlock`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        passphrase: Passphrase | None = None,
        limits: Limits | None = None,
        jobs: int | None = None,
        memory: int | None = None,
        executor: Executor | None = None,
        executor_jobs: int | None = None,
        compression_filter: str | None = None,
        hmac_algorithm: str | None = None,
        salvage: bool = False,
    ) -> None:
        self.limits = limits or Limits()
        self.warnings: list[str] = []
        self.deriver = Deriver()
        self._filter_override = compression_filter
        self._hmac_algorithm = hmac_algorithm
        self._header: BackupHeader | None = None
        self._expects_all = False
        self._unlocked: Unlocked | None = None
        self._table: QubeTable | None = None
        self._metadata: bytes | None = None
        self._metadata_error: QBackupError | None = None
        self._salvage = salvage
        self._source: Source = open_source(source)
        if salvage and not self._source.seekable:
            self._source.close()
            raise UsageError("nothing can be salvaged from a pipe: write it to a file first")
        self.pipeline = Pipeline(
            self.deriver,
            jobs=jobs,
            memory=memory,
            seekable=self._source.seekable,
            executor=executor,
            executor_jobs=executor_jobs,
        )
        try:
            self._front = self._open_front()
            if passphrase is not None:
                self.unlock(passphrase)
        except BaseException:
            self.close()
            raise

    def _open_front(self) -> Front:
        """Finds out whether there is a header, then reads what there is."""
        keeping = KeepingSource(self._source)
        if not self._salvage:  # which searches the file itself, and may read it twice
            self._source = keeping
        beginning = self._read_beginning(keeping)
        keeping.stop()
        self.catalog = self._make_catalog(has_header=beginning is None)
        return self._make_front(beginning)

    def _read_beginning(self, source: Source) -> Beginning | None:
        try:
            return read_beginning(source, self.limits)
        except MachineError:
            if not self._salvage:  # which goes past what can't be read
                raise
            return None

    def _make_catalog(self, *, has_header: bool) -> Catalog:
        if self._salvage:
            return SalvageCatalog(self._source, self.limits, self, self._make_chunk, self._warn)
        make = SeekableCatalog if self._source.seekable else PipeCatalog
        return make(
            self._source,
            self.limits,
            self,
            self._make_chunk,
            self._warn,
            has_header=has_header,
        )

    def _make_front(self, beginning: Beginning | None) -> Front:
        if beginning is not None:
            return HeaderlessFront(
                beginning,
                self._source,
                self.catalog,
                self.limits,
                hmac_algorithm=self._hmac_algorithm,
            )
        if not isinstance(self.catalog, SalvageCatalog):
            return Front(
                self._source, self.catalog, self.limits, hmac_algorithm=self._hmac_algorithm
            )
        from qbackup.salvage import SalvagedFront

        return SalvagedFront(
            self._source,
            self.catalog,
            self.limits,
            knows_filter=self._filter_override is not None,
            hmac_algorithm=self._hmac_algorithm,
        )

    def __enter__(self) -> BackupArchive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes what was opened, abandons what runs. Never raises."""
        try:
            self.pipeline.close()
        finally:
            self._source.close()

    # What the archive is, before and after unlocking

    @property
    def untrusted_header(self) -> BackupHeader:
        """The header as anybody could have written it. With salvage, raises if it is none."""
        return self._front.untrusted_header

    @property
    def header(self) -> BackupHeader:
        """The authenticated header. Raises UsageError while the archive is locked."""
        if self._header is None:
            raise UsageError("the backup is locked: call unlock(passphrase) first")
        return self._header

    @property
    def salvaged(self) -> tuple[str, ...]:
        """What salvage had to pass over until now, in words; empty if nothing, or without it."""
        if not self._salvage:
            return ()
        faults = list(self._faults)
        if self._metadata_error is not None:
            faults.append(f"{self._metadata_error}; {_BY_FOLDER}")
        return tuple(faults)

    @property
    def _faults(self) -> tuple[str, ...]:
        return (*self._front.faults, *self.catalog.faults)

    @property
    def is_unlocked(self) -> bool:
        """Whether the passphrase was given and fits."""
        return self._header is not None

    @property
    def is_seekable(self) -> bool:
        """Whether files can be read in any order."""
        return self._source.seekable

    def unlock(self, passphrase: Passphrase, *, ahead: bool = False) -> None:
        """Authenticates the header with the passphrase; may be called again after a failure.

        Args:
            passphrase: str, bytes, or a callable that is asked once.
            ahead: derive the key of ``qubes.xml`` at the same time, for who asks for the
                qubes next. Nothing of it is used before the header is verified.

        Raises:
            UsageError: it can't be written in UTF-8.
            WrongPassphrase: it does not fit.
            HeaderAltered: it fits, but the header is not what was written.
            LimitExceeded: the derivation would cost more than allowed; none was started.
            UnsupportedFormat: the authenticated header names what is not read.
        """
        data = _passphrase_bytes(passphrase() if callable(passphrase) else passphrase)
        meanwhile = functools.partial(self._expect_first, data) if ahead else None
        header = self._front.authenticate(data, self.pipeline, meanwhile)
        door = choose_door(header, hmac_algorithm=self._hmac_algorithm)
        format_ = door.format(header, data, self.limits)
        self._unlocked = Unlocked(format_, self._choose_decompress(format_, header))
        self._header = header

    def _choose_decompress(self, format_: Format, header: BackupHeader) -> DecompressPastGaps:
        choose = choose_volumes if format_.has_volumes else choose_filter
        return choose(header.compression_filter, self._filter_override, self.limits)

    def expect_all(self) -> None:
        """Says that all of it is going to be read, before or after `unlock`.

        What makes that faster is loaded meanwhile, if it is installed and pays.
        """
        self._expects_all = True
        # each member has a key but the header
        self._expect_keys(self.catalog.member_count() - 1 if self.is_seekable else _MANY_CHUNKS)

    def expect_list(self) -> None:
        """Says that the list of qubes is going to be read; as `expect_all`."""
        self._expect_keys(2)

    def _expect_keys(self, count: int) -> None:
        parameters = self._front.untrusted_parameters
        if parameters is not None:
            self.pipeline.expect_keys(parameters, count)

    def _expect_first(self, passphrase: bytes, most: ScryptParameters) -> None:
        """Has the keys that are wanted next derived beside the header's and after it.

        That of qubes.xml, and of one chunk for each job if all of them are going to be read;
        none that costs more than the header's. The header is not verified yet, so a key may
        turn out useless; nothing is opened with it before.
        """
        if not self.is_seekable:
            return
        first = self.catalog.metadata_file()
        files = [first] if first is not None else []
        count = len(files)
        if self._expects_all:
            files.extend(itertools.islice(self.catalog.files(), self.pipeline.jobs + count))
            count += self.pipeline.jobs
        seen = {file.path: file.chunks for file in files}
        try:
            format_ = self.door.format(self.untrusted_header, passphrase, self.limits)
            for chunk in itertools.islice(itertools.chain.from_iterable(seen.values()), count):
                head = chunk.read_head(format_.head_size)
                key = format_.file().lock(chunk.name, chunk.index, head).derivation
                if key is not None and key.parameters.work <= most.work:
                    self.pipeline.expect(key)
        except (Damaged, Unlockable, Unreadable, MachineError):
            return  # told when it is read

    def _make_chunk(
        self,
        name: ChunkName,
        offset: int,
        size: int,
        proof: ReadProof | None,
        siblings: Callable[[], Sequence[EncryptedChunk]] | None,
    ) -> EncryptedChunk:
        return EncryptedChunk(
            name,
            offset,
            size,
            source=self._source,
            door=lambda: self.door,
            format_=lambda: self.unlocked().format,
            pipeline=self.pipeline,
            limits=self.limits,
            proof=proof,
            siblings=siblings,
        )

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _WARNINGS_LIMIT:
            self.warnings.append(text)
        elif len(self.warnings) == _WARNINGS_LIMIT:
            self.warnings.append("more warnings follow, which are left out")

    # What is in it

    def unlocked(self) -> Unlocked:
        """What reading needs. Raises UsageError while the archive is locked."""
        if self._unlocked is None:
            raise UsageError("the backup is locked: call unlock(passphrase) first")
        return self._unlocked

    @property
    def metadata(self) -> bytes:
        """``qubes.xml``, verified.

        Raises:
            Damaged: it is missing, or can't be believed.
        """
        self._load_metadata()
        if self._metadata is None:
            raise self._metadata_error or Damaged("it was not read", file=METADATA_PATH)
        return self._metadata

    @property
    def qubes(self) -> tuple[Qube, ...]:
        """The qubes that ``qubes.xml`` says are in the backup; with salvage its folders without it.

        R2 leaves dom0 out there: it is among them if its home is found.

        Raises:
            Damaged: it is missing, or can't be believed.
        """
        table = self._load_metadata()
        if self._metadata_error is not None and not self._salvage:
            raise self._metadata_error
        qubes = (Qube(record, self.catalog, table) for record in table.records)
        return tuple(qube for qube in qubes if qube.is_listed or qube.files)

    def _load_metadata(self) -> QubeTable:
        self.unlocked()
        if self._table is None:
            records = None
            try:
                self._metadata = self._read_metadata()
                root_tag = self.door.metadata_root
                records = parse_qubes_xml(self._metadata, self.limits, root_tag=root_tag)
            except (Damaged, LimitExceeded) as error:
                error.file = METADATA_PATH
                self._metadata_error = error
            seen = self.catalog.seen_files() if self._salvage else ()
            self._table = QubeTable(records, (file.path for file in seen))
        return self._table

    def _read_metadata(self) -> bytes:
        file = self.catalog.metadata_file()
        if file is None:
            raise ChunkMissing("it is not in the archive", file=METADATA_PATH)
        with file.open() as stream:
            data = stream.read(self.limits.metadata + 1)
            if len(data) <= self.limits.metadata:
                data += stream.read(1)  # the proof of the end
        if len(data) > self.limits.metadata:
            raise LimitExceeded("it is too long", limit="metadata", file=METADATA_PATH)
        return data

    def is_folder(self, path: str) -> bool:
        """Whether this file is a folder archive, with entries and no single stream."""
        return self.catalog.naming.is_folder(path)

    @property
    def door(self) -> Door:
        """What is known of the backup's format without the passphrase."""
        return self._front.door

    def name_of(self, path: str) -> str:
        """QUBE/FILE of a path in the archive; the path itself where no qube is known."""
        owner = self._table.owner(path) if self._table is not None else None
        return "/".join(owner) if owner else path

    @property
    def files(self) -> tuple[BackupFile, ...]:
        """The files of all qubes; on a pipe, those that came so far."""
        self._load_metadata()
        return tuple(file for file in self.catalog.seen_files() if file.path != METADATA_PATH)

    def file(self, name: str) -> BackupFile:
        """The file called ``QUBE/FILE``, or by its path in the archive.

        Raises:
            NotInBackup: there is none.
            AlreadyPassed: on a pipe, it went by.
        """
        table = self._load_metadata()
        qube, _, rest = name.partition("/")
        path = table.path_of(qube, rest) or name
        file = self.catalog.find(path)
        if file is None or path == METADATA_PATH:
            raise NotInBackup(f"there is no file {display(name)!r} in this backup")
        return file

    def open(self, name: str) -> BinaryIO:
        """The content of ``QUBE/FILE`` as a binary stream, see `BackupFile.open`."""
        return self.file(name).open()

    def browse(
        self,
        name: str,
        *,
        partition: int | None = None,
        spool: str | os.PathLike[str] | None = None,
        progress: OnProgress | None = None,
    ) -> Image:
        """The files in the image ``QUBE/FILE``, which is read to its end and verified before.

        Args:
            name: ``QUBE/FILE``, or its path in the archive.
            partition: its number; default: the image itself, or its largest partition with ext4.
            spool: folder for what is kept meanwhile, encrypted; default: the system's for such
                files. What is small stays in memory.
            progress: called after every chunk.

        Raises:
            NotInBackup: there is no such image.
            Damaged: the image is not whole, or its file system makes no sense.
            UnsupportedFormat: there is no ext4 in it.
            MachineError: there is no room for it.
        """
        from qbackup.image.browse import browse

        file = self.file(name)
        if self.is_seekable:
            self._expect_keys(file.chunk_count)
        return browse(
            file,
            partition=partition,
            spool=spool,
            limits=self.limits,
            total=file.stored_size if self.is_seekable else None,
            progress=progress,
        )

    # What can be done with it

    def restore(
        self,
        output: str | os.PathLike[str],
        names: Sequence[str] = (),
        *,
        overwrite: bool = False,
        keep_damaged: bool = False,
        progress: OnProgress | None = None,
        check: bool = True,
    ) -> Report:
        """Writes ``output/QUBE/FILE`` for all that is asked for, and ``output/qubes.xml``.

        What an earlier run has restored from this very backup is read again, and kept if it is
        still the same. Everything else that is there is left alone, or replaced on demand.

        Args:
            output: the folder, made if it is not there.
            names: ``QUBE`` or ``QUBE/FILE``; none means all.
            overwrite: replace files that are there already and are not the same.
            keep_damaged: leave what could be verified of a damaged file as ``NAME.damaged``;
                the report says which of its bytes are good.
            progress: called after every chunk.
            check: raise Incomplete unless all is there and whole.

        Raises:
            NotInBackup: a name that is not in the backup; nothing was written.
            AlreadyPassed: on a pipe, a file that is asked for went by; nothing was written.
            MachineError: this machine failed; its `report` says what was done.
            Incomplete: with `check`, the report is not ok.
        """
        plan = self._plan(names)
        writer = self._writer(output, overwrite, keep_damaged, plan)
        try:
            return self._run(plan, writer, progress, check, keep_metadata=True)
        finally:
            writer.close()

    def _writer(
        self, output: str | os.PathLike[str], overwrite: bool, keep_damaged: bool, plan: Plan
    ) -> ResumingWriter | FolderWriter:
        if not self._front.is_authentic:
            self._warn(_NO_JOURNAL)
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
            by_path=self._metadata_error is not None,
            warn=self._warn,
        )

    def _journal_key(self) -> bytes:
        """The key of this backup's records in an output folder; see docs/security.md.

        It is bound to all that decides what a file is called and what is in it: the header, the
        list of qubes (none where it can't be used: files are then called by their path), and
        the filter.
        """
        is_used = self._metadata is not None and self._metadata_error is None
        names = hashlib.sha256(self._metadata or b"").digest() if is_used else b""
        filter_ = same_filter(self._filter_override or self.header.compression_filter).encode()
        return self._front.root_key(self.pipeline).derive(
            "journal 1", self._front.digest, names, filter_
        )

    def verify(
        self,
        names: Sequence[str] = (),
        *,
        progress: OnProgress | None = None,
        check: bool = True,
    ) -> Report:
        """Everything that `restore` does but the writing; arguments and errors are the same."""
        return self._run(self._plan(names), NowhereWriter(), progress, check, keep_metadata=False)

    def _plan(self, names: Sequence[str]) -> Plan:
        table = self._load_metadata()
        seen = [file.path for file in self.catalog.seen_files()]
        plan = Plan(table, names, seen if self._source.seekable else None)
        if not self._source.seekable:
            for target in filter(None, map(plan.target, seen)):
                raise AlreadyPassed("it went by on the pipe", file=display(target.label))
        return plan

    def _run(
        self,
        plan: Plan,
        writer: Writer,
        progress: OnProgress | None,
        check: bool,
        *,
        keep_metadata: bool,
    ) -> Report:
        self._expect_keys(self._chunk_count(plan))
        total = self._stored_size(plan)
        warning = check_space(writer, self._needed(plan, writer), plan.estimated_size())
        if warning:
            self._warn(warning)
        run = Run(plan, writer, self.limits, total=total, on_progress=progress)
        try:
            run.metadata(self._metadata_result(writer, keep_metadata))
            unpack = functools.partial(
                self.pipeline.unpack, self.unlocked().format, past_gaps=writer.goes_past_damage
            )
            run.files(self.catalog.files(), unpack, self._ignored)
        except MachineError as error:
            error.report = self._report(run)
            raise
        report = self._report(run)
        if check and not report.ok:
            raise Incomplete(report)
        return report

    def _report(self, run: Run) -> Report:
        errors = self._faults  # what is wrong with qubes.xml is its result
        results = run.results
        warnings = [w for w in self.warnings if w not in errors]  # which `list` shows instead
        if self._source.troubles:
            warnings.append(_FAILING_DRIVE)
        if self.catalog.error is not None:
            errors = (*errors, str(self.catalog.error))
            results = [
                replace(r, error=_NOT_REACHED) if r.status == "missing" and not r.chunks else r
                for r in results
            ]
        return Report(files=tuple(results), errors=errors, warnings=tuple(warnings))

    def _stored_size(self, plan: Plan) -> int | None:
        if not self._source.seekable:
            return None
        return sum(f.stored_size for f in self.catalog.seen_files() if plan.target(f.path))

    def _chunk_count(self, plan: Plan) -> int:
        if not self._source.seekable:
            return _MANY_CHUNKS
        chunks = (f.chunks for f in self.catalog.seen_files() if plan.target(f.path))
        return sum(len(several) for several in chunks if isinstance(several, Sized))

    def _needed(self, plan: Plan, writer: Writer) -> int:
        """Stored bytes of the files that will be written; 0 where they are not known yet."""
        if not self._source.seekable:
            return 0
        targets = ((file, plan.target(file.path)) for file in self.catalog.seen_files())
        wanted = (file for file, t in targets if t and writer.has_room(t.qube, t.name))
        return sum(file.readable_size(self.limits.chunk) for file in wanted)

    def _ignored(self, file: BackupFile) -> None:
        self._warn(f"{display(file.path)}: belongs to no qube of this backup, ignored")

    def _metadata_result(self, writer: Writer, keep: bool) -> FileResult:
        """What came of qubes.xml, which was read before everything else."""
        if self._metadata_error is not None or self._metadata is None:
            error = self._metadata_error
            reason = f"{error.reason}; files come out by their path" if error else ""
            gone = isinstance(error, ChunkMissing) and error.chunk is None
            status: Status = "missing" if gone else "damaged"
            return FileResult(qube="", name=METADATA_PATH, status=status, error=reason)
        size = len(self._metadata)
        if not keep:
            return FileResult(qube="", name=METADATA_PATH, status="ok", size=size)
        return write_metadata(writer, self._metadata)
