"""The outer archive: its members in order, however it comes and wherever it is cut."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbackup.base.errors import ArchiveDamaged, LimitExceeded, NotABackup
from qbackup.base.limits import Limits
from qbackup.base.names import ChunkName, encode
from qbackup.storage.chunk_table import ChunkTable, RunsByPath
from qbackup.storage.resync import scan_past_damage
from qbackup.storage.scan import StoredMember, next_member, scan
from qbackup.storage.source import PipeSource, SeekableSource, Source, open_source
from qbackup.storage.window import Window
from tests.maker import forged_archive, outer_member
from tests.support import vectorfiles
from tests.support.sources import Recorded, piped
from tests.support.tarbytes import (
    BLOCK,
    RECORD,
    ZEROS,
    archive,
    gnu_long,
    header,
    member,
    padded,
    pax,
)

VECTORS = vectorfiles.names()


def seekable(data: bytes) -> Source:
    return open_source(io.BytesIO(data))


def pipe(data: bytes) -> Source:
    return PipeSource(io.BytesIO(data), owned=False)


def collect(
    source: Source, limits: Limits | None = None
) -> tuple[list[StoredMember], Exception | None, list[str]]:
    """(members, what ended the scan, warnings)."""
    members: list[StoredMember] = []
    warnings: list[str] = []
    try:
        members.extend(scan(source, limits or Limits(), warnings.append, warnings.append))
    except (ArchiveDamaged, LimitExceeded, NotABackup) as error:
        # extend keeps what came before the exception
        return members, error, warnings
    return members, None, warnings


def scanned(data: bytes, limits: Limits | None = None) -> list[StoredMember]:
    """The members of a whole archive: the same from a file and from a pipe, with no warning."""
    members, error, warnings = collect(seekable(data), limits)
    assert (error, warnings) == (None, [])
    assert collect(pipe(data), limits) == (members, None, [])
    return members


def ignored(text: str) -> None:
    """Whatever is told."""


def by_tarfile(data: bytes) -> list[StoredMember]:
    """The second opinion."""
    with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=True) as tar:
        return [StoredMember(info.name, info.offset_data, info.size) for info in tar]


class TestWholeArchives:
    @pytest.mark.parametrize("name", VECTORS)
    def test_members_of_a_real_backup_are_where_tarfile_finds_them(self, name: str) -> None:
        data = vectorfiles.backup_path(name).read_bytes()
        members = scanned(data)
        assert members == by_tarfile(data)
        assert [member.name for member in members] == vectorfiles.load(name)["members"]

    def test_a_real_pipe_gives_the_same(self) -> None:
        path = vectorfiles.backup_path("xz-many-chunks")
        with piped(path) as file:
            members, error, _ = collect(open_source(file))
        assert error is None
        assert members == scanned(path.read_bytes())

    def test_on_a_pipe_each_members_data_can_be_read_before_the_next_one(self) -> None:
        path = vectorfiles.backup_path("xz-many-chunks")
        data = path.read_bytes()
        with piped(path) as file:
            source = open_source(file)
            for stored in scan(source, Limits(), ignored, ignored):
                buffer = bytearray(stored.size)
                assert source.read_into(stored.offset, memoryview(buffer)) == stored.size
                assert buffer == data[stored.offset :][: stored.size]

    @given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 30)), max_size=6))
    def test_any_number_of_zero_blocks_may_stand_between_archives(
        self, shapes: list[tuple[int, int]]
    ) -> None:
        data = member(b"backup-header", b"x")
        wiped = 0
        for number, (size, blocks) in enumerate(shapes):
            data += blocks * ZEROS + member(b"m%d" % number, os.urandom(size))
            wiped += blocks > 0
        expected = [("backup-header", 1)] + [(f"m{n}", size) for n, (size, _) in enumerate(shapes)]
        found, error, told = collect(seekable(data))
        assert [(stored.name, stored.size) for stored in found] == expected
        assert collect(pipe(data)) == (found, None, told)
        assert error is None
        assert len(told) == wiped and all("is lost" in text for text in told)

    @pytest.mark.parametrize("wiped", [1, 2, 3])
    def test_zeros_in_the_place_of_members_are_told(self, wiped: int) -> None:
        parts = [member(b"m%d" % number, b"x") for number in range(5)]
        data = parts[0] + bytes(wiped * RECORD) + b"".join(parts[1 + wiped :])
        for source in (seekable(data), pipe(data)):
            members, error, told = collect(source)
            assert len(members) == 5 - wiped and error is None
            (text,) = told
            assert f"zeros from byte {RECORD} to byte {(1 + wiped) * RECORD}" in text

    def test_zeros_in_the_place_of_the_last_ones_are_told_too(self) -> None:
        """They may as well be what the medium held before, so that is no damage by itself."""
        for more in (1, BLOCK, 3 * RECORD):
            data = member(b"m", b"x") + bytes(more)
            for source in (seekable(data), pipe(data)):
                members, error, told = collect(source)
                assert len(members) == 1
                if more % BLOCK:
                    assert isinstance(error, ArchiveDamaged)
                else:
                    assert error is None and "zeros follow" in told[0]

    def test_less_padding_than_gnu_tar_writes_is_no_gap(self) -> None:
        """As others write archives: two zero blocks and nothing else, or not even these."""
        short = header(b"a", size=3) + padded(b"abc") + 2 * ZEROS
        shorter = header(b"b", size=3) + padded(b"abc")
        data = short + shorter + shorter + short + ZEROS + short + member(b"end")
        names = [stored.name for stored in scanned(data)]
        assert names == ["a", "b", "b", "a", "a", "end"]

    def test_several_members_may_share_one_archive(self) -> None:
        parts = [header(b"m%d" % n, size=700) + padded(os.urandom(700)) for n in range(30)]
        data = archive(*parts) + member(b"last")
        assert [stored.name for stored in scanned(data)] == [f"m{n}" for n in range(30)] + ["last"]

    def test_archives_may_be_shorter_than_a_record(self) -> None:
        """Other writers' end marks are two blocks, or one."""
        for blocks in (1, 2, 3):
            parts = [header(b"m%d" % n, size=n) + padded(bytes(n)) for n in range(7)]
            data = (blocks * ZEROS).join([*parts, member(b"m7")])
            assert [stored.name for stored in scanned(data)] == [f"m{n}" for n in range(8)]

    def test_names_are_what_the_headers_say_of_any_length_and_bytes(self) -> None:
        long = b"vm1/" + b"n" * 200
        data = archive(pax({b"path": long}), header(size=3), padded(b"abc"))
        data += archive(gnu_long(long + b"2"), header())
        data += member(b"caf\xe9")
        names = [stored.name for stored in scanned(data)]
        assert names == [long.decode(), long.decode() + "2", "caf\udce9"]

    def test_numbers_past_999_are_ordinary(self) -> None:
        data = b"".join(member(b"vm1/a.%d.enc" % n) for n in (998, 999, 1000, 1001))
        assert [stored.name[-8:-4] for stored in scanned(data)] == [".998", ".999", "1000", "1001"]

    def test_a_size_in_a_pax_header_goes_before_the_blocks(self) -> None:
        data = archive(pax({b"size": b"700"}), header(size=0), padded(bytes(700))) + member(b"b")
        assert [stored.size for stored in scanned(data)] == [700, 0]

    def test_sparse_records_mean_nothing_in_the_outer_archive(self) -> None:
        records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
        records |= {b"GNU.sparse.name": b"other", b"GNU.sparse.realsize": b"99999"}
        data = archive(pax(records), header(b"a", size=3), padded(b"1\n0"))
        assert [(stored.name, stored.size) for stored in scanned(data)] == [("a", 3)]

    def test_names_that_begin_with_a_dot_and_a_slash_mean_the_same(self) -> None:
        parts = [header(name) for name in (b"./a", b"././b", b".//c", b"./vm9/..000", b"./")]
        data = archive(*parts)
        assert [stored.name for stored in scanned(data)] == ["a", "b", "c", "vm9/..000", "./"]

    def test_folders_stand_between_the_members_of_a_packed_folder(self) -> None:
        data = archive(header(b"./", kind=b"5"), header(b"./vm1/", kind=b"5"), header(b"./vm1/a"))
        assert [stored.name for stored in scanned(data)] == ["vm1/a"]


class TestZerosBehind:
    """A device that is larger than the backup."""

    LIMITS = Limits(zeros=4 << 20)

    def test_are_read_in_large_pieces(self, tmp_path: Path) -> None:
        path = tmp_path / "backup"
        path.write_bytes(member(b"one") + member(b"two"))
        os.truncate(path, 3 << 20)
        file = Recorded(path)
        members, error, (warning,) = collect(open_source(file))  # type: ignore[arg-type]
        assert len(members) == 2 and error is None and "zeros follow" in warning
        assert len(file.reads) < 12

    @pytest.mark.parametrize("size", [5 << 20, 100 << 30])
    def test_more_than_are_read_are_looked_at_here_and_there(
        self, tmp_path: Path, size: int
    ) -> None:
        path = tmp_path / "backup"
        path.write_bytes(member(b"one") + member(b"two"))
        os.truncate(path, size)
        members, error, (warning,) = collect(open_source(path), self.LIMITS)
        assert len(members) == 2 and error is None and "zeros follow" in warning

    @pytest.mark.parametrize("size", [RECORD * 3, 5 << 20])
    def test_on_a_disk_they_are_what_is_to_be_expected(self, size: int) -> None:
        data = member(b"one") + bytes(size)
        source = SeekableSource(io.BytesIO(data), owned=False, is_device=True)
        members, error, warnings = collect(source, self.LIMITS)
        assert (len(members), error, warnings) == (1, None, [])
        source = SeekableSource(io.BytesIO(data + b"x"), owned=False, is_device=True)
        assert collect(source, self.LIMITS)[1] is not None

    @pytest.mark.parametrize("place", [5 << 20, (100 << 20) - 1, 50 << 20])
    def test_something_behind_them_is_told(self, tmp_path: Path, place: int) -> None:
        path = tmp_path / "backup"
        path.write_bytes(member(b"one"))
        os.truncate(path, 100 << 20)
        with path.open("r+b") as file:
            file.seek(place)
            file.write(os.urandom(max(1, min(1 << 20, (100 << 20) - place))))
        _, error, _ = collect(open_source(path), self.LIMITS)
        assert isinstance(error, ArchiveDamaged) and "something else at byte" in error.reason

    def test_a_pipe_of_them_ends(self) -> None:
        data = member(b"one") + member(b"two") + bytes(6 << 20)
        members, error, (warning,) = collect(pipe(data), self.LIMITS)
        assert len(members) == 2 and error is None and "bytes were read" in warning

    def test_members_behind_many_of_them_are_found_and_the_gap_is_told(self) -> None:
        data = member(b"one") + bytes(3 << 20) + member(b"two")
        for source in (seekable(data), pipe(data)):
            members, error, (told,) = collect(source, self.LIMITS)
            assert [stored.name for stored in members] == ["one", "two"]
            assert error is None and "is lost" in told


class TestOtherThings:
    @pytest.mark.parametrize(
        "kind",
        [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"Z"],
        ids=repr,
    )
    def test_that_are_no_regular_files_are_passed_with_a_warning(self, kind: bytes) -> None:
        data = member(b"backup-header", b"x")
        data += forged_archive("vm1/private.img.000.enc", typeflag=kind, link="/etc/passwd")
        data += member(b"vm1/private.img.001.enc", b"y")
        for source in (seekable(data), pipe(data)):
            members, error, warnings = collect(source)
            assert [stored.name for stored in members] == [
                "backup-header",
                "vm1/private.img.001.enc",
            ]
            assert error is None
            slash = "/" if kind == tarfile.DIRTYPE else ""
            assert warnings == [f"vm1/private.img.000.enc{slash}: not a regular file, ignored"]

    def test_a_warning_shows_no_control_characters(self) -> None:
        data = member(b"a") + forged_archive("b\x1b[2J\u202e", typeflag=tarfile.FIFOTYPE)
        _, _, warnings = collect(seekable(data))
        assert warnings == ["b\\x1b[2J\\u202e: not a regular file, ignored"]


class TestNoBackup:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "the file is empty"),
            (b"x", "a Qubes backup: it does not begin with a tar header"),
            (bytes(10 * BLOCK), "nothing but zeros"),
            (b"PK\x03\x04" + bytes(5000), "zip archive"),
            (b"#!/bin/sh\n" * 1000, "tar header"),
        ],
    )
    @pytest.mark.parametrize("make", [seekable, pipe])
    def test_is_told_at_the_first_block(
        self, data: bytes, reason: str, make: type[PipeSource]
    ) -> None:
        members, error, _ = collect(make(data))  # type: ignore[arg-type, call-arg]
        assert members == []
        assert isinstance(error, NotABackup)
        assert reason in error.reason

    def test_a_broken_first_header_is_damage(self) -> None:
        data = bytearray(member(b"backup-header"))
        data[0] ^= 1
        members, error, _ = collect(seekable(bytes(data)))
        assert members == []
        assert isinstance(error, ArchiveDamaged)


@pytest.fixture(scope="module")
def data() -> bytes:
    """A real backup of many chunks."""
    return vectorfiles.backup_path("xz-many-chunks").read_bytes()


@pytest.fixture(scope="module")
def whole(data: bytes) -> list[StoredMember]:
    """Its members."""
    return by_tarfile(data)


@pytest.fixture(scope="module")
def ends(whole: list[StoredMember]) -> set[int]:
    """Where one of its archives ends: there a cut leaves no trace."""
    return {end + -end % RECORD for end in (m.offset + m.size + 2 * BLOCK for m in whole)}


class TestCutArchives:
    """Wherever a backup is cut: members from its beginning, then the news that it was cut."""

    def check(self, data: bytes, size: int, whole: list[StoredMember], ends: set[int]) -> None:
        for source in (seekable(data[:size]), pipe(data[:size])):
            members, error, warnings = collect(source)
            assert members == whole[: len(members)]
            assert warnings == []
            if size in ends:
                assert error is None
                assert all(stored.offset + stored.size <= size for stored in members)
            elif size < BLOCK:
                assert isinstance(error, NotABackup)
            else:
                assert isinstance(error, ArchiveDamaged)
                assert error.reason.startswith("the archive is cut off")

    def test_at_every_block(self, data: bytes, whole: list[StoredMember], ends: set[int]) -> None:
        for size in range(0, len(data) + 1, BLOCK):
            self.check(data, size, whole, ends)

    def test_at_odd_places(self, data: bytes, whole: list[StoredMember], ends: set[int]) -> None:
        for size in range(1, len(data), 997):
            self.check(data, size, whole, ends)

    def test_inside_the_padding_of_a_last_record_of_any_length(self) -> None:
        """Qubes' own archives hold one member each: one that is shorter than a record was cut."""
        for size in range(0, 22 * BLOCK, 700):
            last = member(b"last", os.urandom(size))
            end = BLOCK + len(padded(bytes(size)))
            for cut in range(end, len(last), BLOCK):
                data = member(b"first") + last[:cut]
                for source in (seekable(data), pipe(data)):
                    _, error, _ = collect(source)
                    assert isinstance(error, ArchiveDamaged)

    def test_an_archive_of_several_members_may_end_behind_the_last_one(self) -> None:
        """Somebody packed it again: many programs pad no records, and some write no end mark."""
        for count in range(2, 26):
            parts = [header(b"m%d" % n, size=600) + padded(bytes(600)) for n in range(count)]
            whole = archive(*parts)
            end = len(b"".join(parts))
            for size in range(end, len(whole) + 1, BLOCK):
                for source in (seekable(whole[:size]), pipe(whole[:size])):
                    members, error, warnings = collect(source)
                    assert len(members) == count and error is None
                    assert [("without an end mark" in text) for text in warnings] == [True] * (
                        size < end + 2 * BLOCK
                    )

    def test_inside_the_last_member_of_several_it_was_cut(self) -> None:
        parts = [header(b"m%d" % n, size=600) + padded(bytes(600)) for n in range(5)]
        end = len(b"".join(parts))
        for size in range(end - 3 * BLOCK + 1, end, 53):
            for make in (seekable, pipe):
                _, error, _ = collect(make(b"".join(parts)[:size]))
                assert isinstance(error, ArchiveDamaged) and "cut off" in error.reason

    def test_members_that_are_there_whole_are_all_given(
        self, data: bytes, whole: list[StoredMember]
    ) -> None:
        for size in range(BLOCK, len(data), 5 * BLOCK):
            members, _, _ = collect(seekable(data[:size]))
            there = [m for m in whole if m.offset + m.size <= size]
            assert members[: len(there)] == there


class TestDamagedArchives:
    def test_nothing_is_guessed_after_a_broken_header(self) -> None:
        """A member forged inside a chunk's data must never be found by looking for headers."""
        inner = member(b"vm1/private.img.000.enc", b"forged")
        broken = bytearray(member(b"vm2/private.img.000.enc", inner))
        broken[0] ^= 1
        data = member(b"backup-header") + bytes(broken) + member(b"vm3/private.img.000.enc")
        for source in (seekable(data), pipe(data)):
            members, error, _ = collect(source)
            assert [stored.name for stored in members] == ["backup-header"]
            assert isinstance(error, ArchiveDamaged)
            assert f"at byte {RECORD}" in error.reason

    @pytest.mark.parametrize(
        ("rest", "is_of_a_device"),
        [
            (b"\x7fELF" + bytes(range(256)) * 40, True),
            (b"x" * BLOCK, True),
            (b"x" * (BLOCK - 1), False),
            (member(b"another").replace(b"another", b"changed"), False),
        ],
        ids=["foreign", "a block", "less", "a member"],
    )
    def test_foreign_bytes_behind_the_first_member_may_be_a_devices(
        self, rest: bytes, is_of_a_device: bool
    ) -> None:
        _, error, _ = collect(seekable(member(b"backup-header") + rest))
        assert isinstance(error, ArchiveDamaged)
        assert f"at byte {RECORD}" in error.reason
        assert ("the device may have held this" in error.reason) is is_of_a_device

    @given(st.data())
    @settings(max_examples=200)
    def test_any_changed_bytes_end_in_a_result_or_an_error_of_ours(
        self, data: st.DataObject
    ) -> None:
        original = vectorfiles.backup_path("gzip-published-header").read_bytes()
        changed = bytearray(original)
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(original) // RECORD - 1)) * RECORD
            position = start + data.draw(st.integers(0, 3 * BLOCK - 1))
            changed[position] = data.draw(st.integers(0, 255))
        for source in (seekable(bytes(changed)), pipe(bytes(changed))):
            members, error, _ = collect(source)
            assert error is not None or members

    @pytest.mark.parametrize(
        "front",
        [
            header(kind=b"x", size=2 << 30),
            header(kind=b"L", size=2 << 30),
            header(kind=b"K", size=5000),
            pax({b"path": b"n" * 5000}),
        ],
        ids=["pax", "long name", "long link", "path"],
    )
    def test_a_header_that_claims_too_much_ends_the_scan_before_it_is_read(
        self, front: bytes
    ) -> None:
        data = member(b"backup-header") + archive(front, header())
        for source in (seekable(data), pipe(data)):
            members, error, _ = collect(source)
            assert len(members) == 1
            assert isinstance(error, LimitExceeded)
            assert "at byte" in error.reason

    @pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**63, 2**64, 2**87])
    @pytest.mark.parametrize("form", ["base-256", "pax"])
    def test_a_member_that_claims_an_impossible_size_is_damage(self, size: int, form: str) -> None:
        if form == "pax":
            front = pax({b"size": b"%d" % size}) + header(b"vm1/a.000.enc")
        else:
            front = header(b"vm1/a.000.enc", size=size)
        data = member(b"backup-header") + archive(front)
        for source in (seekable(data), pipe(data)):
            members, error, _ = collect(source)
            assert isinstance(error, ArchiveDamaged)
            assert len(members) <= 2

    def test_on_a_real_disk_too(self, tmp_path: Path) -> None:
        """File systems have ends of their own, and say so in another way."""
        path = tmp_path / "backup"
        for size in (2**43, 2**62, 2**63 - 1):
            path.write_bytes(member(b"backup-header") + header(b"vm1/a.000.enc", size=size))
            for file in (path.open("rb"), path.open("rb", buffering=0)):
                with file:
                    members, error, _ = collect(open_source(file))
                    assert [stored.size for stored in members] == [0, size]
                    assert isinstance(error, ArchiveDamaged)

    def test_more_members_than_allowed_end_the_scan(self) -> None:
        data = b"".join(member(b"m%d" % n) for n in range(5))
        members, error, _ = collect(seekable(data), Limits(members=4))
        assert len(members) == 4
        assert isinstance(error, LimitExceeded)
        assert error.limit == "members"
        assert "more than 4 members" in error.reason
        assert len(scanned(data, Limits(members=5))) == 5

    def test_zeros_without_an_end_are_given_up_on(self) -> None:
        data = header(b"backup-header") + bytes(200 * BLOCK)
        for limit in (200 * BLOCK, 100 * BLOCK, 40 * BLOCK, 20 * BLOCK, 19 * BLOCK):
            for source in (seekable(data), pipe(data)):
                members, error, (warning,) = collect(source, Limits(zeros=limit))
                assert (len(members), error) == (1, None)
                assert f"zeros follow, of which {limit} bytes were read" in warning


class TestMembersThatAreLookedFor:
    """As a salvage does where the archive is broken."""

    def test_one_read_fetches_all_headers_of_one(self, tmp_path: Path) -> None:
        name = b"vm1/" + b"n" * 200
        headers = pax({b"path": name}) + header(size=3)
        (tmp_path / "backup").write_bytes(member(b"before") + archive(headers, padded(b"abc")))
        file = Recorded(tmp_path / "backup")
        window = Window(open_source(file))  # type: ignore[arg-type]
        window.position = RECORD
        found = next_member(window, Limits())
        assert found is not None and found.name == name
        assert window.position == RECORD + len(headers)
        assert file.reads == [(RECORD, len(headers))]

    def test_a_header_with_another_checksum_is_a_guess_at_most(self) -> None:
        block = bytearray(header(b"vm1/private.img.000.enc", size=700))
        block[0] ^= 1
        data = bytes(block) + padded(bytes(700))
        with pytest.raises(ArchiveDamaged, match="checksum, at byte 0"):
            next_member(Window(seekable(data)), Limits())
        guess = next_member(Window(seekable(data)), Limits(), checked=False)
        assert guess is not None
        assert (guess.name, guess.size) == (b"wm1/private.img.000.enc", 700)

    def test_zeros_are_no_member_and_it_is_said_where_they_stand(self) -> None:
        window = Window(seekable(member(b"one") + member(b"two")))
        window.position = 3 * BLOCK
        with pytest.raises(ArchiveDamaged, match="zeros where a member should begin, at byte 1536"):
            next_member(window, Limits())

    def test_zeros_of_an_archive_whose_begin_is_not_known_are_no_gap(self) -> None:
        """Where its records end is known again from the next archive on."""
        front = bytearray(header(b"vm1/a.000.enc", size=9000) + padded(bytes(9000)))
        front[0] ^= 1
        data = archive(bytes(front), header(b"vm1/a.001.enc", size=3000), padded(bytes(3000)))
        assert len(data) == 2 * RECORD
        data += member(b"vm1/a.002.enc") + bytes(RECORD) + member(b"vm1/a.004.enc")
        broken: list[str] = []
        lost: list[str] = []
        found = scan_past_damage(
            cast(SeekableSource, seekable(data)),
            Limits(),
            lost.append,
            lost.append,
            lambda error, place: broken.append(error.reason),
            is_part=lambda name: name.startswith("vm1/"),
        )
        names = [stored.name for stored in found]
        assert names == [f"vm1/a.{number:03d}.enc" for number in (1, 2, 4)]
        assert len(broken) == 1 and broken[0].endswith("at byte 0")
        (text,) = lost
        assert f"zeros from byte {3 * RECORD} to byte {4 * RECORD}" in text


class TestReading:
    @pytest.fixture
    def backup(self, tools: None, tmp_path: Path) -> Path:
        """Three real archives, each with a MiB of data."""
        path = tmp_path / "backup"
        (tmp_path / "vm1").mkdir()
        with path.open("wb") as out:
            for number in range(3):
                name = f"vm1/private.img.{number:03d}.enc"
                (tmp_path / name).write_bytes(os.urandom(1 << 20))
                out.write(outer_member(tmp_path, name))
        return path

    def test_members_data_are_never_read(self, backup: Path) -> None:
        file = Recorded(backup)
        members, error, _ = collect(open_source(file))  # type: ignore[arg-type]
        assert error is None
        assert members == by_tarfile(backup.read_bytes())
        for stored in members:
            assert not any(file.times_read(stored.offset, stored.offset + stored.size))
        assert file.bytes_read < 40_000

    def test_one_read_serves_the_end_of_an_archive_and_the_next_header(self) -> None:
        file = Recorded(vectorfiles.backup_path("xz-many-chunks"))
        members, error, _ = collect(open_source(file))  # type: ignore[arg-type]
        assert error is None
        assert len(file.reads) <= 1 + len(members) + 1, "the first header, and the very end"

    def test_nothing_is_read_before_it_is_asked_for(self, backup: Path) -> None:
        file = Recorded(backup)
        members: Iterator[StoredMember] = scan(
            open_source(file),  # type: ignore[arg-type]
            Limits(),
            ignored,
            ignored,
        )
        assert file.bytes_read == 0
        next(members)
        assert file.bytes_read <= 3 * BLOCK

    def test_on_a_pipe_not_a_byte_past_the_headers_is_taken(self) -> None:
        data = member(b"one", b"content") + member(b"two")
        file = io.BytesIO(data)
        members = scan(PipeSource(file, owned=False), Limits(), ignored, ignored)
        assert next(members).name == "one"
        assert file.tell() == BLOCK


class TestChunkTable:
    @given(
        st.lists(
            st.tuples(st.sampled_from(["a", "b/ü", "c\udcff"]), st.integers(0, 5)), max_size=40
        )
    )
    def test_keeps_what_was_added_in_its_order(self, names: list[tuple[str, int]]) -> None:
        table = ChunkTable()
        for place, (path, index) in enumerate(names):
            table.add(ChunkName(path, index), StoredMember("", 1000 * place, place))
        assert len(table) == len(names)
        found = [
            (table.path(run), *table.location(run, position))
            for run in range(table.run_count())
            for position in range(table.run_length(run))
        ]
        expected = [(path, n, 1000 * place, place) for place, (path, n) in enumerate(names)]
        assert found == expected

        runs = RunsByPath(table)
        paths = list(dict.fromkeys(path for path, _ in names))
        assert [table.path(run) for run in runs.first_runs] == paths
        every = range(table.run_count())
        for path in [*paths, "not there"]:
            assert runs[encode(path)] == [run for run in every if table.path(run) == path]

    def test_chunks_that_follow_one_another_are_one_run(self) -> None:
        table = ChunkTable()
        for index in range(2000):
            table.add(ChunkName("vm1/private.img", index), StoredMember("", 2**62 + index, 2**40))
        assert table.run_count() == 1
        assert table.location(0, 1500) == (1500, 2**62 + 1500, 2**40)

    def test_a_file_is_found_among_many_without_looking_at_their_names(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = ChunkTable()
        for number in range(1000):
            table.add(ChunkName(f"file {number}", 0), StoredMember("", 0, 0))
        runs = RunsByPath(table)
        looked_at: list[int] = []
        path = ChunkTable.encoded_path

        def recorded(self: ChunkTable, run: int) -> bytes:
            looked_at.append(run)
            return path(self, run)

        monkeypatch.setattr(ChunkTable, "encoded_path", recorded)
        for number in (0, 1, 500, 999):
            assert runs[b"file %d" % number] == [number]
        assert looked_at == [0, 1, 500, 999]

    def test_names_whose_hashes_are_the_same_are_told_apart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("qbackup.storage.chunk_table.hash", lambda path: 7, raising=False)
        table = ChunkTable()
        for path in ("a", "b", "a", "c"):
            table.add(ChunkName(path, 0), StoredMember("", 0, 0))
        runs = RunsByPath(table)
        assert list(runs.first_runs) == [0, 1, 3]
        assert [runs[b"a"], runs[b"b"], runs[b"c"], runs[b"d"]] == [[0, 2], [1], [3], []]

    @pytest.mark.parametrize("step", [1, 2**59, 2**60 - 1, 2**60])
    def test_files_are_found_whatever_their_hashes_are(
        self, monkeypatch: pytest.MonkeyPatch, step: int
    ) -> None:
        values = [-(2**63), *(place * step for place in (3, -1, 7, 0, -8, 5, 4, -7, 1)), 2**63 - 1]
        hashes = {b"file %d" % place: value for place, value in enumerate(dict.fromkeys(values))}
        monkeypatch.setattr("qbackup.storage.chunk_table.hash", hashes.__getitem__, raising=False)
        table = ChunkTable()
        for path in hashes:
            table.add(ChunkName(path.decode(), 0), StoredMember("", 0, 0))
        runs = RunsByPath(table)
        assert [runs[path] for path in hashes] == [[run] for run in range(len(hashes))]
        assert list(runs.first_runs) == list(range(len(hashes)))
