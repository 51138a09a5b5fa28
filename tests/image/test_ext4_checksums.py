"""Checksums of ext4, each with one bit changed: no damage that they show reads like a sound image.

The images were written by Linux itself (`python -m tests.make_kernel_image`).
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from qbackup.base.errors import Damaged
from qbackup.image import Image, open_image
from qbackup.image.ext4.crc32c import crc32c
from qbackup.image.ext4.journal_head import parse_head
from qbackup.image.ext4.legacy_crc import BigEndianCrc32, crc16
from tests.make_kernel_image import OLD_PATH, OLD_UNMOUNTED_PATH, PATH
from tests.support.commandline import call
from tests.support.speed import rows

BLOCK = 1024
MARK = bytes.fromhex("c03b3998")
DESCRIPTOR, COMMIT, SUPERBLOCK = 1, 2, 4
TIME = 0x30  # in a commit block
FEATURES, EARLY = 0x2B, 0x4
NEW_NAMES, OLD_NAMES = {"late", "lost+found", "many"}, {"lost+found", "many"}

Change = Callable[[bytearray], None]


@functools.cache
def stored(path: Path) -> bytes:
    return zlib.decompress(path.read_bytes())


def places(data: bytes | bytearray, kind: int) -> list[int]:
    """The offsets of a journal's own blocks, the oldest first."""
    mark = MARK + struct.pack(">I", kind)
    return [at for at in range(0, len(data), BLOCK) if data[at : at + 8] == mark]


def flipped(path: Path, at: int, bit: int = 0) -> bytes:
    data = bytearray(stored(path))
    data[at] ^= 1 << bit
    return bytes(data)


def opened(data: bytes | bytearray) -> Image:
    return open_image(io.BytesIO(data))


def names(image: Image) -> set[str]:
    return {node.name for node in image.list("/", on_error=lambda path, error: None)}


def check_loss(data: bytes | bytearray, words: str) -> None:
    """Changes are missing, and the image says so."""
    with opened(data) as image:
        assert image.obstacle is not None and words in image.obstacle
        assert names(image) == OLD_NAMES
        assert image.stat("/many").kind == "folder"
        with pytest.raises(Damaged, match=f"(?s)there is no late.*{words}"):
            image.stat("/late")


class TestSums:
    def test_of_old_file_systems_are_the_published_ones(self) -> None:
        """Check values of CRC-16/MODBUS and CRC-32/MPEG-2 in the catalogue of CRC algorithms."""
        assert crc16(b"123456789") == 0x4B37
        assert crc16(b"6789", crc16(b"12345")) == 0x4B37
        crc = BigEndianCrc32()
        crc.update(b"12345")
        crc.update(b"6789")
        assert crc.value == 0x0376E6E7


class TestSuperblockOfTheJournal:
    AT = places(stored(PATH), SUPERBLOCK)[0]

    def test_without_its_start_is_no_empty_journal(self) -> None:
        data = bytearray(stored(PATH))
        data[self.AT + 0x1C : self.AT + 0x20] = bytes(4)
        check_loss(data, "its journal can't be read")

    @rows("bit", [*range(0x18 * 8, 0x2C * 8), *range(0, BLOCK * 8, 61)], quick=40)
    def test_with_one_bit_changed_is_reported(self, bit: int) -> None:
        check_loss(flipped(PATH, self.AT + bit // 8, bit % 8), "its journal can't be read")

    def test_that_lost_the_mark_of_its_checksums_is_reported(self) -> None:
        check_loss(flipped(PATH, self.AT + FEATURES, 4), "lost the mark of its checksums")

    @pytest.mark.parametrize("compat, incompat", [(1, 0x10), (1, 8), (0, 0x18)])
    def test_with_two_kinds_of_checksums_is_refused(self, compat: int, incompat: int) -> None:
        head = bytearray(stored(PATH)[self.AT : self.AT + BLOCK])
        head[0x24:0x2C] = struct.pack(">II", compat, incompat)
        sealed(head)
        with pytest.raises(Damaged, match="exclude each other"):
            parse_head(bytes(head), BLOCK, 4096)

    def test_with_another_kind_of_checksum_is_refused(self) -> None:
        head = bytearray(stored(PATH)[self.AT : self.AT + BLOCK])
        head[0x50] = 1
        sealed(head)
        with pytest.raises(Damaged, match="does not match"):
            parse_head(bytes(head), BLOCK, 4096)


def sealed(head: bytearray) -> None:
    """Gives the superblock of a journal its right checksum."""
    head[0xFC:0x100] = bytes(4)
    head[0xFC:0x100] = struct.pack(">I", crc32c(bytes(head)))


class TestDescriptorsOfGroups:
    """The four groups of the image have their inodes in different places."""

    @rows("bit", range(0, 32 * 8, 3), quick=8)
    @pytest.mark.parametrize("group", range(4))
    def test_of_old_file_systems_show_each_changed_bit(self, group: int, bit: int) -> None:
        data = flipped(OLD_UNMOUNTED_PATH, 2 * BLOCK + 32 * group + bit // 8, bit % 8)
        faults: list[str] = []
        with opened(stored(OLD_UNMOUNTED_PATH)) as image:
            right = {node.path: node.stat.number for node in image.walk()}
        if group == 0:  # with the root
            with opened(data) as image, pytest.raises(Damaged, match="block group 0 is damaged"):
                image.stat("/")
            return
        with opened(data) as image:
            found = {node.path for node in image.walk(on_error=lambda p, e: faults.append(str(e)))}
        missing = {path for path, number in right.items() if (number - 1) // 128 == group}
        assert missing and missing.isdisjoint(found)
        assert all(f"block group {group} is damaged" in text for text in faults)
        assert faults

    def test_that_lead_to_inodes_of_other_files_show_no_content(self) -> None:
        data = bytearray(stored(OLD_UNMOUNTED_PATH))
        first, second = 2 * BLOCK + 32 + 8, 2 * BLOCK + 64 + 8
        data[first : first + 4] = data[second : second + 4]
        with opened(stored(OLD_UNMOUNTED_PATH)) as image:
            path = next(n.path for n in image.walk() if 128 < n.stat.number <= 256)
        with opened(data) as image, pytest.raises(Damaged, match="its checksum does not match"):
            image.open(path)


class TestCommitsOfOldJournals:
    """Each transaction has one checksum, in its last block."""

    COMMITS = places(stored(OLD_PATH), COMMIT)
    DESCRIPTORS = places(stored(OLD_PATH), DESCRIPTOR)

    def test_are_sound_as_linux_wrote_them(self) -> None:
        with opened(stored(OLD_PATH)) as image:
            assert (image.obstacle, image.warning) == (None, None)
            assert names(image) == NEW_NAMES

    @rows("at", range(DESCRIPTORS[1], COMMITS[1] + 20, 97), quick=12)
    def test_show_each_changed_bit_of_the_transaction(self, at: int) -> None:
        check_loss(flipped(OLD_PATH, at, at % 8), "its journal is damaged")

    @rows("at", range(DESCRIPTORS[0], COMMITS[0] + 20, 1013), quick=12)
    def test_show_damage_before_a_sound_transaction(self, at: int) -> None:
        with opened(flipped(OLD_PATH, at, at % 8)) as image:
            assert image.obstacle is not None and "its journal is damaged" in image.obstacle

    def test_without_any_checksum_count(self) -> None:
        """Another kernel, or e2fsprogs, may have begun the journal without them."""
        data = bytearray(stored(OLD_PATH))
        for at in self.COMMITS:
            data[at + 12 : at + 20] = bytes(8)
        with opened(data) as image:
            assert (image.obstacle, names(image)) == (None, NEW_NAMES)


def early(data: bytearray) -> None:
    """Lets commit blocks be written before the blocks that they commit."""
    data[places(data, SUPERBLOCK)[0] + FEATURES] |= EARLY


def wrong_last(data: bytearray) -> None:
    data[places(data, COMMIT)[1] - 500] ^= 1


def wrong_first(data: bytearray) -> None:
    data[places(data, COMMIT)[0] - 500] ^= 1


def older_last(data: bytearray) -> None:
    at = places(data, COMMIT)[1] + TIME
    data[at : at + 8] = struct.pack(">Q", 1_000_000_000)


def no_last(data: bytearray) -> None:
    at = places(data, COMMIT)[1]
    data[at : at + BLOCK] = bytes(BLOCK)


def no_first(data: bytearray) -> None:
    data[places(data, COMMIT)[0]] ^= 1


def no_last_descriptor(data: bytearray) -> None:
    data[places(data, DESCRIPTOR)[1]] ^= 1


class TestEndOfTheLog:
    """Which end is one that a running system leaves, and which one is damage."""

    @pytest.mark.parametrize(
        "changes, is_damage",
        [
            ((no_last,), False),
            ((no_last, wrong_last), False),
            ((wrong_last, older_last), False),
            ((wrong_last, early), False),
            ((no_last_descriptor, early), False),
            ((wrong_last,), True),
            ((wrong_first,), True),
            ((wrong_first, early), True),
            ((no_first,), True),
            ((no_first, early), True),
            ((no_last_descriptor,), True),
        ],
        ids=lambda value: None if isinstance(value, bool) else "+".join(f.__name__ for f in value),
    )
    def test_is_told_from_damage(self, changes: tuple[Change, ...], is_damage: bool) -> None:
        data = bytearray(stored(OLD_PATH))
        if wrong_last in changes and no_last in changes:
            changes = (wrong_last, no_last)
        for change in changes:
            change(data)
        with opened(data) as image:
            assert names(image) == OLD_NAMES
            assert (image.obstacle is not None) == is_damage

    @pytest.mark.parametrize("kind", [DESCRIPTOR, COMMIT])
    def test_between_transactions_of_today_is_damage(self, kind: int) -> None:
        """Of three transactions the second one loses the mark of a block."""
        data = bytearray(stored(PATH))
        at = places(data, COMMIT)[1] if kind == COMMIT else places(data, DESCRIPTOR)[2]
        data[at] ^= 1
        with opened(data) as image:
            assert image.obstacle is not None and "its journal is damaged" in image.obstacle

    def test_in_the_middle_of_a_write_is_none(self) -> None:
        """Blocks of the last transaction are missing, as is the block that would commit it."""
        data = bytearray(stored(PATH))
        last = places(data, DESCRIPTOR)[-1]
        data[last + BLOCK : last + 40 * BLOCK] = bytes(39 * BLOCK)
        with opened(data) as image:
            assert image.obstacle is None
            assert "late" not in names(image)


class TestCommands:
    """Status 1, and a sentence, whatever is asked for."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "image"
        path.write_bytes(flipped(PATH, places(stored(PATH), SUPERBLOCK)[0] + 0x1F))
        return path

    def test_list_and_name_the_damage(self, image: Path) -> None:
        ended = call("ls", f"{image}:/", "--json")
        assert ended.status == 1
        assert "its journal can't be read" in ended.document["error"]
        assert {entry["path"] for entry in ended.document["entries"]} == {"/lost+found", "/many"}

    def test_copy_and_name_the_damage(self, image: Path, tmp_path: Path) -> None:
        ended = call("cp", f"{image}:/many", str(tmp_path / "out"), "--json")
        assert ended.status == 1
        assert ended.document["ok"] is False
        assert "its journal can't be read" in ended.document["files"][1]["error"]
        assert len(list((tmp_path / "out").iterdir())) == 200

    def test_print_and_name_the_damage(self, image: Path) -> None:
        ended = call("cat", f"{image}:/late")
        assert (ended.status, ended.out) == (1, "")
        assert "there is no late" in ended.err and "its journal can't be read" in ended.err
