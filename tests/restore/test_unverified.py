"""`--unverified`: what nothing proves of a damaged file, in a file of its own.

The real programs made the backups (`tests.make_gap_vectors`). Each byte is compared with the image
that was backed up: what is proven is the same with the option and without, and what is not proven
stands at its place, but near the damage.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup import FileResult, Report, UsageError, WrongPassphrase
from tests.make_gap_vectors import FOLDER, PASSPHRASE, RECIPES
from tests.support import alter
from tests.support.commandline import call
from tests.support.damagedfiles import PERSONAL, check_bytes, keep, only_bad
from tests.support.restored import snapshot
from tests.support.sources import Failing, piped
from tests.support.speed import rows

KIB = 1024
SECTOR = 4 * KIB
SENTENCE = "whoever held the disk may have chosen these bytes"
UNVERIFIED = "private.img.unverified"
SECRET = {"QBACKUP_PASSPHRASE": PASSPHRASE}


def noise(data: bytes) -> bytes:
    return random.Random(len(data)).randbytes(len(data))


def zeros(data: bytes) -> bytes:
    return bytes(len(data))


def inverted(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


def spoiled(
    name: str, chunk: int, folder: Path, spoil: Callable[[bytes], bytes], size: int = SECTOR
) -> Path:
    """A copy of a vector with some bytes changed in the middle of a chunk."""

    def edit(data: bytearray) -> None:
        start = 2 * len(data) // 5 // 512 * 512
        data[start : start + size] = spoil(bytes(data[start : start + size]))

    path = FOLDER / f"{name}.qbackup"
    return alter.edited(path, folder / f"spoiled{chunk}", PERSONAL.format(chunk), edit)


def last_resort(backup: Path, out: Path) -> Report:
    with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
        return archive.restore(out, keep_damaged=True, unverified=True, check=False)


def wrong_blocks(folder: Path, result: FileResult, image: bytes) -> list[int]:
    """The blocks of `NAME.unverified` with a wrong byte. Outside its ranges it is empty."""
    data = (folder / (result.unverified_as or "")).read_bytes()
    assert len(data) == len(image)
    rest = bytearray(data)
    wrong = set()
    for part in result.unverified:
        assert part.end is not None and part.state == "unverified"
        rest[part.start : part.end] = bytes(part.end - part.start)
        for at in range(part.start, part.end):
            if data[at] != image[at]:
                wrong.add(at // SECTOR)
    assert not any(rest)
    return sorted(wrong)


def unverified_size(result: FileResult) -> int:
    return sum((part.end or 0) - part.start for part in result.unverified)


#: A vector and a damaged chunk → the share of what is not proven that comes out, and the number of
#: blocks with wrong bytes among it, for damage that shows itself (a hole) and for other.
CASES = {
    ("raw", 1): ((0.9, 0), (1.0, 2)),
    ("raw", 0): ((0.98, 0), (1.0, 2)),
    ("gzip-files", 1): ((0.75, 0), (0.6, 2)),
    ("gzip-files", 0): ((0.9, 0), (0.9, 2)),
    ("gzip", 1): ((0.85, 30), (0.3, 0)),
    ("pigz", 1): ((0.85, 0), (0.4, 0)),
    ("bzip2", 1): ((0.3, 0), (0.3, 0)),
}


class TestSector:
    """A sector in the middle of a chunk."""

    @rows(("case", "how"), [(c, h) for c in CASES for h in (zeros, noise)], quick=3)
    def test_the_rest_of_the_chunk_comes_out(
        self, case: tuple[str, int], how: Callable[[bytes], bytes], tmp_path: Path
    ) -> None:
        name, chunk = case
        backup = spoiled(name, chunk, tmp_path, how)
        result = only_bad(last_resort(backup, tmp_path / "out"))
        share, most = CASES[case][how is noise]
        proven = sum((r.end or 0) - r.start for r in result.ranges if r.state == "good")
        lost = len(RECIPES[name].image) - (0 if result.unplaced else proven)
        assert unverified_size(result) >= share * lost
        wrong = wrong_blocks(tmp_path / "out/work", result, RECIPES[name].image)
        assert len(wrong) <= most
        assert result.status == "damaged" and result.unverified_as == UNVERIFIED

    @rows("name", ["raw", "gzip-files", "gzip", "bzip2", "xz-blocks"], quick=1)
    @rows("how", [noise, zeros, inverted], quick=1)
    def test_what_is_proven_stays_the_same(
        self, name: str, how: Callable[[bytes], bytes], tmp_path: Path
    ) -> None:
        backup = spoiled(name, 1, tmp_path, how)
        proven = only_bad(keep(backup, tmp_path / "proven", passphrase=PASSPHRASE))
        result = only_bad(last_resort(backup, tmp_path / "out"))
        assert result.ranges == proven.ranges and result.kept_as == proven.kept_as
        kept = (tmp_path / "out/work/private.img.damaged").read_bytes()
        check_bytes(kept, RECIPES[name].image, result.ranges)  # zeros where nothing is proven
        assert kept == (tmp_path / "proven/work/private.img.damaged").read_bytes()
        with_it, without = snapshot(tmp_path / "out"), snapshot(tmp_path / "proven")
        assert not any("unverified" in path for path in without) and not proven.unverified
        assert set(with_it) - set(without) <= {f"work/{UNVERIFIED}"}
        good = [(part.start, part.end) for part in result.ranges if part.state == "good"]
        for part in result.unverified:
            assert not any(
                start < (part.end or 0) and part.start < (end or 0) for start, end in good
            )

    @rows("name", ["gzip-files", "pigz", "raw"])
    def test_one_byte(self, name: str, tmp_path: Path) -> None:
        backup = spoiled(name, 1, tmp_path, inverted, 1)
        result = only_bad(last_resort(backup, tmp_path / "out"))
        wrong = wrong_blocks(tmp_path / "out/work", result, RECIPES[name].image)
        assert len(wrong) < 60 and unverified_size(result) > 60 * KIB

    def test_that_the_drive_can_not_read(self, tmp_path: Path) -> None:
        path = FOLDER / "raw.qbackup"
        place = path.read_bytes().find(alter.content(path, PERSONAL.format(2)))
        source: Any = Failing(path, range(place + 9 * KIB, place + 9 * KIB + 512))
        with qbackup.open(source, passphrase=PASSPHRASE) as archive:
            report = archive.restore(
                tmp_path / "out", keep_damaged=True, unverified=True, check=False
            )
        result = only_bad(report)
        assert not wrong_blocks(tmp_path / "out/work", result, RECIPES["raw"].image)
        assert unverified_size(result) >= 64 * KIB - 2 * SECTOR

    @pytest.mark.slow
    def test_in_two_chunks(self, tmp_path: Path) -> None:
        backup = spoiled("raw", 1, tmp_path, noise)
        path = tmp_path / "both"

        def edit(data: bytearray) -> None:
            data[1024:2048] = bytes(1024)

        alter.edited(backup, path, PERSONAL.format(3), edit)
        result = only_bad(last_resort(path, tmp_path / "out"))
        assert unverified_size(result) == 2 * 64 * KIB - 1024
        assert len(wrong_blocks(tmp_path / "out/work", result, RECIPES["raw"].image)) <= 2

    def test_only_the_mac_itself(self, tmp_path: Path) -> None:
        backup = alter.flipped(
            FOLDER / "gzip-files.qbackup", tmp_path / "b", PERSONAL.format(1), -1
        )
        result = only_bad(last_resort(backup, tmp_path / "out"))
        image = RECIPES["gzip-files"].image
        assert not wrong_blocks(tmp_path / "out/work", result, image)
        good = sum((r.end or 0) - r.start for r in result.ranges if r.state == "good")
        assert good + unverified_size(result) == len(image)


class TestNothing:
    """Where nothing is decrypted, there is no such file."""

    @rows("offset", [20, 70])  # in the salt, and in the header's own HMAC
    def test_a_key_that_does_not_fit(self, offset: int, tmp_path: Path) -> None:
        backup = alter.flipped(FOLDER / "raw.qbackup", tmp_path / "b", PERSONAL.format(1), offset)
        result = only_bad(last_resort(backup, tmp_path / "out"))
        assert result.unverified_as is None and not result.unverified
        assert f"work/{UNVERIFIED}" not in snapshot(tmp_path / "out")

    def test_a_chunk_that_is_missing(self, tmp_path: Path) -> None:
        backup = alter.without(FOLDER / "raw.qbackup", tmp_path / "b", PERSONAL.format(1))
        assert only_bad(last_resort(backup, tmp_path / "out")).unverified_as is None

    def test_a_wrong_passphrase(self, tmp_path: Path) -> None:
        backup = spoiled("raw", 1, tmp_path, noise)
        with pytest.raises(WrongPassphrase), qbackup.open(backup, passphrase="no") as archive:
            archive.restore(tmp_path / "out", keep_damaged=True, unverified=True)
        assert not (tmp_path / "out").exists()

    def test_no_command_reads_it_by_a_link(self, tmp_path: Path) -> None:
        (tmp_path / UNVERIFIED).write_bytes(RECIPES["raw"].image)
        (tmp_path / "link.img").symlink_to(UNVERIFIED)
        for name in (UNVERIFIED, "link.img"):
            ended = call("ls", f"{tmp_path / name}:/")
            assert ended.status == 2 and "nothing proves what is in this file" in ended.err

    def test_a_whole_backup(self, tmp_path: Path) -> None:
        report = last_resort(FOLDER / "raw.qbackup", tmp_path / "out")
        assert report.ok
        assert not any("unverified" in path for path in snapshot(tmp_path / "out"))

    @pytest.mark.slow
    def test_another_qubes_chunk(self, tmp_path: Path) -> None:
        """The key of a chunk fits the chunk's own name only."""
        path = FOLDER / "raw.qbackup"
        other = alter.content(path, PERSONAL.format(2))

        def edit(data: bytearray) -> None:
            data[:] = other

        backup = alter.edited(path, tmp_path / "b", PERSONAL.format(1), edit)
        assert only_bad(last_resort(backup, tmp_path / "out")).unverified_as is None


class TestCut:
    @rows("name", ["raw", "gzip-files"])
    def test_a_chunk_that_is_cut_off_gives_its_part(self, name: str, tmp_path: Path) -> None:
        path = FOLDER / f"{name}.qbackup"
        backup = alter.cut(path, tmp_path / "b", PERSONAL.format(1), 40 * KIB)
        result = last_resort(backup, tmp_path / "out").bad[0]
        assert not wrong_blocks(tmp_path / "out/work", result, RECIPES[name].image)
        assert unverified_size(result) >= 39 * KIB


class TestRefused:
    """Said before anything is written."""

    def test_without_keep_damaged(self, tmp_path: Path) -> None:
        with (
            qbackup.open(FOLDER / "raw.qbackup", passphrase=PASSPHRASE) as archive,
            pytest.raises(UsageError, match="needs --keep-damaged"),
        ):
            archive.restore(tmp_path / "out", unverified=True)
        assert not (tmp_path / "out").exists()

    def test_from_a_pipe(self, tmp_path: Path) -> None:
        with (
            piped(FOLDER / "raw.qbackup") as pipe,
            qbackup.open(pipe, passphrase=PASSPHRASE) as archive,
            pytest.raises(UsageError, match="pipe"),
        ):
            archive.restore(tmp_path / "out", keep_damaged=True, unverified=True)
        assert not (tmp_path / "out").exists()

    def test_another_format(self, tmp_path: Path) -> None:
        vector = FOLDER.parent / "v3-gzip-many-chunks"
        path, passphrase = vector.with_suffix(".qbackup"), passphrase_of(vector)
        with (
            qbackup.open(path, passphrase=passphrase) as archive,
            pytest.raises(UsageError, match="format 4 only"),
        ):
            archive.restore(tmp_path / "out", keep_damaged=True, unverified=True)
        assert not (tmp_path / "out").exists()


def passphrase_of(vector: Path) -> str:
    return str(json.loads(vector.with_suffix(".json").read_text("utf-8"))["passphrase"])


class TestAgain:
    @pytest.mark.slow
    def test_a_second_run_changes_nothing(self, tmp_path: Path) -> None:
        backup = spoiled("raw", 1, tmp_path, noise)
        first = only_bad(last_resort(backup, tmp_path / "out"))
        before = snapshot(tmp_path / "out")
        assert only_bad(last_resort(backup, tmp_path / "out")) == first
        assert snapshot(tmp_path / "out") == before

    def test_what_has_the_name_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "out/work").mkdir(parents=True)
        (tmp_path / "out/work" / UNVERIFIED).write_bytes(b"mine")
        backup = spoiled("raw", 1, tmp_path, noise)
        result = only_bad(last_resort(backup, tmp_path / "out"))
        assert result.unverified_as == f"{UNVERIFIED}.2"
        assert (tmp_path / "out/work" / UNVERIFIED).read_bytes() == b"mine"

    @pytest.mark.slow
    def test_a_whole_copy_is_restored_afterwards(self, tmp_path: Path) -> None:
        backup = spoiled("raw", 1, tmp_path, noise)
        assert not last_resort(backup, tmp_path / "out").ok
        assert last_resort(FOLDER / "raw.qbackup", tmp_path / "out").ok
        image = (tmp_path / "out/work/private.img").read_bytes()
        assert image == RECIPES["raw"].image


class TestChosen:
    """The bytes may be chosen: whoever knows what a chunk holds can turn it into anything."""

    def chosen(self, name: str, chunk: int, tmp_path: Path, wanted: bytes) -> Path:
        """A backup whose chunk decrypts to these bytes, and its own behind them."""
        path = FOLDER / f"{name}.qbackup"
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            (file,) = [file for file in archive.files if file.name.endswith("private.img")]
            with file.chunks[chunk].open() as plaintext:
                known = plaintext.read(len(wanted))

        def edit(data: bytearray) -> None:
            for at, (old, new) in enumerate(zip(known, wanted, strict=True)):
                data[96 + at] ^= old ^ new

        return alter.edited(path, tmp_path / "chosen", PERSONAL.format(chunk), edit)

    @pytest.mark.slow
    def test_a_bomb_stays_within_the_files_length(self, tmp_path: Path) -> None:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = deflate.compress(b"\xaa" * (64 << 20))[: 60 * KIB]
        backup = self.chosen("gzip-files", 1, tmp_path, b"\0\0\xff\xff" + bomb)
        result = only_bad(last_resort(backup, tmp_path / "out"))
        assert result.status == "damaged"
        for path in (tmp_path / "out").rglob("*"):
            assert path.is_dir() or path.stat().st_size <= len(RECIPES["gzip-files"].image)

    def test_a_header_of_a_huge_file_is_refused(self, tmp_path: Path) -> None:
        path = FOLDER / "raw.qbackup"
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            (file,) = [file for file in archive.files if file.name.endswith("private.img")]
            with file.chunks[0].open() as plaintext:
                header = bytearray(plaintext.read(512))
        header[124:136] = b"\x80" + (1 << 60).to_bytes(11, "big")
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        backup = self.chosen("raw", 0, tmp_path, bytes(header))
        result = only_bad(last_resort(backup, tmp_path / "out"))
        assert result.unverified_as is None
        assert f"work/{UNVERIFIED}" not in snapshot(tmp_path / "out")

    @rows("seed", range(12))
    @rows("name", ["gzip", "pigz", "bzip2", "xz-blocks", "zstd", "lzma", "raw"])
    def test_noise_makes_no_traceback(self, name: str, seed: int, tmp_path: Path) -> None:
        chance = random.Random(seed)

        def edit(data: bytearray) -> None:
            for _ in range(chance.randrange(1, 20)):
                start, size = chance.randrange(96, len(data)), chance.choice([1, 16, 512, 5000])
                hole = chance.random() < 0.3
                piece = bytes(size) if hole else chance.randbytes(size)
                data[start : start + size] = piece[: len(data) - start]

        chunk = PERSONAL.format(seed % 2)
        backup = alter.edited(FOLDER / f"{name}.qbackup", tmp_path / "b", chunk, edit)
        result = only_bad(last_resort(backup, tmp_path / "out"))
        if result.kept_as is not None and not result.unplaced:
            kept = (tmp_path / "out/work" / result.kept_as).read_bytes()
            check_bytes(kept, RECIPES[name].image, result.ranges)
        assert not any(path.endswith(".part") for path in snapshot(tmp_path / "out"))


class TestCommandLine:
    def test_the_report_says_who_may_have_chosen_them(self, tmp_path: Path) -> None:
        backup = spoiled("raw", 1, tmp_path, zeros)
        words = ("restore", backup, "-o", tmp_path / "out", "-q", "--keep-damaged", "--unverified")
        ended = call(*words, env=SECRET)
        assert ended.status == 1
        *lines, last = ended.out.splitlines()
        assert SENTENCE in last and last.startswith("UNVERIFIED: 1 file holds")
        assert any(UNVERIFIED in line and SENTENCE in line for line in lines)
        assert any("bytes that are not verified: " in line for line in lines)

    @pytest.mark.slow
    def test_json(self, tmp_path: Path) -> None:
        backup = spoiled("raw", 1, tmp_path, zeros)
        words = ("restore", backup, "-o", tmp_path / "out", "-q", "--keep-damaged", "--unverified")
        ended = call(*words, "--json", env=SECRET)
        (file,) = [file for file in ended.document["files"] if file["status"] == "damaged"]
        assert file["unverified_as"] == UNVERIFIED and file["unverified_left_out"] == 0
        assert {part["state"] for part in file["unverified"]} == {"unverified"}

    def test_alone_is_wrong_usage(self, tmp_path: Path) -> None:
        words = ("restore", FOLDER / "raw.qbackup", "-o", tmp_path / "out", "--unverified")
        ended = call(*words, env=SECRET)
        assert ended.status == 2 and "needs --keep-damaged" in ended.err
        assert not (tmp_path / "out").exists()

    @rows("command", ["ls", "cp"])
    def test_nothing_reads_what_was_kept(self, command: str, tmp_path: Path) -> None:
        (tmp_path / UNVERIFIED).write_bytes(bytes(4096))
        words = [command, f"{tmp_path / UNVERIFIED}:/"]
        words += [str(tmp_path / "out")] if command == "cp" else []
        ended = call(*words, env=SECRET)
        assert ended.status == 2 and "nothing proves" in ended.err
