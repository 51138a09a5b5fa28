"""The front of a damaged backup: what takes the place of a header that can't be believed.

A header must match the copy of it that only the passphrase opens. Here, and only where the
caller asked for salvage, two things may stand in for that:

1. the copy itself, where the header differs from it or is not there: it is authenticated;
2. the backup's id, where the copy can't be opened. An id is found in the header, which
   anybody could have written; it counts only if it proves a chunk, as bytes 64 to 95 of one fit
   no key but that of this passphrase, this id and this chunk's name. Nothing else that
   such a header says is believed: the filter is told from the verified data.

What was done is said in `SalvagedFront.faults`, and whatever follows is no full success.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice

from qbackup.catalog import Catalog
from qbackup.catalog.salvaged import fits
from qbackup.chunk import EncryptedChunk
from qbackup.compression import NONE, told_filter
from qbackup.errors import (
    HeaderAltered,
    MachineError,
    NotABackup,
    NotEnoughMemory,
    QBackupError,
    Unlockable,
    Unreadable,
    UnsupportedFormat,
    WrongPassphrase,
)
from qbackup.formats import Format
from qbackup.formats.v4 import Format4
from qbackup.front import Front
from qbackup.header import HEADER_NAME, BackupHeader
from qbackup.limits import Limits
from qbackup.metadata import METADATA_PATH
from qbackup.names import display
from qbackup.pieces import LOSSES
from qbackup.pipeline import Pipeline
from qbackup.scrypt import ScryptParameters
from qbackup.source import Source

_BACKUP_ID = re.compile(rb"backup[-_]id=([A-Za-z0-9-]{1,255})(?![A-Za-z0-9-])")
_IDS_LIMIT = 4
_WITNESSES_LIMIT = 3  # chunks that an id is tried on; each costs a derivation
_FILTER_TRIES = 8  # chunks that the filter is looked for in
_FAULT = (Unlockable, Unreadable, MachineError)


class SalvagedFront(Front):
    """As `Front`; the header need not be there, nor match.

    Args:
        source: of the backup's bytes.
        catalog: says where they are.
        limits: bounds on what they say.
        knows_filter: the caller names the filter, so it need not be told from the data.
        hmac_algorithm: see `Front`.

    Attributes:
        faults: what is wrong, and what was used instead.

    Raises:
        NotABackup: there is nothing that a backup has.
    """

    def __init__(
        self,
        source: Source,
        catalog: Catalog,
        limits: Limits,
        *,
        knows_filter: bool,
        hmac_algorithm: str | None = None,
    ) -> None:
        self._knows_filter = knows_filter
        self._fault: QBackupError | None = None
        super().__init__(source, catalog, limits, hmac_algorithm=hmac_algorithm)

    def _begin(self) -> None:
        self._header = b""
        try:
            super()._begin()
        except _FAULT as error:
            self._fault = error
            self.faults.append(f"the header can't be used: {error.reason}")
        if self._fault is not None and not self._catalog.seen_files():
            raise NotABackup("nothing in this file looks like a part of a Qubes backup")

    @property
    def untrusted_header(self) -> BackupHeader:
        """The header as anybody could have written it. Raises what is wrong with it."""
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        return super().untrusted_header

    def authenticate(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None = None,
    ) -> BackupHeader:
        """The header, or the best that stands in for it.

        Raises:
            WrongPassphrase: it fits nothing in this backup.
            HeaderAltered: neither the header's copy can be used nor is the backup's id known.
            UnsupportedFormat: the authenticated copy names what is not read.
        """
        self.faults = []
        try:
            key, plain = self._open_copy(passphrase, pipeline, meanwhile)
        except NotEnoughMemory:
            raise
        except _FAULT as error:
            return self._proven_by_chunk(passphrase, pipeline, error)
        if plain != self._header:
            self.faults.append(
                f"the header {self._what_is_wrong()}; its authenticated copy was used instead"
            )
        return self._accept(key, plain)

    def _what_is_wrong(self) -> str:
        if self._header and self._fault is None:
            return "was altered: it differs from its authenticated copy"
        return f"can't be used ({self._fault.reason})" if self._fault else "was altered"

    def _proven_by_chunk(
        self, passphrase: bytes, pipeline: Pipeline, error: QBackupError
    ) -> BackupHeader:
        ids = list(dict.fromkeys(_BACKUP_ID.findall(self._header)))[:_IDS_LIMIT]
        if not ids:
            if isinstance(error, WrongPassphrase):
                raise error
            raise HeaderAltered(
                f"neither the header ({self._what_is_wrong()}) nor its authenticated copy"
                f" ({error.reason}) says the backup's id, without which no key can be derived",
                file=HEADER_NAME,
            )
        for chunk in islice(self._first_chunks(), _WITNESSES_LIMIT):
            for id_ in (name.decode("ascii") for name in ids):
                format_ = Format4(id_, passphrase, self._limits)
                if fits(format_, chunk, pipeline):
                    return self._header_with(id_, format_, chunk, pipeline, error)
        if isinstance(error, WrongPassphrase):
            raise error
        raise WrongPassphrase(
            f"the header's authenticated copy can't be used ({error.reason}), and the passphrase"
            " fits no chunk that was tried: it is wrong, or the header's backup id is"
        )

    def _header_with(
        self, id_: str, format_: Format, witness: EncryptedChunk, pipeline: Pipeline,
        error: QBackupError,
    ) -> BackupHeader:  # fmt: skip
        name = None if self._knows_filter else self._told_filter(format_, pipeline)
        self.faults.append(
            f"the header can't be authenticated ({error.reason}); its backup id {id_} was proven"
            f" by {display(witness.name)}, and nothing else that it says was believed"
        )
        if name is not None:
            self.faults.append(f"the compression filter was told from the data: {name}")
        filter_name = None if name in (None, NONE) else name
        self._proven = None
        return BackupHeader(
            version=4,
            encrypted=True,
            compressed=filter_name is not None,
            compression_filter=filter_name,
            hmac_algorithm="scrypt",
            crypto_algorithm=None,
            backup_id=id_,
        )

    def _told_filter(self, format_: Format, pipeline: Pipeline) -> str:
        """Told from the first verified chunk that begins a file.

        Raises:
            UnsupportedFormat: none can be opened, or it begins as nothing that is known.
        """
        for chunk in islice(self._first_chunks(), _FILTER_TRIES):
            try:
                data = pipeline.open_chunk(format_, chunk)
            except LOSSES:
                continue
            if not len(data):
                continue
            name = told_filter(data)
            if name is not None:
                return name
            raise UnsupportedFormat(
                "the files are compressed with something that is not known; name the filter:"
                " --compression-filter NAME"
            )
        raise UnsupportedFormat(
            "no first chunk of a file can be opened, so the compression filter can't be told from"
            " the data; name it: --compression-filter NAME"
        )

    def _first_chunks(self) -> Iterator[EncryptedChunk]:
        """The chunks that files begin with: first that of the metadata, as it is small."""
        metadata = self._catalog.metadata_file()
        others = (f for f in self._catalog.seen_files() if f.path != METADATA_PATH)
        for file in (*([metadata] if metadata else []), *others):
            chunk = next(iter(file.chunks), None)
            if chunk is not None and chunk.index == 0:
                yield chunk
