"""`openssl enc`'s stream, cut anywhere, with a piece lost; and the text that `openssl dgst` prints.

The input's first byte says which, by what cipher, and whether the rest is what is stored. The
second opinion is pycryptodome, which gets it in one piece.
"""

from __future__ import annotations

import functools
import random
import re
import zlib
from collections.abc import Iterator

from qbackup.base.errors import QBackupError
from qbackup.base.events import Data
from qbackup.crypto.ciphers import choose_cbc
from qbackup.crypto.openssl import LARGEST_BLOCK, choose_digest, parse_hmac, proves
from qbackup.formats.hmac_chunks import Encrypted
from tests.fuzz import enc
from tests.fuzz.common import outcome
from tests.fuzz.whole import PASSPHRASE

_CIPHERS = list(enc.CIPHERS)
TEXT, STORED, LOSES = 128, 64, 32  # bits of the first byte; the lowest two are the cipher
_SIZES = (0, 1, 5, 8, 16, 17, 33, 100)
_LINE = re.compile(rb"[^=]*=[\s\x1c-\x1f]*((?:[0-9A-Fa-f]{2})+)[\s\x1c-\x1f]*")


def check(data: bytes) -> None:
    """What is read is what pycryptodome and a plain pattern say."""
    if not data:
        return
    if data[0] & TEXT:
        _check_text(data[1:])
        return
    name = _CIPHERS[data[0] & 3]
    stored = data[1:] if data[0] & STORED else enc.encrypted(data[1:], PASSPHRASE, name)
    _check_stream(stored, name, bool(data[0] & LOSES), random.Random(zlib.crc32(data)))


def _check_stream(stored: bytes, name: str, loses: bool, chance: random.Random) -> None:
    whole = enc.decrypted(stored, PASSPHRASE, name)
    chunks = list(_cut(stored, chance, chance.choice(_SIZES[3:]) if loses else None))
    lost = chance.randrange(len(chunks)) if loses else None
    content, out = Encrypted(choose_cbc(name), PASSPHRASE), b""
    starts = [sum(map(len, chunks[:index])) for index in range(len(chunks))]

    def read() -> bytes:
        nonlocal out
        for index, chunk in enumerate(chunks):
            if index == lost:
                continue
            body = memoryview(bytearray(LARGEST_BLOCK) + chunk)
            given = outcome(functools.partial(content.open, index, body))
            if isinstance(given, QBackupError):
                if lost is None:
                    raise given
                continue
            assert whole is not None
            _check_place(given, starts[index], whole)
            out += bytes(given.buffer)
        return out + content.finish()

    read_whole = outcome(read)
    if lost is None:
        is_cut = whole is None or not whole or len(whole) != len(stored) - 16
        expected = None if is_cut or whole is None else enc.unpadded(whole, name)
        assert (None if isinstance(read_whole, QBackupError) else read_whole) == expected


def _check_place(given: Data, start: int, whole: bytes) -> None:
    """What a chunk gives is what stands at its place."""
    if len(given.buffer):
        place = start + given.offset
        assert given.buffer == whole[place : place + len(given.buffer)]


def _cut(stored: bytes, chance: random.Random, size: int | None) -> Iterator[bytes]:
    """The first chunk has the salt, whole or not. Where some are lost all have one size."""
    end = min(len(stored), size or 16 + chance.choice(_SIZES))
    yield stored[:end]
    while end < len(stored):
        start, end = end, end + (size or chance.choice(_SIZES))
        yield stored[start:end]


def _check_text(text: bytes) -> None:
    """A line is read if it ends in whole bytes of hex, and proves what has this HMAC only."""
    mac = outcome(lambda: parse_hmac(text))
    line = _LINE.fullmatch(text) if text.isascii() and len(text) <= 4096 else None
    expected = None if line is None else bytes.fromhex(line[1].decode())
    assert (None if isinstance(mac, QBackupError) else mac) == expected
    front = text.partition(b"=")[0]
    line_again = front + enc.proof(text, PASSPHRASE, "sha1").removeprefix(b"(stdin)")
    mac_again = outcome(lambda: parse_hmac(line_again))
    assert isinstance(mac_again, QBackupError) or proves(PASSPHRASE, "sha1", text, mac_again)
    assert isinstance(mac, QBackupError) or not proves(PASSPHRASE, "sha1", text, mac)
    digest = outcome(lambda: choose_digest(front.decode("latin-1")))
    if isinstance(digest, str):
        assert proves(PASSPHRASE, digest, text, b"") is False
