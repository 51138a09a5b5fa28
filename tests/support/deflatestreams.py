"""Deflate streams whose blocks are known: small ones by zlib, and some that an enemy could make."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

#: zlib's smallest memory level ends a block after 127 symbols, of 31 bits at most.
SMALL_BLOCK = 512


def text(size: int, seed: int = 1) -> bytes:
    """Text with words that come back, near and far."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(2, 9)).hex().encode() for _ in range(60)]
    out = bytearray()
    while len(out) < size:
        out += chance.choice(words) + chance.choice([b" ", b" ", b"\n", b", "])
    return bytes(out[:size])


def mixed(size: int, seed: int = 1) -> bytes:
    """Text, noise, zeros and runs, as a file system holds them."""
    chance = random.Random(seed)
    out = bytearray()
    while len(out) < size:
        length = chance.randrange(100, 3000)
        kind = chance.randrange(5)
        if kind == 0:
            out += chance.randbytes(length)
        elif kind == 1:
            out += bytes(length)
        elif kind == 2:
            out += chance.randbytes(7) * (length // 7)
        else:
            out += text(length, chance.randrange(1 << 30))
    return bytes(out[:size])


def files(size: int, seed: int = 1) -> bytes:
    """Files of text and noise as a file system holds them: each begins a block of 4 KiB."""
    chance = random.Random(seed)
    out = bytearray()
    while len(out) < size:
        length = chance.randrange(500, 12_000)
        number = chance.randrange(1 << 30)
        out += chance.randbytes(length) if number % 3 == 0 else text(length, number)
        out += bytes(-len(out) % 4096)
    return bytes(out[:size])


def small_blocks(data: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """The data in many small blocks, by zlib."""
    return deflate(data, level, 1, strategy)


def deflate(
    data: bytes, level: int = 6, memory: int = 8, strategy: int = zlib.Z_DEFAULT_STRATEGY
) -> bytes:
    made = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, memory, strategy)
    return made.compress(data) + made.flush()


def without_end(data: bytes, level: int = 6, memory: int = 8) -> bytes:
    """Blocks that end on a whole byte, none of which says it is the last one."""
    made = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, memory)
    return made.compress(data) + made.flush(zlib.Z_FULL_FLUSH)


def stored(parts: list[bytes]) -> bytes:
    """Each part in a stored block of its own, and an empty last one."""
    out = bytearray()
    for part in parts:
        size = len(part)
        out += b"\0" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + part
    return bytes(out) + b"\1\0\0\xff\xff"


def with_fakes(count: int, seed: int = 1) -> bytes:
    """Stored blocks, each of which holds whole blocks of another stream up to its very end.

    A reader that begins at one of these in the first stored block comes out at the next true one.
    """
    chance = random.Random(seed)
    parts = []
    for number in range(count):
        inner = without_end(text(chance.randrange(200, 700), number), memory=1)
        parts.append(chance.randbytes(chance.randrange(1, 30)) + inner)
    return stored(parts)


def deceiving(compress: Callable[[bytes], bytes], count: int) -> bytes:
    """Content whose stored blocks, as a real program makes them, each end in blocks of their own.

    Args:
        compress: gives the program's deflate stream.
        count: number of such blocks.
    """
    chance = random.Random(1)
    data = b""
    for number in range(count):
        inner = without_end(text(3_000, number))
        size = 32_767
        for _ in range(50):
            part = chance.randbytes(size - len(inner)) + inner
            ends = stored_ends(compress(data + part + chance.randbytes(40_000)))
            actual = next(end for end in ends if end > len(data)) - len(data)
            if actual == size:
                break
            size = actual
        data += part
    return data


def stored_ends(stream: bytes) -> list[int]:
    """Where each stored block at a stream's beginning ends, in the bytes that come out."""
    ends, at, total = [], 0, 0
    while not stream[at] & 7:
        size = int.from_bytes(stream[at + 1 : at + 3], "little")
        total += size
        at += 5 + size
        ends.append(total)
    return ends
