"""`OpenedBackup`: state of an open backup, which `BackupArchive` shows to callers.

Its files and chunks read through it, as their `qbackup.pipeline.reader.Access`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import BinaryIO

from qbackup.archive.diagnosis import Diagnosis
from qbackup.archive.file_list import FileList
from qbackup.archive.options import OpenOptions
from qbackup.archive.passphrase import Passphrase, passphrase_bytes
from qbackup.archive.prefetch import KeyPrefetch
from qbackup.archive.qubes import QubeList
from qbackup.archive.restoring import RestoreJob
from qbackup.archive.sources import SourceOpener, name_of
from qbackup.archive.unlock.opening import Opening
from qbackup.archive.warning_list import WarningList
from qbackup.base.errors import (
    LimitExceeded,
    QBackupError,
    Unlockable,
    UnsupportedFormat,
    UsageError,
)
from qbackup.base.report import OnProgress
from qbackup.content.filters import choose_filter, decoder_name, other_filter
from qbackup.content.lost_chunks import DecompressPastGaps
from qbackup.content.volumes import choose_volumes
from qbackup.crypto.kdf import Deriver
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats import choose_format
from qbackup.formats.header import BackupHeader
from qbackup.formats.protocol import Format, UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.pipeline.reader import Unlocked
from qbackup.storage.catalog.origins import COPIES_KEY
from qbackup.storage.copies import CopiesSource
from qbackup.storage.kept_front import ForeignFront
from qbackup.storage.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.archive.unlock.id_search import IdSearchProgress

_BY_FOLDER = "qubes are called by their folders in the archive, and nothing proves these names"
_MORE_FOLDERS = (
    "the archive has more than {0} folders, of which only the first {0} are listed as qubes (see"
    " --limit qubes=VALUE)"
)
_LOCKED = "the backup is locked: call unlock(passphrase) first"


class OpenedBackup:
    """State of an open backup: its bytes, index, header, keys, and list of qubes.

    Args:
        source: a path, a URL, or a binary file object.
        options: choices of the caller.
        passphrase: unlocks at once; None: nothing is derived until `unlock`.

    Attributes:
        limits: bounds on untrusted input.
        warnings: warnings until now.
        source: bytes of the backup.
        catalog: index of its files.
        front: authenticator of its header.
        deriver: derives keys.
        pipeline: gives the files' plaintext.
        files: readers of its files.
        prefetch: announces the keys that will be needed.

    Raises:
        NotABackup: there is no Qubes backup here.
        UnsupportedFormat: the backup's version can't be read.
        UsageError: salvage from a pipe.
        Unlockable: with a passphrase, see `BackupArchive.unlock`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        options: OpenOptions,
        passphrase: Passphrase | None,
    ) -> None:
        self.limits = options.limits
        self.warnings = WarningList()
        self.deriver = Deriver()
        self._options = options
        self._name = name_of(source)
        self._header: BackupHeader | None = None
        self._unlocked: Unlocked | None = None
        opened = SourceOpener(source, options, self.warnings.add, self.warnings.note).open()
        self.source: Source = opened.source
        self._without_front = opened.without_front
        self._diagnosis = Diagnosis(self.source, source, self.limits, is_salvage=options.salvage)
        self.pipeline = Pipeline(
            self.deriver,
            jobs=options.jobs,
            memory=options.memory,
            seekable=self.source.seekable,
            executor=options.executor,
            executor_jobs=options.executor_jobs,
            warn=self.warnings.add,
            note=self.warnings.note,
        )
        try:
            with self._diagnosis.telling_why():
                self._begin()
            if passphrase is not None:
                self.unlock(passphrase)
        except BaseException:
            self.close()
            raise

    def _drop_front(self) -> bool:
        """Opens the backup again without the front that was kept beside it, if one is used."""
        without, self._without_front = self._without_front, None
        if without is None:
            return False
        self.source = without()
        self._read_front()
        return True

    def _note_dropped(self, reason: str) -> None:
        self.warnings.note(COPIES_KEY, f"{reason}; the front is not used")

    def _read_front(self) -> None:
        opening = Opening(
            source=self.source,
            warn=self.warnings.add,
            note=self.warnings.note,
            limits=self.limits,
            hmac_algorithm=self._options.hmac_algorithm,
            salvage=self._options.salvage,
            knows_filter=self._options.compression_filter is not None,
            backup_id=self._options.backup_id,
        )
        self.catalog, self.front = opening.open()
        self.files = FileList(self.catalog, self, seekable=self.source.seekable)
        self._qubes = QubeList(
            self.catalog,
            self.files,
            self.limits,
            lambda: self.format.metadata_root,
            salvage=self._options.salvage,
        )
        self.prefetch = KeyPrefetch(
            self.front, self.catalog, self.pipeline, seekable=self.source.seekable
        )

    def _begin(self) -> None:
        """Reads what the backup begins with; again without a kept front of another backup."""
        try:
            self._read_front()
        except ForeignFront as error:
            if not self._drop_front():
                raise
            self._note_dropped(error.reason)

    def close(self) -> None:
        """Closes everything opened and abandons work under way. Never raises."""
        try:
            self.pipeline.close()
        finally:
            self.source.close()

    # Header and keys

    @property
    def is_unlocked(self) -> bool:
        """True if the passphrase was given and fits."""
        return self._header is not None

    @property
    def header(self) -> BackupHeader:
        """The authenticated header. Raises UsageError while the backup is locked."""
        if self._header is None:
            raise UsageError(_LOCKED)
        return self._header

    @property
    def format(self) -> Format:
        """The backup's format, as far as it is known without the passphrase."""
        return self.front.format

    def unlock(self, passphrase: Passphrase, *, ahead: bool = False) -> None:
        """Authenticates the header with the passphrase, see `BackupArchive.unlock`."""
        data = passphrase_bytes(passphrase)
        meanwhile = functools.partial(self.prefetch.begin, lambda: self._format_ahead(data))
        header = self._authenticate(data, meanwhile if ahead else None)
        for note in self.front.notes:
            self.warnings.add(note)
        format_ = choose_format(header.version, hmac_algorithm=self._options.hmac_algorithm)
        beside = self.front.proven_parameters
        unlocked = format_.unlock(header, data, self.limits, self.warnings.add, beside)
        self._unlocked = Unlocked(unlocked, self._choose_decompress(unlocked, header))
        self._header = header

    def _authenticate(
        self, passphrase: bytes, meanwhile: Callable[[ScryptParameters], None] | None
    ) -> BackupHeader:
        """Authenticates the header; without the kept front, where that may be what does not fit."""
        try:
            header = self.front.authenticate(passphrase, self.pipeline, meanwhile)
            if not self._has_foreign_front(header, passphrase):
                return header
        except (Unlockable, UnsupportedFormat) as error:
            before = dict(self.__dict__)
            with contextlib.suppress(QBackupError):
                if self._drop_front():
                    header = self.front.authenticate(passphrase, self.pipeline)
                    self._note_dropped(f"the front kept beside the backup does not fit: {error}")
                    return header
            self.__dict__.update(before)  # the passphrase is wrong, so the front may be right
            raise
        self._drop_front()
        self._note_dropped("the front kept beside the backup is of another one")
        return self.front.authenticate(passphrase, self.pipeline)

    def _has_foreign_front(self, header: BackupHeader, passphrase: bytes) -> bool:
        """Tells if a kept front is used whose id fits no chunk; only format 4 can show that."""
        if self._without_front is None or not self.format.heads_name_backup:
            return False
        from qbackup.archive.unlock.copies import opens_no_chunk

        format_ = self.format.unlock(header, passphrase, self.limits)
        return opens_no_chunk(self.source, self.catalog, format_, self.pipeline)

    def find_backup_id(
        self, passphrase: Passphrase, window: str, progress: Callable[[IdSearchProgress], None]
    ) -> str | None:
        """Searches for the backup's id, see `BackupArchive.find_backup_id`."""
        from qbackup.archive.unlock.id_search import IdSearch, cheapest, with_time
        from qbackup.archive.unlock.id_window import IdWindow

        if not (self._options.salvage and self.format.heads_name_backup):
            raise UsageError("an id is searched for in salvage of a backup of format 4 only")
        chunks = [chunk for file in self.catalog.seen_files() for chunk in file.chunks[:2]]
        chosen = with_time(IdWindow.parse(window), self._name, chunks, self.source)
        search = IdSearch(
            format_=self.format,
            chunk=cheapest(chunks, self.format, self.limits),
            passphrase=passphrase_bytes(passphrase),
            limits=self.limits,
            pipeline=self.pipeline,
        )
        found = search.run(chosen, progress)
        if found is not None:
            self.front.given_id = found
        return found

    def _format_ahead(self, passphrase: bytes) -> UnlockedFormat:
        """Gives the format that the header names, before the header is proven."""
        header, beside = self.front.untrusted_header, self.front.untrusted_parameters
        return self.format.unlock(header, passphrase, self.limits, beside=beside)

    def _choose_decompress(
        self, format_: UnlockedFormat, header: BackupHeader
    ) -> DecompressPastGaps:
        names = header.compression_filter, self._options.compression_filter
        if format_.has_volumes:
            return choose_volumes(*names, self.limits)
        if warning := other_filter(*names):
            self.warnings.add(warning)
        return choose_filter(*names, self.limits)

    def unlocked(self) -> Unlocked:
        """Gives the keys and filter that reading needs. Raises UsageError while it is locked."""
        if self._unlocked is None:
            raise UsageError(_LOCKED)
        return self._unlocked

    # Qubes and files

    @property
    def qubes(self) -> QubeList:
        """The list of qubes. Raises UsageError while the backup is locked."""
        self.unlocked()
        return self._qubes

    def name_of(self, path: str) -> str:
        """Gives QUBE/FILE for a path in the archive, or the path itself where no qube is known."""
        return self._qubes.name_of(path)

    def is_folder(self, path: str) -> bool:
        """Tells by the name if this file is a folder archive."""
        return self.catalog.naming.is_folder(path)

    # Work on the whole backup

    def restore_job(
        self, names: Sequence[str], *, progress: OnProgress | None, check: bool
    ) -> RestoreJob:
        """Gives a job that restores or verifies. Raises UsageError while it is locked.

        Args:
            names: ``QUBE`` or ``QUBE/FILE``; none means all.
            progress: called after every chunk.
            check: raise Incomplete unless every file is there and whole.
        """
        override = self._options.compression_filter
        return RestoreJob(
            names=names,
            progress=progress,
            check=check,
            source=self.source,
            catalog=self.catalog,
            files=self.files,
            front=self.front,
            contents=self.qubes,
            pipeline=self.pipeline,
            ahead=self.prefetch,
            format=self.unlocked().format,
            filter=override or decoder_name(self.header.compression_filter),
            limits=self.limits,
            is_salvage=self._options.salvage,
            warnings=self.warnings,
            warn=self.warnings.add,
            causes=self._diagnosis.causes,
        )

    @property
    def salvaged(self) -> tuple[str, ...]:
        """Faults that salvage passed over until now, in words; empty without salvage."""
        if not self._options.salvage:
            return ()
        faults = [*self.front.faults, *self.catalog.faults]
        if self._qubes.error is not None:
            faults.append(f"{self._qubes.error}; {_BY_FOLDER}")
            if self._qubes.table.has_more_folders:
                faults.append(_MORE_FOLDERS.format(self.limits.qubes))
        return tuple(faults)

    @property
    def errors(self) -> tuple[str, ...]:
        """Faults of the archive as a whole, see `BackupArchive.errors`."""
        error = self.catalog.error
        is_several = isinstance(self.source, CopiesSource) and not self._options.salvage
        if error is None and is_several:
            return tuple(self.catalog.faults)  # of all copies; those of one copy are warnings
        if error is None:
            return self.salvaged
        advice = f"; {error.advice}" if isinstance(error, LimitExceeded) else ""
        return (*self.salvaged, f"{error}{advice}", *self._diagnosis.causes())
