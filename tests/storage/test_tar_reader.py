"""Tar headers: what GNU tar, Qubes' writer and Python write is read, all else is refused."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits
from qbackup.storage.tar.fields import HARD_LINK, SYMBOLIC_LINK, parse_number, parse_pax, parse_time
from qbackup.storage.tar.reader import TarMember
from tests.maker import make_sparse, run, sparse_map, write_sparse_tar
from tests.maker.tarwriter import sparse_header
from tests.support.tarbytes import (
    BLOCK,
    GNU,
    ZEROS,
    archive,
    filled,
    gnu_long,
    header,
    octal,
    old_gnu_sparse,
    padded,
    pax,
    pax_record,
    pax_records,
    pax_sparse,
    read_all,
    read_headers,
    sealed,
)

GIB = 1 << 30
TEXT = st.binary(min_size=1, max_size=60).filter(lambda b: b"\0" not in b)


def read(data: bytes, limits: Limits | None = None) -> TarMember:
    """The one member whose headers are these bytes, all of them."""
    member, taken = read_headers(data, limits)
    assert member is not None
    assert taken == len(data)
    return member


def extents_of(member: TarMember) -> list[tuple[int, int]]:
    assert member.sparse is not None
    return list(member.sparse)


class TestNumbers:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (b"0000644\0", 0o644),
            (b"000644 \0", 0o644),
            (b"   644 \0", 0o644),
            (b"644\0junk", 0o644),
            (b"77777777", 0o77777777),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"        ", 0),
            (b"\x80" + bytes(6) + b"\x05", 5),
            (b"\x80\x00\x00\x00\x02\x80\x00\x00\x00\x00\x00\x00", 640 << 48),
        ],
    )
    def test_octal_and_base_256(self, field: bytes, value: int) -> None:
        assert parse_number(field) == value

    @pytest.mark.parametrize(
        "field",
        [
            b"0000648\0",
            b"12 34567",
            b"0x1f\0\0\0\0",
            b"+000644\0",
            b"-000644\0",
            b"1_0\0\0\0\0\0",
            b"\t644\0\0\0\0",
            b"6\n\0\0\0\0\0\0",
            "٣\0\0\0\0\0\0".encode(),
            b"\xff" * 8,
            b"\xc0" + bytes(7),
            b"\x81" + bytes(7),
        ],
    )
    def test_everything_else_is_damage(self, field: bytes) -> None:
        with pytest.raises(Damaged):
            parse_number(field)

    def test_only_times_may_be_negative(self) -> None:
        field = (-86_400).to_bytes(12, "big", signed=True)
        assert parse_number(field, signed=True) == -86_400
        with pytest.raises(Damaged):
            parse_number(field)

    @given(st.integers(0, 2**63 - 1))
    def test_what_gnu_tar_writes_is_read(self, value: int) -> None:
        assert parse_number(octal(value, 12)) == value

    @given(st.binary(min_size=12, max_size=12))
    def test_agree_with_pythons_tarfile_where_both_take_a_field(self, field: bytes) -> None:
        try:
            value = parse_number(field, signed=True)
        except Damaged:
            return
        assert value == tarfile.nti(field)  # type: ignore[attr-defined]


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "nanoseconds"),
        [
            (b"0", 0),
            (b"1726567872", 1_726_567_872_000_000_000),
            (b"1726567872.5", 1_726_567_872_500_000_000),
            (b"1726567872.123456789", 1_726_567_872_123_456_789),
            (b"1726567872.1234567899", 1_726_567_872_123_456_789),
            (b"-86400.25", -86_400_250_000_000),
        ],
    )
    def test_have_nanoseconds_and_may_be_before_1970(self, text: bytes, nanoseconds: int) -> None:
        assert parse_time(text) == nanoseconds

    @pytest.mark.parametrize("text", [b"", b"x", b"1.x", b".5", b"1e9", b"1" * 21, b"--1", b"1-"])
    def test_nothing_else_is_a_time(self, text: bytes) -> None:
        with pytest.raises(Damaged):
            parse_time(text)


class TestHeaderBlock:
    def test_says_name_size_mode_and_time(self) -> None:
        member = read(header(b"vm1/private.img", size=1000, mode=0o104755, mtime=1234))
        assert member.name == b"vm1/private.img"
        assert (member.size, member.stored_size, member.padding) == (1000, 1000, 24)
        assert (member.mode, member.mtime_ns, member.link) == (0o4755, 1234 * 10**9, b"")

    def test_ustar_splits_long_names_and_old_gnu_does_not(self) -> None:
        assert read(header(b"b", prefix=b"a")).name == b"a/b"
        assert read(header(b"b", prefix=b"a", magic=GNU)).name == b"b"

    def test_a_name_may_fill_its_field(self) -> None:
        assert read(header(b"n" * 100)).name == b"n" * 100

    def test_sizes_past_8_gib_are_base_256(self) -> None:
        assert read(header(size=20 * GIB)).size == 20 * GIB

    def test_an_old_signed_checksum_is_right_too(self) -> None:
        name = "übel".encode()
        assert read(header(name, signed=True)).name == name
        assert read(header(name)).name == name

    @pytest.mark.parametrize("position", [0, 99, 124, 156, 200, 345, 511])
    def test_any_changed_byte_fails_the_checksum(self, position: int) -> None:
        block = bytearray(header(b"name", size=5))
        block[position] ^= 1
        with pytest.raises(Damaged, match="checksum"):
            read(bytes(block))

    def test_a_checksum_that_is_off_by_adlers_modulus_fails(self) -> None:
        """The fast way of adding works modulo 65521: it must not be trusted past that."""
        block = header(b"\xff" * 100, fields={157: b"\xff" * 100, 345: b"\xff" * 155})
        assert read(block).link == b"\xff" * 100
        total = int(block[148:154], 8)
        assert total > 65_521
        forged = block[:148] + b"%06o\0 " % (total - 65_521) + block[156:]
        with pytest.raises(Damaged, match="checksum"):
            read(forged)

    def test_what_is_no_header_is_refused(self) -> None:
        with pytest.raises(Damaged, match="something else"):
            read(os.urandom(256) + b"\0ustir" + bytes(250))

    def test_zeros_are_no_member(self) -> None:
        assert read_headers(ZEROS) == (None, BLOCK)

    def test_a_negative_or_impossible_size_is_refused(self) -> None:
        for size in ((-5).to_bytes(12, "big", signed=True), b"\x80\0\0\0" + b"\xff" * 8):
            with pytest.raises(Damaged):
                read(header(fields={124: size}))

    def test_a_hard_link_has_no_data_whatever_its_size_says(self) -> None:
        member = read(header(size=100, kind=HARD_LINK, link=b"other"))
        assert (member.stored_size, member.link) == (0, b"other")


class TestPaxHeaders:
    def test_replace_what_the_block_says(self) -> None:
        records = {
            b"path": "vm1/größe".encode(),
            b"size": b"%d" % (9 * GIB),
            b"mtime": b"12.5",
            b"linkpath": b"t" * 200,
            b"atime": b"whatever",
        }
        member = read(pax(records) + header(kind=SYMBOLIC_LINK))
        assert member.name == "vm1/größe".encode()
        assert (member.size, member.mtime_ns) == (9 * GIB, 12_500_000_000)
        assert member.link == b"t" * 200

    @pytest.mark.parametrize("sparse", [True, False])
    def test_are_few_for_each_member(self, sparse: bool) -> None:
        """A decompressor can make any number of them out of nothing."""
        for more in (pax({b"path": b"long"}), gnu_long(b"long"), gnu_long(b"to", b"K")):
            member, _ = read_headers(more * 8 + header(), sparse=sparse)
            assert member is not None
            with pytest.raises(Damaged, match="too many extended"):
                read_headers(more * 9 + header(), sparse=sparse)

    def test_the_last_of_two_records_counts(self) -> None:
        data = pax_record(b"path", b"one") + pax_record(b"path", b"two")
        assert read(pax(data) + header()).name == b"two"

    def test_a_value_may_hold_newlines_and_equals_signs(self) -> None:
        assert parse_pax(pax_record(b"path", b"a=b\nc=d")) == {b"path": b"a=b\nc=d"}

    def test_in_the_outer_archive_only_path_and_size_count(self) -> None:
        records = {b"path": b"a", b"size": b"7", b"mtime": b"no time", b"GNU.sparse.major": b"9"}
        member, _ = read_headers(pax(records) + header(), sparse=False)
        assert member is not None
        assert (member.name, member.size, member.mtime_ns) == (b"a", 7, 0)

    @given(st.dictionaries(st.sampled_from([b"path", b"linkpath", b"comment"]), TEXT))
    def test_any_value_is_read_back(self, records: dict[bytes, bytes]) -> None:
        wanted = {key: value for key, value in records.items() if key != b"comment"}
        assert parse_pax(pax_records(records)) == wanted

    @given(st.dictionaries(st.sampled_from([b"path", b"size"]), TEXT, min_size=1), st.data())
    def test_changed_bytes_are_read_or_damage_and_nothing_else(
        self, records: dict[bytes, bytes], data: st.DataObject
    ) -> None:
        changed = bytearray(pax_records(records))
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        try:
            parsed = parse_pax(bytes(changed))
        except Damaged:
            return
        assert all(value in bytes(changed) for value in parsed.values())

    @given(st.binary(max_size=200))
    @example(b" ")
    @example(b"=")
    @example(b"0 =\n")
    @example(b"4 =\n4 =\n")
    def test_any_bytes_are_read_or_damage(self, data: bytes) -> None:
        try:
            parse_pax(data)
        except Damaged as error:
            assert error.reason == "a pax header is malformed"

    @pytest.mark.parametrize(
        "data",
        [
            b"path=a\n",
            b"8 path=a\n",
            b"11 path=a\n",
            b"9 path=a ",
            b"99 path=a\n",
            b"-9 path=a\n",
            b"09999999 path=a\n",
            b"6 path\n",
            b"0 path=a\n",
            b"9 path=a\n\0",
            b"\0" * 20,
        ],
    )
    def test_malformed_records_are_damage(self, data: bytes) -> None:
        with pytest.raises(Damaged):
            parse_pax(data)

    @pytest.mark.parametrize(
        "records",
        [
            {b"size": b"-1"},
            {b"size": b"1.5"},
            {b"size": b"1" * 21},
            {b"size": b"%d" % 2**63},
            {b"size": b""},
            {b"mtime": b"later"},
            {b"path": b"a\0b"},
            {b"linkpath": b"a\0b"},
        ],
    )
    def test_impossible_values_are_damage(self, records: dict[bytes, bytes]) -> None:
        with pytest.raises(Damaged):
            read(pax(records) + header(kind=SYMBOLIC_LINK))

    def test_one_that_claims_two_gib_is_refused_before_it_is_read(self) -> None:
        with pytest.raises(LimitExceeded) as caught:
            read_headers(header(kind=b"x", size=2 * GIB))
        assert caught.value.limit == "pax_header"

    def test_with_no_member_behind_it_is_damage(self) -> None:
        for front in (pax({b"path": b"a"}), gnu_long(b"a")):
            with pytest.raises(Damaged, match="no member"):
                read_headers(front + ZEROS)

    def test_global_headers_are_refused(self) -> None:
        with pytest.raises(Damaged, match="global"):
            read_headers(pax({b"path": b"a"}, kind=b"g") + header())


class TestLongNames:
    def test_of_gnu_tar(self) -> None:
        name, link = b"n" * 1000, b"l" * 1000
        data = gnu_long(link, b"K") + gnu_long(name) + header(kind=SYMBOLIC_LINK, magic=GNU)
        member = read(data)
        assert (member.name, member.link) == (name, link)

    def test_that_go_on_behind_their_end_are_refused(self) -> None:
        """GNU tar and tarfile read up to a NUL, others up to the size."""
        front = header(b"././@LongLink", size=4, kind=b"L", magic=GNU)
        assert read(front + padded(b"name") + header()).name == b"name"
        assert read(front + padded(b"nam\0behind") + header()).name == b"nam"
        with pytest.raises(Damaged, match="goes on"):
            read(front + padded(b"names") + header())

    def test_pax_goes_before_them(self) -> None:
        data = pax({b"path": b"pax"}) + gnu_long(b"gnu") + header()
        assert read(data).name == b"pax"

    @pytest.mark.parametrize(
        "data",
        [
            header(kind=b"L", size=4098),
            header(kind=b"K", size=2 * GIB),
            pax({b"path": b"n" * 4097}) + header(),
            pax({b"linkpath": b"n" * 4097}) + header(),
            pax_sparse([(0, 0)], 0, b"n" * 4097),
        ],
        ids=["L", "K", "path", "linkpath", "sparse"],
    )
    def test_longer_than_the_limit_are_refused(self, data: bytes) -> None:
        with pytest.raises(LimitExceeded) as caught:
            read_headers(data)
        assert caught.value.limit == "name"

    def test_as_long_as_the_limit_are_not(self) -> None:
        name = b"n" * 4096
        assert read(gnu_long(name) + header()).name == name
        assert read(pax({b"path": name}) + header()).name == name


class TestRealArchives:
    """Python's tarfile is the second opinion on the same bytes."""

    @pytest.mark.parametrize("format", ["gnu", "posix", "ustar"])
    def test_gnu_tar_and_tarfile_say_the_same(
        self, tools: None, tmp_path: Path, format: str
    ) -> None:
        tree = tmp_path / "tree"
        (tree / ("deep" * 10)).mkdir(parents=True)
        (tree / "file").write_bytes(b"x" * 700)
        (tree / "empty").write_bytes(b"")
        (tree / ("d" * 20) / "x").parent.mkdir()
        (tree / ("d" * 20) / ("n" * 90)).write_bytes(b"long enough for ustar's prefix")
        (tree / os.fsdecode(b"caf\xe9")).write_bytes(b"latin")
        (tree / "link").symlink_to("file")
        os.link(tree / "file", tree / "hard")
        if format != "ustar":
            (tree / ("n" * 200)).write_bytes(b"long")
            (tree / "long-link").symlink_to("l" * 300)
            os.utime(tree / "file", ns=(-1_500_000_000, -1_500_000_000))
        data = run(["tar", "-c", f"--format={format}", "-C", str(tmp_path), "tree"])
        self.check_same(data)

    @pytest.mark.slow
    @given(
        st.lists(
            st.tuples(
                st.binary(min_size=1, max_size=300).filter(lambda b: b"\0" not in b),
                st.binary(max_size=600),
                st.integers(-(2**33), 2**35),
                st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE]),
            ),
            max_size=4,
        ),
        st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    )
    def test_what_tarfile_writes_is_read(
        self, members: list[tuple[bytes, bytes, int, bytes]], format: int
    ) -> None:
        out = io.BytesIO()
        with tarfile.open(
            fileobj=out, mode="w", format=format, encoding="utf-8", errors="surrogateescape"
        ) as tar:
            for name, content, mtime, kind in members:
                info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
                info.type, info.mtime = kind, mtime
                if kind == tarfile.REGTYPE:
                    info.size = len(content)
                if kind == tarfile.SYMTYPE:
                    info.linkname = name.decode("utf-8", "surrogateescape")[::-1]
                tar.addfile(info, io.BytesIO(content))
        self.check_same(out.getvalue())

    @staticmethod
    def check_same(data: bytes) -> None:
        with tarfile.open(
            fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape"
        ) as tar:
            expected = [
                (
                    info.name.encode("utf-8", "surrogateescape"),
                    info.type,
                    info.size,
                    info.mode,
                    int(info.mtime // 1),
                    info.linkname.encode("utf-8", "surrogateescape"),
                )
                for info in tar
            ]
        found = [
            (
                # tarfile drops slashes at the end of names
                member.name.rstrip(b"/"),
                member.type,
                member.size,
                member.mode,
                member.mtime_ns // 10**9,
                member.link,
            )
            for member in read_all(data)
        ]
        assert found == [(name.rstrip(b"/"), *rest) for name, *rest in expected]


@st.composite
def sparse_maps(draw: st.DrawFn) -> tuple[list[tuple[int, int]], int]:
    """An ascending map, its last entry perhaps ``(end, 0)``, and the file's size."""
    numbers = draw(st.lists(st.integers(0, 3000), max_size=60))
    extents = []
    position = 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=False):
        extents.append((position + gap, length))
        position += gap + length
    tail = draw(st.integers(0, 3000))
    if draw(st.booleans()):
        extents.append((position + tail, 0))
    return extents, position + tail


class TestSparseMaps:
    @given(sparse_maps())
    def test_in_both_forms_give_what_was_written(
        self, sparse: tuple[list[tuple[int, int]], int]
    ) -> None:
        extents, size = sparse
        stored = sum(length for _, length in extents)
        for data in (old_gnu_sparse(extents, size), pax_sparse(extents, size)):
            member = read(data)
            assert extents_of(member) == extents
            assert (member.name, member.type) == (b"name", b"0")
            assert (member.size, member.stored_size) == (size, stored)

    @given(sparse_maps())
    @settings(max_examples=25)
    def test_tarfile_restores_the_same_file_from_them(
        self, sparse: tuple[list[tuple[int, int]], int]
    ) -> None:
        extents, size = sparse
        stored = os.urandom(sum(length for _, length in extents))
        expected = filled(extents, stored, size)
        for front in (old_gnu_sparse(extents, size), pax_sparse(extents, size)):
            data = archive(front, padded(stored))
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                (info,) = tar
                assert info.size == size
                # tarfile takes an entry of no length as the end of an old-GNU map
                if all(length for _, length in extents[:-1]):
                    file = tar.extractfile(info)
                    assert file is not None
                    assert file.read() == expected
            assert filled(extents_of(read(front)), stored, size) == expected

    @pytest.mark.parametrize("make", [old_gnu_sparse, pax_sparse])
    @pytest.mark.parametrize(
        ("extents", "size"),
        [
            ([(0, 10), (5, 10)], 100),
            ([(50, 10), (0, 10)], 100),
            ([(0, 10), (0, 10)], 100),
            ([(95, 10)], 100),
            ([(101, 0)], 100),
            ([(0, 10), (5, 0)], 100),
            ([(1 << 63, 0)], 1 << 63),
            ([(0, 0), ((1 << 63) - 1, 1 << 63)], 1 << 64),
        ],
        ids=[
            "overlap",
            "descend",
            "twice",
            "past the end",
            "mark past the end",
            "mark inside",
            "offset 2^63",
            "length 2^63",
        ],
    )
    def test_that_can_not_be_are_damage(
        self, make: Any, extents: list[tuple[int, int]], size: int
    ) -> None:
        with pytest.raises(Damaged):
            read_headers(make(extents, size))

    def test_that_disagree_with_the_stored_size_are_damage(self) -> None:
        for data in (
            old_gnu_sparse([(0, 10)], 100, stored=11),
            old_gnu_sparse([(0, 10)], 100, stored=9),
            pax_sparse([(0, 10)], 100, size=512 + 11),
            pax_sparse([(0, 10)], 100, size=512 + 9),
        ):
            with pytest.raises(Damaged, match="stored size"):
                read_headers(data)

    @pytest.mark.slow
    @pytest.mark.parametrize("make", [old_gnu_sparse, pax_sparse])
    def test_of_100_000_entries_are_read(self, make: Any) -> None:
        extents = [(n * 8192, 512) for n in range(100_000)]
        member = read(make([*extents, (100_000 * 8192, 0)], 100_000 * 8192))
        assert extents_of(member) == [*extents, (100_000 * 8192, 0)]

    @pytest.mark.parametrize("make", [old_gnu_sparse, pax_sparse])
    def test_longer_than_the_limit_are_refused(self, make: Any) -> None:
        extents = [(n * 10, 1) for n in range(1000)]
        limits = Limits(sparse_entries=999)
        assert len(extents_of(read(make(extents[:999], 10_000), limits))) == 999
        with pytest.raises(LimitExceeded) as caught:
            read_headers(make(extents, 10_000), limits)
        assert caught.value.limit == "sparse_entries"

    def test_an_announced_length_past_the_limit_is_refused_before_the_map_is_read(self) -> None:
        block = padded(b"9999999999\n")
        records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
        records[b"GNU.sparse.realsize"] = b"0"
        with pytest.raises(LimitExceeded):
            read_headers(pax(records) + header(size=1 << 40) + block)

    def test_numbers_may_begin_with_zeros(self) -> None:
        runs = b"".join(b"%09d\n%04d\n" % (n * 10, 1) for n in range(5000))
        text = padded(b"05000\n" + runs)
        plain = pax_sparse([(n * 10, 1) for n in range(5000)], 50_000)
        records = {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": b"name",
            b"GNU.sparse.realsize": b"50000",
        }
        member = read(pax(records) + header(size=len(text) + 5000) + text)
        assert extents_of(member) == extents_of(read(plain))

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (b"2\n0\n10\n", "longer than its member"),
            (b"x\n", "not decimal"),
            (b"-1\n", "not decimal"),
            (b"1\n\n0\n", "not decimal"),
            (b"1" * 1100 + b"\n", "malformed"),
            (b"1" * 21 + b"\n", "not decimal"),
            (b"1\n0\n" + b"0" * 20 + b"1\n", "not decimal"),
            (b"1\n0\n0.5\n", "not decimal"),
            (b"1\n0\n1e2\n", "not decimal"),
            (b"1\n0\n0,5\n", "not decimal"),
            (b"1\n0\n[]\n", "not decimal"),
            (b"1\n0\n 5\n", "not decimal"),
            (b"1\n0\n\xff\n", "not decimal"),
        ],
    )
    def test_malformed_pax_maps_are_damage(self, text: bytes, why: str) -> None:
        records = {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.realsize": b"10",
        }
        data = padded(text)
        with pytest.raises(Damaged, match=why):
            read_headers(pax(records) + header(size=len(data)) + data)

    @pytest.mark.parametrize(
        "records",
        [
            {b"GNU.sparse.major": b"0", b"GNU.sparse.minor": b"1"},
            {b"GNU.sparse.map": b"0,10", b"GNU.sparse.size": b"10"},
            {b"GNU.sparse.numblocks": b"1", b"GNU.sparse.size": b"10"},
            {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"},
        ],
    )
    def test_of_other_versions_are_refused(self, records: dict[bytes, bytes]) -> None:
        with pytest.raises(Damaged, match=r"1\.0"):
            read_headers(pax(records) + header(size=10))

    def test_on_what_is_no_regular_file_are_damage(self) -> None:
        for kind in (SYMBOLIC_LINK, b"5"):
            with pytest.raises(Damaged, match="regular"):
                read_headers(pax_sparse([(0, 0)], 10, kind=kind))

    def test_of_old_gnu_in_a_header_that_is_not_gnus_are_damage(self) -> None:
        block = bytearray(old_gnu_sparse([(0, 10)], 10))
        block[257:265] = b"ustar\x0000"
        with pytest.raises(Damaged, match="GNU"):
            read_headers(sealed(bytes(block)))

    def test_a_nul_in_the_real_name_is_damage(self) -> None:
        with pytest.raises(Damaged, match="NUL"):
            read_headers(pax_sparse([(0, 0)], 10, b"a\0b"))

    @given(sparse_maps(), st.sampled_from([old_gnu_sparse, pax_sparse]), st.data())
    def test_changed_bytes_are_read_or_refused_and_nothing_else(
        self, sparse: tuple[list[tuple[int, int]], int], make: Any, data: st.DataObject
    ) -> None:
        changed = bytearray(make(*sparse))
        start = data.draw(st.integers(0, len(changed) // BLOCK - 1)) * BLOCK
        for _ in range(data.draw(st.integers(1, 3))):
            changed[start + data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
        if changed[start + 257 : start + 262] == b"ustar":
            changed[start : start + BLOCK] = sealed(bytes(changed[start : start + BLOCK]))
        try:
            member, _ = read_headers(bytes(changed))
        except (Damaged, LimitExceeded, EOFError):
            return
        if member is not None and member.sparse is not None:
            ends = [offset + length for offset, length in member.sparse]
            assert ends == sorted(ends)
            assert not ends or ends[-1] <= member.size


class TestRealSparseFiles:
    """Images with holes, by GNU tar in both forms and by the re-creation of Qubes' writer."""

    def extents_of_archive(self, data: bytes) -> tuple[TarMember, bytes]:
        member, taken = read_headers(data)
        assert member is not None
        return member, data[taken : taken + member.stored_size]

    @pytest.mark.parametrize(
        "options", [["--format=gnu"], ["--format=posix", "--sparse-version=1.0"]], ids=str
    )
    @pytest.mark.parametrize(
        ("size", "content"),
        [
            (0, {}),
            (5 << 20, {}),
            (5 << 20, {0: b"start", 1 << 20: b"middle", (5 << 20) - 3: b"end"}),
            ((5 << 20) + 77, {1 << 20: b"x" * 5000}),
            (8 << 20, {n << 16: b"%d" % n for n in range(100)}),
        ],
        ids=["empty", "zeros", "ends", "odd length", "many"],
    )
    def test_gnu_tar(
        self, tools: None, tmp_path: Path, options: list[str], size: int, content: dict[int, bytes]
    ) -> None:
        image = make_sparse(tmp_path / "image", size, content)
        data = run(["tar", "-c", "--sparse", *options, "-C", str(tmp_path), "image"])
        member, stored = self.extents_of_archive(data)
        assert member.size == size
        extents = extents_of(member) if member.sparse is not None else [(0, size)]
        assert filled(extents, stored, size) == image.read_bytes()
        assert member.sparse is not None or not size

    def test_gnu_tars_older_pax_forms_are_refused(self, tools: None, tmp_path: Path) -> None:
        make_sparse(tmp_path / "image", 1 << 20, {1 << 19: b"x"})
        for version in ("0.0", "0.1"):
            command = ["tar", "-c", "--format=posix", "--sparse", f"--sparse-version={version}"]
            data = run([*command, "-C", str(tmp_path), "image"])
            with pytest.raises(Damaged, match=r"1\.0"):
                read_headers(data)

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [["--format=gnu"], ["--format=posix"]], ids=str)
    def test_gnu_tar_with_100_000_extents(
        self, tools: None, tmp_path: Path, options: list[str]
    ) -> None:
        count, step = 100_000, 8192
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(count * step)
            for number in range(count):
                os.pwrite(file.fileno(), b"%d" % number, number * step)
        # GNU tar looks for holes by reading, so that the file system's blocks don't matter
        command = ["tar", "-c", "--sparse", "--hole-detection=raw", *options]
        data = run([*command, "-C", str(tmp_path), "image"])
        member, stored = self.extents_of_archive(data)
        assert member.size == count * step
        extents = extents_of(member)
        assert len([length for _, length in extents if length]) == count
        position = 0
        for offset, length in extents[:count]:
            assert int(stored[position : position + length].rstrip(b"\0")) == offset // step
            position += length

    @pytest.mark.parametrize(
        ("size", "content"),
        [
            (0, {}),
            (1 << 20, {}),
            (1 << 20, {0: b"start", 700_000: b"x" * 5000}),
            ((1 << 20) + 77, {(1 << 20) + 70: b"seven b"}),
        ],
        ids=["empty", "zeros", "data", "odd length"],
    )
    def test_qubes_own_writer(self, tmp_path: Path, size: int, content: dict[int, bytes]) -> None:
        image = make_sparse(tmp_path / "image", size, content)
        out = io.BytesIO()
        write_sparse_tar(image, "vm1/private.img", out, pid=4711)
        member, stored = self.extents_of_archive(out.getvalue())
        assert (member.name, member.size) == (b"vm1/private.img", size)
        with image.open("rb") as file:
            assert extents_of(member) == sparse_map(file)
        assert filled(extents_of(member), stored, size) == image.read_bytes()

    def test_more_than_8_gib_of_data_keep_their_real_size(self) -> None:
        """A pax record ``size`` stands beside the real size there; it is not the file's."""
        extents = [(0, 9 * GIB), (19 * GIB, 512), (20 * GIB, 0)]
        text = padded(b"3\n" + b"".join(b"%d\n%d\n" % extent for extent in extents))
        front = sparse_header("vm1/private.img", extents, len(text), 1)
        assert b"size=" in front.replace(b"realsize=", b"")
        member = read(front + text)
        assert (member.size, member.stored_size) == (20 * GIB, 9 * GIB + 512)
        assert extents_of(member) == extents
