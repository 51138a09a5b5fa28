"""Authentication of a damaged backup, whose header can't be believed.

A header must match its copy, which only the passphrase opens. Here, and only where the caller
asked for salvage, two other things may replace the header:

1. The copy itself, where the header differs or is missing. The copy is authenticated, and a
   chunk proves that the copy is this backup's, not another one's with the same passphrase.
2. The backup's id, where the copy can't be opened. The id is found in the header, which
   anybody could have written. The id counts only if a chunk proves it: bytes 64 to 95 of a chunk
   fit only the key of this passphrase, this id and this chunk's name. Nothing else in such a
   header is believed: the filter is detected from the verified data.

A drive may hold older backups too, and somebody may have planted one. Therefore up to four headers
and copies are read. Where they name more than one id, chunks all over the file decide, and where
two ids are proven both are named.

Chunks of a format without an id (`Format.heads_name_backup`) have HMACs, which replace the header:
see `qbackup.archive.unlock.stand_in`. Of several headers in the file the first one counts; another
one is reported, with the advice for reading it.

`SalvageAuthenticator.faults` lists every such replacement, and the restore is no full success then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from qbackup.archive.unlock.backup_ids import identify
from qbackup.archive.unlock.filter_detection import detect_from_chunks
from qbackup.archive.unlock.header import NOTHING_FITS, OTHER_FORMAT, HeaderAuthenticator
from qbackup.archive.unlock.header_ids import OpenedCopy, collect_ids
from qbackup.archive.unlock.other_backups import describe_headers, describe_parts, shown_id
from qbackup.archive.unlock.stand_in import LostHeader, StandInAuthenticator, beginnings
from qbackup.base.errors import (
    BackupIdUnknown,
    HeaderAltered,
    MachineError,
    NotEnoughMemory,
    QBackupError,
    Unlockable,
    Unreadable,
    WrongPassphrase,
)
from qbackup.base.limits import Limits
from qbackup.base.names import HEADER_COPY_NAME, HEADER_NAME, display
from qbackup.base.notices import HeaderReplaced
from qbackup.content.detect import NONE
from qbackup.crypto.scrypt_format import OVERHEAD, ScryptParameters
from qbackup.formats import find_by_copy
from qbackup.formats.header import BackupHeader, header_for_id
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.catalog import SalvageCatalog
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.front import describe_remains
from qbackup.storage.source import Source

_WITNESSES_LIMIT = 20  # chunks that ids are tried on
_FEW_WITNESSES = 3  # chunks to try where a whole copy shows that the passphrase is wrong
_TRIES_LIMIT = 40  # ids times chunks; each try costs a derivation
_NO_COPY = "the header's authenticated copy is missing"
_NOTHING_LEFT = "nothing else in this file can replace that: try another copy of the backup"
_FAULT = (Unlockable, Unreadable, MachineError)


class SalvageAuthenticator(HeaderAuthenticator):
    """Authenticator for a backup whose header may be missing or differ from its copy.

    Args:
        source: the backup's bytes.
        catalog: index of the archive's members.
        limits: bounds on untrusted input.
        knows_filter: the caller names the filter, so it need not be detected from the data.
        hmac_algorithm: see `HeaderAuthenticator`.

    Attributes:
        faults: what is wrong, and what was used instead.
        notes: what was found out without the header, where nothing is wrong with it.
    """

    def __init__(
        self,
        source: Source,
        catalog: SalvageCatalog,
        limits: Limits,
        *,
        knows_filter: bool,
        hmac_algorithm: str | None = None,
    ) -> None:
        self._chunks = catalog
        self._knows_filter = knows_filter
        self._fault: QBackupError | None = None
        super().__init__(source, catalog, limits, hmac_algorithm=hmac_algorithm)

    def begin(self) -> None:
        """Reads the header, or notes why it can't be used.

        Raises:
            NotABackup: there is nothing that a backup has.
        """
        try:
            super().begin()
            _ = BackupHeader.parse(self._header, self._limits)  # what is malformed tells nothing
            self._compare_formats()
        except _FAULT as error:
            self._fault, self._format = error, None
            self._chunks.tell_naming()
            self._replace(f"the header can't be used: {error.reason}")
        if self._fault is not None and not self._catalog.seen_files():
            raise describe_remains(self._source)

    def _compare_formats(self) -> None:
        """Compares the header's format with that of the copy behind it.

        A header whose version is damaged reads as one of format 2, and its copy shows that.

        Raises:
            HeaderAltered: the copy is of a format that names its copies, and the header is not.
        """
        member = None if self.format.heads_name_backup else self._chunks.first_copy()
        if member is None:
            return
        other = find_by_copy(self._read_member(member, self._limits.header + OVERHEAD))
        if other is not None:
            raise HeaderAltered(OTHER_FORMAT.format(other.version), file=HEADER_NAME)

    @property
    def untrusted_header(self) -> BackupHeader:
        """The header as anybody could have written it. Raises its fault if it can't be used."""
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        return super().untrusted_header

    def authenticate(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None = None,
    ) -> BackupHeader:
        """Authenticates the header, or the best replacement for it.

        Raises:
            WrongPassphrase: the passphrase fits nothing in this backup.
            HeaderAltered: the header's copy can't be used and the backup's id is unknown, or the
                copy belongs to another backup.
            UnsupportedFormat: the authenticated copy names something that can't be read.
        """
        self.faults = []
        headers = self._read_headers()
        others = describe_headers(headers, self._header, self.format, self._limits)
        try:
            header = self._authenticate(headers, passphrase, pipeline, meanwhile)
        except (Unlockable, Unreadable) as error:
            error.reason = ". ".join((error.reason, *others))
            if isinstance(error, WrongPassphrase):
                error.advice = NOTHING_FITS
            elif not isinstance(error, BackupIdUnknown):
                error.advice = _NOTHING_LEFT
            raise
        self.faults += others
        return header

    def _authenticate(
        self,
        headers: Mapping[int, bytes],
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None,
    ) -> BackupHeader:
        if self._chunks.naming.hmac_suffix is not None:
            return self._authenticate_by_hmacs(passphrase, pipeline, meanwhile)
        copies, error = self._open_copies(passphrase, pipeline, meanwhile)
        proven = [copy for copy in copies if copy.plain in headers.values()]
        ids = collect_ids({copy.offset: copy.header for copy in copies}, headers)
        if self.given_id is not None:
            ids = {self.given_id: ids.pop(self.given_id, 0), **ids}
        if not ids:
            raise self._nothing_known(error)
        if proven and len(ids) == 1:
            return self._accept_copy(proven[0], headers)
        few = isinstance(error, WrongPassphrase) and not copies
        witnesses = self._chunks.spread_chunks(_FEW_WITNESSES if few else _WITNESSES_LIMIT)
        known = [header_for_id(self.format.version, id_) for id_ in ids]
        formats = {h.backup_id: self.format.unlock(h, passphrase, self._limits) for h in known}
        matches = identify(formats, witnesses[: max(1, _TRIES_LIMIT // len(ids))], pipeline)
        chosen = matches.in_front
        if chosen is None and copies and (proven or not witnesses):
            return self._accept_copy((proven or copies)[0], headers)
        if chosen is None:
            raise self._nothing_proven(copies, error, len(witnesses))
        self.faults += describe_parts(ids, chosen, matches)
        copy = next((c for c in (*proven, *copies) if c.header.backup_id == chosen), None)
        if copy is not None:
            return self._accept_copy(copy, headers)
        return self._header_with(chosen, formats[chosen], matches.by[chosen], pipeline, error)

    def _authenticate_by_hmacs(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None,
    ) -> BackupHeader:
        """Authenticates the header by its HMAC, or proves by chunks' HMACs what it should say."""
        fault, hint = self._fault, None
        if fault is None:
            try:
                return super().authenticate(passphrase, pipeline, meanwhile)
            except NotEnoughMemory:
                raise
            except _FAULT as error:
                fault = error
            with contextlib.suppress(Unlockable, Unreadable):
                hint = BackupHeader.parse(self._header, self._limits)
        beginning = next(beginnings(self._chunks, self._limits), None)
        if beginning is None:
            raise fault
        lost = LostHeader(
            why=f"the header can't be authenticated: {_why_not(fault, 'HMAC')}",
            hint=hint,
            knows_filter=self._knows_filter,
            hmac_algorithm=self._hmac_algorithm,
        )
        stand_in = StandInAuthenticator(beginning, self._source, self._chunks, self._limits, lost)
        header = stand_in.authenticate(passphrase, pipeline)
        self.faults += stand_in.faults
        self._format, self._proven = stand_in.format, stand_in.take_proof()
        return header

    def _read_headers(self) -> dict[int, bytes]:
        """Reads the headers that can be read, by their offset."""
        headers = {}
        for member in self._chunks.headers():
            with contextlib.suppress(*_FAULT):
                headers[member.offset] = self._read_member(member, self._limits.header)
        return headers

    def _open_copies(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None,
    ) -> tuple[list[OpenedCopy], QBackupError]:
        """Opens the copies that the passphrase fits; also gives the first error of the others."""
        found: dict[bytes, OpenedCopy | None] = {}
        first: QBackupError | None = None
        for member in self._chunks.header_copies():
            try:
                stored = self._read_member(member, self._limits.header + OVERHEAD)
                if stored in found:
                    continue
                found[stored], self._copy = None, stored
                key, plain = self._open_copy(passphrase, pipeline, meanwhile)
            except NotEnoughMemory:
                raise
            except _FAULT as error:
                first = first or error
                continue
            finally:
                meanwhile = None
            header = self._parse(plain)
            found[stored] = OpenedCopy(member.offset, key, plain, header)
        copies = [copy for copy in found.values() if copy is not None]
        if copies and next(iter(found.values())) is None:
            self._replace("the first copy of the header can't be used; another one was used")
        return copies, first or HeaderAltered(_NO_COPY, file=HEADER_COPY_NAME)

    def _accept_copy(self, copy: OpenedCopy, headers: Mapping[int, bytes]) -> BackupHeader:
        if copy.plain != self._header:
            if copy.plain in headers.values():
                self._replace("the first header is not this backup's; another one was used")
            else:
                self._replace(
                    f"the header {self._what_is_wrong()}; its authenticated copy was used instead"
                )
        return self._accept(copy.key, copy.plain)

    def _replace(self, fault: str) -> None:
        """Records a fault of the header, in whose place something proven is used."""
        self.faults.append(HeaderReplaced(fault))

    def _what_is_wrong(self) -> str:
        if self._header and self._fault is None:
            return "was altered: it differs from its authenticated copy"
        return f"can't be used ({self._fault.reason})" if self._fault else "was altered"

    def _nothing_known(self, error: QBackupError) -> QBackupError:
        if isinstance(error, WrongPassphrase):
            return error
        return BackupIdUnknown(
            "neither the header nor its authenticated copy says the backup's id, without which no"
            f" key can be derived: {self._fault.reason if self._fault else 'it names none'};"
            f" {error.reason}",
            file=HEADER_NAME,
        )

    def _nothing_proven(
        self, copies: Sequence[OpenedCopy], error: QBackupError, tried: int
    ) -> QBackupError:
        if copies:
            return HeaderAltered(
                f"the header's authenticated copy ({shown_id(copies[0].header.backup_id)}) fits"
                f" none of {tried} chunks that were tried: it is another backup's, or all these"
                " chunks are damaged",
                file=HEADER_COPY_NAME,
            )
        if isinstance(error, WrongPassphrase):
            return error
        return WrongPassphrase(
            f"the header's authenticated copy can't be used ({error.reason}), and the passphrase"
            f" fits no chunk that was tried ({tried}): it is wrong, the backup id is, or"
            " all these chunks are damaged"
        )

    def _header_with(
        self,
        id_: str,
        format_: UnlockedFormat,
        matches: Sequence[StoredChunk],
        pipeline: Pipeline,
        error: QBackupError,
    ) -> BackupHeader:
        name = None
        if not self._knows_filter:
            name = detect_from_chunks(format_, self._first_chunks(matches), pipeline)
        self._replace(
            f"the header can't be authenticated: {_why_not(error, 'copy')}. Only its backup id"
            f" {shown_id(id_)} was used, which is proven by {display(matches[0].name)}"
        )
        if name is not None:
            self.notes.append(f"the compression filter was detected from the data: {name}")
        filter_name = None if name in (None, NONE) else name
        self._proven = None
        return header_for_id(self.format.version, id_, compression_filter=filter_name)

    def _first_chunks(self, matches: Sequence[StoredChunk]) -> Iterator[StoredChunk]:
        """Yields first chunks of files; those that proved the id come first."""
        return chain((chunk for chunk in matches if chunk.index == 0), self._chunks.beginnings())


def _why_not(error: QBackupError, proof: str) -> str:
    """Gives the reason why a header is not believed, beside chunks that the passphrase fits."""
    if isinstance(error, WrongPassphrase):
        return f"the passphrase opens other parts of the backup, but not the header's {proof}"
    return error.reason
