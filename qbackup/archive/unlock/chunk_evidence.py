"""Evidence of chunks with HMACs: what a backup is whose header is lost or can't be authenticated.

Each chunk of formats 2 and 3 has an HMAC of its own, which proves the passphrase and the digest.
Everything else is told from chunks that were proven so: a later chunk of a file shows the format,
and what comes out of a first chunk shows cipher and filter. A cipher counts only if the plaintext,
unpacked, begins with a tar header whose checksum is right.

Nothing that an unproven header says is believed; its version and cipher are tried first. Whoever
can change the backup can so make files unreadable, as by deleting them, and make no wrong ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from qbackup.base.errors import (
    FILE_ERRORS,
    Damaged,
    LimitExceeded,
    QBackupError,
    UnsupportedFormat,
)
from qbackup.base.events import Data
from qbackup.base.limits import Limits
from qbackup.content.detect import NONE, detect_filter
from qbackup.content.filters import choose_filter
from qbackup.crypto.ciphers import CBC_NAMES
from qbackup.formats import choose_by_chunks, choose_format, is_volume
from qbackup.formats.header import BackupHeader, told_header
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.catalog import SalvageCatalog
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.tar.fields import BLOCK_SIZE, check_block

_LATER_LIMIT = 3  # proven later chunks that are looked at
_FIRST_LIMIT = 5  # first chunks that ciphers are tried on
_TRIES_LIMIT = 20  # chunks that are read
_FRONT_SIZE = 64 * 1024  # bytes that show what a chunk is


@dataclass(frozen=True)
class ChunkEvidence:
    """Search for what the chunks of a backup show.

    Args:
        catalog: index of the members.
        pipeline: opens chunks.
        limits: bounds on their content.
        passphrase: that a chunk's HMAC has proven.
        hmac_algorithm: see `qbackup.BackupArchive`.
        hint: a header that nobody has proven; None where there is none.
        knows_filter: the caller names the filter, so it need not be detected.
    """

    catalog: SalvageCatalog
    pipeline: Pipeline
    limits: Limits
    passphrase: bytes = field(repr=False)
    hmac_algorithm: str | None
    hint: BackupHeader | None
    knows_filter: bool

    def complete(self, guess: BackupHeader, *, is_front_whole: bool) -> BackupHeader:
        """Gives the header that the chunks show.

        Args:
            guess: with the digest that was proven, and if chunks are encrypted.
            is_front_whole: the backup begins as one that never had a header, so without other
                evidence it is one.

        Raises:
            UnsupportedFormat: no cipher or no filter that is known fits the chunks.
        """
        later = islice(self._stored(self.catalog.later_chunks(), guess), _LATER_LIMIT)
        hint = self.hint.version if self.hint is not None else None
        row = choose_by_chunks(
            self.catalog.naming,
            [_is_volume(chunk, encrypted=guess.encrypted) for chunk in later],
            hint=guess.version if is_front_whole else hint,
            digest=guess.hmac_algorithm,
        )
        told = told_header(
            row.version,
            hmac_algorithm=guess.hmac_algorithm,
            crypto_algorithm=guess.crypto_algorithm if guess.encrypted else None,
            compression_filter=None,
        )
        return self._with_algorithms(told)

    def _stored(self, chunks: Iterable[StoredChunk], guess: BackupHeader) -> Iterator[memoryview]:
        """Yields the stored bytes of those chunks that are proven and not empty."""
        format_ = choose_format(guess.version, hmac_algorithm=self.hmac_algorithm)
        plain = format_.unlock(replace(guess, encrypted=False), self.passphrase, self.limits)
        for chunk in islice(chunks, _TRIES_LIMIT):
            try:
                data = self.pipeline.open_chunk(plain, chunk)
            except FILE_ERRORS:
                continue
            if len(data):
                yield data

    def _with_algorithms(self, told: BackupHeader) -> BackupHeader:
        """Adds cipher and filter, by what comes out of first chunks; smaller ones come first."""
        firsts = sorted(islice(self.catalog.beginnings(), _TRIES_LIMIT), key=lambda c: c.size)
        candidates = self._candidates(told)
        for chunk in [chunk for chunk in firsts if chunk.size][:_FIRST_LIMIT]:
            for candidate in candidates:
                name = self._filter_of(chunk, candidate)
                if name is not None:
                    return self._with_filter(candidate, name)
        if self.knows_filter:
            return candidates[0]
        raise UnsupportedFormat(
            "the passphrase is right, but the header can't be believed, and what comes out of the"
            " first chunks is nothing known: name the filter, --compression-filter NAME, or try"
            " another copy of the backup"
        )

    def _candidates(self, told: BackupHeader) -> list[BackupHeader]:
        """Lists headers with each cipher, the most likely first."""
        if not told.encrypted:
            return [told]
        hinted = self.hint.crypto_algorithm if self.hint is not None else None
        names = (hinted, told.crypto_algorithm, *CBC_NAMES)
        return [replace(told, crypto_algorithm=name) for name in dict.fromkeys(names) if name]

    def _filter_of(self, chunk: StoredChunk, candidate: BackupHeader) -> str | None:
        """Detects the filter in a first chunk; None if this candidate does not open the chunk."""
        format_ = choose_format(candidate.version, hmac_algorithm=self.hmac_algorithm)
        try:
            opener = format_.unlock(candidate, self.passphrase, self.limits)
            return filter_inside(self.pipeline.open_chunk(opener, chunk), self.limits)
        except (*FILE_ERRORS, UnsupportedFormat):
            return None

    def _with_filter(self, candidate: BackupHeader, name: str) -> BackupHeader:
        format_ = choose_format(candidate.version, hmac_algorithm=self.hmac_algorithm)
        opener = format_.unlock(candidate, self.passphrase, self.limits)
        if name == NONE or opener.has_volumes:  # each volume shows its own filter
            return candidate
        return replace(candidate, compressed=True, compression_filter=name)


def _is_volume(stored: memoryview, *, encrypted: bool) -> bool | None:
    compressed = not encrypted and detect_filter(stored) not in (None, NONE)
    return is_volume(bytes(stored[:_FRONT_SIZE]), encrypted=encrypted, compressed=compressed)


def filter_inside(plaintext: memoryview, limits: Limits) -> str | None:
    """Detects the filter of a file's first chunk; None unless an archive comes out of it.

    Returns:
        The filter's name, `qbackup.content.detect.NONE` for no compression.
    """
    name = detect_filter(plaintext)
    if name is None:
        return None
    try:
        unpack = choose_filter(name, None, limits)
    except UnsupportedFormat:
        return name  # of a package that is not installed; reading reports that
    front = b""
    try:
        for piece in unpack([Data(plaintext)]):
            front += bytes(piece[:BLOCK_SIZE])
            if len(front) >= BLOCK_SIZE:
                break
    except (Damaged, LimitExceeded):  # the stream goes on in the next chunk
        pass
    try:
        check_block(front[:BLOCK_SIZE])
    except QBackupError:
        return None
    return name
