"""Derivations of keys for tests, and what they need of the machine."""

from __future__ import annotations

import hashlib
import os
import struct

import pytest

from qbackup.crypto.kdf import Derivation
from qbackup.crypto.romix.kernel import llvmlite_is_installed


def need_llvmlite() -> None:
    """Skips where it is not installed; in continuous integration (`CI` is set) that is a
    failure.
    """
    if llvmlite_is_installed():
        return
    if os.environ.get("CI"):
        pytest.fail("not installed: llvmlite")
    pytest.skip("not installed: llvmlite")


def key_of(job: Derivation) -> bytes:
    """By OpenSSL."""
    parameters = job.parameters
    return hashlib.scrypt(
        job.secret, salt=job.salt, n=parameters.n, r=parameters.r, p=parameters.p, dklen=64
    )


def plain_romix(blocks: bytes, n: int, r: int = 8) -> bytes:
    """ROMix of each block of 128·r bytes as RFC 7914 writes it down, word by word and slowly."""
    size = 128 * r
    return b"".join(_romix(blocks[at : at + size], n, r) for at in range(0, len(blocks), size))


def _romix(block: bytes, n: int, r: int) -> bytes:
    """Section 5."""
    x = list(struct.unpack(f"<{32 * r}I", block))
    v = []
    for _ in range(n):
        v.append(x)
        x = _block_mix(x, r)
    for _ in range(n):
        j = x[-16] % n
        x = _block_mix([a ^ b for a, b in zip(x, v[j], strict=True)], r)
    return struct.pack(f"<{32 * r}I", *x)


def _block_mix(block: list[int], r: int) -> list[int]:
    """Section 4."""
    x, mixed = block[-16:], []
    for at in range(0, 32 * r, 16):
        x = _salsa([a ^ b for a, b in zip(x, block[at : at + 16], strict=True)])
        mixed.append(x)
    return [word for one in (*mixed[::2], *mixed[1::2]) for word in one]


def _salsa(words: list[int]) -> list[int]:
    """Section 3: Salsa20/8."""
    x = list(words)
    columns = [(0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)]
    rows = [(0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)]
    for _ in range(4):
        for a, b, c, d in (*columns, *rows):
            x[b] ^= _rotated(x[a] + x[d], 7)
            x[c] ^= _rotated(x[b] + x[a], 9)
            x[d] ^= _rotated(x[c] + x[b], 13)
            x[a] ^= _rotated(x[d] + x[c], 18)
    return [(after + before) & 0xFFFFFFFF for after, before in zip(x, words, strict=True)]


def _rotated(word: int, bits: int) -> int:
    word &= 0xFFFFFFFF
    return (word << bits | word >> (32 - bits)) & 0xFFFFFFFF
