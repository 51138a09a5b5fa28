"""The spool: what goes in comes out, and nobody else learns or changes it."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest

from qbackup.base.errors import MachineError
from qbackup.base.events import Extent
from qbackup.image import spool as module
from qbackup.image.spool import SPOOL_BLOCK_SIZE, Spool, SpoolFile, SpoolStream, fill
from tests.support.openfiles import open_files


def extents_of(data: bytes, pieces: random.Random) -> list[Extent]:
    """The data in pieces of any length, some of them told as holes where they are zeros."""
    found, offset = [], 0
    while offset < len(data):
        length = min(pieces.choice((1, 100, 4096, 70_000, 300_000)), len(data) - offset)
        piece = data[offset : offset + length]
        is_hole = not piece.strip(b"\0")
        found.append(Extent(offset, length, None if is_hole else memoryview(piece)))
        offset += length
    return found


def sample(seed: int) -> bytes:
    chance = random.Random(seed)
    parts = [chance.choice((chance.randbytes, bytes))(chance.randrange(400_000)) for _ in range(12)]
    return b"".join(parts)


@pytest.mark.parametrize("memory_blocks", [0, 3, 10_000])
@pytest.mark.parametrize("seed", range(4))
def test_gives_back_what_went_in(memory_blocks: int, seed: int, tmp_path: Path) -> None:
    data, chance = sample(seed), random.Random(seed)
    spool = Spool(tmp_path, memory_blocks)
    size = fill(spool, extents_of(data, chance))
    assert spool.is_in_memory == (memory_blocks == 10_000)
    with SpoolStream(spool, size) as stream:
        assert stream.read() == data
        for _ in range(100):
            start, length = chance.randrange(len(data) + 9), chance.randrange(200_000)
            stream.seek(start)
            assert stream.read(length) == data[start : start + length]


def test_holes_and_zeros_take_no_space(tmp_path: Path) -> None:
    far = 1 << 40
    spool = Spool(tmp_path, 0)
    size = fill(
        spool,
        [
            Extent(0, far, None),
            Extent(far, SPOOL_BLOCK_SIZE, memoryview(b"x" * SPOOL_BLOCK_SIZE)),
            Extent(
                far + SPOOL_BLOCK_SIZE,
                50 * SPOOL_BLOCK_SIZE,
                memoryview(bytes(50 * SPOOL_BLOCK_SIZE)),
            ),
            Extent(far + 51 * SPOOL_BLOCK_SIZE, far, None),
        ],
    )
    assert size == 2 * far + 51 * SPOOL_BLOCK_SIZE
    assert SPOOL_BLOCK_SIZE <= spool.size < 2 * SPOOL_BLOCK_SIZE
    with SpoolStream(spool, size) as stream:
        stream.seek(far - 3)
        assert stream.read(5) == b"\0\0\0xx"


class TestFile:
    def test_has_no_name_and_is_gone_when_it_is_closed(self, tmp_path: Path) -> None:
        records = SpoolFile(tmp_path)
        records.write(0, b"x" * SPOOL_BLOCK_SIZE)
        assert list(tmp_path.iterdir()) == []
        assert len(open_files(tmp_path)) == 1
        records.close()
        assert open_files(tmp_path) == []

    def test_holds_nothing_that_can_be_read(self, tmp_path: Path) -> None:
        """Neither the data, nor that two blocks are the same."""
        records = SpoolFile(tmp_path)
        for number in range(2):
            records.write(number, b"a secret of the vault  " * 2849 + b"-" * 9)
        stored = _stored(records)
        assert b"secret" not in stored
        blocks = [stored[i : i + 16] for i in range(0, len(stored), 16)]
        assert len(set(blocks)) == len(blocks)
        assert records.read(1).startswith(b"a secret of the vault")

    @pytest.mark.parametrize(
        "offset", [0, 1, SPOOL_BLOCK_SIZE - 1, SPOOL_BLOCK_SIZE, SPOOL_BLOCK_SIZE + 31]
    )
    def test_that_was_changed_is_not_used(self, tmp_path: Path, offset: int) -> None:
        records = SpoolFile(tmp_path)
        records.write(0, b"x" * SPOOL_BLOCK_SIZE)
        byte = os.pread(records.number, 1, offset)
        os.pwrite(records.number, bytes([byte[0] ^ 1]), offset)
        with pytest.raises(MachineError, match="gave back something else than was written"):
            records.read(0)

    def test_whose_blocks_were_exchanged_or_cut_is_not_used(self, tmp_path: Path) -> None:
        records = SpoolFile(tmp_path)
        for number in range(2):
            records.write(number, bytes([number]) * SPOOL_BLOCK_SIZE)
        stored = _stored(records)
        half = len(stored) // 2
        os.pwrite(records.number, stored[half:] + stored[:half], 0)
        for number in range(2):
            with pytest.raises(MachineError):
                records.read(number)
        os.ftruncate(records.number, half + 5)
        with pytest.raises(MachineError):
            records.read(1)

    def test_that_finds_no_room_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: full)
        records = SpoolFile(tmp_path)
        with pytest.raises(MachineError, match="No space left on device; another folder can be"):
            records.write(0, b"x" * SPOOL_BLOCK_SIZE)

    def test_in_a_folder_that_is_not_there_says_so(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path / "nothing", 0)
        with pytest.raises(MachineError, match="No such file or directory"):
            fill(spool, [Extent(0, 1, memoryview(b"x"))])


def test_the_folder_for_large_files_is_not_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    if os.access("/var/tmp", os.W_OK):
        assert module.default_folder() == "/var/tmp"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert module.default_folder() == str(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", None)


def _stored(records: SpoolFile) -> bytes:
    size = os.fstat(records.number).st_size
    return os.pread(records.number, size, 0)
