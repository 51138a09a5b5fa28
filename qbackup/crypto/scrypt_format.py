"""Reader of the scrypt encrypted-data format: Tarsnap/scrypt, ``FORMAT``.

==========  ===============================================================
bytes       content
==========  ===============================================================
0-5         ``scrypt``
6           format version, 0
7           log2 N
8-11        r, big-endian
12-15       p, big-endian
16-47       salt
48-63       first half of SHA-256(0-47): a checksum, anybody can make it
64-95       HMAC-SHA-256(0-63): right only for the right passphrase
96-         AES-256-CTR data, nonce and counter 0
last 32     HMAC-SHA-256 of everything before
==========  ===============================================================

The functions are called in the order in which they stand: `EncryptedHeader.parse` trusts
nothing and costs nothing; `check_limits` decides if a derivation may be started;
`accepts` distinguishes a wrong passphrase from damage; `open_in_place` releases data only
after the MAC over all of them was checked. Every comparison of secrets takes constant time.
`decrypt_unverified` is the one exception, for a user who asked for it by name.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from qbackup.base.errors import ChunkDamaged, LimitExceeded
from qbackup.base.limits import Limits
from qbackup.crypto.ciphers import CtrInPlace

MAGIC = b"scrypt"
HEADER_SIZE = 96
MAC_SIZE = 32
OVERHEAD = HEADER_SIZE + MAC_SIZE
KEY_SIZE = 64  # 32 bytes for AES, 32 bytes for HMAC

_CHECKSUM_OFFSET = 48
_PASSPHRASE_CHECK_OFFSET = 64
_LAYOUT = struct.Struct(">6sBBII32s16s32s")
_HASH_PIECE = 1 << 30
_SECTOR = 512
_HOLES = (bytes(_SECTOR), b"\xff" * _SECTOR)  # no sector of encrypted bytes is like that


@dataclass(frozen=True, slots=True)
class ScryptParameters:
    """The cost of one derivation (RFC 7914): N = 2^log2_n, block size r, p lanes."""

    log2_n: int
    r: int
    p: int

    @property
    def n(self) -> int:
        """N, the number of blocks that one lane keeps."""
        return 1 << self.log2_n

    @property
    def lane_memory(self) -> int:
        """Number of bytes that one lane holds: 128·N·r."""
        return 128 * self.r << self.log2_n

    @property
    def work(self) -> int:
        """N·r·p: the time of a derivation is proportional to it."""
        return self.r * self.p << self.log2_n

    def __str__(self) -> str:
        return f"N=2^{self.log2_n}, r={self.r}, p={self.p}"


# the most that the `scrypt` program asks for by default, on any machine
_USUAL = ScryptParameters(21, 8, 1)


@dataclass(frozen=True, slots=True)
class EncryptedHeader:
    """The first 96 bytes, parsed. Only their checksum was checked."""

    parameters: ScryptParameters
    salt: bytes
    raw: bytes

    @classmethod
    def parse(cls, untrusted_data: bytes) -> EncryptedHeader:
        """Parses the first 96 bytes.

        Raises:
            ChunkDamaged: the data are too short, or in another format, or the checksum is wrong.
        """
        if len(untrusted_data) < HEADER_SIZE:
            raise ChunkDamaged("cut off inside its header")
        raw = bytes(untrusted_data[:HEADER_SIZE])
        magic, version, log2_n, r, p, salt, checksum, _ = _LAYOUT.unpack(raw)
        if magic != MAGIC:
            raise ChunkDamaged("its content is not scrypt-encrypted data", is_unproven=True)
        if version != 0:
            raise ChunkDamaged(
                f"its scrypt format has version {version}, only 0 exists", is_unproven=True
            )
        if hashlib.sha256(raw[:_CHECKSUM_OFFSET]).digest()[:16] != checksum:
            raise ChunkDamaged("its header is damaged (the checksum differs)", is_unproven=True)
        return cls(ScryptParameters(log2_n, r, p), salt, raw)

    def check_limits(self, limits: Limits, beside: ScryptParameters | None = None) -> None:
        """Checks that a derivation with these parameters may be started at all.

        Args:
            limits: bounds on the derivation.
            beside: parameters of the same backup's header. Whoever holds the disk can make a head
                that asks for gigabytes and minutes; no writer asks for much more than beside it.

        Raises:
            ChunkDamaged: scrypt itself does not allow these parameters.
            LimitExceeded: the derivation needs more memory or time than allowed.
        """
        parameters = self.parameters
        if not (1 <= parameters.log2_n <= 63 and parameters.r and parameters.p):
            raise ChunkDamaged(f"its scrypt parameters are impossible ({parameters})")
        if parameters.r * parameters.p >= 1 << 30:
            raise ChunkDamaged(f"its scrypt parameters are impossible ({parameters})")
        for name, value in (
            ("scrypt_lanes", parameters.r * parameters.p),
            ("scrypt_memory", parameters.lane_memory),
            ("scrypt_work", parameters.work),
        ):
            allowed = getattr(limits, name)
            if value > allowed:
                raise LimitExceeded(
                    f"its scrypt parameters ({parameters}) exceed the limit {name}:"
                    f" {value}, and {allowed} is allowed",
                    limit=name,
                    needed=value,
                )
        if beside is not None:
            self._check_growth(limits, beside)

    def _check_growth(self, limits: Limits, beside: ScryptParameters) -> None:
        parameters = self.parameters
        usual = parameters.lane_memory <= _USUAL.lane_memory and parameters.work <= _USUAL.work
        growth = max(
            -(-parameters.lane_memory // beside.lane_memory), -(-parameters.work // beside.work)
        )
        if not usual and growth > limits.scrypt_growth:
            raise LimitExceeded(
                f"its scrypt parameters ({parameters}) need {growth} times what those of the"
                f" backup's header need ({beside}), and the limit scrypt_growth allows"
                f" {limits.scrypt_growth} times: Qubes writes no such chunk beside such a header",
                limit="scrypt_growth",
                needed=growth,
            )

    def accepts(self, key: bytes) -> bool:
        """Tells if bytes 64-95 agree with the derived key, in constant time.

        A key does not agree when the passphrase is wrong, or when the chunk belongs to another
        backup or place, or when the salt or the parameters were changed.
        """
        expected = hmac.digest(key[32:], self.raw[:_PASSPHRASE_CHECK_OFFSET], "sha256")
        return hmac.compare_digest(expected, self.raw[_PASSPHRASE_CHECK_OFFSET:])


def open_in_place(
    header: EncryptedHeader, key: bytes, body: memoryview, decrypt: CtrInPlace
) -> memoryview:
    """Checks the MAC over header and body, then decrypts body where it lies.

    Args:
        header: the 96 bytes as they were read; the MAC is computed over these bytes.
        key: 64 bytes for which `EncryptedHeader.accepts` is true.
        body: all bytes behind the header, writable; overwritten with plaintext.
        decrypt: AES-256-CTR in place.

    Returns:
        The plaintext: body without the MAC at its end.

    Raises:
        ChunkDamaged: the data are cut off, extended or altered; body is then unchanged.
    """
    if len(body) < MAC_SIZE:
        raise ChunkDamaged("cut off")
    data, mac = body[:-MAC_SIZE], body[-MAC_SIZE:]
    check = hmac.new(key[32:], header.raw, "sha256")
    for start in range(0, len(data), _HASH_PIECE):
        check.update(data[start : start + _HASH_PIECE])
    if not hmac.compare_digest(check.digest(), bytes(mac)):
        raise ChunkDamaged("its content was altered or cut off (the MAC differs)", is_unproven=True)
    if data:
        decrypt(key[:32], data)
    return data


def decrypt_unverified(
    key: bytes, data: memoryview, decrypt: CtrInPlace
) -> list[tuple[int, int, bool]]:
    """Decrypts data in place whose MAC was not checked, or is wrong.

    Whoever held the disk may have chosen each of these bytes: AES in counter mode turns a bit that
    was flipped in the data into a flipped bit of the plaintext.

    Args:
        key: 64 bytes for which `EncryptedHeader.accepts` is true.
        data: the bytes behind the header, without the MAC; overwritten with plaintext.
        decrypt: AES-256-CTR in place.

    Returns:
        Start and end of each part of the data, and True if it is a hole: sectors of zeros, or of
        0xFF, as a disk gives for what it lost. Zeros stand there.
    """
    holes = _holes(data)
    if data:
        decrypt(key[:32], data)
    parts, position = [], 0
    for start, end in holes:
        data[start:end] = bytes(end - start)
        parts += [(position, start, False), (start, end, True)]
        position = end
    return [part for part in (*parts, (position, len(data), False)) if part[0] < part[1]]


def _holes(data: memoryview) -> list[tuple[int, int]]:
    """Finds runs of sectors that the disk lost; a member's first byte begins a sector."""
    found: list[tuple[int, int]] = []
    for start in range(-HEADER_SIZE % _SECTOR, len(data) - _SECTOR + 1, _SECTOR):
        if data[start] in (0, 0xFF) and data[start : start + _SECTOR] in _HOLES:
            first = found.pop()[0] if found and found[-1][1] == start else start
            found.append((first, start + _SECTOR))
    return found
