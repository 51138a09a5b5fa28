"""Authentication of a backup's header, by the copy that only the passphrase opens.

Anybody could have written the header. Only `HeaderAuthenticator.authenticate` proves that the
passphrase's owner wrote that header. Every byte is read once and kept, so that another passphrase
can be tried, on a pipe too.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Callable

from qbackup.base.errors import (
    Damaged,
    HeaderAltered,
    LimitExceeded,
    MachineError,
    NotABackup,
    QBackupError,
    UnsupportedFormat,
    UsageError,
    WrongPassphrase,
)
from qbackup.base.limits import Limits
from qbackup.base.names import HEADER_COPY_NAME, HEADER_NAME, METADATA_PATH, display
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_format import OVERHEAD, ScryptParameters
from qbackup.crypto.subkeys import RootKey
from qbackup.formats import WITHOUT_HEADER, assume_format, choose_format, find_by_copy
from qbackup.formats.header import BackupHeader, read_version
from qbackup.formats.protocol import Format, SealedHeader
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.catalog import Catalog
from qbackup.storage.scan import StoredMember
from qbackup.storage.source import Source

OTHER_FORMAT = (
    "the header was altered or is damaged: it names another format than its authenticated copy,"
    " which is of format {}, or none"
)
_USE_THE_COPY = (
    "try another copy of the backup; --salvage uses the header's authenticated copy instead"
)
_MAYBE_LATER = (
    " (from a pipe the header must come first: if somebody packed the backup again, write it to a"
    " file)"
)
NOTHING_FITS = (
    "--salvage tried the passphrase on other parts of the backup, and it fits none: it is most"
    " likely wrong. If you are sure of it, try another copy of the backup"
)


class HeaderAuthenticator:
    """Authenticator of ``backup-header`` by its copy, ``backup-header.hmac``.

    Args:
        source: the backup's bytes.
        catalog: gives the offsets of the two members.
        limits: bounds on untrusted input.
        hmac_algorithm: see `qbackup.BackupArchive`.
    """

    def __init__(
        self,
        source: Source,
        catalog: Catalog,
        limits: Limits,
        *,
        hmac_algorithm: str | None = None,
    ) -> None:
        self._source = source
        self._catalog = catalog
        self._limits = limits
        self._copy: bytes | None = None
        self._trouble: MachineError | None = None  # a pipe can't be read again
        self._hmac_algorithm = hmac_algorithm
        # The root key or its derivation, and the bytes of the proven header.
        self._proven: tuple[RootKey | Derivation, bytes] | None = None
        self._format: Format | None = None
        self._sealed: SealedHeader | None = None  # kept after it was opened
        self.faults: list[str] = []
        self.notes: list[str] = []
        self._header = b""
        self.given_id: str | None = None  # for salvage

    def begin(self) -> None:
        """Reads the header, once, before anything else.

        Only its version is believed, which decides how the header is proven.

        Raises:
            NotABackup: there is no Qubes backup here.
            UnsupportedFormat: the backup's version can't be read.
        """
        self._header = self._read_header()
        self._choose_format(read_version(self._header, self._limits))

    def _choose_format(self, version: int) -> Format:
        self._format = choose_format(version, hmac_algorithm=self._hmac_algorithm)
        self._catalog.naming = self._format.naming
        return self._format

    @property
    def format(self) -> Format:
        """The backup's format; the newest one where the header can't be used."""
        return self._format if self._format is not None else assume_format()

    @property
    def untrusted_header(self) -> BackupHeader:
        """The header as anybody could have written it.

        Raises:
            HeaderAltered: the header can't be understood. Only its HMAC could show damage.
        """
        return BackupHeader.parse(self._header, self._limits)

    @property
    def is_authentic(self) -> bool:
        """True if the header's copy was opened, so that `root_key` and `digest` are known."""
        return self._proven is not None

    def root_key(self, pipeline: Pipeline) -> RootKey:
        """Gives the root of this program's own keys; derived on first use where necessary.

        Raises:
            UsageError: the header is not authentic yet.
            MachineError: this machine can't derive the key.
        """
        root, plain = self._authenticated()
        if isinstance(root, Derivation):
            root = RootKey(pipeline.derive(root))
            self._proven = root, plain
        return root

    @property
    def digest(self) -> bytes:
        """SHA-256 of the authentic header. Raises UsageError before that."""
        return hashlib.sha256(self._authenticated()[1]).digest()

    def _authenticated(self) -> tuple[RootKey | Derivation, bytes]:
        if self._proven is None:
            raise UsageError("the backup is locked: call unlock(passphrase) first")
        return self._proven

    @property
    def proven_parameters(self) -> ScryptParameters | None:
        """Parameters of the header's key, after the key has proven them; else None."""
        derivation = self._sealed.derivation if self._sealed is not None else None
        return derivation.parameters if derivation is not None else None

    @property
    def untrusted_parameters(self) -> ScryptParameters | None:
        """Parameters of the header's key; None where unknown, or where no key is derived."""
        sealed = self._sealed
        try:
            if sealed is None:
                copy = self._read_copy()
                sealed = self.format.parse_header_hmac(b"", self._header, copy, self._limits)
        except QBackupError:
            return None  # `authenticate` reports the same error
        derivation = sealed.derivation
        return derivation.parameters if derivation is not None else None

    def authenticate(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None = None,
    ) -> BackupHeader:
        """Opens the header's copy with the passphrase, and compares the header with its copy.

        Args:
            passphrase: the backup's passphrase.
            pipeline: derives the key.
            meanwhile: called during the derivation, with its parameters; may start to derive
                the keys expected next.

        Raises:
            WrongPassphrase: the passphrase does not fit.
            HeaderAltered: the passphrase fits, but the header was changed after it was written.
            UnsupportedFormat: the header is authentic, but names something that can't be read.
            LimitExceeded: the derivation would cost more than allowed; none was started.
        """
        key, plain = self._open_copy(passphrase, pipeline, meanwhile)
        if not hmac.compare_digest(plain, self._header):
            raise HeaderAltered(
                "the header was altered: it differs from its authenticated copy", file=HEADER_NAME
            )
        return self._accept(key, plain)

    def _accept(self, key: RootKey | Derivation, plain: bytes) -> BackupHeader:
        """Accepts the header that the copy proves, and parses it."""
        header = self._parse(plain)
        if self._sealed is not None:
            header = self._sealed.complete(header)
        self._proven = key, plain
        return header

    def _parse(self, plain: bytes) -> BackupHeader:
        return BackupHeader.parse(plain, self._limits, proven=True)

    def _open_copy(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None,
    ) -> tuple[RootKey | Derivation, bytes]:
        """Gives the root key or its derivation, and the verified header that the copy proves.

        Raises the errors that `authenticate` raises.
        """
        copy = self._read_copy()
        other = find_by_copy(copy)
        if other is not None and not self.format.heads_name_backup:
            raise HeaderAltered(OTHER_FORMAT.format(other.version), file=HEADER_NAME)
        try:
            sealed = self.format.parse_header_hmac(passphrase, self._header, copy, self._limits)
            key = b""
            if sealed.derivation is not None:
                key = _derive(sealed.derivation, pipeline, meanwhile)
            if not sealed.accepts(key):
                pipeline.forget_expected()
                raise WrongPassphrase(sealed.misfit)
            self._sealed = sealed
            return sealed.root(key), sealed.open(key, pipeline.cipher.decrypt)
        except Damaged as error:
            raise HeaderAltered(
                f"the header's authenticated copy is damaged: {error.reason}", file=HEADER_COPY_NAME
            ) from error

    def _read_header(self) -> bytes:
        member = self._catalog.header()
        if member.name != HEADER_NAME:
            if member.name.startswith((METADATA_PATH + ".", HEADER_COPY_NAME)):
                raise self._no_header(member.name)
            hint = "" if self._source.seekable else _MAYBE_LATER
            raise NotABackup(
                "this is a tar archive, but not a Qubes backup: it begins with"
                f" {display(member.name)}{hint}"
            )
        return self._read_member(member, self._limits.header)

    def _no_header(self, first: str) -> UnsupportedFormat:
        error = UnsupportedFormat(
            f"the backup's header is missing: it begins with {display(first)}. Without it only"
            f" backups of format {WITHOUT_HEADER.version} can be read"
            + ("" if self._source.seekable else _MAYBE_LATER)
        )
        if first == HEADER_COPY_NAME:
            error.advice = _USE_THE_COPY
        return error

    def _read_copy(self) -> bytes:
        if self._trouble is not None:
            raise self._trouble
        if self._copy is None:
            try:
                member = self._catalog.header_copy()
                self._copy = self._read_member(member, self._limits.header + OVERHEAD)
            except MachineError as error:
                self._trouble = None if self._source.seekable else error
                raise
        return self._copy

    def _read_member(self, member: StoredMember, limit: int) -> bytes:
        if member.size > limit:
            raise LimitExceeded(
                f"the member has {member.size} bytes, more than the {limit} allowed",
                limit="header",
                needed=member.size,
                file=member.name,
            )
        buffer = bytearray(member.size)
        count = self._source.read_into(member.offset, memoryview(buffer))
        if count < member.size and member.name == HEADER_COPY_NAME:
            raise HeaderAltered(
                "the header's authenticated copy is cut off: the file ends inside of it",
                file=HEADER_COPY_NAME,
            )
        if count < member.size:
            raise NotABackup("the file ends inside the backup's header", file=member.name)
        return bytes(buffer)


def _derive(
    derivation: Derivation,
    pipeline: Pipeline,
    meanwhile: Callable[[ScryptParameters], None] | None,
) -> bytes:
    with pipeline.more_to_come() if meanwhile else contextlib.nullcontext():
        ticket = pipeline.request(derivation)
        if meanwhile is not None:
            meanwhile(derivation.parameters)
    return ticket.wait()
