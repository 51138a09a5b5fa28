"""Format 2: volumes that were compressed and encrypted one by one, with a header or without."""

from __future__ import annotations

import contextlib
import os
import random
import re
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup import (
    FileResult,
    HeaderAltered,
    Incomplete,
    LimitExceeded,
    Limits,
    Report,
    UnsupportedFormat,
    WrongPassphrase,
)
from qbackup.archive.unlock.headerless import ReplaySource
from qbackup.base.errors import ChunkDamaged, Damaged, Interrupted
from qbackup.base.events import Data, Event, Extent, Lost
from qbackup.content.inner import InnerArchive
from qbackup.content.volumes import choose_volumes
from qbackup.crypto.ciphers import choose_cbc
from qbackup.formats.header import guess_header
from qbackup.formats.v2 import EncryptedVolumes
from qbackup.storage.source import SeekableSource, open_source
from tests import make_foreign_vectors as foreign
from tests.maker import (
    RELEASE_CANDIDATE,
    Format2Maker,
    Member,
    assemble,
    cut,
    drop,
    flip_byte,
    make_sparse,
    replace,
    run,
    swap,
    truncate,
)
from tests.secondreader.tar import is_mark
from tests.support import alter, tarbytes
from tests.support.commandline import call
from tests.support.old_vectors import combed
from tests.support.restored import errors, snapshot, statuses
from tests.support.sources import Fickle, Recorded, piped
from tests.support.speed import rows, spread

KIB = 1024
SECRET = "correct horse battery staple"
#: Two qubes; five volumes of the first one's image.
NOISE = random.Random(2).randbytes(40 * KIB)
OTHER = random.Random(3).randbytes(40 * KIB)
RULES = b"<QubesFirewallRules/>"
CHUNKS = [f"vm1/private.img.{index:03d}" for index in range(5)]

DONT_FIT = "its parts don't fit together: one is missing or in another's place"

WAYS = ("file", "pipe")


@dataclass(frozen=True)
class Kit:
    """A backup in parts, and how to read what was made of them."""

    maker: Format2Maker
    folder: Path

    @property
    def members(self) -> list[Member]:
        return self.maker.members()

    def assemble(self, members: Sequence[Member]) -> Path:
        return assemble(members, self.folder / "backup")

    def swapped(self, first: str, second: str) -> list[Member]:
        """Two chunks exchanged together with what proves them."""
        return swap(swap(self.members, first, second), f"{first}.hmac", f"{second}.hmac")

    def proven(self, name: str, content: bytes) -> list[Member]:
        """Another content of a chunk, and an HMAC that proves it."""
        members = replace(self.members, name, content)
        return replace(members, f"{name}.hmac", self.maker.proof_of(content))


@pytest.fixture(
    scope="module", params=spread(["beta", "candidate", "zlib", "plain", "gzip"], quick=2)
)
def kit(
    request: pytest.FixtureRequest, tools: None, tmp_path_factory: pytest.TempPathFactory
) -> Kit:
    """The same qubes, in every way that format 2 has to store them."""
    options: dict[str, dict[str, Any]] = {
        "beta": {},
        "candidate": {
            "header": RELEASE_CANDIDATE,
            "compression_filter": "gzip",
            "digest": "SHA512",
        },
        "zlib": {"zlib_around": True},
        "plain": {"encrypted": False},
        "gzip": {"encrypted": False, "compression_filter": "gzip"},
    }
    folder = tmp_path_factory.mktemp("format-2")
    maker = Format2Maker(folder / "maker", tape_length=10, **options[request.param])
    maker.add_qube("work", files={"private.img": NOISE, "firewall.xml": RULES})
    maker.add_qube("vault", files={"private.img": OTHER})
    return Kit(maker, folder)


@pytest.fixture(autouse=True)
def cheap_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second less for each restore."""
    monkeypatch.setattr("qbackup.formats.v3.JOURNAL_COST", qbackup.ScryptParameters(10, 8, 1))


@contextlib.contextmanager
def opened(backup: Path, way: str, **options: Any) -> Iterator[qbackup.BackupArchive]:
    with contextlib.ExitStack() as stack:
        source: Any = backup if way == "file" else stack.enter_context(piped(backup))
        yield stack.enter_context(qbackup.open(source, **{"passphrase": SECRET, **options}))


def restored(backup: Path, way: str, out: Path, **options: Any) -> Report:
    """The report, whatever it says."""
    with opened(backup, way, **options) as archive:
        try:
            return archive.restore(out)
        except Incomplete as incomplete:
            return incomplete.report


def named(kit: Kit, name: str) -> str:
    """A stored name of the encrypted backups, in this one."""
    qube = kit.maker.qubes[int(name[2]) - 1]
    return qube.subdir + name.partition("/")[2]


class TestWhole:
    @rows("way", WAYS)
    def test_every_file_comes_back(self, kit: Kit, way: str, tmp_path: Path) -> None:
        report = restored(kit.assemble(kit.members), way, tmp_path / "out")
        assert report.ok
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE
        assert (tmp_path / "out/work/firewall.xml").read_bytes() == RULES
        assert (tmp_path / "out/vault/private.img").read_bytes() == OTHER
        assert len(snapshot(tmp_path / "out")) == 4

    def test_the_command_says_success(self, kit: Kit, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(SECRET)
        backup = kit.assemble(kit.members)
        ended = call("restore", backup, "-o", tmp_path / "out", "-p", tmp_path / "secret")
        assert ended.status == 0, ended.err
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE

    def test_a_chunk_opens_alone(self, kit: Kit) -> None:
        with opened(kit.assemble(kit.members), "file") as archive:
            chunks = list(archive.file("vault/private.img").chunks)
            assert len(chunks) == 5
            for chunk in reversed(chunks):
                with chunk.open() as plaintext:
                    assert len(plaintext.read()) > 0

    def test_what_is_told_without_a_passphrase(self, kit: Kit) -> None:
        with qbackup.open(kit.assemble(kit.members)) as archive:
            assert archive.untrusted_header.version == 2
            assert archive.untrusted_header.encrypted == kit.maker.encrypted
        ended = call("info", kit.assemble(kit.members))
        assert ended.status == 0, ended.err

    def test_the_digest_that_proved_it_is_known_afterwards(self, kit: Kit) -> None:
        with opened(kit.assemble(kit.members), "file") as archive:
            assert archive.header.hmac_algorithm.lower() == kit.maker.digest.lower()


class TestDamage:
    @rows("way", WAYS)
    @rows("index", [0, 2, 4])
    @rows("offset", [0, 20, -1])
    def test_a_flipped_bit(
        self, kit: Kit, way: str, index: int, offset: int, tmp_path: Path
    ) -> None:
        name = named(kit, CHUNKS[index])
        backup = kit.assemble(flip_byte(kit.members, name, offset))
        report = restored(backup, way, tmp_path / "out")
        self.check_one_loss(report, tmp_path / "out", "work/private.img", name)

    @rows("way", WAYS, quick=1)
    @rows("index", [0, 2, 4], quick=2)
    def test_a_missing_chunk(self, kit: Kit, way: str, index: int, tmp_path: Path) -> None:
        name = named(kit, CHUNKS[index])
        backup = kit.assemble(drop(kit.members, name, f"{name}.hmac"))
        report = restored(backup, way, tmp_path / "out")
        self.check_one_loss(report, tmp_path / "out", "work/private.img")

    @rows("way", WAYS, quick=1)
    def test_a_missing_proof(self, kit: Kit, way: str, tmp_path: Path) -> None:
        name = named(kit, CHUNKS[2])
        backup = kit.assemble(drop(kit.members, f"{name}.hmac"))
        report = restored(backup, way, tmp_path / "out")
        self.check_one_loss(report, tmp_path / "out", "work/private.img", name)

    @rows("way", WAYS)
    @rows("pair", [(0, 1), (1, 2), (2, 3), (1, 3), (3, 4), (0, 4)])
    def test_two_chunks_of_a_file_exchanged(
        self, kit: Kit, way: str, pair: tuple[int, int], tmp_path: Path
    ) -> None:
        first, second = (named(kit, CHUNKS[index]) for index in pair)
        backup = kit.assemble(kit.swapped(first, second))
        report = restored(backup, way, tmp_path / "out")
        self.check_one_loss(report, tmp_path / "out", "work/private.img")

    @rows("way", WAYS, quick=1)
    @rows("index", [0, 1, 3, 4], quick=2)
    def test_the_same_chunk_of_two_files_exchanged(
        self, kit: Kit, way: str, index: int, tmp_path: Path
    ) -> None:
        first = named(kit, CHUNKS[index])
        second = named(kit, CHUNKS[index].replace("vm1", "vm2"))
        report = restored(kit.assemble(kit.swapped(first, second)), way, tmp_path / "out")
        bad = errors(report)
        if index == 4:  # the end alone may fit: what is in it is padding, and zeros
            assert bad.keys() <= {"work/private.img", "vault/private.img"}
        else:
            assert bad.keys() == {"work/private.img", "vault/private.img"}
        for name, content in (("work", NOISE), ("vault", OTHER)):
            path = tmp_path / f"out/{name}/private.img"
            assert not path.exists() or path.read_bytes() == content

    @rows("way", WAYS, quick=2)
    def test_a_chunk_of_an_older_backup(self, kit: Kit, way: str, tmp_path: Path) -> None:
        """The same passphrase proves it: only its place in another file shows."""
        first, other = named(kit, CHUNKS[1]), named(kit, "vm2/private.img.001")
        by_name = {member.name: member for member in kit.members}
        members = replace(kit.members, first, by_name[other])
        members = replace(members, f"{first}.hmac", by_name[f"{other}.hmac"])
        report = restored(kit.assemble(members), way, tmp_path / "out")
        self.check_one_loss(report, tmp_path / "out", "work/private.img")

    @rows("way", WAYS, quick=2)
    def test_a_cut_chunk(self, kit: Kit, way: str, tmp_path: Path) -> None:
        name = named(kit, CHUNKS[3])
        report = restored(kit.assemble(cut(kit.members, name, -16)), way, tmp_path / "out")
        self.check_one_loss(report, tmp_path / "out", "work/private.img", name)

    @rows("way", WAYS, quick=2)
    def test_a_cut_file(self, kit: Kit, way: str, tmp_path: Path) -> None:
        backup = kit.assemble(kit.members)
        truncate(backup, backup.stat().st_size - 45_000)
        report = restored(backup, way, tmp_path / "out")
        assert not report.ok
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE
        assert not (tmp_path / "out/vault/private.img").exists()
        assert "vault/private.img" in errors(report)

    @rows("way", WAYS, quick=1)
    def test_qubes_xml_is_damaged_behind_its_proof(
        self, kit: Kit, way: str, tmp_path: Path
    ) -> None:
        members = kit.proven("qubes.xml.000", kit.maker.store(b"\1" * 512 + bytes(1024)))
        with pytest.raises((Damaged, Incomplete)), opened(kit.assemble(members), way) as archive:
            archive.restore(tmp_path / "out")

    def check_one_loss(self, report: Report, out: Path, lost: str, chunk: str = "") -> None:
        bad = errors(report)
        assert bad.keys() == {lost}
        assert chunk in bad[lost]
        assert statuses(report)["vault/private.img"] == "ok"
        assert (out / "vault/private.img").read_bytes() == OTHER
        assert (out / "work/firewall.xml").read_bytes() == RULES
        assert len(snapshot(out)) == 3


class TestLocked:
    @rows("way", WAYS, quick=2)
    def test_a_wrong_passphrase(self, kit: Kit, way: str, tmp_path: Path) -> None:
        backup = kit.assemble(kit.members)
        with pytest.raises(WrongPassphrase), opened(backup, way, passphrase="guess"):
            pass
        (tmp_path / "secret").write_text("guess")
        ended = call("restore", backup, "-o", tmp_path / "out", "-p", tmp_path / "secret")
        assert ended.status == 3
        assert not (tmp_path / "out").exists()

    @rows("way", WAYS, quick=1)
    def test_another_try_with_the_right_one(self, kit: Kit, way: str, tmp_path: Path) -> None:
        with opened(kit.assemble(kit.members), way, passphrase=None) as archive:
            with pytest.raises(WrongPassphrase):
                archive.unlock("guess")
            archive.unlock(SECRET)
            assert archive.restore(tmp_path / "out").ok

    @pytest.mark.parametrize("way", WAYS)
    def test_an_altered_beginning(self, kit: Kit, way: str) -> None:
        first = kit.members[0].name
        backup = kit.assemble(flip_byte(kit.members, first, -1))
        with pytest.raises((WrongPassphrase, HeaderAltered)), opened(backup, way):
            pass

    @pytest.mark.parametrize("way", WAYS)
    def test_a_beginning_without_its_proof(self, kit: Kit, way: str) -> None:
        first = kit.members[0].name
        backup = kit.assemble(drop(kit.members, f"{first}.hmac"))
        with pytest.raises(HeaderAltered), opened(backup, way):
            pass


class TestKeepDamaged:
    """Each volume says how much is still to come, so what follows a lost one has its place."""

    DATA = 19 * 512  # of a volume, behind its header

    def kept(
        self, kit: Kit, how: str, lost: tuple[int, ...], tmp_path: Path
    ) -> tuple[FileResult, Path]:
        members = kit.members
        for index in lost:
            name = named(kit, CHUNKS[index])
            gone = how == "missing"
            members = drop(members, name, f"{name}.hmac") if gone else flip_byte(members, name, 7)
        with opened(kit.assemble(members), "file") as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        (bad,) = report.bad
        return bad, tmp_path / "out/work/private.img.damaged"

    @rows(
        ("how", "lost"),
        [("flipped", (1, 3)), ("missing", (2, 3)), ("flipped", (4,)), ("missing", (1,))],
        quick=3,
    )
    def test_all_but_the_lost_volumes_is_in_its_place(
        self, kit: Kit, how: str, lost: tuple[int, ...], tmp_path: Path
    ) -> None:
        bad, path = self.kept(kit, how, lost, tmp_path)
        expected = bytearray(NOISE)
        for index in lost:
            start, end = index * self.DATA, min((index + 1) * self.DATA, len(NOISE))
            expected[start:end] = bytes(end - start)
        assert path.read_bytes() == expected
        for part in bad.ranges:
            good = bytes(expected[part.start : part.end]) == NOISE[part.start : part.end]
            assert (part.state == "good") == good
        assert bad.ranges[-1].end == len(NOISE)

    def test_without_the_first_one_nothing_has_a_place(self, kit: Kit, tmp_path: Path) -> None:
        bad, path = self.kept(kit, "flipped", (0,), tmp_path)
        assert bad.kept_as is None and not path.exists()

    @pytest.mark.parametrize("lost", [1, 2])
    def test_of_an_image_with_holes(self, tools: None, lost: int, tmp_path: Path) -> None:
        data = {n * 65_536: random.Random(n).randbytes(4096) for n in range(8)}
        image = make_sparse(tmp_path / "image", 1 << 20, data)
        maker = Format2Maker(tmp_path / "maker", tape_length=10, compression_filter="gzip")
        maker.add_qube("work", files={"private.img": image})
        bad, path = self.kept(Kit(maker, tmp_path), "flipped", (lost,), tmp_path)
        whole, there = image.read_bytes(), path.read_bytes()
        assert len(there) == len(whole)
        wrong = 0
        for part in bad.ranges:
            wanted = whole[part.start : part.end]
            zeros = bytes(len(wanted))
            assert there[part.start : part.end] == (wanted if part.state == "good" else zeros)
            wrong += len(wanted) if part.state != "good" else 0
        assert wrong == self.DATA

    def test_a_volume_that_does_not_go_on_has_no_place(self, kit: Kit, tmp_path: Path) -> None:
        """What comes behind the lost one is proven, but says that more is left than there was."""
        names = [named(kit, name) for name in CHUNKS]
        members = kit.swapped(names[1], names[3])
        members = drop(members, names[2], f"{names[2]}.hmac")
        with opened(kit.assemble(members), "file") as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        (bad,) = report.bad
        there = (tmp_path / "out/work/private.img.damaged").read_bytes()
        assert there == NOISE[: self.DATA] + bytes(len(NOISE) - self.DATA)
        assert [part.state for part in bad.ranges] == ["good", "zero-filled"]

    def test_of_dom0_s_home_the_whole_files(self, tools: None, tmp_path: Path) -> None:
        home = tmp_path / "user"
        home.mkdir()
        for number in range(9):
            (home / f"{number}").write_bytes(random.Random(number).randbytes(4096))
        maker = Format2Maker(tmp_path / "maker", tape_length=10)
        maker.add_home("user", home)
        backup = assemble(flip_byte(maker.members(), "dom0-home/user.002", 9), tmp_path / "backup")
        with opened(backup, "file") as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        assert not report.ok
        found = [path for path in (tmp_path / "out/dom0/user.damaged").iterdir() if path.is_file()]
        assert 3 < len(found) < 9
        for path in found:
            assert path.read_bytes() == (home / path.name).read_bytes()


class TestDigests:
    @pytest.fixture
    def make(self, tools: None, tmp_path: Path) -> Callable[..., Path]:
        def make(**options: Any) -> Path:
            maker = Format2Maker(tmp_path / "maker", **options)
            maker.add_qube("work", files={"private.img": NOISE})
            return maker.write(tmp_path / "backup")

        return make

    @rows("digest", ["SHA1", "ripemd160", "SHA256", "sha3-512", "blake2b512"], quick=2)
    @rows("way", WAYS, quick=1)
    def test_are_found_by_trying(
        self, make: Callable[..., Path], digest: str, way: str, tmp_path: Path
    ) -> None:
        assert restored(make(digest=digest), way, tmp_path / "out").ok

    @pytest.mark.parametrize("way", WAYS)
    def test_a_weak_one_has_to_be_asked_for(
        self, make: Callable[..., Path], way: str, tmp_path: Path
    ) -> None:
        backup = make(digest="MD5")
        with pytest.raises(UnsupportedFormat, match="MD5"), opened(backup, way):
            pass
        assert restored(backup, way, tmp_path / "out", hmac_algorithm="MD5").ok

    def test_one_that_is_asked_for_is_the_only_one(self, make: Callable[..., Path]) -> None:
        with pytest.raises(WrongPassphrase), opened(make(), "file", hmac_algorithm="SHA512"):
            pass


class TestReading:
    def test_no_byte_is_read_twice(self, kit: Kit, tmp_path: Path) -> None:
        backup = kit.assemble(kit.members)
        source = Recorded(backup)
        with qbackup.open(cast(BinaryIO, source), passphrase=SECRET) as archive:
            assert archive.restore(tmp_path / "out").ok
        with tarfile.open(backup, ignore_zeros=True) as outer:
            for member in outer:
                times = source.times_read(member.offset_data, member.offset_data + member.size)
                assert times == [1] * member.size, member.name

    def test_a_drive_that_changes_its_answers_gains_nothing(self, kit: Kit, tmp_path: Path) -> None:
        source = Fickle(kit.assemble(kit.members))
        with qbackup.open(cast(BinaryIO, source), passphrase=SECRET) as archive:
            assert archive.restore(tmp_path / "out").ok
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE


class TestDom0:
    """R2's qubes.xml does not list dom0, whose home may be there all the same."""

    @pytest.fixture
    def backup(self, tools: None, tmp_path: Path) -> Path:
        home = tmp_path / "user"
        home.mkdir()
        (home / "file").write_bytes(b"content")
        (home / "link").symlink_to("file")
        maker = Format2Maker(tmp_path / "maker")
        maker.add_home("user", home)
        return maker.write(tmp_path / "backup")

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("names", [[], ["dom0"], ["dom0/user"]])
    def test_is_restored(self, backup: Path, way: str, names: list[str], tmp_path: Path) -> None:
        with opened(backup, way) as archive:
            assert archive.restore(tmp_path / "out", names).ok
        assert (tmp_path / "out/dom0/user/file").read_bytes() == b"content"
        assert os.readlink(tmp_path / "out/dom0/user/link") == "file"

    def test_is_listed_where_it_is_found(self, backup: Path) -> None:
        with opened(backup, "file") as archive:
            assert [qube.name for qube in archive.qubes] == ["dom0"]

    @pytest.mark.parametrize("way", WAYS)
    def test_is_missed_only_when_it_is_asked_for(
        self, tools: None, way: str, tmp_path: Path
    ) -> None:
        maker = Format2Maker(tmp_path / "maker-2")
        maker.add_qube("work", files={"private.img": b""})
        backup = maker.write(tmp_path / "backup")
        assert restored(backup, way, tmp_path / "out").ok
        with opened(backup, way) as archive, pytest.raises(Incomplete):
            archive.restore(tmp_path / "other", ["dom0"])


def volumes_of(folder: Path, source: Path, name: str, tape_length: int = 10) -> list[bytes]:
    """What GNU tar cuts an archive of `source` into."""
    maker = Format2Maker(folder, tape_length=tape_length, encrypted=False)
    return [path.read_bytes() for path in maker.volumes(source, "vm1/", name)]


def events_of(volumes: Sequence[bytes]) -> Iterator[Event]:
    for index, volume in enumerate(volumes):
        yield Data(memoryview(bytearray(volume)), len(volume), index)


def image_of(volumes: Sequence[bytes], filter_: str | None = None) -> bytes:
    """The image that these volumes hold, read to its proven end."""
    pieces = choose_volumes(None, filter_, Limits())(events_of(volumes))
    inner = InnerArchive(pieces, "vm1/private.img", Limits())
    entry = inner.only_file()
    content = b"".join(bytes(e.data or bytes(e.length)) for e in entry.extents())
    inner.finish()
    return content


def combed_volumes(folder: Path, image: Path, tape_length: int) -> list[bytes]:
    """Volumes into which GNU tar of that time cuts an archive of an image with many holes."""
    maker = Format2Maker(folder, tape_length=tape_length, encrypted=False, holes_by_reading=True)
    return [path.read_bytes() for path in maker.volumes(image, "vm1/", "private.img")]


def shape_of(volumes: Sequence[bytes]) -> str:
    """For each volume behind the first, whether it begins with a mark."""
    return "".join("M" if is_mark(volume[:512]) else "." for volume in volumes[1:])


class TestVolumes:
    @rows(
        "size",
        [0, 1, 511, 9215, 9216, 9217, 9728, 10_240, 18_944, 19_456, 20_480, 100_000],
        quick=3,
    )
    @rows("sparse", [False, True], quick=3)
    def test_wherever_the_cut_falls_the_image_is_whole(
        self, tools: None, tmp_path: Path, size: int, sparse: bool
    ) -> None:
        image = tmp_path / "private.img"
        content = random.Random(size).randbytes(size)
        if sparse:
            make_sparse(image, 4 << 20, {n * 65_536: content for n in range(0, 60, 7)})
        else:
            image.write_bytes(content)
        assert image_of(volumes_of(tmp_path / "maker", image, "private.img")) == image.read_bytes()

    @rows("seed", range(12), quick=3)
    def test_of_a_folder_every_entry_comes_out(
        self, tools: None, tmp_path: Path, seed: int
    ) -> None:
        folder = make_tree(tmp_path / "apps", random.Random(seed))
        volumes = volumes_of(tmp_path / "maker", folder, "apps")
        assert len(volumes) > 3
        pieces = choose_volumes(None, None, Limits())(events_of(volumes))
        inner = InnerArchive(pieces, "vm1/apps", Limits(), every_link=True)
        found = {}
        for entry in inner.entries():
            data = b"".join(bytes(e.data or bytes(e.length)) for e in entry.extents())
            found[entry.path] = entry.target if entry.kind == "symlink" else data
        paths = sorted(folder.rglob("*"))
        assert sorted(found) == [".", *(str(path.relative_to(folder)) for path in paths)]
        for path in paths:
            said = found[str(path.relative_to(folder))]
            if path.is_symlink():
                assert said == os.readlink(path)
            elif path.is_file():
                assert said == path.read_bytes()

    @rows(
        ("tape_length", "runs", "shape"),
        [
            (10, 402, "MM"),  # the map ends with the volume
            (10, 403, "MM"),
            (10, 821, "M.."),  # it fills tar's buffer behind a mark: none comes any more
            (10, 823, ".MM"),
            (10, 1241, ".M.."),
            (10, 1243, "..MM"),
            (20, 1241, "M.."),
            (20, 1243, ".MM"),
        ],
        quick=2,
    )
    def test_a_map_of_holes_may_be_cut(
        self, tools: None, tmp_path: Path, tape_length: int, runs: int, shape: str
    ) -> None:
        image = combed(tmp_path / "private.img", runs)
        volumes = combed_volumes(tmp_path / "maker", image, tape_length)
        assert shape_of(volumes).startswith(shape)
        assert image_of(volumes) == image.read_bytes()

    @pytest.mark.parametrize("runs", [821, 823])
    def test_what_is_wrong_in_a_map_that_is_cut_is_seen(
        self, tools: None, tmp_path: Path, runs: int
    ) -> None:
        volumes = combed_volumes(tmp_path / "maker", combed(tmp_path / "private.img", runs), 10)
        wrong = [
            [*volumes[:1], *volumes[2:]],
            [*volumes[:2], *volumes[1:]],
            [volumes[0], volumes[2], volumes[1], *volumes[3:]],
            [volumes[0], volumes[1][:-512], *volumes[2:]],
            [volumes[0], bytes(len(volumes[1])), *volumes[2:]],
            [volumes[0], volumes[1][:300], *volumes[2:]],
            [*volumes[:5], *volumes[6:]],
            volumes[:-1],
        ]
        for order in wrong:
            with pytest.raises(Damaged):
                image_of(order)

    def test_a_lost_part_of_a_map_is_told(self, tools: None, tmp_path: Path) -> None:
        volumes = combed_volumes(tmp_path / "maker", combed(tmp_path / "private.img", 823), 10)

        def events() -> Iterator[Event]:
            yield from events_of(volumes[:1])
            yield Lost("vm1/private.img.001", None, ChunkDamaged("lost"))
            yield from events_of(volumes[2:])

        for past_gaps in (False, True):
            pieces = choose_volumes(None, None, Limits())(events())
            inner = InnerArchive(pieces, "vm1/private.img", Limits(), past_gaps=past_gaps)
            with pytest.raises(ChunkDamaged, match="lost"):
                inner.only_file()

    @pytest.mark.parametrize("extra", [0, 512, 1024])
    def test_a_long_name_may_be_cut_from_its_header(
        self, tools: None, tmp_path: Path, extra: int
    ) -> None:
        """The name's own block begins the second volume, and holds an M where the type stands."""
        folder = tmp_path / "apps"
        folder.mkdir()
        (folder / "front").write_bytes(NOISE[: 8704 + extra])
        (folder / ("n" * 143 + "M" * 40)).write_bytes(NOISE[:700])
        volumes = volumes_of(tmp_path / "maker", folder, "apps")
        pieces = choose_volumes(None, None, Limits())(events_of(volumes))
        inner = InnerArchive(pieces, "vm1/apps", Limits(), every_link=True)
        found = {}
        for entry in inner.entries():
            found[entry.path] = b"".join(bytes(e.data or b"") for e in entry.extents())
        assert {name: len(data) for name, data in found.items() if data} == {
            path.name: path.stat().st_size for path in folder.iterdir()
        }

    @pytest.fixture
    def image(self, tools: None, tmp_path: Path) -> list[bytes]:
        (tmp_path / "private.img").write_bytes(NOISE)
        return volumes_of(tmp_path / "maker", tmp_path / "private.img", "private.img")

    def test_exchanged_ones_don_t_fit_together(self, image: list[bytes]) -> None:
        for first, second in ((1, 2), (1, 3), (2, 3), (3, 4), (0, 1)):
            order = list(image)
            order[first], order[second] = order[second], order[first]
            with pytest.raises(Damaged):
                image_of(order)

    def test_one_twice_or_left_out_does_not_fit(self, image: list[bytes]) -> None:
        for index in range(1, len(image)):
            with pytest.raises(Damaged):
                image_of([*image[:index], *image[index + 1 :]])
            with pytest.raises(Damaged):
                image_of([*image[: index + 1], *image[index:]])

    def test_one_of_another_member_does_not_fit(self, image: list[bytes], tmp_path: Path) -> None:
        (tmp_path / "root.img").write_bytes(OTHER)
        other = volumes_of(tmp_path / "maker-2", tmp_path / "root.img", "root.img")
        with pytest.raises(Damaged, match="don't fit together"):
            image_of([*image[:2], other[2], *image[3:]])

    def test_one_without_its_header_is_none(self, image: list[bytes]) -> None:
        with pytest.raises(Damaged, match="does not begin as a volume"):
            image_of([*image[:2], image[2][512:], *image[3:]])
        with pytest.raises(Damaged, match="does not begin as a volume"):
            image_of([*image[:2], image[2][:511]])

    def test_a_member_that_begins_where_one_goes_on_does_not_fit(self, image: list[bytes]) -> None:
        with pytest.raises(Damaged, match="don't fit together"):
            image_of([*image[:2], image[0], *image[3:]])

    @pytest.mark.parametrize("filter_", ["gzip", "bzip2"])
    def test_each_is_compressed_alone(self, image: list[bytes], filter_: str) -> None:
        packed = [run([filter_, "-c"], stdin=volume) for volume in image]
        assert image_of(packed) == NOISE
        assert image_of(packed, filter_) == NOISE
        assert image_of([*packed[:2], *image[2:]]) == NOISE  # told one by one
        with pytest.raises(Damaged):
            image_of(packed, "none")
        with pytest.raises(Damaged):  # a stream does not go on in the next chunk
            image_of([packed[0][:-9], packed[0][-9:] + packed[1], *packed[2:]])

    def test_a_lost_one_is_told_where_it_is_missing(self, image: list[bytes]) -> None:
        def events() -> Iterator[Event]:
            yield from events_of(image[:2])
            yield Lost("vm1/private.img.002", None, ChunkDamaged("lost"))

        inner = InnerArchive(
            choose_volumes(None, None, Limits())(events()), "vm1/private.img", Limits()
        )
        with pytest.raises(ChunkDamaged, match="lost"):
            list(inner.only_file().extents())

    def test_one_whose_member_s_name_only_begins_the_same_does_not_fit(
        self, image: list[bytes], tmp_path: Path
    ) -> None:
        (tmp_path / "private").write_bytes(NOISE)
        other = volumes_of(tmp_path / "maker-2", tmp_path / "private", "private")
        with pytest.raises(Damaged, match="don't fit together"):
            image_of([*image[:2], other[2], *image[3:]])

    @pytest.mark.parametrize("after", [[1], [0], [], [4, 4]])
    def test_behind_a_lost_one_others_have_no_place_unless_they_go_on(
        self, image: list[bytes], after: list[int]
    ) -> None:
        """Volumes 0 to 2 are there, 3 is lost; what is there of it all is where it belongs."""

        def events() -> Iterator[Event]:
            yield from events_of(image[:3])
            yield Lost("vm1/private.img.003", None, ChunkDamaged("lost"))
            yield from events_of([image[index] for index in after])

        pieces = choose_volumes(None, None, Limits())(events())
        inner = InnerArchive(pieces, "vm1/private.img", Limits(), past_gaps=True)
        found = []
        for part in inner.parts(inner.only_file()):
            if isinstance(part, Extent):
                assert bytes(part.data or b"") == NOISE[part.offset : part.offset + part.length]
                found.append(part.length)
            else:
                assert part.error.reason in ("lost", DONT_FIT) and part.length > 0
        last = 40 * KIB - 4 * 9728 if after == [4, 4] else 0
        assert sum(found) == 3 * 9728 + last

    def test_behind_a_lost_one_nothing_of_another_member_is_taken(
        self, image: list[bytes], tmp_path: Path
    ) -> None:
        (tmp_path / "root.img").write_bytes(OTHER)
        other = volumes_of(tmp_path / "maker-2", tmp_path / "root.img", "root.img")

        def events() -> Iterator[Event]:
            yield from events_of(image[:2])
            yield Lost("vm1/private.img.002", None, ChunkDamaged("lost"))
            yield from events_of(other[3:])

        pieces = choose_volumes(None, None, Limits())(events())
        inner = InnerArchive(pieces, "vm1/private.img", Limits(), past_gaps=True)
        parts = list(inner.parts(inner.only_file()))
        assert sum(part.length for part in parts if isinstance(part, Extent)) == 2 * 9728

    @pytest.mark.parametrize("past_gaps", [False, True])
    def test_a_lost_one_is_told_though_nothing_is_missing(
        self, image: list[bytes], past_gaps: bool
    ) -> None:
        def events() -> Iterator[Event]:
            yield from events_of(image[:2])
            yield Lost("vm1/private.img.002", None, ChunkDamaged("lost"))
            yield from events_of(image[2:])

        pieces = choose_volumes(None, None, Limits())(events())
        inner = InnerArchive(pieces, "vm1/private.img", Limits(), past_gaps=past_gaps)
        with pytest.raises(ChunkDamaged, match="lost"):
            list(inner.extents(inner.only_file()))

    def test_a_filter_that_is_not_built_in_is_refused(self) -> None:
        with pytest.raises(UnsupportedFormat, match="shrink"):
            choose_volumes("shrink", None, Limits())


@pytest.fixture(scope="module")
def beta3(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A backup of Beta 3, encrypted and compressed."""
    folder = tmp_path_factory.mktemp("zlib")
    maker = Format2Maker(folder / "maker", zlib_around=True, tape_length=10)
    maker.add_qube("work", files={"private.img": NOISE})
    return Kit(maker, folder)


class TestZlib:
    """What is around the cipher text is proven by the HMAC too, and still bounded."""

    def lost(self, beta3: Kit, content: bytes, tmp_path: Path, **options: Any) -> str:
        """Why the image is lost with this in place of its third chunk, though proven."""
        backup = beta3.assemble(beta3.proven(CHUNKS[2], content))
        return errors(restored(backup, "file", tmp_path / "out", **options))["work/private.img"]

    def test_a_stream_that_is_cut_or_broken(self, beta3: Kit, tmp_path: Path) -> None:
        stored = next(m for m in beta3.members if m.name == CHUNKS[2]).path.read_bytes()
        broken = stored[:100] + bytes([stored[100] ^ 255]) + stored[101:]
        for content in (stored[:-1], stored[:50], stored[:2], broken, stored + b"x"):
            assert CHUNKS[2] in self.lost(beta3, content, tmp_path)

    def test_a_bomb_meets_the_limit_of_a_chunk(self, beta3: Kit, tmp_path: Path) -> None:
        bomb = zlib.compress(b"Salted__" + bytes(32 << 20))
        reason = self.lost(beta3, bomb, tmp_path, limits=Limits(chunk=1 << 20))
        assert "longer than a chunk" in reason

    def test_what_is_not_encrypted_is_none_of_this_backup(self, beta3: Kit, tmp_path: Path) -> None:
        for content in (b"", b"plain", bytes(512), zlib.compress(b"plain"), b"Salted__"):
            assert CHUNKS[2] in self.lost(beta3, content, tmp_path)

    @pytest.mark.parametrize(
        ("length", "more"), [((1 << 20) + 2, b""), (1 << 20, b""), (1 << 20, b"x")]
    )
    def test_its_end_may_fall_anywhere(self, length: int, more: bytes) -> None:
        """It is inflated some at a time, which must not show."""
        overhead = len(zlib.compress(bytes(length), 0)) - length
        stored = zlib.compress(b"Salted__" + bytes(length - overhead - 8), 0)
        assert len(stored) == length
        volumes = EncryptedVolumes(choose_cbc("aes-256-cbc"), SECRET.encode(), Limits())
        with pytest.raises(ChunkDamaged) as caught:  # what is in it is no cipher text
            volumes.open(0, memoryview(bytearray(16) + stored + more))
        assert ("zlib" in caught.value.reason) == bool(more)

    def test_much_of_it_may_hold_nothing(self) -> None:
        packed = zlib.compress(b"Salted__" + bytes(40))
        stored = packed[:2] + b"\0\0\0\xff\xff" * 300_000 + packed[2:]
        volumes = EncryptedVolumes(choose_cbc("aes-256-cbc"), SECRET.encode(), Limits())
        with pytest.raises(ChunkDamaged, match="no padding"):
            volumes.open(0, memoryview(bytearray(16) + stored))

    @pytest.mark.parametrize("front", [b"", b"x", b"\x70\x03", b"\x78\x00", b"plain"])
    def test_what_is_neither_zlib_nor_encrypted_is_called_that(self, front: bytes) -> None:
        volumes = EncryptedVolumes(choose_cbc("aes-256-cbc"), SECRET.encode(), Limits())
        with pytest.raises(ChunkDamaged, match="does not begin as openssl"):
            volumes.open(0, memoryview(bytearray(16) + front))

    def test_it_takes_no_more_room_than_what_is_in_it(self) -> None:
        size = 16 << 20
        stored = zlib.compress(b"Salted__" + random.Random(1).randbytes(size + 8), 0)
        volumes = EncryptedVolumes(choose_cbc("aes-256-cbc"), SECRET.encode(), Limits())
        body = memoryview(bytearray(16) + stored)
        del stored
        tracemalloc.start()
        with pytest.raises(ChunkDamaged, match="no padding"):
            volumes.open(0, body)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.5 * size

    def test_a_chunk_as_long_as_the_limit_is_within_it(self, beta3: Kit, tmp_path: Path) -> None:
        stored = next(m for m in beta3.members if m.name == CHUNKS[2]).path.read_bytes()
        length = len(zlib.decompress(stored))
        volumes = EncryptedVolumes(choose_cbc("aes-256-cbc"), SECRET.encode(), Limits(chunk=length))
        volumes.open(2, memoryview(bytearray(16) + stored))
        volumes = EncryptedVolumes(
            choose_cbc("aes-256-cbc"), SECRET.encode(), Limits(chunk=length - 1)
        )
        with pytest.raises(LimitExceeded) as caught:
            volumes.open(2, memoryview(bytearray(16) + stored))
        assert caught.value.limit == "chunk"

    def test_a_whole_block_of_garbage(self, beta3: Kit, tmp_path: Path) -> None:
        assert "no padding" in self.lost(beta3, b"Salted__" + bytes(8) + bytes(64), tmp_path)


class TestWithoutAHeader:
    @pytest.mark.parametrize(
        ("chunk", "encrypted"),
        [
            (b"Salted__12345678", True),
            (zlib.compress(b"Salted__12345678"), True),
            (zlib.compress(b"Salted__12345678" + bytes(99))[:30], True),
            (zlib.compress(b"something else"), False),
            (b"\x1f\x8b\x08\0", False),
            (b"qubes.xml", False),
            (b"", False),
        ],
    )
    def test_encryption_is_told_from_the_first_chunk(self, chunk: bytes, encrypted: bool) -> None:
        assert guess_header(chunk).encrypted is encrypted

    @pytest.mark.parametrize("way", WAYS)
    def test_a_first_chunk_longer_than_qubes_xml_may_be(
        self, tools: None, way: str, tmp_path: Path
    ) -> None:
        maker = Format2Maker(tmp_path / "maker")
        members = replace(maker.members(), "qubes.xml.000", bytes(200_000))
        backup = assemble(members, tmp_path / "backup")
        with pytest.raises(LimitExceeded) as caught:
            qbackup.open(backup, limits=Limits(metadata=100_000))
        assert caught.value.limit == "metadata"

    def test_in_another_order_it_is_read_from_a_file_only(
        self, tools: None, tmp_path: Path
    ) -> None:
        maker = Format2Maker(tmp_path / "maker")
        maker.add_qube("work", files={"private.img": b""})
        members = maker.members()
        for number in (1, 2, 3):
            backup = assemble(members[number:] + members[:number], tmp_path / "backup")
            with qbackup.open(backup, passphrase=SECRET) as archive:
                assert archive.verify().ok
            with piped(backup) as pipe, pytest.raises(qbackup.Unreadable, match="pipe"):
                qbackup.open(pipe, passphrase=SECRET)

    def test_the_end_of_the_file_within_the_beginning(self, tools: None, tmp_path: Path) -> None:
        maker = Format2Maker(tmp_path / "maker")
        backup = assemble(maker.members(), tmp_path / "backup")
        for size in (1600, 12_288, 12_900, 22_030):
            short = tmp_path / "short"
            short.write_bytes(backup.read_bytes()[:size])
            for way in WAYS:
                with pytest.raises(qbackup.QBackupError), opened(short, way):
                    pass

    @pytest.mark.parametrize("limits", [Limits(chunk=8 * KIB), Limits(metadata=1)])
    def test_which_limit_holds_for_the_first_chunk(
        self, tools: None, limits: Limits, tmp_path: Path
    ) -> None:
        """That of a chunk, or of qubes.xml with what a tar archive and a cipher put around it."""
        backup = Format2Maker(tmp_path / "maker").write(tmp_path / "backup")
        if limits.metadata > 1:
            with pytest.raises(LimitExceeded):
                qbackup.open(backup, passphrase=SECRET, limits=limits)
            return
        with qbackup.open(backup, passphrase=SECRET, limits=limits) as archive:
            assert archive.header.version == 2

    def test_a_proof_that_is_too_long_is_not_read(self, tools: None, tmp_path: Path) -> None:
        members = replace(
            Format2Maker(tmp_path / "maker").members(), "qubes.xml.000.hmac", b"=00".ljust(4097)
        )
        with pytest.raises(LimitExceeded, match="4096"):
            qbackup.open(assemble(members, tmp_path / "backup"))

    @pytest.mark.parametrize("way", WAYS)
    def test_a_damaged_tar_header_behind_the_first_chunk(
        self, tools: None, way: str, tmp_path: Path
    ) -> None:
        backup = Format2Maker(tmp_path / "maker").write(tmp_path / "backup")
        with tarfile.open(backup, ignore_zeros=True) as outer:
            place = outer.getmember("qubes.xml.000.hmac").offset
        data = bytearray(backup.read_bytes())
        data[place + 100] ^= 1
        backup.write_bytes(data)
        with pytest.raises(HeaderAltered), opened(backup, way):
            pass


class TestKeepingSource:
    """What was read once is given again, and nothing else is kept."""

    def source(self, tmp_path: Path) -> tuple[ReplaySource, Recorded]:
        (tmp_path / "file").write_bytes(b"0123456789")
        recorded = Recorded(tmp_path / "file")
        return ReplaySource(open_source(cast(BinaryIO, recorded))), recorded

    def read(self, source: ReplaySource, offset: int, size: int) -> bytes:
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: source.read_into(offset, buffer)])

    def test_gives_again_what_it_has(self, tmp_path: Path) -> None:
        source, recorded = self.source(tmp_path)
        assert self.read(source, 2, 5) == b"23456"
        source.stop()
        assert (self.read(source, 2, 5), self.read(source, 2, 3)) == (b"23456", b"234")
        assert recorded.times_read(2, 7) == [1] * 5

    def test_keeps_nothing_after_it_was_stopped(self, tmp_path: Path) -> None:
        source, recorded = self.source(tmp_path)
        source.stop()
        assert self.read(source, 0, 4) == self.read(source, 0, 4) == b"0123"
        assert recorded.times_read(0, 4) == [2] * 4

    def test_on_a_pipe_the_end_is_an_end_again(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"0123456789")
        with piped(tmp_path / "file") as pipe:
            source = ReplaySource(open_source(pipe))
            assert self.read(source, 8, 5) == b"89"
            source.stop()
            assert self.read(source, 8, 5) == b"89"

    def test_tells_of_a_drive_s_troubles_and_closes_it(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"0123456789")
        inner = cast(SeekableSource, open_source(tmp_path / "file"))
        inner.troubles = 3
        source = ReplaySource(inner)
        assert source.troubles == 3
        source.close()
        with pytest.raises(Interrupted):
            self.read(source, 0, 1)


class TestSalvage:
    @pytest.mark.parametrize("kind", [{}, {"zlib_around": True}, {"encrypted": False}])
    def test_another_file_s_chunk_proves_the_passphrase(
        self, tools: None, kind: dict[str, Any], tmp_path: Path
    ) -> None:
        """One bad bit at the very beginning must not cost the whole backup."""
        maker = Format2Maker(tmp_path / "maker", tape_length=10, **kind)
        maker.add_qube("work", files={"private.img": NOISE})
        backup = assemble(flip_byte(maker.members(), "qubes.xml.000", 40), tmp_path / "backup")
        with pytest.raises(WrongPassphrase):
            qbackup.open(backup, passphrase=SECRET)
        for guess in ("guess", SECRET):
            with qbackup.open(backup, salvage=True) as archive:
                if guess != SECRET:
                    with pytest.raises(WrongPassphrase):
                        archive.unlock(guess)
                    assert archive.untrusted_header.version == 2
                    continue
                archive.unlock(guess)
                report = archive.restore(tmp_path / "out", check=False)
        (image,) = (tmp_path / "out").rglob("private.img")
        assert image.read_bytes() == NOISE
        assert not report.ok and any("never had a header" in error for error in report.errors)

    def test_a_beginning_that_is_too_long_is_no_reason_to_stop(
        self, tools: None, tmp_path: Path
    ) -> None:
        maker = Format2Maker(tmp_path / "maker", tape_length=10)
        maker.add_qube("work", files={"private.img": NOISE})
        members = replace(maker.members(), "qubes.xml.000", bytes(80_000))
        backup, limits = assemble(members, tmp_path / "backup"), Limits(metadata=1)
        with pytest.raises(LimitExceeded):
            qbackup.open(backup, passphrase=SECRET, limits=limits)
        with opened(backup, "file", salvage=True, limits=limits) as archive:
            assert not archive.verify(check=False).ok
            with archive.open("vm1/private.img") as stream:
                assert stream.read() == NOISE

    def test_a_whole_backup_without_a_header_is_whole(self, kit: Kit) -> None:
        with opened(kit.assemble(kit.members), "file", salvage=True) as archive:
            assert archive.verify().ok and archive.salvaged == ()

    def test_two_copies_make_a_whole_one(self, tools: None, tmp_path: Path) -> None:
        maker = Format2Maker(tmp_path / "maker", tape_length=10)
        maker.add_qube("work", files={"private.img": NOISE})
        first = assemble(flip_byte(maker.members(), "qubes.xml.000", 40), tmp_path / "1")
        second = assemble(flip_byte(maker.members(), CHUNKS[2], 9), tmp_path / "2")
        backup = tmp_path / "backup"
        backup.write_bytes(first.read_bytes() + second.read_bytes())
        with opened(backup, "file", salvage=True) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert all(result.ok for result in report.files) and not report.ok
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE

    def test_nothing_is_taken_for_a_backup(self, tools: None, tmp_path: Path) -> None:
        members = Format2Maker(tmp_path / "maker").members()
        backup = assemble(drop(members, "qubes.xml.000"), tmp_path / "backup")
        with pytest.raises(qbackup.NotABackup):
            qbackup.open(backup, passphrase=SECRET, salvage=True)


class TestEncryptedVolumes:
    def test_decrypt_in_place(self, kit: Kit) -> None:
        if not kit.maker.encrypted or kit.maker.zlib_around:
            pytest.skip("nothing to decrypt as it is stored")
        stored = next(m for m in kit.members if m.name == CHUNKS[0]).path.read_bytes()
        body = memoryview(bytearray(16) + stored)
        volumes = EncryptedVolumes(choose_cbc("aes-256-cbc"), SECRET.encode(), Limits())
        opened_ = volumes.open(0, body)
        assert opened_.buffer.obj is body.obj
        assert len(opened_.buffer) in range(len(stored) - 32, len(stored) - 16)


def make_tree(folder: Path, dice: random.Random) -> Path:
    """Files of all lengths, long names, links and folders, so that cuts fall anywhere."""
    folder.mkdir()
    below = [folder]
    for number in range(60):
        parent = dice.choice(below)
        path = parent / (f"{number}-" + "n" * dice.choice((1, 1, 1, 90, 150)))
        kind = dice.choice(("file", "file", "file", "link", "folder", "sparse"))
        if kind == "file":
            path.write_bytes(dice.randbytes(dice.choice((0, 1, 512, 700, 3000, 9216, 15_000))))
        elif kind == "sparse":
            make_sparse(path, 1 << 20, {dice.randrange(200) * 4096: dice.randbytes(6000)})
        elif kind == "link":
            path.symlink_to(dice.choice(("target", "/absolute", "../up", "t" * 120)))
        else:
            path.mkdir()
            below.append(path)
    return folder


def test_the_kit_s_backups_have_five_chunks(kit: Kit) -> None:
    names = [member.name for member in kit.members]
    assert [named(kit, name) in names for name in CHUNKS] == [True] * 5


VOLUME = 10 << 10  # of the backups in `tests/vectors/foreign`, in bytes


class TestVolumesThatDoNotFit:
    """A foreign or misplaced volume is lost alone; the next ones stand for themselves."""

    @pytest.fixture(params=spread(["2-gzip", "2-encrypted"]))
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def kept(self, kind: str, folder: Path, *, salvage: bool, moved: dict[int, str]) -> FileResult:
        """Restores the older backup, in which other volumes stand in an image's place."""
        backup = folder / "backup"
        backup.write_bytes(foreign.read(kind, "old"))
        stem = next(name for name in alter.names(backup) if "/private.img.000" in name)[:-3]
        other = stem.replace("vm1", "vm2").replace("work", "vault")
        parts = []
        for name in alter.names(backup):
            number = re.sub(r".*\.(\d\d\d)(\.hmac)?$", r"\1", name)
            source, end = name, name[len(stem) :]
            if name.startswith(stem) and int(number) in moved:
                source = moved[int(number)].format(own=stem, other=other) + end[3:]
            parts.append(tarbytes.member(name.encode(), alter.content(backup, source)))
        backup.write_bytes(b"".join(parts))
        with qbackup.open(backup, passphrase=foreign.PASSPHRASE, salvage=salvage) as archive:
            report = archive.restore(folder / "out", keep_damaged=True, check=False)
        (result,) = report.bad
        assert (result.qube, result.status) == ("work", "damaged")
        left = (folder / "out/work/private.img.damaged").read_bytes()
        image = foreign.images(kind, "old")["work"]
        assert len(left) == len(image)
        for part in result.ranges:
            if part.state == "good":
                assert left[part.start : part.end] == image[part.start : part.end]
        return result

    @pytest.mark.parametrize("salvage", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_of_another_file(self, tmp_path: Path, kind: str, salvage: bool) -> None:
        result = self.kept(kind, tmp_path, salvage=salvage, moved={1: "{other}001"})
        assert [part.state for part in result.ranges] == ["good", "zero-filled", "good"]
        lost = result.ranges[1]
        assert lost.end is not None and lost.end - lost.start == VOLUME - 512

    @pytest.mark.slow
    def test_of_which_two_are_exchanged(self, tmp_path: Path, kind: str) -> None:
        """Behind them nothing follows here, so nothing shows that there is another one."""
        result = self.kept(kind, tmp_path, salvage=False, moved={1: "{own}002", 2: "{own}001"})
        assert result.ranges[0].state == "good"

    @pytest.mark.slow
    def test_a_foreign_one_does_not_come_in_where_one_was_passed_over(
        self, tmp_path: Path, kind: str
    ) -> None:
        """A volume of equal length in this place would have to have just the right mark."""
        result = self.kept(kind, tmp_path, salvage=False, moved={1: "{other}001", 2: "{other}001"})
        assert [part.state for part in result.ranges] == ["good", "zero-filled"]
