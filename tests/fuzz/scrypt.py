"""The scrypt encrypted-data format: the header of a chunk, its limits, and the MAC over it."""

from __future__ import annotations

from qbackup.base.errors import ChunkDamaged, QBackupError
from qbackup.crypto.ciphers import choose_cipher
from qbackup.crypto.scrypt_format import HEADER_SIZE, EncryptedHeader, open_in_place
from tests.fuzz import seal
from tests.fuzz.common import LIMITS, outcome

_KEY = bytes(range(100, 164))
_CIPHER = choose_cipher()


def check(data: bytes) -> None:
    """Nothing comes out but under a right MAC, and then just what went in."""
    _open(data, None)
    front, plain = data[: seal.CHECKSUM_AT], data[seal.CHECKSUM_AT :]
    if len(front) == seal.CHECKSUM_AT:
        _open(seal.encrypted(plain, _KEY, front), plain)


def _open(data: bytes, plain: bytes | None) -> None:
    """Opens it; `plain` is what must come of it, None if it must be refused."""
    header = outcome(lambda: EncryptedHeader.parse(data))
    if isinstance(header, QBackupError):
        assert plain is None or data[:7] != b"scrypt\0"
        return
    assert data[:7] == b"scrypt\0"
    assert header.raw == data[:HEADER_SIZE]
    _check_parameters(header)
    if plain is not None:
        assert header.accepts(_KEY)
        _check_body(header, data[HEADER_SIZE:], plain)
    elif not header.accepts(_KEY):
        _check_refused(header, data[HEADER_SIZE:])


def _check_parameters(header: EncryptedHeader) -> None:
    n, r, p = header.parameters.log2_n, header.parameters.r, header.parameters.p
    assert (n, r, p) == (
        header.raw[7],
        int.from_bytes(header.raw[8:12], "big"),
        int.from_bytes(header.raw[12:16], "big"),
    )
    fits = (
        1 <= n <= 63
        and 1 <= r * p <= min(LIMITS.scrypt_lanes, (1 << 30) - 1)
        and 128 * r * 2**n <= LIMITS.scrypt_memory
        and r * p * 2**n <= LIMITS.scrypt_work
    )
    refused = isinstance(outcome(lambda: header.check_limits(LIMITS)), QBackupError)
    assert refused != fits


def _check_body(header: EncryptedHeader, body: bytes, plain: bytes) -> None:
    buffer = bytearray(body)
    opened = open_in_place(header, _KEY, memoryview(buffer), _CIPHER.decrypt)
    assert bytes(opened) == plain
    for cut in {0, 1, len(body) // 2, len(body) - 1}:
        _check_refused(header, body[:cut])
    position = sum(plain) % len(body)
    _check_refused(header, body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :])


def _check_refused(header: EncryptedHeader, body: bytes) -> None:
    buffer = bytearray(body)
    error = outcome(lambda: open_in_place(header, _KEY, memoryview(buffer), _CIPHER.decrypt))
    assert isinstance(error, ChunkDamaged)
    assert buffer == body
