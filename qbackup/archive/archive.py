"""`BackupArchive`, the public class through which programs use a backup.

Trust comes in three steps, and each is a different object. Anybody could have written
`untrusted_header`. `header` exists only after `unlock` has compared the header with its
authenticated copy. `qubes` exists only after ``qubes.xml`` was read under that header.
Nothing is derived or read before the caller asks for it.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import BinaryIO, TypeAlias

from qbackup.archive.file import BackupFile
from qbackup.archive.file_list import FileList
from qbackup.archive.firewalls import Firewall, FirewallReader
from qbackup.archive.prefetch import KeyPrefetch
from qbackup.archive.qube import Qube
from qbackup.archive.qubes import QubeList
from qbackup.archive.restoring import RestoreJob
from qbackup.archive.unlock.headerless import ReplaySource
from qbackup.archive.unlock.opening import Opening
from qbackup.base.errors import LimitExceeded, UsageError
from qbackup.base.limits import Limits
from qbackup.base.names import METADATA_PATH
from qbackup.base.report import OnProgress, Report
from qbackup.content.filters import choose_filter, decoder_name, other_filter
from qbackup.content.lost_chunks import DecompressPastGaps
from qbackup.content.volumes import choose_volumes
from qbackup.crypto.kdf import Deriver
from qbackup.formats import choose_format
from qbackup.formats.header import BackupHeader
from qbackup.formats.protocol import Format, UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.pipeline.reader import Unlocked
from qbackup.storage.source import Source
from qbackup.storage.unpacked import open_backup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.archive.backends import Backends
    from qbackup.archive.estimate import Cost
    from qbackup.image.image import Image

Passphrase: TypeAlias = str | bytes | Callable[[], str | bytes]

_WARNINGS_LIMIT = 1000
_BY_FOLDER = "qubes are called by their folders in the archive, whose names nothing proves"


def _passphrase_bytes(passphrase: str | bytes) -> bytes:
    if isinstance(passphrase, bytes):
        return bytes(passphrase)
    if not isinstance(passphrase, str):
        raise UsageError(f"the passphrase is a str or bytes, not {type(passphrase).__name__}")
    with contextlib.suppress(UnicodeEncodeError):  # the error would show the whole passphrase
        return passphrase.encode("utf-8", "surrogateescape")
    raise UsageError("the passphrase has characters that can't be written in UTF-8")


class BackupArchive:
    """A Qubes OS backup, as a context manager; `close` releases everything.

    Args:
        source: a path, a URL, or a binary file object, seekable or not.
        passphrase: unlocks at once; without it nothing is derived until `unlock`.
        limits: bounds on untrusted input.
        jobs: scrypt lanes derived side by side; default: the number of cores.
        memory: budget for derivations and held chunks, in bytes; default: half of RAM.
        executor: derives keys too, on other machines for instance; any Executor of
            `concurrent.futures` whose workers have qbackup installed. The executor gets neither
            the passphrase nor a key nor any data, see docs/security.md. The archive does not shut
            it down.
        executor_jobs: derivations that the executor gets at once; default: its workers and some
            more, or 16 where the number of its workers is unknown.
        compression_filter: instead of the header's; ``none`` for no compression. A name
            that is not built in is a program of this machine, run as ``NAME -d``.
        hmac_algorithm: for formats 2 and 3, the only digest that may prove the header, by its
            name in openssl; default: each digest that is no weaker than SHA-1. Naming a weaker
            digest here is the only way to allow it.
        salvage: go on where the header can't be believed or the archive is broken; see
            docs/security.md for the promises that are weaker then. `salvaged` lists everything
            that was passed over; if there is anything, `restore` and `verify` raise at the end.

    Attributes:
        warnings: harmless faults that were passed over until now, in words.

    Raises:
        NotABackup: there is no Qubes backup here.
        UnsupportedFormat: the backup's version can't be read.
        UsageError: salvage from a pipe, or a number that makes no sense.
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
        for name, value in (("jobs", jobs), ("memory", memory), ("executor_jobs", executor_jobs)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} is a whole number above 0")
        self.limits = limits or Limits()
        self.warnings: list[str] = []
        self.deriver = Deriver()
        self._filter_override = compression_filter
        self._hmac_algorithm = hmac_algorithm
        self._header: BackupHeader | None = None
        self._unlocked: Unlocked | None = None
        self._salvage = salvage
        opened = open_backup(source, self.limits)
        if salvage and not opened.seekable:
            opened.close()
            raise UsageError("nothing can be salvaged from a pipe: write it to a file first")
        for note in getattr(opened, "notes", ()):  # only a folder has notes
            self._warn(note)
        # Outside salvage, no byte is read twice. The search of salvage may read bytes again.
        self._source: Source = opened if salvage else ReplaySource(opened)
        self.pipeline = Pipeline(
            self.deriver,
            jobs=jobs,
            memory=memory,
            seekable=opened.seekable,
            executor=executor,
            executor_jobs=executor_jobs,
        )
        try:
            self._open()
            if passphrase is not None:
                self.unlock(passphrase)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        opening = Opening(
            source=self._source,
            warn=self._warn,
            limits=self.limits,
            hmac_algorithm=self._hmac_algorithm,
            salvage=self._salvage,
            knows_filter=self._filter_override is not None,
        )
        self.catalog, self._front = opening.open()
        self._files = FileList(self.catalog, self, seekable=self._source.seekable)
        self._contents = QubeList(
            self.catalog,
            self._files,
            self.limits,
            lambda: self.door.metadata_root,
            salvage=self._salvage,
        )
        self._ahead = KeyPrefetch(
            self._front, self.catalog, self.pipeline, seekable=self._source.seekable
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
        """Closes everything opened and abandons work under way. Never raises."""
        try:
            self.pipeline.close()
        finally:
            self._source.close()

    # Facts on the backup, before and after unlocking

    @property
    def untrusted_header(self) -> BackupHeader:
        """The header as anybody could have written it.

        Raises:
            HeaderAltered: the header can't be understood. Only its HMAC could show damage.
        """
        return self._front.untrusted_header

    @property
    def header(self) -> BackupHeader:
        """The authenticated header. Raises UsageError while the archive is locked."""
        if self._header is None:
            raise UsageError("the backup is locked: call unlock(passphrase) first")
        return self._header

    @property
    def salvaged(self) -> tuple[str, ...]:
        """Faults that salvage passed over until now, in words; empty without salvage."""
        if not self._salvage:
            return ()
        faults = [*self._front.faults, *self.catalog.faults]
        if self._contents.error is not None:
            faults.append(f"{self._contents.error}; {_BY_FOLDER}")
        return tuple(faults)

    @property
    def is_unlocked(self) -> bool:
        """True if the passphrase was given and fits."""
        return self._header is not None

    @property
    def is_seekable(self) -> bool:
        """True if files can be read in any order."""
        return self._source.seekable

    def unlock(self, passphrase: Passphrase, *, ahead: bool = False) -> None:
        """Authenticates the header with the passphrase; may be called again after a failure.

        Args:
            passphrase: str, bytes, or a callable that is called once.
            ahead: derive the key of ``qubes.xml`` at the same time, for a caller that asks for the
                qubes next. The key is not used before the header is verified.

        Raises:
            UsageError: the passphrase is no str or bytes, or can't be written in UTF-8.
            WrongPassphrase: the passphrase does not fit.
            HeaderAltered: the passphrase fits, but the header was changed after it was written.
            LimitExceeded: the derivation would cost more than allowed; none was started.
            UnsupportedFormat: the authenticated header names something that can't be read.
        """
        data = _passphrase_bytes(passphrase() if callable(passphrase) else passphrase)
        meanwhile = functools.partial(self._ahead.begin, lambda: self._format_ahead(data))
        header = self._front.authenticate(data, self.pipeline, meanwhile if ahead else None)
        door = choose_format(header.version, hmac_algorithm=self._hmac_algorithm)
        format_ = door.format(header, data, self.limits, self._warn)
        self._unlocked = Unlocked(format_, self._choose_decompress(format_, header))
        self._header = header

    def _format_ahead(self, passphrase: bytes) -> UnlockedFormat:
        """Gives the format that the header names, before the header is proven."""
        return self.door.format(self.untrusted_header, passphrase, self.limits)

    def _choose_decompress(
        self, format_: UnlockedFormat, header: BackupHeader
    ) -> DecompressPastGaps:
        names = header.compression_filter, self._filter_override
        if format_.has_volumes:
            return choose_volumes(*names, self.limits)
        if warning := other_filter(*names):
            self._warn(warning)
        return choose_filter(*names, self.limits)

    def expect_all(self) -> None:
        """Announces that everything is going to be read; called before or after `unlock`.

        A library that derives keys faster is loaded meanwhile, if it is installed and the work
        is large enough to pay for loading it.
        """
        self._ahead.expect_all()

    def expect_list(self) -> None:
        """Announces that the list of qubes is going to be read; like `expect_all`."""
        self._ahead.expect(2)

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _WARNINGS_LIMIT:
            self.warnings.append(text)
        elif len(self.warnings) == _WARNINGS_LIMIT:
            self.warnings.append("more warnings follow, which are left out")

    # Content of the backup

    def unlocked(self) -> Unlocked:
        """Gives the keys and filter that reading needs.

        Raises:
            UsageError: the archive is locked.
        """
        if self._unlocked is None:
            raise UsageError("the backup is locked: call unlock(passphrase) first")
        return self._unlocked

    @property
    def _unlocked_contents(self) -> QubeList:
        self.unlocked()
        return self._contents

    @property
    def metadata(self) -> bytes:
        """``qubes.xml``, verified.

        Raises:
            Damaged: ``qubes.xml`` is missing, or can't be believed.
        """
        return self._unlocked_contents.metadata

    @property
    def qubes(self) -> tuple[Qube, ...]:
        """The qubes in the backup according to ``qubes.xml``.

        With salvage and without a usable ``qubes.xml``, each folder of the archive is a qube. In
        R2, ``qubes.xml`` does not mark dom0, so dom0 is listed if its home is found.

        Raises:
            Damaged: ``qubes.xml`` is missing, or can't be believed.
        """
        return self._unlocked_contents.qubes

    @property
    def known_qubes(self) -> tuple[Qube, ...]:
        """`qubes`, then the other qubes in ``qubes.xml``, which are not in this backup.

        Raises:
            Damaged: ``qubes.xml`` is missing, or can't be believed.
        """
        return self._unlocked_contents.known_qubes

    def firewalls(self, qubes: Collection[str] | None = None) -> dict[str, Firewall]:
        """Reads the firewall rules of each qube that has a ``firewall.xml``.

        Several files are read side by side, but each costs the derivation of a key. From a pipe,
        the whole backup passes. A damaged file costs its own rules only: the error stands in
        their place.

        Args:
            qubes: names of the qubes whose rules are wanted; None: all.

        Raises:
            MachineError: this machine can't go on.
        """
        reader = FirewallReader(
            catalog=self.catalog,
            files=self._files,
            table=self._unlocked_contents.table,
            pipeline=self.pipeline,
            expect=self._ahead.expect,
            format=self.unlocked().format,
            limits=self.limits,
        )
        return reader.read(lambda name: qubes is None or name in qubes)

    def is_folder(self, path: str) -> bool:
        """Tells if this file is a folder archive, with entries and no single stream."""
        return self.catalog.naming.is_folder(path)

    @property
    def door(self) -> Format:
        """The backup's format, as far as it is known without the passphrase."""
        return self._front.door

    def name_of(self, path: str) -> str:
        """Gives QUBE/FILE for a path in the archive, or the path itself where no qube is known."""
        return self._contents.name_of(path)

    @property
    def files(self) -> tuple[BackupFile, ...]:
        """The files of all qubes; on a pipe, the files read so far."""
        return self._unlocked_contents.files

    def file(self, name: str) -> BackupFile:
        """Gives the file called ``QUBE/FILE``, or with this path in the archive.

        Raises:
            NotInBackup: there is no such file.
            AlreadyPassed: the file has already passed on the pipe.
        """
        return self._unlocked_contents.file(name)

    def open(self, name: str) -> BinaryIO:
        """Opens the content of ``QUBE/FILE`` as a binary stream, see `BackupFile.open`."""
        return self.file(name).open()

    def browse(
        self,
        name: str,
        *,
        partition: int | None = None,
        spool: str | os.PathLike[str] | None = None,
        progress: OnProgress | None = None,
    ) -> Image:
        """Opens the image ``QUBE/FILE`` to browse its files.

        The image is read to its end and verified first.

        Args:
            name: ``QUBE/FILE``, or its path in the archive.
            partition: its number; default: the image itself, or its largest partition with ext4.
            spool: folder where the image's data is kept meanwhile, encrypted; default: the
                system's folder for temporary files. Small data stays in memory.
            progress: called after every chunk.

        Raises:
            NotInBackup: there is no such image.
            Damaged: the image is not whole, or its file system makes no sense.
            UnsupportedFormat: there is no ext4 in it.
            MachineError: there is no room for it.
        """
        from qbackup.archive.browse import browse

        file = self.file(name)
        if self.is_seekable:
            self._ahead.expect(file.chunk_count)
        return browse(
            file,
            partition=partition,
            spool=spool,
            limits=self.limits,
            total=file.stored_size if self.is_seekable else None,
            progress=progress,
        )

    # Restoring and verifying

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
        """Writes ``output/QUBE/FILE`` for each file asked for, and ``output/qubes.xml``.

        Files that an earlier run restored from this very backup are read again, and kept if they
        are still the same. All other files in the folder are left alone, or replaced on demand.

        Args:
            output: the folder, made if it does not exist.
            names: ``QUBE`` or ``QUBE/FILE``; none means all.
            overwrite: replace files that exist already and differ.
            keep_damaged: leave the verified bytes of a damaged file as ``NAME.damaged``;
                the report says which of its bytes are good.
            progress: called after every chunk.
            check: raise Incomplete unless every file is there and whole.

        Raises:
            NotInBackup: a name is not in the backup; nothing was written.
            AlreadyPassed: a file asked for has already passed on the pipe; nothing was written.
            MachineError: this machine failed; its `report` says what was done.
            Incomplete: with `check`, the report is not ok.
        """
        return self._recovery().restore(
            output,
            names,
            overwrite=overwrite,
            keep_damaged=keep_damaged,
            progress=progress,
            check=check,
        )

    def verify(
        self,
        names: Sequence[str] = (),
        *,
        progress: OnProgress | None = None,
        check: bool = True,
    ) -> Report:
        """Does everything that `restore` does but the writing; arguments and errors are alike."""
        return self._recovery().verify(names, progress=progress, check=check)

    def _recovery(self) -> RestoreJob:
        return RestoreJob(
            source=self._source,
            catalog=self.catalog,
            files=self._files,
            front=self._front,
            contents=self._unlocked_contents,
            pipeline=self.pipeline,
            ahead=self._ahead,
            format=self.unlocked().format,
            filter=self._filter_override or decoder_name(self.header.compression_filter),
            limits=self.limits,
            is_salvage=self._salvage,
            warnings=self.warnings,
            warn=self._warn,
        )

    # Facts about the archive as a whole, for programs that show or estimate

    @property
    def errors(self) -> tuple[str, ...]:
        """Faults of the archive as a whole, in words: `salvaged`, and where the archive breaks off.

        Only the bytes read so far count. After `read_to_end`, or on a seekable archive after any
        access to its files, that is the whole archive; no chunk is decrypted for this.
        """
        error = self.catalog.error
        if error is None:
            return self.salvaged
        advice = f"; {error.advice}" if isinstance(error, LimitExceeded) else ""
        return (*self.salvaged, f"{error}{advice}")

    @property
    def caveats(self) -> tuple[str, ...]:
        """Promises that the format of this backup can't keep, in sentences; none for format 4."""
        return tuple(self.door.caveats)

    @property
    def backends(self) -> Backends:
        """The libraries of this machine that derive keys, decrypt and decompress.

        Raises:
            MachineError: there is no scrypt on this machine.
        """
        from qbackup.archive.backends import Backends

        return Backends.of(self.deriver, self.pipeline)

    def estimate(self) -> Cost:
        """Estimates the cost of a full restore on this machine; no passphrase needed.

        Reads the first bytes of every chunk and times one small derivation. On a pipe, the whole
        backup passes.
        """
        from qbackup.archive.estimate import estimate

        return estimate(self)

    def iter_files(self) -> Iterator[BackupFile]:
        """Yields the files of all qubes in the archive's order; on a pipe, each as it comes, once.

        Raises:
            UsageError: the archive is locked.
        """
        self.unlocked()
        return (file for file in self._files.coming() if file.path != METADATA_PATH)

    def holds_folder(self, file: BackupFile) -> bool:
        """Tells if a file is a folder archive; reads its beginning where the name is no proof.

        On a pipe the name alone decides, as a file can't be read twice there.
        """
        return file.is_folder or self._files.holds_folder(file.path)

    def read_to_end(self) -> None:
        """Reads through the rest of the archive, so that `files` and `errors` are complete.

        On a pipe, the files that pass here can't be read any more.
        """
        self.catalog.drain()
