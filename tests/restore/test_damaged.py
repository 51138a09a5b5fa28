"""`--keep-damaged`: what could be verified of a damaged file, and which of its bytes are good.

Every byte of what was kept is compared with the file that was backed up, and the ranges in the
report with what the writer put into each chunk, which is known as the chunks are cut at one size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import qbackup
from qbackup import ByteRange, ChunkDamaged, Limits, Report
from qbackup.cli.report import report_text
from qbackup.restore.damaged import Losses
from qbackup.restore.output.destination import REMAINS_LIMIT
from tests.conftest import MakerFactory
from tests.maker import BackupMaker, Member, assemble, drop, get, make_sparse, replace
from tests.support import alter
from tests.support.commandline import Ended, call
from tests.support.damagedfiles import PERSONAL, VAULT, check_bytes, flipped, keep, noise, only_bad
from tests.support.inside import inside, reader_of
from tests.support.librarybackup import CHUNK, IMAGE, KIB, NOISE, PASSPHRASE, TEXT, Made
from tests.support.restored import of_tree, snapshot, statuses
from tests.support.sources import Failing, piped
from tests.support.speed import rows
from tests.support.work import at_most

HEADER = 512
Spans = Sequence[tuple[int, int]]


#: Calls for a restore around a gap; one for each chunk in it would be a thousand million.
GAP_CALLS = 1_000_000


def lost_spans(ranges: Sequence[ByteRange]) -> list[tuple[int, int | None]]:
    return [(r.start, r.end) for r in ranges if r.state != "good"]


def in_image(archive: Spans, data: Spans, start: int) -> list[tuple[int, int]]:
    """Which bytes of an image stand in these spans of its archive.

    Args:
        archive: spans that are lost.
        data: (offset, length) of the image's runs of data, as stored one after the other.
        start: where the first of them stands in the archive.
    """
    found: list[tuple[int, int]] = []
    for offset, length in data:
        for first, end in archive:
            low, high = max(first, start), min(end, start + length)
            if low < high:
                span = (offset + low - start, offset + high - start)
                if found and found[-1][1] == span[0]:
                    span = (found.pop()[0], span[1])
                found.append(span)
        start += length
    return found


def chunk_spans(*indexes: int, size: int = CHUNK) -> list[tuple[int, int]]:
    return [(index * size, (index + 1) * size) for index in indexes]


class TestUncompressed:
    """Everything behind a lost chunk stands in its place."""

    @rows("lost", [(1,), (2,), (3, 4), (1, 3, 5), (6,), (5, 6)])
    @rows("how", ["flipped", "missing"])
    def test_an_image_without_holes(
        self, made: Made, tmp_path: Path, lost: tuple[int, ...], how: str
    ) -> None:
        names = [VAULT.format(index) for index in lost]
        backup = tmp_path / "damaged"
        if how == "missing":
            alter.without(made.path, backup, *names)
        else:
            assemble(flipped(made.members, names), backup)
        report = keep(backup, tmp_path / "out")
        result = only_bad(report)
        assert (result.qube, result.name, result.status) == ("vault", "private.img", "damaged")
        assert result.kept_as == "private.img.damaged"
        expected = in_image(chunk_spans(*lost), [(0, len(NOISE))], HEADER)
        assert lost_spans(result.ranges) == expected and expected
        kept = (tmp_path / "out/vault/private.img.damaged").read_bytes()
        check_bytes(kept, NOISE, result.ranges)
        assert not (tmp_path / "out/vault/private.img").exists()
        assert not list((tmp_path / "out").rglob("*.part"))

    @rows("lost", [(1,), (2,), (1, 3)])
    def test_an_image_with_holes(self, made: Made, tmp_path: Path, lost: tuple[int, ...]) -> None:
        assemble(flipped(made.members, [PERSONAL.format(i) for i in lost]), tmp_path / "damaged")
        result = only_bad(keep(tmp_path / "damaged", tmp_path / "out"))
        data = [(0, 4 * KIB), (100 * KIB, 20 * KIB)]
        assert lost_spans(result.ranges) == in_image(chunk_spans(*lost), data, HEADER)
        kept = (tmp_path / "out/personal/private.img.damaged").read_bytes()
        check_bytes(kept, IMAGE, result.ranges)

    @pytest.mark.parametrize("lost", [1, 2, 4])
    def test_an_image_of_qubes_own_writer(
        self, maker: MakerFactory, tmp_path: Path, lost: int
    ) -> None:
        runs = {0: noise(3 * KIB), 64 * KIB: noise(9 * KIB), 200 * KIB: noise(24 * KIB)}
        image = make_sparse(tmp_path / "image", 256 * KIB, runs)
        made = maker(compression_filter=None, chunk_size=CHUNK)
        made.add_qube("work", files={"private.img": image}, qubes_writer=["private.img"])
        backup = assemble(flipped(made.members(), [PERSONAL.format(lost)]), tmp_path / "damaged")
        result = only_bad(keep(backup, tmp_path / "out", passphrase=made.passphrase))
        data = [(offset, len(run)) for offset, run in runs.items()]
        start = 4 * HEADER  # pax header, its records, the member's own header, the map
        assert lost_spans(result.ranges) == in_image(chunk_spans(lost), data, start)
        kept = (tmp_path / "out/work/private.img.damaged").read_bytes()
        check_bytes(kept, image.read_bytes(), result.ranges)

    def test_a_bad_sector_is_a_lost_chunk(self, made: Made, tmp_path: Path) -> None:
        place = made.path.read_bytes().find(alter.content(made.path, VAULT.format(2)))
        source = Failing(made.path, range(place + 700, place + 1212))
        with qbackup.open(source, passphrase=PASSPHRASE) as archive:  # type: ignore[arg-type]
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        result = only_bad(report)
        assert "Input/output error" in str(result.error)
        assert lost_spans(result.ranges) == in_image(chunk_spans(2), [(0, len(NOISE))], HEADER)
        kept = (tmp_path / "out/vault/private.img.damaged").read_bytes()
        check_bytes(kept, NOISE, result.ranges)

    def test_from_a_pipe(self, made: Made, tmp_path: Path) -> None:
        backup = alter.flipped(made.path, tmp_path / "damaged", VAULT.format(3))
        with piped(backup) as pipe, qbackup.open(pipe, passphrase=PASSPHRASE) as archive:
            result = only_bad(archive.restore(tmp_path / "out", keep_damaged=True, check=False))
        assert lost_spans(result.ranges) == in_image(chunk_spans(3), [(0, len(NOISE))], HEADER)

    def test_every_lost_chunk_is_named(self, made: Made, tmp_path: Path) -> None:
        names = [VAULT.format(index) for index in (1, 3, 5)]
        assemble(flipped(made.members, names), tmp_path / "damaged")
        result = only_bad(keep(tmp_path / "damaged", tmp_path / "out"))
        assert [text.partition(":")[0] for text in result.lost_chunks] == [
            name.removesuffix(".enc") for name in names
        ]
        assert result.lost_chunks[0] == result.error

    def test_what_a_tar_header_says_of_a_lost_chunk_moves_nothing(
        self, made: Made, tmp_path: Path
    ) -> None:
        members = made.members
        shorter = get(members, VAULT.format(2)).path.read_bytes()[:-1000]
        members = replace(members, VAULT.format(2), shorter)
        result = only_bad(keep(assemble(members, tmp_path / "damaged"), tmp_path / "out"))
        kept = (tmp_path / "out/vault/private.img.damaged").read_bytes()
        check_bytes(kept, NOISE, result.ranges)
        assert lost_spans(result.ranges) == in_image(chunk_spans(2), [(0, len(NOISE))], HEADER)

    def test_chunks_that_differ_in_size_are_not_placed_behind_a_lost_one(
        self, made: Made, tmp_path: Path
    ) -> None:
        # what no writer does: the third chunk is cut in two, so the sixth is not where it seems
        maker, members = made.maker, made.members
        stream = stream_of(NOISE, "vm2/private.img")
        cuts = [0, CHUNK, 2 * CHUNK, 2 * CHUNK + 100, 3 * CHUNK, 4 * CHUNK, 5 * CHUNK, len(stream)]
        for index in range(len(cuts) - 1):
            chunk = stream[cuts[index] : cuts[index + 1]]
            members = with_chunk(members, maker, f"vm2/private.img.{index:03d}", chunk)
        backup = assemble(flipped(members, [VAULT.format(4)]), tmp_path / "damaged")
        result = only_bad(keep(backup, tmp_path / "out"))
        kept = (tmp_path / "out/vault/private.img.damaged").read_bytes()
        check_bytes(kept, NOISE, result.ranges)
        assert lost_spans(result.ranges) == [(3 * CHUNK - HEADER, len(NOISE))]


class TestTheMapIsLost:
    """The first chunk says where everything belongs. Without it bytes are kept as stored."""

    def test_what_is_left_is_kept_in_order_and_called_no_image(
        self, made: Made, tmp_path: Path
    ) -> None:
        backup = alter.flipped(made.path, tmp_path / "damaged", PERSONAL.format(0))
        result = only_bad(keep(backup, tmp_path / "out"))
        assert result.unplaced and result.kept_as == "private.img.damaged"
        stored = (TEXT[: 4 * KIB] + IMAGE[100 * KIB : 120 * KIB])[CHUNK - HEADER :]
        kept = (tmp_path / "out/personal/private.img.damaged").read_bytes()
        assert kept[:CHUNK] == bytes(CHUNK)
        assert kept[CHUNK:].rstrip(b"\0") == stored.rstrip(b"\0")
        assert [(r.start, r.end, r.state) for r in result.ranges] == [
            (0, CHUNK, "zero-filled"),
            (CHUNK, len(kept), "good"),
            (len(kept), None, "lost"),
        ]

    def test_of_a_compressed_image_nothing_is_left(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        made, backup = compressed(maker, "gzip", tmp_path)
        damaged = alter.flipped(backup, tmp_path / "damaged", PERSONAL.format(0))
        result = only_bad(keep(damaged, tmp_path / "out", passphrase=made.passphrase))
        assert result.kept_as is None and not result.unplaced
        assert result.ranges == (ByteRange(0, None, "lost"),)
        assert not (tmp_path / "out/work/private.img.damaged").exists()


class TestCompressed:
    """Everything up to the lost chunk is there, and nothing behind it."""

    @rows("name", ["gzip", "pigz", "xz", "zstd", "bzip2", "lzma"])
    @rows("lost", [8, -1])
    def test_an_image(self, maker: MakerFactory, tmp_path: Path, name: str, lost: int) -> None:
        made, backup = compressed(maker, name, tmp_path)
        chunks = [m.name for m in made.members() if m.name.startswith("vm1/private.img")]
        damaged = alter.flipped(backup, tmp_path / "damaged", chunks[lost])
        result = only_bad(keep(damaged, tmp_path / "out", passphrase=made.passphrase))
        good = result.ranges[0]
        assert good.state == "good" or name == "bzip2"
        if name in ("gzip", "pigz"):  # the others decode block by block
            assert (good.end or 0) > chunks.index(chunks[lost]) * LARGER - 4 * KIB
        path = tmp_path / "out/work/private.img.damaged"
        if result.kept_as is None:
            assert name == "bzip2" and not path.exists()  # one block of 900 kB, not whole
        else:
            check_bytes(path.read_bytes(), COMPRESSED, result.ranges)

    def test_holes_behind_it_are_known_from_the_map(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        image = make_sparse(tmp_path / "image", 900 * KIB, {0: noise(40 * KIB)})
        made = maker(chunk_size=CHUNK)
        made.add_qube("work", files={"private.img": image})
        backup = assemble(flipped(made.members(), [PERSONAL.format(2)]), tmp_path / "damaged")
        result = only_bad(keep(backup, tmp_path / "out", passphrase=made.passphrase))
        assert result.ranges[-1] == ByteRange(40 * KIB, 900 * KIB, "good")
        kept = tmp_path / "out/work/private.img.damaged"
        check_bytes(kept.read_bytes(), image.read_bytes(), result.ranges)
        assert kept.stat().st_blocks * 512 < 100 * KIB


@dataclass
class House:
    """A backup with a home of four files and a link, each file some chunks long."""

    maker: BackupMaker
    tree: Path

    def keep(self, members: list[Member], tmp_path: Path) -> Report:
        backup = assemble(members, tmp_path / "damaged")
        return keep(backup, tmp_path / "out", passphrase=self.maker.passphrase)


class TestFolders:
    """Of a folder archive whole files are kept, in `NAME.damaged`."""

    @pytest.fixture(params=[None, "gzip"])
    def house(self, maker: MakerFactory, tmp_path: Path, request: pytest.FixtureRequest) -> House:
        tree = tmp_path / "user"
        (tree / "d").mkdir(parents=True)
        for name in ("d/1", "d/2", "d/3", "d/4"):
            (tree / name).write_bytes(noise(20 * KIB + int(name[-1])))
        (tree / "link").symlink_to("d/1")
        made = maker(compression_filter=request.param, chunk_size=CHUNK)
        made.add_home("user", tree)
        return House(made, tree)

    def test_only_whole_files_are_kept(self, house: House, tmp_path: Path) -> None:
        members = flipped(house.maker.members(), ["dom0-home/user.004.enc"])
        report = house.keep(members, tmp_path)
        assert statuses(report)["dom0/user"] == "damaged"
        result = next(r for r in report.files if r.name == "user")
        assert result.kept_as == "user.damaged"
        there = snapshot(tmp_path / "out/dom0")
        whole = of_tree("user.damaged", house.tree)
        files = {name for name in there if "/d/" in name}
        assert there.items() <= whole.items() and files and files < set(whole)
        told = {r.name.removeprefix("user/") for r in report.bad if "/" in r.name}
        assert told and not {f"user.damaged/{name}" for name in told} & set(there)
        if house.maker.compression_filter is None:  # a file is lost, those behind it are not
            assert len(files) == 3 and "user.damaged/link" in there

    def test_nothing_is_kept_where_no_file_is_whole(self, house: House, tmp_path: Path) -> None:
        members = flipped(house.maker.members(), ["dom0-home/user.000.enc"])
        report = house.keep(members, tmp_path)
        assert statuses(report)["dom0/user"] == "damaged"
        assert list(snapshot(tmp_path / "out")) == ["qubes.xml"]

    def test_a_whole_folder_has_its_name(self, house: House, tmp_path: Path) -> None:
        report = house.keep(house.maker.members(), tmp_path)
        assert report.ok
        assert snapshot(tmp_path / "out/dom0") == of_tree("user", house.tree)


class TestNames:
    """Nothing that is there is replaced, and no damaged file has a whole one's name."""

    def test_without_the_flag_nothing_is_kept(self, made: Made, tmp_path: Path) -> None:
        backup = alter.flipped(made.path, tmp_path / "damaged", VAULT.format(2))
        with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert only_bad(report).kept_as is None and only_bad(report).ranges == ()
        assert not [name for name in snapshot(tmp_path / "out") if "damaged" in name]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_is_there_is_left_alone(self, made: Made, tmp_path: Path, overwrite: bool) -> None:
        backup = alter.flipped(made.path, tmp_path / "damaged", VAULT.format(2))
        there = tmp_path / "out/vault/private.img.damaged"
        there.parent.mkdir(parents=True)
        there.write_bytes(b"mine")
        with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
            report = archive.restore(
                tmp_path / "out", keep_damaged=True, overwrite=overwrite, check=False
            )
        result = only_bad(report)
        assert there.read_bytes() == b"mine"
        assert result.kept_as == "private.img.damaged.2" and result.notes
        kept = there.with_name("private.img.damaged.2")
        check_bytes(kept.read_bytes(), NOISE, result.ranges)
        lists = [kept.with_name(f"{kept.name}.{suffix}") for suffix in ("json", "map")]
        assert sorted(there.parent.iterdir()) == [there, kept, *lists]

    def test_there_is_an_end_to_it(self, made: Made, tmp_path: Path) -> None:
        backup = alter.flipped(made.path, tmp_path / "damaged", VAULT.format(2))
        folder = tmp_path / "out/vault"
        folder.mkdir(parents=True)
        for number in range(1, REMAINS_LIMIT + 1):
            suffix = f".{number}" if number > 1 else ""
            (folder / f"private.img.damaged{suffix}").write_bytes(b"mine")
        result = only_bad(keep(backup, tmp_path / "out"))
        assert result.kept_as is None and "can't be kept" in result.notes[0]
        assert {r.state for r in result.ranges} == {"good", "lost"}
        assert {path.read_bytes() for path in folder.iterdir()} == {b"mine"}

    @rows("overwrite", [False, True])
    @rows("order", [1, -1])
    @rows("name", ["private.img.damaged", "Private.img.DAMAGED"])
    def test_a_file_of_the_backup_with_such_a_name_is_restored(
        self, maker: MakerFactory, tmp_path: Path, overwrite: bool, order: int, name: str
    ) -> None:
        files = {"private.img": noise(20 * KIB), name: b"a whole file"}
        made = maker(compression_filter=None, chunk_size=CHUNK)
        made.add_qube("work", files=dict(list(files.items())[::order]))
        backup = assemble(flipped(made.members(), [PERSONAL.format(1)]), tmp_path / "damaged")
        with qbackup.open(backup, passphrase=made.passphrase) as archive:
            report = archive.restore(
                tmp_path / "out", keep_damaged=True, overwrite=overwrite, check=False
            )
        assert statuses(report)[f"work/{name}"] == "ok"
        assert (tmp_path / "out/work" / name).read_bytes() == b"a whole file"
        assert only_bad(report).kept_as == "private.img.damaged.2"
        assert (tmp_path / "out/work/private.img.damaged.2").stat().st_size == 20 * KIB

    def test_a_file_of_which_nothing_is_good_is_not_kept(self, made: Made, tmp_path: Path) -> None:
        backup = alter.flipped(made.path, tmp_path / "damaged", "vm1/empty.000.enc")
        result = only_bad(keep(backup, tmp_path / "out"))
        assert result.name == "empty" and result.kept_as is None
        assert not (tmp_path / "out/personal/empty.damaged").exists()

    def test_all_else_is_as_in_any_restore(self, made: Made, tmp_path: Path) -> None:
        with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
            assert archive.restore(tmp_path / "plain").ok
            assert archive.restore(tmp_path / "keeping", keep_damaged=True).ok
        assert snapshot(tmp_path / "plain") == snapshot(tmp_path / "keeping")


class TestVerify:
    """Verifying finds all that is damaged, and says what `--keep-damaged` would save."""

    def test_every_fault_of_every_file(self, made: Made, tmp_path: Path) -> None:
        names = [VAULT.format(1), VAULT.format(4), PERSONAL.format(1), "vm1/text.000.enc"]
        backup = assemble(flipped(made.members, names), tmp_path / "damaged")
        with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
            report = archive.verify(check=False)
        told = {text.partition(":")[0] for r in report.bad for text in r.lost_chunks}
        assert told == {name.removesuffix(".enc") for name in names}
        vault = next(r for r in report.bad if r.qube == "vault")
        assert lost_spans(vault.ranges) == in_image(chunk_spans(1, 4), [(0, len(NOISE))], HEADER)
        assert {r.state for r in vault.ranges} == {"good", "lost"}

    def test_behind_the_place_where_a_compressed_stream_ends(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        made, _ = compressed(maker, "gzip", tmp_path)
        names = [PERSONAL.format(index) for index in (1, 3, 5)]
        backup = assemble(flipped(made.members(), names), tmp_path / "damaged")
        with qbackup.open(backup, passphrase=made.passphrase) as archive:
            result = only_bad(archive.verify(check=False))
        assert len(result.lost_chunks) == 3


class TestHostile:
    """A backup whose maker is the enemy, with a passphrase that fits."""

    def test_a_gap_of_a_thousand_million_chunks(self, made: Made, tmp_path: Path) -> None:
        far = made.maker.encrypt("vm2/private.img.999999999", b"far away")
        backup = assemble([*made.members, far], tmp_path / "damaged")
        with at_most(GAP_CALLS):
            result = only_bad(keep(backup, tmp_path / "out"))
        assert result.status == "damaged"
        kept = tmp_path / "out/vault/private.img.damaged"
        assert kept.stat().st_size == len(NOISE)
        check_bytes(kept.read_bytes(), NOISE, result.ranges)

    @pytest.mark.parametrize("limits", [Limits(file_size=1 << 20), Limits()])
    def test_such_a_gap_where_nothing_has_a_place(
        self, made: Made, tmp_path: Path, limits: Limits
    ) -> None:
        far = made.maker.encrypt("vm2/private.img.999999999", b"far away")
        members = drop([*made.members, far], VAULT.format(0), VAULT.format(6))
        backup = assemble(members, tmp_path / "damaged")
        with (
            at_most(GAP_CALLS),
            qbackup.open(backup, passphrase=PASSPHRASE, limits=limits) as archive,
        ):
            result = only_bad(archive.restore(tmp_path / "out", keep_damaged=True, check=False))
        assert result.unplaced
        kept = tmp_path / "out/vault/private.img.damaged"
        if limits.file_size == 1 << 20:
            assert kept.stat().st_size <= 1 << 20
        elif kept.exists():
            assert kept.stat().st_blocks * 512 < 1 << 20

    def test_the_report_stays_short(self, made: Made, maker: MakerFactory, tmp_path: Path) -> None:
        runs = {index * 8 * KIB: noise(KIB) for index in range(1500)}
        image = make_sparse(tmp_path / "image", 12_000 * KIB, runs)
        hostile = maker(compression_filter=None, chunk_size=200 * KIB)
        hostile.add_qube("work", files={"private.img": image}, qubes_writer=["private.img"])
        members = flipped(hostile.members(), [PERSONAL.format(index) for index in range(1, 8)])
        backup = assemble(members, tmp_path / "damaged")
        limits = Limits(damaged_ranges=1000)
        with qbackup.open(backup, passphrase=hostile.passphrase, limits=limits) as archive:
            result = only_bad(archive.restore(tmp_path / "out", keep_damaged=True, check=False))
        assert 900 < len(result.ranges) <= 1001 and result.ranges_left_out > 1000
        assert "further ranges are not told apart" in report_text(Report(files=(result,)))
        kept = (tmp_path / "out/work/private.img.damaged").read_bytes()
        original = image.read_bytes()
        for part in result.ranges:
            if part.state == "good":
                assert kept[part.start : part.end] == original[part.start : part.end]


class TestMemory:
    def test_a_loss_that_is_remembered_holds_no_chunk(self, made: Made) -> None:
        place = made.path.read_bytes().find(alter.content(made.path, VAULT.format(2)))
        source = Failing(made.path, range(place + 700, place + 1212))
        with qbackup.open(source, passphrase=PASSPHRASE) as archive:  # type: ignore[arg-type]
            file = archive.file("vault/private.img")
            losses = Losses(
                inside(archive).pipeline.run(
                    inside(archive).unlocked().format, reader_of(file).stored.chunks
                )
            )
            losses.note_all()
        error = losses.first
        assert isinstance(error, ChunkDamaged) and "Input/output error" in error.reason
        assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


class TestCommandLine:
    def test_the_report_for_people(self, made: Made, tmp_path: Path) -> None:
        ended = self.run(made, tmp_path)
        assert ended.status == 1
        assert "kept as private.img.damaged" in ended.out
        assert f"0-{2 * CHUNK - HEADER} good" in ended.out
        assert f"{2 * CHUNK - HEADER}-{3 * CHUNK - HEADER} zero-filled" in ended.out

    def test_the_report_for_programs(self, made: Made, tmp_path: Path) -> None:
        ended = self.run(made, tmp_path, "--json")
        (file,) = [f for f in ended.document["files"] if f["status"] == "damaged"]
        assert file["kept_as"] == "private.img.damaged" and file["unplaced"] is False
        assert file["ranges"][1] == {
            "start": 2 * CHUNK - HEADER,
            "end": 3 * CHUNK - HEADER,
            "state": "zero-filled",
        }
        assert len(file["lost_chunks"]) == 1
        whole = [f for f in ended.document["files"] if f["status"] == "ok"]
        assert not any("ranges" in f or "kept_as" in f for f in whole)

    def run(self, made: Made, tmp_path: Path, *options: str) -> Ended:
        backup = alter.flipped(made.path, tmp_path / "damaged", VAULT.format(2))
        secret = {"QBACKUP_PASSPHRASE": PASSPHRASE}
        out = tmp_path / "out"
        return call("restore", backup, "-o", out, "--keep-damaged", "-q", *options, env=secret)


COMPRESSED = random.Random(9).randbytes(400 * KIB)
LARGER = 32 * KIB


def compressed(maker: MakerFactory, name: str, tmp_path: Path) -> tuple[BackupMaker, Path]:
    """A backup with one image that no filter makes smaller, in 13 chunks."""
    made = maker(compression_filter=name, chunk_size=LARGER)
    made.add_qube("work", files={"private.img": COMPRESSED})
    return made, assemble(made.members(), tmp_path / f"backup-{name}")


def with_chunk(members: list[Member], maker: BackupMaker, name: str, data: bytes) -> list[Member]:
    """Another content for a chunk, encrypted as the maker does it; beside the maker's own."""
    kept = get(members, f"{name}.enc").path.read_bytes() if _has(members, name) else None
    new = maker.encrypt(name, data)
    changed = replace(members, new.name, new.path.read_bytes())
    if kept is not None:
        new.path.write_bytes(kept)
    return changed


def _has(members: list[Member], name: str) -> bool:
    return any(member.name == f"{name}.enc" for member in members)


def stream_of(data: bytes, name: str) -> bytes:
    """The inner archive of a file without holes, as GNU tar makes it."""
    from tests.support.tarbytes import GNU, archive, header, padded

    return archive(header(name.encode(), size=len(data), magic=GNU), padded(data))
