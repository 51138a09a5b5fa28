"""The scrypt encrypted-data format, written: for any plaintext, or any header, a right checksum
and right MACs. With hashlib and pycryptodome; nothing of the product.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import struct

from Crypto.Cipher import AES

CHECKSUM_AT, MAC_AT, DATA_AT, MAC_SIZE = 48, 64, 96, 32
_SALT = bytes(range(32))
#: N=2, r=1, p=1: microseconds.
CHEAP = b"scrypt\0" + struct.pack(">BII", 1, 1, 1) + _SALT


def encrypted(plain: bytes, key: bytes, front: bytes = CHEAP) -> bytes:
    """A whole member.

    Args:
        plain: to be encrypted.
        key: 32 bytes for AES, 32 for the MACs.
        front: its first 48 bytes, whatever they say.
    """
    data = front + hashlib.sha256(front).digest()[:16]
    data += _mac(key, data)
    data += AES.new(key[:32], AES.MODE_CTR, nonce=b"", initial_value=bytes(16)).encrypt(plain)
    return data + _mac(key, data)


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key[32:], data, "sha256")


@functools.cache
def key_for(passphrase: bytes) -> bytes:
    """The 64 bytes that `CHEAP` derives from a chunk's whole passphrase."""
    return hashlib.scrypt(passphrase, salt=_SALT, n=2, r=1, p=1, dklen=64)
