"""What `openssl enc -md MD5` and `openssl dgst -hmac` write, made with hashlib and pycryptodome;
nothing of the product.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from Crypto.Cipher import AES, DES3, Blowfish
from Crypto.Util.Padding import pad, unpad

MAGIC, SALT = b"Salted__", b"saltsalt"
#: openssl's name → what computes it, bytes of key.
CIPHERS: dict[str, tuple[Any, int]] = {
    "aes-256-cbc": (AES, 32),
    "aes-128-cbc": (AES, 16),
    "des-ede3-cbc": (DES3, 24),
    "bf-cbc": (Blowfish, 16),
}
USUAL = "aes-256-cbc"


def encrypted(plain: bytes, passphrase: bytes, name: str = USUAL) -> bytes:
    """A whole stream."""
    cipher, size = _cipher(passphrase, SALT, name)
    return MAGIC + SALT + bytes(cipher.encrypt(pad(plain, size)))


def decrypted(stored: bytes, passphrase: bytes, name: str = USUAL) -> bytes | None:
    """All whole blocks of a stream in one piece, with the padding; None if it is none."""
    if len(stored) < 16 or not stored.startswith(MAGIC):
        return None
    cipher, size = _cipher(passphrase, stored[8:16], name)
    body = stored[16:]
    return bytes(cipher.decrypt(body[: len(body) - len(body) % size]))


def unpadded(plain: bytes, name: str) -> bytes | None:
    """Without the padding; None if there is none."""
    try:
        return bytes(unpad(plain, CIPHERS[name][0].block_size))
    except ValueError:
        return None


def proof(data: bytes, passphrase: bytes, digest: str) -> bytes:
    """The text of a `.hmac`."""
    return b"(stdin)= %s\n" % hmac.digest(passphrase, data, digest).hex().encode()


def _cipher(passphrase: bytes, salt: bytes, name: str) -> tuple[Any, int]:
    """A new cipher, and its block's size in bytes. EVP_BytesToKey with MD5, one round."""
    module, size = CIPHERS[name]
    made = [b""]
    while sum(map(len, made)) < size + module.block_size:
        made.append(hashlib.md5(made[-1] + passphrase + salt).digest())
    key = b"".join(made)
    iv = key[size : size + module.block_size]
    return module.new(key[:size], module.MODE_CBC, iv), module.block_size
