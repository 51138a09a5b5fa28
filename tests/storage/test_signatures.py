"""What is given in place of a backup is named, with what to do; real tools made each file."""

from __future__ import annotations

import lzma
import random
from pathlib import Path

import pytest

import qbackup
from qbackup import NotABackup
from qbackup.storage.signatures import HEAD_SIZE, SIGNATURES, looks_like
from tests.make_kinds import FOLDER, RECIPES
from tests.support.commandline import call
from tests.support.sources import piped

#: Name of the committed front → words for its kind, and of the advice.
KINDS = {
    "7z": ("a 7z archive", "7z x"),
    "btrfs": ("a btrfs file system", "mount"),
    "bzip2": ("compressed with bzip2", "bzip2 -dc"),
    "ext2-small-blocks": ("an ext4 file system", "qbackup ls"),
    "ext4": ("an ext4 file system", "qbackup ls"),
    "fat": ("a FAT file system", "mount"),
    "fat32": ("a FAT file system", "mount"),
    "gpg-armored": ("encrypted with PGP", "gpg"),
    "gpg-symmetric": ("encrypted with PGP", "gpg"),
    "gpg-to-a-key": ("encrypted with PGP", "gpg"),
    "gpt": ("a whole disk (with a GPT)", "losetup"),
    "gzip": ("compressed with gzip", "gzip -dc"),
    "html": ("a web page", "download"),
    "iso9660": ("a CD image", "mount"),
    "luks": ("an encrypted disk (LUKS)", "cryptsetup open"),
    "lz4": ("compressed with lz4", "lz4 -dc"),
    "mbr": ("a whole disk (with an MBR)", "losetup"),
    "ntfs": ("an NTFS file system", "mount"),
    "openssl": ("encrypted with openssl", "openssl enc -d"),
    "qcow2": ("a virtual machine's disk (qcow2)", "qemu-img convert"),
    "xfs": ("an XFS file system", "mount"),
    "xz": ("compressed with xz", "xz -dc"),
    "zip": ("a zip archive", "unzip"),
    "zstd": ("compressed with zstd", "zstd -dc"),
}


def front(name: str) -> bytes:
    return lzma.decompress((FOLDER / f"{name}.xz").read_bytes())


@pytest.mark.parametrize("name", KINDS)
class TestRealFiles:
    def test_are_named_with_what_to_do(self, name: str, tmp_path: Path) -> None:
        words, advice = KINDS[name]
        (tmp_path / "file").write_bytes(front(name))
        with pytest.raises(NotABackup) as caught:
            qbackup.open(tmp_path / "file")
        assert words in caught.value.reason
        assert advice in caught.value.advice
        assert "wiped" not in caught.value.reason

    def test_from_a_pipe_too(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(front(name))
        with piped(tmp_path / "file") as pipe, pytest.raises(NotABackup) as caught:
            qbackup.open(pipe)
        assert KINDS[name][0] in caught.value.reason

    def test_with_salvage_too(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(front(name))
        with pytest.raises(NotABackup) as caught:
            qbackup.open(tmp_path / "file", salvage=True)
        assert KINDS[name][0] in caught.value.reason
        assert "--salvage" not in caught.value.advice


def test_each_committed_front_is_tested() -> None:
    assert set(KINDS) == set(RECIPES) == {path.stem for path in FOLDER.glob("*.xz")}


def test_the_command_says_it_and_ends_with_status_4(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(front("ext4"))
    ended = call("list", tmp_path / "image")
    assert ended.status == 4
    assert "an ext4 file system" in ended.err and "mount it read-only" in ended.err


class TestTheTable:
    def test_every_mark_lies_in_the_bytes_that_are_read(self) -> None:
        assert all(row.offset + len(row.mark) <= HEAD_SIZE for row in SIGNATURES)

    def test_every_row_is_found_by_its_own_mark(self) -> None:
        for row in SIGNATURES:
            if row.mark:
                head = bytearray(b"\xff" * HEAD_SIZE)
                head[0x418:0x41C] = head[0x44C:0x450] = bytes(4)  # fields of ext
                head[row.offset : row.offset + len(row.mark)] = row.mark
                found = looks_like(bytes(head))
                assert found is not None and (found.name, found.advice) == (row.name, row.advice)

    @pytest.mark.parametrize("seed", range(40))
    def test_noise_is_nothing_known(self, seed: int) -> None:
        """Marks of two bytes fit one of 65,536 random fronts, and that is all."""
        assert looks_like(random.Random(seed).randbytes(HEAD_SIZE)) is None

    def test_only_whole_files_are_called_nothing_but_zeros(self, tmp_path: Path) -> None:
        for size, words in ((512, "holds nothing but zeros"), (1 << 20, "holds nothing but zeros")):
            (tmp_path / "file").write_bytes(bytes(size))
            with pytest.raises(NotABackup, match=words):
                qbackup.open(tmp_path / "file")
        (tmp_path / "file").write_bytes(bytes(1 << 20) + b"x")
        with pytest.raises(NotABackup, match="begins with zeros"):
            qbackup.open(tmp_path / "file")
