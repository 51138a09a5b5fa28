"""The inner archive: the one file or the tree that it must hold, and its proven end."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.errors import Damaged, LimitExceeded, QBackupError, UsageError
from qbackup.base.events import Extent, Gap, Missing, Piece, VolumeBoundary
from qbackup.base.limits import Limits
from qbackup.content.inner import Entry, InnerArchive
from tests.make_vectors import make_home
from tests.maker import inner_tar, make_sparse, write_sparse_tar
from tests.support import vectorfiles
from tests.support.tarbytes import (
    BLOCK,
    ZEROS,
    archive,
    header,
    in_pieces,
    old_gnu_sparse,
    padded,
    pax,
    pax_sparse,
)

NAME = "vm1/private.img"
BNAME = NAME.encode()
HOME = "dom0-home/user"
END = 2 * ZEROS


def inner(
    data: bytes, path: str = NAME, *, piece: int = 70_000, limits: Limits | None = None
) -> InnerArchive:
    return InnerArchive(in_pieces(data, piece), path, limits or Limits())


def content(entry: Entry) -> bytes:
    """The file, its holes filled; the extents are in order and without a gap."""
    out = bytearray()
    for extent in entry.extents():
        assert extent.offset == len(out)
        assert extent.length > 0
        if extent.data is not None:
            assert len(extent.data) == extent.length
        out += bytes(extent.length) if extent.data is None else extent.data
    assert len(out) == entry.size
    return bytes(out)


def whole(
    data: bytes, path: str = NAME, *, piece: int = 70_000, limits: Limits | None = None
) -> bytes:
    """The one file, up to its proven end."""
    opened = inner(data, path, piece=piece, limits=limits)
    result = content(opened.only_file())
    opened.finish()
    return result


def tree(data: bytes, path: str = HOME, **options: Limits | None) -> dict[str, Entry]:
    """Every entry of a folder archive, its data passed."""
    return {
        entry.path: entry for entry in inner(data, path, limits=options.get("limits")).entries()
    }


def plain(data: bytes = b"content", name: bytes = BNAME) -> bytes:
    return header(name, size=len(data)) + padded(data)


class TestOneFile:
    @pytest.mark.parametrize("piece", [1, 512, 1000, 70_000])
    def test_is_given_whatever_the_pieces_it_comes_in(self, piece: int) -> None:
        assert whole(archive(plain()), piece=piece) == b"content"

    @pytest.mark.parametrize(
        ("size", "parts"),
        [
            (0, {}),
            (1, {0: b"x"}),
            (2 << 20, {}),
            (3 << 20, {0: b"start", 1 << 20: b"m" * 70_000, (3 << 20) - 5: b"endin"}),
            ((1 << 20) + 77, {(1 << 20) + 70: b"seven b"}),
        ],
        ids=["empty", "one byte", "zeros", "data and holes", "odd length"],
    )
    def test_of_both_writers_comes_back(
        self, tools: None, tmp_path: Path, size: int, parts: dict[int, bytes]
    ) -> None:
        image = make_sparse(tmp_path / "private.img", size, parts)
        with inner_tar(image, "vm1/", compression_filter=None) as stream:
            by_gnu_tar = stream.read()
        out = io.BytesIO()
        write_sparse_tar(image, NAME, out)
        for data in (by_gnu_tar, out.getvalue()):
            for piece in (1 << 20, 1021):
                assert whole(data, piece=piece) == image.read_bytes()

    def test_its_holes_are_extents_without_data(self) -> None:
        parts = [(1000, 10), (5000, 20), (9000, 0)]
        for front in (old_gnu_sparse(parts, 9000, BNAME), pax_sparse(parts, 9000, BNAME)):
            opened = inner(archive(front, padded(b"a" * 10 + b"b" * 20)))
            extents = [
                (e.offset, e.length, None if e.data is None else bytes(e.data))
                for e in opened.only_file().extents()
            ]
            assert extents == [
                (0, 1000, None),
                (1000, 10, b"a" * 10),
                (1010, 3990, None),
                (5000, 20, b"b" * 20),
                (5020, 3980, None),
            ]
            opened.finish()

    def test_20_gib_of_hole_cost_nothing(self) -> None:
        size = 20 << 30
        front = pax_sparse([(10 << 30, 3), (size, 0)], size, BNAME)
        extents = list(inner(archive(front, padded(b"abc"))).only_file().extents())
        assert [(e.offset, e.length) for e in extents] == [
            (0, 10 << 30),
            (10 << 30, 3),
            ((10 << 30) + 3, (10 << 30) - 3),
        ]

    def test_what_is_not_read_is_passed_at_the_end(self) -> None:
        opened = inner(archive(plain(b"x" * 100_000)), piece=1000)
        opened.only_file()
        opened.finish()
        opened = inner(archive(plain(b"x" * 100_000)), piece=1000)
        next(opened.only_file().extents())
        opened.finish()

    def test_is_called_by_its_own_name(self) -> None:
        assert inner(archive(plain())).only_file().path == "private.img"
        assert inner(archive(plain(name=b"qubes.xml")), "qubes.xml").only_file().path == "qubes.xml"
        deep = inner(archive(plain(name=b"a/b/c")), "a/b/c").only_file()
        assert deep.path == "c"

    def test_its_data_go_by_with_the_entry(self) -> None:
        opened = inner(archive(plain()))
        entry = opened.only_file()
        opened.finish()
        with pytest.raises(
            UsageError,
            match=r"^this entry's data have already passed: read them before the next entry$",
        ):
            list(entry.extents())


class TestOtherContent:
    @pytest.mark.parametrize(
        "name",
        [b"vm2/private.img", b"vm1/private.im", b"private.img", b"vm1/private.img/", b"x\x1b"],
    )
    def test_another_name_is_damage(self, name: bytes) -> None:
        with pytest.raises(Damaged, match="holds another file") as caught:
            whole(archive(plain(name=name)))
        assert "\x1b" not in str(caught.value)

    def test_a_sparse_members_real_name_counts(self) -> None:
        front = pax_sparse([(5, 0)], 5, b"vm2/private.img")
        with pytest.raises(Damaged, match=r"vm2/private\.img"):
            whole(archive(front))

    def test_a_second_file_is_damage(self) -> None:
        with pytest.raises(Damaged, match="second file: other"):
            whole(archive(plain(), plain(name=b"other")))

    @pytest.mark.parametrize(
        ("kind", "word"),
        [
            (tarfile.SYMTYPE, "symlink"),
            (tarfile.CHRTYPE, "device"),
            (tarfile.BLKTYPE, "device"),
            (tarfile.FIFOTYPE, "pipe"),
            (tarfile.DIRTYPE, "folder"),
            (b"Z", "unknown"),
            (b"M", "unknown"),
        ],
    )
    def test_what_is_no_regular_file_is_damage(self, kind: bytes, word: str) -> None:
        data = archive(header(BNAME, kind=kind, link=b"/etc/shadow"))
        with pytest.raises(Damaged, match=f"this is a {word}"):
            whole(data)

    def test_where_a_symbolic_link_leads_is_said(self) -> None:
        data = archive(header(BNAME, kind=tarfile.SYMTYPE, link=b"/etc/\x1bshadow"))
        with pytest.raises(Damaged) as caught:
            whole(data)
        assert str(caught.value) == (
            r"this is a symlink, not a file: the link leads to /etc/\x1bshadow,"
            " and links are not followed"
        )

    def test_a_hard_link_is_damage_wherever_it_leads(self) -> None:
        for link in (b"/etc/shadow", BNAME + b"/x", b""):
            with pytest.raises(Damaged):
                whole(archive(header(BNAME, kind=tarfile.LNKTYPE, link=link)))

    def test_an_empty_archive_is_damage(self) -> None:
        for data in (END, archive()):
            with pytest.raises(Damaged, match=r"^the inner archive is empty$"):
                whole(data)

    @pytest.mark.parametrize("data", [b"no tar at all" * 100, os.urandom(2000)])
    def test_what_is_no_archive_is_damage(self, data: bytes) -> None:
        with pytest.raises(Damaged):
            whole(data)

    def test_a_file_longer_than_the_limit_is_refused(self) -> None:
        front = pax_sparse([(1001, 0)], 1001, BNAME)
        assert len(whole(archive(front), limits=Limits(file_size=1001))) == 1001
        with pytest.raises(LimitExceeded, match="1001 bytes") as caught:
            whole(archive(front), limits=Limits(file_size=1000))
        assert (caught.value.limit, caught.value.needed) == ("file_size", 1001)


class TestOwnKind:
    """The kind that the archive's beginning shows, before anything of it is used."""

    @pytest.mark.parametrize(
        ("kind", "name", "expected"),
        [
            (tarfile.REGTYPE, BNAME, "file"),
            (tarfile.SYMTYPE, BNAME, "symlink"),
            (tarfile.LNKTYPE, BNAME, "hardlink"),
            (tarfile.DIRTYPE, BNAME + b"/", "folder"),
            (tarfile.DIRTYPE, BNAME, "folder"),
            (tarfile.FIFOTYPE, BNAME, "pipe"),
            (b"Z", BNAME, "unknown"),
            (tarfile.REGTYPE, b"vm1/another.img", None),
            (tarfile.REGTYPE, b"/" + BNAME, None),
        ],
    )
    def test_of_the_member_with_the_files_own_name(
        self, kind: bytes, name: bytes, expected: str | None
    ) -> None:
        opened = inner(archive(header(name, kind=kind, link=b"x")))
        assert opened.own_kind() == expected
        assert opened.own_kind() == expected

    def test_of_an_empty_archive_there_is_none(self) -> None:
        assert inner(END).own_kind() is None

    def test_what_was_looked_at_is_read_as_if_it_was_not(self) -> None:
        opened = inner(archive(plain()))
        assert opened.own_kind() == "file"
        assert content(opened.only_file()) == b"content"
        opened.finish()

    def test_an_error_at_the_beginning_comes_when_it_is_read(self) -> None:
        opened = inner(b"no tar at all" * 100)
        assert opened.own_kind() is None
        for _ in range(2):
            with pytest.raises(Damaged, match="header"):
                opened.only_file()


class TestOnlyLink:
    """A file that is a symbolic link: its target, and a proven end."""

    def link(self, target: bytes, *more: bytes) -> str:
        link = header(BNAME, kind=tarfile.SYMTYPE, link=target)
        return inner(archive(link, *more)).only_link()

    def test_gives_a_target_that_is_safe_to_print(self) -> None:
        assert self.link(b"/usr/share/\x1bicon.png") == r"/usr/share/\x1bicon.png"

    @pytest.mark.parametrize("length", [1, 100, 255, 256, 257, 4096])
    def test_cuts_a_target_that_is_too_long_for_a_report(self, length: int) -> None:
        records = pax({b"linkpath": b"x" * length})
        text = inner(archive(records + header(BNAME, kind=tarfile.SYMTYPE, link=b"y"))).only_link()
        assert text == ("x" * length if length <= 256 else "x" * 256 + "…")

    @pytest.mark.parametrize(
        "data", [END, archive(plain()), archive(header(BNAME, kind=tarfile.DIRTYPE))]
    )
    def test_anything_else_is_damage(self, data: bytes) -> None:
        with pytest.raises(Damaged, match=r"^the inner archive holds no symbolic link$"):
            inner(data).only_link()

    def test_what_follows_is_damage(self) -> None:
        with pytest.raises(Damaged):
            self.link(b"x", plain())


class TestTheEnd:
    @pytest.mark.slow
    def test_cut_anywhere_before_it_is_damage(self) -> None:
        data = archive(plain(b"x" * 700))
        end = BLOCK + 1024 + BLOCK  # header, data, one zero block
        for size in range(end):
            with pytest.raises(Damaged, match=r"cut off|disordered"):
                whole(data[:size])
        for size in range(end, len(data) + 1):
            assert whole(data[:size]) == b"x" * 700

    def test_cut_inside_a_map_is_damage(self) -> None:
        extents = [(n * 1000, 1) for n in range(200)]
        for front in (old_gnu_sparse(extents, 10**6, BNAME), pax_sparse(extents, 10**6, BNAME)):
            for size in range(0, len(front), 100):
                with pytest.raises(Damaged, match="cut off"):
                    whole(front[:size])

    def test_qubes_own_writer_does_not_pad_its_data(self) -> None:
        """So its two zero blocks can look like little more than one."""
        for size in (1, 2, 511, 512, 513):
            data = pax_sparse([(0, size)], size, BNAME) + b"x" * size + END
            assert whole(data) == b"x" * size

    def test_one_zero_block_is_enough(self) -> None:
        assert whole(plain() + ZEROS) == b"content"

    @pytest.mark.parametrize("blocks", [1, 2, 20])
    @pytest.mark.parametrize("extra", [b"x", b"\0\0x", plain(name=b"other")])
    def test_anything_behind_it_is_damage(self, blocks: int, extra: bytes) -> None:
        with pytest.raises(Damaged, match=r"^something follows the end of the inner archive$"):
            whole(plain() + blocks * ZEROS + extra)

    def test_only_zeros_are_nothing(self) -> None:
        data = archive(plain(b"x" * 700))
        for value in range(1, 256):
            changed = bytearray(data)
            changed[BLOCK + 700] = value
            with pytest.raises(
                Damaged, match=r"^the inner archive is cut off or disordered after its data$"
            ):
                whole(bytes(changed))
            with pytest.raises(Damaged, match=r"^something follows the end of the inner archive$"):
                whole(data + bytes([value]))

    def test_after_damage_there_is_no_end(self) -> None:
        opened = inner(plain() + b"no header" * 100)
        entry = opened.only_file()
        for _ in range(2):
            with pytest.raises(Damaged):
                opened.finish()
        with pytest.raises(
            UsageError,
            match=r"^this entry's data have already passed: read them before the next entry$",
        ):
            list(entry.extents())

    def test_zeros_without_an_end_are_given_up_on(self) -> None:
        limits = Limits(trailing_zeros=100_000)
        assert whole(plain() + ZEROS + bytes(100_000), limits=limits)
        with pytest.raises(LimitExceeded, match="padding after the inner archive") as caught:
            whole(plain() + ZEROS + bytes(100_001), limits=limits)
        assert caught.value.limit == "trailing_zeros"

    @given(st.data())
    def test_changed_bytes_give_the_file_or_an_error_of_ours(self, data: st.DataObject) -> None:
        extents = [(n * 100, 7) for n in range(30)]
        make = old_gnu_sparse if data.draw(st.booleans()) else pax_sparse
        changed = bytearray(archive(make(extents, 5000, BNAME), padded(b"1234567" * 30)))
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(QBackupError):
            assert len(whole(bytes(changed))) >= 30 * 7


class TestFolders:
    def test_a_real_home_comes_back_with_all_that_tar_says(
        self, tools: None, tmp_path: Path
    ) -> None:
        home = tmp_path / "user"
        home.mkdir()
        make_home(home)
        with inner_tar(home, "dom0-home/", compression_filter=None, dereference=False) as stream:
            data = stream.read()
        found: dict[str, tuple[Entry, bytes]] = {}
        opened = inner(data, HOME, piece=1021)
        for entry in opened.entries():
            found[entry.path] = (entry, content(entry) if entry.kind == "file" else b"")
        expected = {
            os.fsencode(described["path"]): described
            for described in vectorfiles.describe_tree(home)
            if "\\" not in described["path"]
        }
        for name, said in expected.items():
            restored, data = found[os.fsdecode(name)]
            assert restored.mtime_ns // 10**9 == said["mtime"]
            if restored.kind == "hardlink":
                assert found[restored.target][0].kind in ("file", "symlink")
                continue
            kinds = {"directory": "folder", "file": "file", "symlink": "symlink"}
            assert restored.kind == kinds[said["type"]]
            if restored.kind != "symlink":
                assert f"{restored.mode:04o}" == said["mode"]
            if restored.kind == "symlink":
                assert restored.target == os.readlink(home / os.fsdecode(name))
            if restored.kind == "file":
                assert data == (home / os.fsdecode(name)).read_bytes()
        assert found.keys() == {
            os.path.relpath(os.path.join(folder, name), home)
            for folder, folders, files in os.walk(home)
            for name in [*folders, *files, "."]
        }

    def test_names_may_be_any_bytes(self) -> None:
        entries = tree(archive(plain(name=HOME.encode() + b"/caf\xe9\n\x1b")))
        assert list(entries) == ["caf\udce9\n\x1b"]

    @pytest.mark.parametrize(
        "name",
        [
            b"dom0-home/user2/x",
            b"dom0-home/use",
            b"dom0-home",
            b"/dom0-home/user/x",
            b"../x",
            b"/etc/passwd",
            b"x",
            b"",
            b"dom0-home/user/../x",
            b"dom0-home/user/a/../../x",
            b"dom0-home/user//x",
            b"dom0-home/user/./x",
            b"dom0-home/user//",
            b"dom0-home/user/" + b"n" * 256,
        ],
    )
    @pytest.mark.parametrize("kind", [b"0", b"5", b"2"])
    def test_names_outside_are_damage(self, name: bytes, kind: bytes) -> None:
        data = archive(pax({b"path": name}), header(kind=kind, link=b"t"))
        with pytest.raises(Damaged, match="outside of its folder"):
            tree(data)

    def test_a_nul_in_a_name_is_damage(self) -> None:
        with pytest.raises(Damaged):
            tree(archive(pax({b"path": b"dom0-home/user/a\0b"}), header()))

    @pytest.mark.parametrize("link", [b"/etc/passwd", b"dom0-home/user2/x", b"a", b"../x", b""])
    def test_hard_links_outside_are_damage(self, link: bytes) -> None:
        data = archive(header(HOME.encode() + b"/x", kind=b"1", link=link))
        with pytest.raises(Damaged, match="outside of its folder"):
            tree(data)

    def test_hard_links_lead_to_paths_below(self) -> None:
        data = archive(header(HOME.encode() + b"/x", kind=b"1", link=HOME.encode() + b"/a/b"))
        assert tree(data)["x"].target == "a/b"

    @pytest.mark.parametrize(
        ("stored", "target"),
        [
            ("dom0-home/user/Documents", "user/Documents"),
            ("dom0-home/user", "user"),
            ("dom0-home/username/x", "username/x"),
            ("dom0-home/other", "dom0-home/other"),
            ("Documents/letter", "Documents/letter"),
            ("/home/user/x", "/home/user/x"),
            ("../../etc/passwd", "../../etc/passwd"),
        ],
    )
    def test_what_xform_did_to_symbolic_links_is_taken_back(self, stored: str, target: str) -> None:
        data = archive(header(HOME.encode() + b"/x", kind=b"2", link=stored.encode()))
        assert tree(data)["x"].target == target

    @pytest.mark.parametrize(
        ("stored", "target"),
        [
            ("dom0-home/jo.doe/x", "jo.doe/x"),
            ("dom0-home/joxdoe/x", "joxdoe/x"),
            ("dom0-home/jo/doe", "jo/doe"),
            ("dom0-home/jodoe", "dom0-home/jodoe"),
            ("joxdoe/x", "joxdoe/x"),
        ],
    )
    def test_the_name_of_a_user_was_an_expression(self, stored: str, target: str) -> None:
        data = archive(header(b"dom0-home/jo.doe/x", kind=b"2", link=stored.encode()))
        assert tree(data, "dom0-home/jo.doe")["x"].target == target

    def test_in_other_folders_targets_stay(self) -> None:
        data = archive(header(b"vm9/x", kind=b"2", link=b"vm9/y"))
        assert tree(data, "vm9")["x"].target == "vm9/y"

    @pytest.mark.parametrize(
        ("stored", "target"),
        [
            ("appvms/work/x", "x"),
            ("appvms/work/../x", "../x"),
            ("appvms/work/apps/x", "apps/x"),
            ("/usr/bin/x", "/usr/bin/x"),
            ("appvms/x", "appvms/x"),
        ],
    )
    def test_in_format_2_every_relative_link_is_taken_back(self, stored: str, target: str) -> None:
        """There tar's ``--xform`` put the folder's own folder before each of them."""
        path = "appvms/work/apps"
        data = archive(header(f"{path}/y".encode(), kind=b"2", link=stored.encode()))
        opened = InnerArchive(in_pieces(data, 1000), path, Limits(), every_link=True)
        assert [entry.target for entry in opened.entries()] == [target]

    def test_in_a_whole_folder_names_and_links_lose_what_was_put_before_them(self) -> None:
        """As templates of format 3 are stored: ``vm9/.`` with tar's ``s:^.:vm9/.:``."""
        link = header(b"vm9/./link", kind=b"2", link=b"vm9/../x")
        outside = header(b"vm9/./away", kind=b"2", link=b"/x")
        data = archive(header(b"vm9/./", kind=b"5"), link, outside, plain(name=b"vm9/./root.img"))
        found = tree(data, "vm9/.")
        assert [(path, entry.kind, entry.target) for path, entry in found.items()] == [
            (".", "folder", ""),
            ("link", "symlink", "../x"),
            ("away", "symlink", "/x"),
            ("root.img", "file", ""),
        ]

    def test_devices_and_pipes_are_named_as_such(self) -> None:
        kinds = {b"3": "device", b"4": "device", b"6": "pipe", b"Z": "unknown"}
        for kind, word in kinds.items():
            assert tree(archive(header(HOME.encode() + b"/x", kind=kind)))["x"].kind == word

    def test_more_entries_than_the_limit_are_refused(self) -> None:
        data = archive(*(plain(name=f"{HOME}/{n}".encode()) for n in range(5)))
        assert len(tree(data, limits=Limits(tree_entries=5))) == 5
        with pytest.raises(LimitExceeded, match="more than 4 entries") as caught:
            tree(data, limits=Limits(tree_entries=4))
        assert caught.value.limit == "tree_entries"

    def test_the_end_is_proven_here_too(self) -> None:
        data = plain(name=HOME.encode() + b"/x")
        with pytest.raises(Damaged, match="cut off"):
            tree(data)
        with pytest.raises(Damaged, match="follows"):
            tree(archive(data) + b"x")
        assert list(tree(archive(data))) == ["x"]

    def test_an_entrys_data_go_by_with_the_next_entry(self) -> None:
        parts = [plain(name=f"{HOME}/{n}".encode()) for n in range(2)]
        entries = inner(archive(*parts), HOME).entries()
        first = next(entries)
        second = next(entries)
        with pytest.raises(UsageError):
            list(first.extents())
        assert content(second) == b"content"


LOSS = Damaged("this chunk is lost")


def described(parts: Iterator[Extent | Missing]) -> list[tuple[int, int, bytes | str]]:
    """(offset, length, data or what was wrong) of all but holes, and of no more than ten."""
    found: list[tuple[int, int, bytes | str]] = []
    for part in itertools.islice(parts, 10):
        if isinstance(part, Missing):
            found.append((part.offset, part.length, str(part.error)))
        elif part.data is not None:
            found.append((part.offset, part.length, bytes(part.data)))
    return found


def with_gaps(
    *pieces: bytes | int, limits: Limits | None = None, on_close: Callable[[], None] | None = None
) -> InnerArchive:
    """Bytes, and gaps of so many."""
    stream: list[Piece] = [
        Gap(piece, LOSS) if isinstance(piece, int) else memoryview(piece) for piece in pieces
    ]
    return InnerArchive(iter(stream), NAME, limits or Limits(), on_close, past_gaps=True)


class TestPastGaps:
    def test_what_is_lost_and_what_is_behind_it_have_their_places(self) -> None:
        opened = with_gaps(header(BNAME, size=1000) + b"a" * 100, 300, b"b" * 600 + bytes(24) + END)
        assert described(opened.parts(opened.only_file())) == [
            (0, 100, b"a" * 100),
            (100, 300, "this chunk is lost"),
            (400, 600, b"b" * 600),
        ]
        opened.finish()

    def test_a_gap_may_lie_across_a_hole(self) -> None:
        front = pax_sparse([(1000, 10), (5000, 20), (9000, 0)], 9000, BNAME)
        opened = with_gaps(front + b"a" * 4, 16, b"b" * 10 + bytes(BLOCK - 30) + END)
        assert described(opened.parts(opened.only_file())) == [
            (1000, 4, b"a" * 4),
            (1004, 6, "this chunk is lost"),
            (5000, 10, "this chunk is lost"),
            (5010, 10, b"b" * 10),
        ]
        opened.finish()

    def test_nobody_goes_past_them_who_did_not_ask_for_it(self) -> None:
        stream: list[Piece] = [memoryview(header(BNAME, size=10)), Gap(10, LOSS)]
        opened = InnerArchive(iter(stream), NAME, Limits())
        with pytest.raises(Damaged, match="this chunk is lost"):
            list(opened.parts(opened.only_file()))

    def test_who_reads_extents_is_told_of_the_loss(self) -> None:
        opened = with_gaps(header(BNAME, size=1000) + b"a" * 100, 900)
        extents = opened.only_file().extents()
        assert next(extents).length == 100
        with pytest.raises(Damaged, match="this chunk is lost"):
            next(extents)

    def test_an_entry_that_is_passed_may_have_them(self) -> None:
        opened = with_gaps(header(BNAME, size=1000), 1000, bytes(24) + END)
        opened.only_file()
        opened.finish()

    def test_one_in_a_header_is_told_and_what_is_behind_it_is_the_rest(self) -> None:
        opened = with_gaps(100, b"x" * 400, 50, b"y")
        with pytest.raises(Damaged, match="this chunk is lost"):
            opened.only_file()
        assert opened.lost is LOSS
        assert described(opened.rest()) == [
            (0, 100, "this chunk is lost"),
            (100, 400, b"x" * 400),
            (500, 50, "this chunk is lost"),
            (550, 1, b"y"),
        ]
        assert opened.position == 551
        assert opened.lost is None

    @pytest.mark.parametrize("limit", [450, 500, 501])
    def test_no_more_of_a_rest_is_given_than_a_file_may_have(self, limit: int) -> None:
        opened = with_gaps(b"x" * 300, 200, b"y", limits=Limits(file_size=limit))
        lengths = [length for _, length, _ in described(opened.rest())]
        assert lengths == [300, min(200, limit - 300), *([1] if limit > 500 else [])]


def in_volumes(
    *parts: bytes | VolumeBoundary, path: str = NAME, past_gaps: bool = False
) -> InnerArchive:
    """An archive that was cut into volumes at its seams."""
    stream = (part if isinstance(part, VolumeBoundary) else memoryview(part) for part in parts)
    return InnerArchive(iter(stream), path, Limits(), past_gaps=past_gaps)


class TestSeams:
    """Where volumes of an archive are put together, as in format 2."""

    LONG = b"vm1/" + b"n" * 146  # of its name a volume's header holds 100 bytes

    @pytest.mark.parametrize(("name", "said"), [(BNAME, BNAME), (LONG, LONG[:100])])
    def test_a_member_goes_on_behind_one_that_says_so(self, name: bytes, said: bytes) -> None:
        front = pax({b"path": name}) + header(size=1000)
        opened = in_volumes(
            front + b"a" * 512,
            VolumeBoundary(said, 488),
            b"b" * 488 + bytes(24) + END,
            path=name.decode(),
        )
        assert content(opened.only_file()) == b"a" * 512 + b"b" * 488
        opened.finish()

    @pytest.mark.parametrize(
        "seam",
        [
            VolumeBoundary(BNAME, 487),
            VolumeBoundary(BNAME, 489),
            VolumeBoundary(BNAME, 0),
            VolumeBoundary(b"vm2/private.img", 488),
            VolumeBoundary(BNAME + b"x", 488),
            VolumeBoundary(BNAME[:-1], 488),
            VolumeBoundary(b"", 488),
            VolumeBoundary(),
        ],
        ids=repr,
    )
    def test_no_byte_of_another_volume_gets_into_a_member(self, seam: VolumeBoundary) -> None:
        opened = in_volumes(header(BNAME, size=1000) + b"a" * 512, seam, b"b" * 488 + END)
        found: list[bytes] = []
        with pytest.raises(Damaged, match="parts don't fit together"):
            found.extend(bytes(extent.data or b"") for extent in opened.only_file().extents())
        assert found == [b"a" * 512]

    @pytest.mark.parametrize("said", [b"vm2/" + LONG[4:100], LONG[:99], LONG[:50]])
    def test_a_long_name_counts_as_far_as_it_is_known(self, said: bytes) -> None:
        front = pax({b"path": self.LONG}) + header(size=1000) + b"a" * 512
        opened = in_volumes(
            front, VolumeBoundary(said, 488), b"b" * 488 + END, path=self.LONG.decode()
        )
        with pytest.raises(Damaged, match="parts don't fit together"):
            content(opened.only_file())

    def test_between_members_a_volume_may_begin_with_any(self) -> None:
        """tar names a member there too, though all of it is still to come."""
        one, two = plain(b"1" * 512, b"vm1/apps/one"), plain(b"2" * 5, b"vm1/apps/two")
        begins = (
            VolumeBoundary(b"vm1/apps/one", 512),
            one,
            VolumeBoundary(b"vm1/apps/two", 5),
            two,
            VolumeBoundary(),
            END,
        )
        found = {
            entry.path: content(entry) for entry in in_volumes(*begins, path="vm1/apps").entries()
        }
        assert found == {"one": b"1" * 512, "two": b"2" * 5}

    def test_what_a_lost_volume_held_of_a_member_is_missing_in_its_place(self) -> None:
        seam = VolumeBoundary(BNAME, 200, LOSS)
        parts = (header(BNAME, size=1000) + b"a" * 512, seam, b"b" * 200 + bytes(24) + END)
        opened = in_volumes(*parts, past_gaps=True)
        assert described(opened.parts(opened.only_file())) == [
            (0, 512, b"a" * 512),
            (512, 288, "this chunk is lost"),
            (800, 200, b"b" * 200),
        ]
        opened.finish()

    @pytest.mark.parametrize(
        ("name", "left"), [(BNAME, 489), (b"vm2/private.img", 200), (b"", 0)], ids=repr
    )
    def test_nothing_goes_on_behind_a_lost_volume_that_does_not_say_so(
        self, name: bytes, left: int
    ) -> None:
        parts = (
            header(BNAME, size=1000) + b"a" * 512,
            VolumeBoundary(name, left, LOSS),
            b"b" * 1000 + END,
        )
        opened = in_volumes(*parts, past_gaps=True)
        assert described(opened.parts(opened.only_file())) == [
            (0, 512, b"a" * 512),
            (512, 488, "this chunk is lost"),
        ]

    def test_a_lost_volume_with_nothing_of_a_member_is_told_all_the_same(self) -> None:
        parts = (
            header(BNAME, size=1000) + b"a" * 512,
            VolumeBoundary(BNAME, 488, LOSS),
            b"b" * 488,
        )
        opened = in_volumes(*parts, past_gaps=True)
        assert described(opened.parts(opened.only_file())) == [
            (0, 512, b"a" * 512),
            (512, 0, "this chunk is lost"),
            (512, 488, b"b" * 488),
        ]
        with pytest.raises(Damaged, match="this chunk is lost"):
            content(in_volumes(*parts).only_file())


class TestClosing:
    def test_gives_back_what_it_stands_on(self) -> None:
        closed: list[str] = []
        with_gaps(END, on_close=lambda: closed.append("closed")).close()
        assert closed == ["closed"]

    def test_nothing_is_needed_for_it(self) -> None:
        inner(END).close()
