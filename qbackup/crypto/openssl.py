"""Output of ``openssl enc`` and ``openssl dgst -hmac``, as formats 2 and 3 contain it.

``enc -CIPHER -md MD5``: ``Salted__``, 8 bytes of salt, then CBC. Key and IV come from
EVP_BytesToKey with MD5 and one round: D(i) = MD5(D(i-1) + passphrase + salt). The end is
padded with n bytes of value n, 1 to a whole block.

``dgst -DIGEST -hmac``: a line of text that ends in ``= HEX``. Its front differs between
versions: ``(stdin)=``, ``HMAC-SHA512(stdin)=``, ``SHA2-512(stdin)=``.
"""

from __future__ import annotations

import hashlib
import hmac
import string

from qbackup.base.errors import ChunkDamaged, Damaged, UnsupportedFormat
from qbackup.base.names import HMAC_LIMIT_BYTES, display
from qbackup.crypto.ciphers import CbcCipher

SALT_MAGIC = b"Salted__"
SALT_SIZE = 8
SALTED_SIZE = len(SALT_MAGIC) + SALT_SIZE
LARGEST_BLOCK = 16

# Digests as hashlib calls them, strongest first, with their lengths in bytes.
_DIGESTS = {
    "sha512": 64, "sha3_512": 64, "blake2b": 64, "whirlpool": 64,
    "sha384": 48, "sha3_384": 48,
    "sha256": 32, "sha3_256": 32, "sha512_256": 32, "blake2s": 32, "sm3": 32,
    "sha224": 28, "sha3_224": 28, "sha512_224": 28,
    "sha1": 20, "ripemd160": 20,
    "md5-sha1": 36, "md5": 16, "md4": 16, "mdc2": 16,
}  # fmt: skip
_WEAK = ("md5-sha1", "md5", "md4", "mdc2")  # only accepted if the user names them
# openssl's other names, in small letters and without hyphens
_NAMES = {
    "blake2b512": "blake2b", "blake2s256": "blake2s", "dss1": "sha1", "rmd": "ripemd160",
    "rmd160": "ripemd160", "ripemd": "ripemd160", "sha2512": "sha512", "sha2384": "sha384",
    "sha2256": "sha256", "sha2224": "sha224", "sha2512256": "sha512_256",
    "sha2512224": "sha512_224",
}  # fmt: skip
_HEX_DIGITS = frozenset(string.hexdigits)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


_KNOWN = {**{_plain(name): name for name in _DIGESTS}, **_NAMES}


def _is_there(digest: str) -> bool:
    try:
        hashlib.new(digest)
    except ValueError:
        return False
    return True


def choose_digest(name: str, *, allowed: str | None = None) -> str:
    """Translates openssl's name of a digest into hashlib's.

    Args:
        name: in openssl's spelling, for example ``SHA512``.
        allowed: a digest that the user has named, in any spelling; accepted even if weak.

    Raises:
        UnsupportedFormat: the digest is not known, not on this machine, or too weak.
    """
    digest = _KNOWN.get(_plain(name))
    if digest is None or not _is_there(digest):
        raise UnsupportedFormat(
            f"the HMAC's digest {display(name[:80])} is not available on this machine"
        )
    if digest in _WEAK and (allowed is None or _KNOWN.get(_plain(allowed)) != digest):
        raise UnsupportedFormat(
            f"the HMAC's digest {display(name[:80])} is too weak to prove anything. If you want to"
            f" trust it all the same, ask for it by name: --hmac-algorithm {name}"
        )
    return digest


def digests_of_size(size: int) -> list[str]:
    """Gives the digests of this length that are there and not weak, strongest first."""
    return [d for d, n in _DIGESTS.items() if n == size and d not in _WEAK and _is_there(d)]


def weak_digests_of_size(size: int) -> list[str]:
    """Gives the digests of this length that are only accepted if the user names them."""
    return [digest for digest, n in _DIGESTS.items() if n == size and digest in _WEAK]


def parse_hmac(untrusted_text: bytes) -> bytes:
    """Parses an HMAC from the line that ``openssl dgst`` printed.

    Raises:
        Damaged: the text is longer than 4,096 bytes, or no such line.
    """
    if len(untrusted_text) > HMAC_LIMIT_BYTES:
        raise Damaged(f"its HMAC is longer than {HMAC_LIMIT_BYTES} bytes")
    try:
        text = untrusted_text.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    digits = text.partition("=")[2].strip()
    if not digits or len(digits) % 2 or not _HEX_DIGITS.issuperset(digits):
        raise Damaged("its HMAC is not a line as openssl prints it")
    return bytes.fromhex(digits)


def proves(passphrase: bytes, digest: str, data: bytes | memoryview, mac: bytes) -> bool:
    """Tells if this is the HMAC of these bytes. The comparison takes constant time."""
    return hmac.compare_digest(hmac.digest(passphrase, data, digest), mac)


def bytes_to_key(
    passphrase: bytes, salt: bytes, key_size: int, iv_size: int
) -> tuple[bytes, bytes]:
    """Derives key and IV by EVP_BytesToKey with MD5 and one round."""
    made = block = b""
    while len(made) < key_size + iv_size:
        block = hashlib.md5(block + passphrase + salt, usedforsecurity=False).digest()
        made += block
    return made[:key_size], made[key_size : key_size + iv_size]


class CbcStream:
    """One stream of ``openssl enc``, decrypted part by part, each in place.

    The last cipher bytes so far, up to a block, are kept back, because they may be the padding.

    Args:
        cipher: of the stream.
        passphrase: the backup's.
        salted: the first `SALTED_SIZE` bytes of the stream.

    Raises:
        ChunkDamaged: those bytes do not begin a stream of ``openssl enc``.
    """

    def __init__(self, cipher: CbcCipher, passphrase: bytes, salted: bytes) -> None:
        if len(salted) < SALTED_SIZE or not salted.startswith(SALT_MAGIC):
            raise ChunkDamaged("its content does not begin as openssl's encrypted data do")
        salt = salted[len(SALT_MAGIC) :]
        key, iv = bytes_to_key(passphrase, salt, cipher.key_size, cipher.block_size)
        self._cipher = cipher
        self._key = key
        self._previous = iv
        self._pending = b""

    @property
    def pending(self) -> int:
        """Number of bytes kept back: at most a block, and none only at the very beginning."""
        return len(self._pending)

    def begin_behind_gap(self, data: memoryview) -> memoryview:
        """Goes on behind lost bytes; the bytes that were kept back are lost too.

        Args:
            data: the bytes behind the gap, from a block's first byte on.

        Returns:
            The bytes that can be decrypted: all behind the first block, as that needs the lost one.
        """
        size = self._cipher.block_size
        self._previous, self._pending = bytes(data[:size]), b""
        return data[size:]

    def decrypt(self, body: memoryview, start: int) -> memoryview:
        """Decrypts in place; returns the plaintext, which begins with the bytes kept back before.

        Args:
            body: a buffer with at least `pending` free bytes before start.
            start: offset in the buffer of the next bytes of the stream.
        """
        size = self._cipher.block_size
        begin = start - len(self._pending)
        body[begin:start] = self._pending
        data = body[begin:]
        keep = (len(data) - 1) % size + 1
        whole, self._pending = data[:-keep], bytes(data[-keep:])
        self._decrypt(whole)
        return whole

    def _decrypt(self, blocks: memoryview) -> None:
        if len(blocks):
            last = bytes(blocks[-self._cipher.block_size :])
            self._cipher.decrypt(self._key, self._previous, blocks)
            self._previous = last

    def rest(self) -> bytes:
        """Decrypts the bytes that were kept back, padding included. Call once, at the end.

        Raises:
            ChunkDamaged: those bytes are no whole block.
        """
        if len(self._pending) != self._cipher.block_size:
            raise ChunkDamaged("the encrypted stream is cut off: it ends within a block")
        block = bytearray(self._pending)
        self._decrypt(memoryview(block))
        return bytes(block)

    def end_here(self) -> bytes | None:
        """Decrypts the bytes that were kept back, as `unpadded_rest`; the stream can go on.

        Returns:
            The rest without the padding; None if the stream can't end here.
        """
        if len(self._pending) != self._cipher.block_size:
            return None
        block = bytearray(self._pending)
        self._cipher.decrypt(self._key, self._previous, memoryview(block))
        return _without_padding(bytes(block))

    def unpadded_rest(self) -> bytes:
        """Decrypts like `rest`, and removes the padding.

        Raises:
            ChunkDamaged: there is no padding, or no whole block.
        """
        rest = _without_padding(self.rest())
        if rest is None:
            raise ChunkDamaged("the encrypted stream's end is missing or altered (no padding)")
        return rest


def _without_padding(block: bytes) -> bytes | None:
    """Gives a last block without its padding (PKCS#7); None if there is none."""
    count = block[-1]
    is_padded = 1 <= count <= len(block) and block[-count:] == bytes([count]) * count
    return block[:-count] if is_padded else None
