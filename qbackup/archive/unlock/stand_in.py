"""Chunks with HMACs in place of a header that is lost or can't be authenticated, for salvage.

Any file's first chunk and its HMAC prove the passphrase and the digest; `ChunkEvidence` tells the
rest from proven chunks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from qbackup.archive.unlock.chunk_evidence import ChunkEvidence
from qbackup.archive.unlock.header import NOTHING_FITS
from qbackup.archive.unlock.headerless import FirstChunk, HeaderlessAuthenticator, size_limit
from qbackup.base.errors import (
    ChunkDamaged,
    HeaderAltered,
    QBackupError,
    Unlockable,
    UnsupportedFormat,
    WrongPassphrase,
)
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.base.notices import HeaderReplaced
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.subkeys import RootKey
from qbackup.formats.header import BackupHeader
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.catalog import SalvageCatalog
from qbackup.storage.source import Source

_NOTHING_LEFT = "no other chunk proves the passphrase either: try another copy of the backup"
_TRIES_LIMIT = 20  # files that the passphrase is tried on


@dataclass(frozen=True, kw_only=True)
class LostHeader:
    """Known facts of a header that can't be authenticated.

    Args:
        why: the fault, in words; ``""`` where there is no header, and perhaps there never was one.
        hint: the header, which nobody has proven; None if it can't be understood.
        knows_filter: the caller names the filter.
        hmac_algorithm: see `qbackup.BackupArchive`.
    """

    why: str
    hint: BackupHeader | None
    knows_filter: bool
    hmac_algorithm: str | None


def find_beginning(catalog: SalvageCatalog, limits: Limits) -> FirstChunk | None:
    """Finds a stand-in for the beginning of a backup whose front is damaged.

    None if there is a header, or no chunk with an HMAC beside it.
    """
    try:
        catalog.header()
    except HeaderAltered:
        return next(beginnings(catalog, limits), None)
    return None


def beginnings(catalog: SalvageCatalog, limits: Limits) -> Iterator[FirstChunk]:
    """Gives the first chunks of files with their HMACs; those that are long come last."""
    if catalog.naming.hmac_suffix is None:
        return
    size = size_limit(limits)
    small = (chunk for chunk in catalog.beginnings() if chunk.size <= size)
    large = (chunk for chunk in catalog.beginnings() if size < chunk.size <= limits.chunk)
    for chunk in chain(islice(small, _TRIES_LIMIT), islice(large, _TRIES_LIMIT)):
        with contextlib.suppress(ChunkDamaged):
            yield FirstChunk(bytes(chunk.read_body(0)), chunk.read_hmac(), chunk.name)


class StandInAuthenticator(HeaderlessAuthenticator):
    """Authenticator of a backup by its chunks, as far as they show what it is.

    Args:
        beginning: the first chunk to try.
        source: the backup's bytes.
        catalog: index of the archive's members.
        limits: bounds on untrusted input.
        lost: what is known of the header.
    """

    def __init__(
        self,
        beginning: FirstChunk,
        source: Source,
        catalog: SalvageCatalog,
        limits: Limits,
        lost: LostHeader,
    ) -> None:
        self._chunks = catalog
        self._lost = lost
        super().__init__(beginning, source, catalog, limits, hmac_algorithm=lost.hmac_algorithm)

    def authenticate(
        self,
        passphrase: bytes,
        pipeline: Pipeline,
        meanwhile: Callable[[ScryptParameters], None] | None = None,
    ) -> BackupHeader:
        """Tries the passphrase on first chunks, and tells from proven chunks what the backup is.

        Raises the errors that `HeaderAuthenticator.authenticate` raises.
        """
        first = self._beginning
        header = self._try(first, passphrase, pipeline)
        others = beginnings(self._chunks, self._limits)
        while isinstance(header, QBackupError):
            other = next(others, None)
            if other is None:
                self._use(first)
                is_misfit = isinstance(header, WrongPassphrase)
                header.advice = NOTHING_FITS if is_misfit else _NOTHING_LEFT
                raise header
            tried = self._try(other, passphrase, pipeline)
            header = header if isinstance(tried, QBackupError) else tried
        return self._complete(header, passphrase, pipeline)

    def _use(self, beginning: FirstChunk) -> None:
        self._beginning = beginning
        self.begin()

    def _try(
        self, beginning: FirstChunk, passphrase: bytes, pipeline: Pipeline
    ) -> BackupHeader | QBackupError:
        self._use(beginning)
        try:
            return super().authenticate(passphrase, pipeline)
        except (Unlockable, UnsupportedFormat) as error:
            return error

    def _complete(self, guess: BackupHeader, passphrase: bytes, pipeline: Pipeline) -> BackupHeader:
        lost = self._lost
        evidence = ChunkEvidence(
            catalog=self._chunks,
            pipeline=pipeline,
            limits=self._limits,
            passphrase=passphrase,
            hmac_algorithm=lost.hmac_algorithm,
            hint=lost.hint,
            knows_filter=lost.knows_filter,
        )
        is_front_whole = not self._beginning.name and not lost.why
        header = evidence.complete(guess, is_front_whole=is_front_whole)
        self.faults = []
        if not is_front_whole or header.version != guess.version:
            what = self._describe(header, header.version == guess.version)
            self.faults.append(HeaderReplaced(what))
        return header

    def _describe(self, header: BackupHeader, is_as_never_written: bool) -> str:
        """Describes what is used in place of the header."""
        why = self._lost.why
        if not why:
            why = "the header is missing"
            if is_as_never_written:
                why = (
                    "the backup is read as one that never had a header, though it does not begin so"
                )
        proof = display(self._beginning.name) or "its first chunk"
        shown = (
            f"format {header.version}",
            header.crypto_algorithm if header.encrypted else "no encryption",
            header.compression_filter,
        )
        return (
            f"{why}; {proof} proves the passphrase, and proven chunks show what it said:"
            f" {', '.join(display(text) for text in shown if text)}"
        )

    def take_proof(self) -> tuple[RootKey | Derivation, bytes]:
        """Gives the root of this program's own keys, and the bytes that stand for the header.

        Raises:
            UsageError: nothing is authenticated yet.
        """
        return self._authenticated()
