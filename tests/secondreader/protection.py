"""docs/format.md, "Format 4: scrypt", "Formats 3 and 2: HMAC and openssl", "Filters"."""

from __future__ import annotations

import bz2
import hashlib
import hmac
import importlib
import lzma
import re
import sys
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from Crypto.Cipher import AES, DES3
from Crypto.Util import Counter

RECORD = 10_240


class ScryptFields(NamedTuple):
    """The first 96 bytes."""

    log2_n: int
    r: int
    p: int
    salt: bytes
    checksum: bytes
    proof: bytes


def scrypt_fields(stored: bytes) -> ScryptFields:
    """Reads them, and checks their checksum."""
    assert stored[:7] == b"scrypt\0"
    fields = ScryptFields(
        stored[7],
        int.from_bytes(stored[8:12], "big"),
        int.from_bytes(stored[12:16], "big"),
        stored[16:48],
        stored[48:64],
        stored[64:96],
    )
    assert fields.checksum == hashlib.sha256(stored[:48]).digest()[:16]
    return fields


def line(secret: bytes) -> bytes:
    """What the scrypt program takes of a passphrase."""
    return re.split(rb"[\r\n\0]", secret[:2047])[0]


def key_material(secret: bytes, fields: ScryptFields) -> bytes:
    """64 bytes: the cipher's key, then the HMAC's."""
    return hashlib.scrypt(
        line(secret),
        salt=fields.salt,
        n=1 << fields.log2_n,
        r=fields.r,
        p=fields.p,
        maxmem=1 << 30,
        dklen=64,
    )


def scrypt_decrypt(secret: bytes, stored: bytes) -> bytes:
    """The plaintext, after both checks."""
    fields = scrypt_fields(stored)
    key = key_material(secret, fields)
    assert hmac.digest(key[32:], stored[:64], "sha256") == fields.proof, "wrong passphrase"
    assert hmac.digest(key[32:], stored[:-32], "sha256") == stored[-32:], "damaged"
    counter = Counter.new(128, initial_value=0)
    return AES.new(key[:32], AES.MODE_CTR, counter=counter).decrypt(stored[96:-32])


DIGESTS = {"blake2b512": "blake2b", "rmd160": "ripemd160"}


def hmac_of(passphrase: bytes, digest: str, stored: bytes) -> bytes:
    """The HMAC by a digest in openssl's spelling."""
    name = digest.lower()
    return hmac.digest(passphrase, stored, DIGESTS.get(name, name.replace("sha3-", "sha3_")))


def said(proof: bytes) -> bytes:
    """What a `.hmac` says."""
    return bytes.fromhex(proof.decode("ascii").partition("=")[2].strip())


CIPHERS: dict[str, tuple[Any, int, int]] = {
    "aes-128-cbc": (AES, 16, 16),
    "aes-192-cbc": (AES, 24, 16),
    "aes-256-cbc": (AES, 32, 16),
    "des-ede3-cbc": (DES3, 24, 8),
}
SHORT_NAMES = {f"aes{bits}": f"aes-{bits}-cbc" for bits in (128, 192, 256)}


def bytes_to_key(passphrase: bytes, salt: bytes, size: int) -> bytes:
    """EVP_BytesToKey with MD5 and one round."""
    made = block = b""
    while len(made) < size:
        block = hashlib.md5(block + passphrase + salt).digest()
        made += block
    return made[:size]


def openssl_decrypt(passphrase: bytes, cipher: str, stored: bytes) -> bytes:
    """What `openssl enc -d -md MD5` gives."""
    name = cipher.lower()
    algorithm, key_size, block_size = CIPHERS[SHORT_NAMES.get(name, name)]
    assert stored[:8] == b"Salted__"
    made = bytes_to_key(passphrase, stored[8:16], key_size + block_size)
    key, iv = made[:key_size], made[key_size:]
    plain: bytes = algorithm.new(key, algorithm.MODE_CBC, iv).decrypt(stored[16:])
    count = plain[-1]
    assert 1 <= count <= block_size and plain[-count:] == bytes([count]) * count
    return plain[:-count]


def _zstd() -> Any:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name).ZstdDecompressor()


def _gzip() -> Any:
    return zlib.decompressobj(31)


FILTERS: dict[str, Callable[[], Any]] = {
    "gzip": _gzip,
    "pigz": _gzip,
    "bzip2": bz2.BZ2Decompressor,
    "pbzip2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
    "lzma": lzma.LZMADecompressor,
    "zstd": _zstd,
    "zstdmt": _zstd,
}
BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"]\0\0": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def told_filter(data: bytes) -> str | None:
    """By its first bytes; None: not compressed."""
    return next((name for magic, name in BEGINNINGS.items() if data.startswith(magic)), None)


def decompress(data: bytes, name: str | None) -> bytes:
    """By a filter that the header names; None: none. Less than a record of zeros may follow."""
    if name is None:
        return data
    whole = b""
    while True:
        stream = FILTERS[name]()
        whole += bytes(stream.decompress(data))
        assert stream.eof, "the stream is cut off"
        data = stream.unused_data
        if not data or not data[0]:
            break
    assert len(data) < RECORD and not data.strip(b"\0"), "something follows the stream"
    return whole
