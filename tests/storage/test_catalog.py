"""Which files a backup holds: the same from a file and from a pipe, in whatever order they come."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qbackup
from qbackup import BackupArchive
from qbackup.archive.chunk import EncryptedChunks
from qbackup.base.errors import (
    AlreadyPassed,
    ArchiveDamaged,
    HeaderAltered,
    Interrupted,
    LimitExceeded,
    NotABackup,
)
from qbackup.base.limits import Limits
from qbackup.base.names import ChunkName, encode
from qbackup.storage.catalog import Catalog
from qbackup.storage.chunk import StoredChunk, StoredChunks, StoredFile
from qbackup.storage.chunk_table import ChunkTable, HmacIndex
from qbackup.storage.scan import StoredMember
from qbackup.storage.source import open_source
from tests.support.inside import inside
from tests.support.tarbytes import archive, header, member, pax

HEADER = member(
    b"backup-header",
    b"version=4\nencrypted=True\ncompressed=True\ncompression-filter=gzip\nbackup-id=1\n",
)
COPY = member(b"backup-header.hmac", b"x" * 200)


class OneWay(io.BytesIO):
    """Bytes that can't be gone back to."""

    def seekable(self) -> bool:
        return False


def chunks(*names: str) -> bytes:
    """Members of these chunk names, each with its own name as data."""
    return b"".join(member(encode(f"{name}.enc"), encode(name)) for name in names)


def backup(data: bytes, *, pipe: bool = False, limits: Limits | None = None) -> BackupArchive:
    file = OneWay(HEADER + COPY + data) if pipe else io.BytesIO(HEADER + COPY + data)
    return qbackup.open(file, limits=limits)


def seekable(data: bytes) -> Catalog:
    return inside(backup(data)).catalog


def listing(catalog: Catalog) -> list[tuple[str, list[int]]]:
    """(path, chunk numbers) of every file, gone through in order."""
    return [(file.path, [chunk.index for chunk in file.chunks]) for file in catalog.files()]


class TestFiles:
    NAMES = ("qubes.xml.000", "vm1/private.img.000", "vm1/private.img.001", "vm12/private.img.000")

    @pytest.mark.parametrize("pipe", [False, True])
    def test_come_in_the_archives_order_with_their_chunks(self, pipe: bool) -> None:
        with backup(chunks(*self.NAMES), pipe=pipe) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [
                ("qubes.xml", [0]),
                ("vm1/private.img", [0, 1]),
                ("vm12/private.img", [0]),
            ]
            assert inside(made).catalog.member_count() == 6
            assert inside(made).catalog.error is None
            assert made.warnings == []

    def test_know_their_stored_size(self) -> None:
        catalog = seekable(chunks(*self.NAMES))
        sizes = {file.path: (file.chunk_count, file.stored_size) for file in catalog.files()}
        assert sizes["vm1/private.img"] == (2, 2 * len("vm1/private.img.000"))

    def test_are_a_sequence(self) -> None:
        files = seekable(chunks(*self.NAMES)).seen_files()
        assert len(files) == 3
        assert files[-1].path == "vm12/private.img"
        assert [file.path for file in files[:2]] == ["qubes.xml", "vm1/private.img"]
        with pytest.raises(IndexError):
            files[3]

    def test_are_found_by_their_path(self) -> None:
        catalog = seekable(chunks(*self.NAMES))
        found = catalog.find("vm1/private.img")
        assert found is not None
        assert [chunk.name for chunk in found.chunks] == list(self.NAMES[1:3])
        assert catalog.find("vm1") is None
        metadata = catalog.metadata_file()
        assert metadata is not None
        assert metadata.path == "qubes.xml"

    @pytest.mark.parametrize("path", ["\ud800", "vm1/private.img\udfff"])
    def test_a_path_that_no_bytes_make_is_not_there(self, path: str) -> None:
        assert seekable(chunks(*self.NAMES)).find(path) is None

    @pytest.mark.parametrize("pipe", [False, True])
    def test_give_their_paths_alone(self, pipe: bool) -> None:
        with backup(chunks("\udcff.000", *self.NAMES[1:]), pipe=pipe) as made:
            catalog = inside(made).catalog
            catalog.drain()
            paths = [file.path for file in catalog.seen_files()]
            assert list(catalog.seen_paths()) == paths
            assert paths == ["\udcff", "vm1/private.img", "vm12/private.img"]

    def test_past_999_chunks_stay_in_order(self) -> None:
        catalog = seekable(chunks(*(f"a.{n:03d}" for n in range(1003))))
        assert listing(catalog) == [("a", list(range(1003)))]

    @pytest.mark.slow
    @given(
        st.lists(
            st.tuples(st.sampled_from(["a", "b/c", "d"]), st.integers(0, 4)),
            min_size=1,
            max_size=12,
        )
    )
    def test_in_any_order_are_sorted_and_the_first_of_a_number_counts(
        self, names: list[tuple[str, int]]
    ) -> None:
        data = b"".join(
            member(b"%s.%03d.enc" % (path.encode(), index), bytes(place))
            for place, (path, index) in enumerate(names)
        )
        expected: dict[str, dict[int, int]] = {}
        for place, (path, index) in enumerate(names):
            expected.setdefault(path, {}).setdefault(index, place)
        with backup(data) as made:
            found = {
                file.path: {chunk.index: chunk.size for chunk in file.chunks}
                for file in inside(made).catalog.files()
            }
            assert found == expected
            assert list(found) == list(expected)
            for file in inside(made).catalog.files():
                numbers = [chunk.index for chunk in file.chunks]
                assert numbers == sorted(numbers)
                assert file.stored_size == sum(expected[file.path].values())
            doubles = len(names) - len(set(names))
            assert len(made.warnings) == doubles
            assert all(
                "is in the archive twice; the first one is used" in text for text in made.warnings
            )


class TestChunks:
    @pytest.fixture(params=["in order", "out of order"])
    def stored(self, request: pytest.FixtureRequest) -> StoredChunks:
        """Chunks 0, 1, 2, 5."""
        orders = {"in order": "0125", "out of order": "2501"}
        names = [f"a.00{n}" for n in orders[request.param]]
        file = seekable(chunks(*names)).find("a")
        assert file is not None
        return file.chunks

    @pytest.fixture(params=["as stored", "for callers"])
    def found(
        self, stored: StoredChunks, request: pytest.FixtureRequest
    ) -> Sequence[StoredChunk | qbackup.EncryptedChunk]:
        if request.param == "as stored":
            return stored
        return EncryptedChunks(stored, cast(Any, None))

    def test_are_a_sequence_in_numeric_order(
        self, found: Sequence[StoredChunk | qbackup.EncryptedChunk]
    ) -> None:
        assert len(found) == 4
        assert [chunk.index for chunk in found] == [0, 1, 2, 5]
        assert [found[n].index for n in (0, 3, -1, -4)] == [0, 5, 5, 0]
        assert [chunk.index for chunk in found[1:3]] == [1, 2]
        assert [chunk.index for chunk in found[::-2]] == [5, 1]
        for position in (4, -5):
            with pytest.raises(IndexError):
                found[position]

    def test_know_their_name_and_size(
        self, found: Sequence[StoredChunk | qbackup.EncryptedChunk]
    ) -> None:
        assert [(chunk.name, chunk.size) for chunk in found[-1:]] == [("a.005", 5)]

    def test_their_sizes_are_known_without_making_them(self, stored: StoredChunks) -> None:
        assert (list(stored.sizes()), stored.stored_size) == ([5] * 4, 20)
        assert [StoredFile("a", stored).readable_size(limit) for limit in (4, 5)] == [0, 20]


class TestOtherMembers:
    @pytest.mark.parametrize("pipe", [False, True])
    @pytest.mark.parametrize(
        "name",
        [
            "vm1/private.img",
            "vm1/private.img.000",
            "vm1/private.img.0000.enc",
            "vm1/private.img.01000.enc",
            "../vm1/private.img.000.enc",
            "/etc/passwd.000.enc",
            "vm1//private.img.000.enc",
            ".enc",
            "README",
        ],
    )
    def test_are_passed_with_a_warning(self, name: str, pipe: bool) -> None:
        with backup(member(name.encode()) + chunks("a.000"), pipe=pipe) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0])]
            assert made.warnings == [f"{name}: no part of a backup has such a name, ignored"]

    @pytest.mark.parametrize("pipe", [False, True])
    def test_a_second_header_or_copy_is_ignored(self, pipe: bool) -> None:
        with backup(HEADER + COPY + chunks("a.000"), pipe=pipe) as made:
            assert inside(made).catalog.header_copy().offset < len(HEADER + COPY)
            assert listing(inside(made).catalog) == [("a", [0])]
            assert [text.partition(":")[0] for text in made.warnings] == [
                "backup-header",
                "backup-header.hmac",
            ]

    def test_names_are_made_visible_in_warnings(self) -> None:
        with backup(member(b"\x1b]0;evil\a")) as made:
            inside(made).catalog.drain()
            assert made.warnings == [
                "\\x1b]0;evil\\x07: no part of a backup has such a name, ignored"
            ]


class TestHeaderCopy:
    def test_that_is_missing_is_an_altered_header(self) -> None:
        for file in (io.BytesIO(HEADER + chunks("a.000")), OneWay(HEADER + chunks("a.000"))):
            with qbackup.open(file) as made, pytest.raises(HeaderAltered, match="missing"):
                inside(made).catalog.header_copy()

    def test_that_is_cut_off_is_an_altered_header(self) -> None:
        for file in (io.BytesIO(HEADER), OneWay(HEADER + COPY[:100])):
            with qbackup.open(file) as made, pytest.raises(HeaderAltered, match="missing"):
                inside(made).catalog.header_copy()

    def test_may_stand_anywhere_in_a_file_but_not_on_a_pipe(self) -> None:
        data = HEADER + chunks("a.000") + COPY
        with qbackup.open(io.BytesIO(data)) as made:
            assert inside(made).catalog.header_copy().size == 200
        with qbackup.open(OneWay(data)) as made, pytest.raises(HeaderAltered):
            inside(made).catalog.header_copy()

    @pytest.mark.parametrize("pipe", [False, True])
    def test_is_the_same_however_often_it_is_asked_for(self, pipe: bool) -> None:
        with backup(chunks("a.000"), pipe=pipe) as made:
            assert inside(made).catalog.header_copy() is inside(made).catalog.header_copy()
            assert inside(made).catalog.metadata_file() is None


class TestBrokenArchives:
    @pytest.mark.parametrize("pipe", [False, True])
    def test_keep_what_stands_before_the_break(self, pipe: bool) -> None:
        data = chunks("a.000", "b.000")
        with backup(data[:-10_240] + b"x" * 512, pipe=pipe) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0])]
            assert isinstance(inside(made).catalog.error, ArchiveDamaged)

    @pytest.mark.parametrize("pipe", [False, True])
    def test_too_many_members_are_an_error_and_the_first_ones_stay(self, pipe: bool) -> None:
        limits = Limits(members=4)
        with backup(chunks("a.000", "a.001", "a.002"), pipe=pipe, limits=limits) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0, 1])]
            assert isinstance(inside(made).catalog.error, LimitExceeded)

    @pytest.mark.parametrize("pipe", [False, True])
    def test_an_impossible_size_costs_what_follows_only(self, pipe: bool) -> None:
        forged = archive(pax({b"size": b"9" * 20}), header(b"b.000.enc"))
        with backup(chunks("a.000") + forged, pipe=pipe) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0])]
            assert isinstance(inside(made).catalog.error, ArchiveDamaged)

    def test_a_tar_archive_of_other_things_is_no_backup(self) -> None:
        nothing = archive(header(b"folder", kind=b"5"))
        broken = bytearray(HEADER)
        broken[0] ^= 1
        for data in (nothing, bytes(broken)):
            for file in (io.BytesIO(data), OneWay(data)):
                with pytest.raises(NotABackup):
                    qbackup.open(file)

    def test_indexing_that_was_broken_off_is_never_taken_for_a_small_backup(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(name: str, **options: bool) -> None:
            raise KeyboardInterrupt

        made = backup(chunks("a.000"))
        with monkeypatch.context() as patch:
            patch.setattr("qbackup.base.names.parse_chunk_name", interrupt)
            with pytest.raises(KeyboardInterrupt):
                inside(made).catalog.drain()
        with pytest.raises(Interrupted):
            inside(made).catalog.drain()


class TestPipes:
    def test_a_file_that_went_by_says_so(self) -> None:
        with backup(chunks("a.000", "b.000"), pipe=True) as made:
            inside(made).catalog.header_copy()
            for file in list(inside(made).catalog.files()):
                with pytest.raises(AlreadyPassed):
                    list(file.chunks)
            with pytest.raises(AlreadyPassed):
                inside(made).catalog.find("a")

    def test_the_file_at_hand_is_found_again(self) -> None:
        with backup(chunks("a.000", "b.000"), pipe=True) as made:
            inside(made).catalog.header_copy()
            found = inside(made).catalog.find("b")
            assert found is not None
            assert inside(made).catalog.find("b") is found
            assert [chunk.index for chunk in found.chunks] == [0]
            assert [file.path for file in inside(made).catalog.seen_files()] == ["a", "b"]
            assert inside(made).catalog.find("c") is None

    def test_metadata_that_do_not_come_next_are_left_to_come(self) -> None:
        with backup(chunks("a.000", "qubes.xml.000"), pipe=True) as made:
            inside(made).catalog.header_copy()
            assert inside(made).catalog.metadata_file() is None
            assert listing(inside(made).catalog) == [("a", [0]), ("qubes.xml", [0])]

    def test_a_chunk_that_comes_after_its_file_is_an_error_of_the_archive(self) -> None:
        data = chunks("a.000", "b.000", "a.001", "a.002")
        with backup(data, pipe=True) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0]), ("b", [0])]
            error = inside(made).catalog.error
            assert isinstance(error, ArchiveDamaged)
            assert error.chunk == "a.001"

    def test_a_late_chunk_that_came_before_is_only_a_double(self) -> None:
        with backup(chunks("a.000", "a.001", "b.000", "a.000"), pipe=True) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0, 1]), ("b", [0])]
            assert inside(made).catalog.error is None
            assert made.warnings == ["a.000: is in the archive twice; the first one is used"]

    @pytest.mark.parametrize("pipe", [False, True])
    def test_a_stray_copy_inside_another_file_costs_nothing(self, pipe: bool) -> None:
        data = chunks("a.000", "a.001", "b.000", "a.001", "b.001", "c.000", "a.000", "b.000")
        with backup(data, pipe=pipe) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0, 1]), ("b", [0, 1]), ("c", [0])]
            assert inside(made).catalog.error is None
            assert sorted(made.warnings) == [
                f"{name}: is in the archive twice; the first one is used"
                for name in ("a.000", "a.001", "b.000")
            ]

    def test_a_late_chunk_inside_another_file_costs_that_file_nothing(self) -> None:
        with backup(chunks("a.000", "b.000", "a.001", "b.001", "c.000"), pipe=True) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0]), ("b", [0, 1]), ("c", [0])]
            error = inside(made).catalog.error
            assert isinstance(error, ArchiveDamaged)
            assert error.chunk == "a.001"

    @pytest.mark.parametrize("names", [("a.000", "a.002", "a.001"), ("a.001", "b.000", "a.000")])
    def test_a_chunk_after_its_gap_was_not_here_twice(self, names: tuple[str, ...]) -> None:
        with backup(chunks(*names), pipe=True) as made:
            inside(made).catalog.header_copy()
            inside(made).catalog.drain()
            assert made.warnings == []
            error = inside(made).catalog.error
            assert isinstance(error, ArchiveDamaged)
            assert error.chunk == names[-1]

    def test_a_doubled_chunk_is_passed_over_with_a_warning(self) -> None:
        with backup(chunks("a.000", "a.000", "a.001"), pipe=True) as made:
            inside(made).catalog.header_copy()
            assert listing(inside(made).catalog) == [("a", [0, 1])]
            assert made.warnings == ["a.000: is in the archive twice; the first one is used"]

    def test_chunks_can_not_be_picked_but_are_counted(self) -> None:
        with backup(chunks("a.000", "a.001"), pipe=True) as made:
            inside(made).catalog.header_copy()
            (file,) = inside(made).catalog.files()
            assert isinstance(file.chunks, Sequence)
            with pytest.raises(AlreadyPassed):
                file.chunks[0]
            with pytest.raises(AlreadyPassed):
                file.readable_size(5)
            assert (file.chunk_count, file.stored_size) == (2, 10)
            inside(made).catalog.drain()
            assert inside(made).catalog.member_count() == 4


class TestProofs:
    CHUNK = ChunkName("vm1/private.img", 1)

    def proofs(self, *indexes: int, limit: int) -> HmacIndex:
        """Members of one byte each, their own place in the file, that prove chunks of one file."""
        table = ChunkTable()
        for place, index in enumerate(indexes):
            table.add(ChunkName(self.CHUNK.path, index), StoredMember("", place, 1))
        return HmacIndex(table, open_source(io.BytesIO(bytes(range(len(indexes))))), limit=limit)

    @pytest.mark.parametrize(("limit", "count"), [(1, 1), (4, 4), (9, 6)])
    def test_of_one_name_are_read_up_to_a_limit(self, limit: int, count: int) -> None:
        proofs = self.proofs(0, 1, 1, 2, 1, 1, 1, 1, limit=limit)
        assert proofs.count(self.CHUNK) == count
        places = [proofs.read(self.CHUNK, which) for which in range(count)]
        assert places == [bytes([place]) for place in (1, 2, 4, 5, 6, 7)[:count]]

    @pytest.mark.parametrize("indexes", [(), (0,), (0, 2), (2, 0), (2, 3), (0, 0, 2)])
    def test_that_are_not_there_are_none(self, indexes: tuple[int, ...]) -> None:
        proofs = self.proofs(*indexes, limit=4)
        assert proofs.count(self.CHUNK) == 1 and proofs.read(self.CHUNK) is None
