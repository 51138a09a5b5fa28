"""Partition tables as the real programs write them, damaged, and as an enemy writes them."""

from __future__ import annotations

import io
import random
import struct
import zlib

import pytest

from qbackup.base.errors import Damaged, QBackupError, UnsupportedFormat
from qbackup.image.device import ImageBytes
from qbackup.image.partitions import Partition, find_partitions
from tests.support.diskkit import DISKS, data_of, listed, opened
from tests.support.speed import rows
from tests.support.work import at_most

SECTOR = 512
MARK = b"\x55\xaa"


def found(data: bytes | bytearray) -> list[Partition]:
    return find_partitions(ImageBytes(io.BytesIO(data)))


def table(*entries: tuple[int, int, int]) -> bytes:
    """A sector with a table: (type, start, size) in sectors."""
    data = b"".join(struct.pack("<4xB3xII", *entry) for entry in entries)
    return bytes(446) + data.ljust(64, b"\0") + MARK


def disk(sectors: dict[int, bytes], count: int = 4096) -> bytearray:
    data = bytearray(count * SECTOR)
    for number, content in sectors.items():
        data[number * SECTOR : (number + 1) * SECTOR] = content
    return data


class TestReal:
    @pytest.mark.parametrize("name", DISKS)
    def test_tables_are_read_as_partx_does(self, name: str) -> None:
        theirs = listed(name)
        if name == "logical":
            del theirs[2]
        ours = {part.number: (part.start, part.size, part.uuid) for part in found(data_of(name))}
        assert ours == theirs

    def test_names_are_those_of_gpt(self) -> None:
        names = [part.name for part in found(data_of("home"))]
        assert names == ["EFI System", "system", "user data", "swap", "spare"]

    @rows("place", [512 + 8, 512 + 72, 1024 + 5, 1024 + 129])
    def test_a_damaged_gpt_is_read_from_its_copy(self, place: int) -> None:
        data = bytearray(data_of("home"))
        data[place] ^= 1
        assert found(data) == found(data_of("home"))
        data[-512 + 20] ^= 1
        with pytest.raises(Damaged, match="partition table is damaged, and so is its copy"):
            found(data)

    def test_the_copy_of_a_disk_in_a_larger_image_is_found(self) -> None:
        """Image of a volume that was made larger later on."""
        data = bytearray(data_of("home") + bytes(1 << 20))
        data[1024 + 5] ^= 1
        assert found(data) == found(data_of("home"))

    def test_a_gpt_of_which_nothing_is_left_is_damage(self) -> None:
        data = bytearray(data_of("home"))
        data[512:1024] = data[-512:] = bytes(512)
        with pytest.raises(Damaged, match="partition table is damaged"):
            found(data)

    def test_sectors_of_4096_bytes(self) -> None:
        """The same entries, their numbers in larger sectors."""
        entries = bytearray(data_of("home")[1024 : 1024 + 128 * 128])
        for at in range(0, 5 * 128, 128):
            first, last = struct.unpack_from("<QQ", entries, at + 32)
            struct.pack_into("<QQ", entries, at + 32, first // 8, (last + 1) // 8 - 1)
        header = bytearray(data_of("home")[512 : 512 + 92])
        struct.pack_into("<I", header, 88, zlib.crc32(entries))
        struct.pack_into("<I", header, 16, 0)
        struct.pack_into("<I", header, 16, zlib.crc32(header))
        data = bytearray(data_of("home"))
        data[512 : 1024 + len(entries)] = bytes(512 + len(entries))
        data[4096 : 4096 + 92] = header
        data[8192 : 8192 + len(entries)] = entries
        assert found(data) == found(data_of("home"))

    @pytest.mark.parametrize("name", ["vfat", "vfat-32", "ntfs", "exfat"])
    def test_the_boot_sector_of_a_file_system_is_no_table(self, name: str) -> None:
        data = bytearray(data_of(name))
        data[446:510] = table((0x83, 1, 100))[446:510]
        with pytest.raises(UnsupportedFormat, match="the image holds a"):
            opened(bytes(data))


class TestLogical:
    @pytest.mark.parametrize("kind", [0x05, 0x0F, 0x85])
    def test_each_type_of_extended_partition_is_gone_through(self, kind: int) -> None:
        data = disk({
            0: table((0x83, 1, 9), (kind, 100, 200)),
            100: table((0x83, 2, 10), (5, 50, 60)),
            150: table((0x82, 2, 20)),
        })  # fmt: skip
        parts = [(part.number, part.start // SECTOR, part.size // SECTOR) for part in found(data)]
        assert parts == [(1, 1, 9), (5, 102, 10), (6, 152, 20)]

    def test_a_table_without_a_partition_is_passed(self) -> None:
        data = disk({
            0: table((5, 100, 200)),
            100: table((0, 0, 0), (5, 50, 60)),
            150: table((5, 90, 20), (0x83, 1, 5)),
            190: table((0x83, 7, 8)),
        })  # fmt: skip
        starts = [(part.number, part.start // SECTOR) for part in found(data)]
        assert starts == [(5, 151), (6, 197)]

    @pytest.mark.parametrize("target", [0, 50, 1 << 31])
    def test_a_chain_that_leads_back_or_nowhere_ends(self, target: int) -> None:
        data = disk({
            0: table((5, 100, 200)),
            100: table((0x83, 2, 10), (5, 50, 60)),
            150: table((0x83, 2, 20), (5, target, 60)),
        })  # fmt: skip
        assert [part.number for part in found(data)] == [5, 6]

    def test_a_chain_has_no_more_partitions_than_a_disk(self) -> None:
        sectors = {0: table((5, 1, 4000), (5, 1, 4000), (5, 2, 4000), (5, 3, 4000))}
        sectors |= {number: table((0x83, 1, 1), (5, number, 9)) for number in range(1, 4000)}
        whole = disk(sectors)
        with at_most(25_000):
            assert len(found(whole)) <= 512

    def test_a_sector_without_its_mark_ends_the_chain(self) -> None:
        data = disk({0: table((5, 100, 200)), 100: table((0x83, 2, 10), (5, 50, 60))})
        assert [part.number for part in found(data)] == [5]

    def test_what_is_behind_the_end_is_no_error(self) -> None:
        data = disk({0: table((0x83, 1, 1 << 31), (5, 1 << 31, 9))})
        assert [part.number for part in found(data)] == [1]


@pytest.mark.slow
def test_no_bytes_break_it() -> None:
    chance = random.Random(3)
    for _ in range(300):
        name = chance.choice(("home", "logical"))
        data = bytearray(data_of(name)[: 8 << 20])
        for _ in range(chance.choice((1, 4, 40))):
            place = chance.choice((446, 512, 1024, 5 * (1 << 20) + 446, 6 * (1 << 20) - 66))
            data[place + chance.randrange(64)] = chance.randrange(256)
        if chance.random() < 0.5:
            struct.pack_into("<I", data, 528, 0)
            struct.pack_into("<I", data, 528, zlib.crc32(data[512:604]))
        try:
            parts = found(data)
        except QBackupError:
            continue
        assert len(parts) <= 1024
        assert all(part.start > 0 and part.size > 0 for part in parts)
