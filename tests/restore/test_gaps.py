"""Behind lost chunks of compressed images: what comes out, where it stands, and what is said.

The backups are made by the real programs. Every byte that counts as good is compared with the
image that was backed up, and the share that comes out with what could come out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import qbackup
from qbackup import FileResult
from tests.conftest import MakerFactory
from tests.maker import Member, assemble, make_sparse
from tests.support.commandline import call
from tests.support.damagedfiles import PERSONAL, check_bytes, flipped, keep, only_bad
from tests.support.deflatestreams import mixed
from tests.support.restored import snapshot
from tests.support.speed import rows

KIB = 1024
CHUNK = 300 * KIB
IMAGE = mixed(4_000 * KIB)


class Damaged:
    """A damaged backup, and what `--keep-damaged` leaves of its image."""

    def __init__(self, tmp_path: Path, passphrase: str) -> None:
        self.folder = tmp_path / "out/work"
        self.backup = tmp_path / "damaged"
        self.passphrase = passphrase

    def keep(self) -> FileResult:
        return only_bad(keep(self.backup, self.folder.parent, passphrase=self.passphrase))

    def verify(self) -> FileResult:
        with qbackup.open(self.backup, passphrase=self.passphrase) as archive:
            return only_bad(archive.verify(check=False))

    def check(self, result: FileResult, image: bytes = IMAGE) -> float:
        """The share of the image that is good, all of it right."""
        assert result.kept_as is not None
        check_known(image, (self.folder / result.kept_as).read_bytes(), result)
        good = [part for part in result.ranges if part.state == "good"]
        return sum((part.end or 0) - part.start for part in good) / len(image)


def check_known(image: bytes, kept: bytes, result: FileResult) -> None:
    check_bytes(kept, image, result.ranges)


def names(members: Sequence[Member]) -> list[str]:
    return [member.name for member in members if member.name.startswith("vm1/private.img")]


def damaged(
    maker: MakerFactory,
    tmp_path: Path,
    name: str,
    lost: Sequence[int],
    *,
    image: bytes | Path = IMAGE,
    qubes_writer: bool = False,
    chunk: int = CHUNK,
) -> Damaged:
    made = maker(compression_filter=name, chunk_size=chunk)
    writer = ["private.img"] if qubes_writer else []
    made.add_qube("work", files={"private.img": image}, qubes_writer=writer)
    members = made.members()
    chunks = names(members)
    assert len(chunks) > max(lost) and -len(chunks) <= min(lost)
    assemble(flipped(members, [chunks[index] for index in lost]), tmp_path / "damaged")
    return Damaged(tmp_path, made.passphrase)


class TestOneLost:
    """Bytes behind the gap are placed by counting from the end."""

    @rows("name", ["gzip", "pigz", "gzip -1", "gzip -9", "pigz -i", "pigz -1"], quick=2)
    @rows("lost", [1, 2], quick=1)
    def test_most_of_the_rest_comes_out(
        self, maker: MakerFactory, tmp_path: Path, name: str, lost: int
    ) -> None:
        made = damaged(maker, tmp_path, name, [lost])
        result = made.keep()
        assert made.check(result) > (0.35 if name.endswith("-1") else 0.55)
        assert result.ranges[-1].state == "good" and result.unplaced_as is None
        names = {f"private.img.damaged{suffix}" for suffix in ("", ".json", ".map")}
        assert set(snapshot(made.folder)) == names

    def test_verifying_says_the_same_and_writes_nothing(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        made = damaged(maker, tmp_path, "gzip", [1])
        seen, kept = made.verify(), made.keep()
        assert [(r.start, r.end) for r in seen.ranges] == [(r.start, r.end) for r in kept.ranges]
        assert {r.state for r in seen.ranges} == {"good", "lost"}
        assert seen.unplaced_as is None

    @rows("qubes_writer", [False, True])
    def test_the_map_of_holes_places_what_is_behind(
        self, maker: MakerFactory, tmp_path: Path, qubes_writer: bool
    ) -> None:
        step = 64 * KIB
        runs = {2 * at: IMAGE[at : at + step] for at in range(0, 4_000 * KIB, step)}
        image = make_sparse(tmp_path / "image", 10_000 * KIB, runs)
        made = damaged(maker, tmp_path, "gzip", [2], image=image, qubes_writer=qubes_writer)
        result = made.keep()
        assert made.check(result, image.read_bytes()) > 0.8

    def test_the_first_one_takes_all_places_with_it(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        made = damaged(maker, tmp_path, "gzip", [0])
        result = made.keep()
        assert result.kept_as is None and result.unplaced_as == "private.img.unplaced"
        assert list(snapshot(made.folder)) == ["private.img.unplaced"]
        kept = (made.folder / "private.img.unplaced").read_bytes()
        assert result.unplaced_size > len(IMAGE) / 2
        check_unplaced(kept, IMAGE, result.unplaced_size)

    def test_behind_the_last_one_is_nothing(self, maker: MakerFactory, tmp_path: Path) -> None:
        made = damaged(maker, tmp_path, "gzip", [-1])
        result = made.keep()
        assert made.check(result) > 0.5
        assert result.unplaced_size == 0 and result.ranges[-1].state != "good"


def check_unplaced(kept: bytes, image: bytes, good: int) -> None:
    """All of one segment: the image's bytes in their order, with zeros for those that are lost."""
    first = re.search(rb"[^\0]{64}", kept)
    assert first is not None
    start = image.index(first[0]) - first.start()
    truth = image[start : start + len(kept)].ljust(len(kept), b"\0")
    differ = [at for at, byte in enumerate(kept) if byte and byte != truth[at]]
    assert not differ
    assert sum(map(int.__eq__, kept, truth)) >= good


class TestSeveralLost:
    """Between two gaps nothing shows the place: those bytes stand in a file of their own."""

    @rows("name", ["gzip", "pigz"])
    def test_two(self, maker: MakerFactory, tmp_path: Path, name: str) -> None:
        made = damaged(maker, tmp_path, name, [1, 4], chunk=250 * KIB)
        result = made.keep()
        assert made.check(result) > 0.2
        assert result.unplaced_as == "private.img.unplaced" and result.unplaced_size > 300 * KIB
        kept = (made.folder / "private.img.unplaced").read_bytes()
        assert len(kept) >= result.unplaced_size
        check_unplaced(kept, IMAGE, result.unplaced_size)
        assert result.ranges[-1].state == "good"

    def test_verifying_counts_them(self, maker: MakerFactory, tmp_path: Path) -> None:
        made = damaged(maker, tmp_path, "gzip", [1, 4], chunk=250 * KIB)
        seen, kept = made.verify(), made.keep()
        assert seen.unplaced_size == kept.unplaced_size > 0 and seen.unplaced_as is None

    def test_what_is_there_is_not_replaced(self, maker: MakerFactory, tmp_path: Path) -> None:
        made = damaged(maker, tmp_path, "gzip", [0])
        made.folder.mkdir(parents=True)
        (made.folder / "private.img.unplaced").write_bytes(b"mine")
        result = made.keep()
        assert result.unplaced_as == "private.img.unplaced.2"
        assert (made.folder / "private.img.unplaced").read_bytes() == b"mine"
        assert made.keep().unplaced_as == "private.img.unplaced.2"  # it has the same content
        assert len(list(made.folder.iterdir())) == 2


class TestNoWay:
    """The report names the bytes that can't be had."""

    @rows("name", ["zstd", "xz", "lzma"], quick=1)
    def test_one_stream_without_blocks_of_its_own(
        self, maker: MakerFactory, tmp_path: Path, name: str
    ) -> None:
        made = damaged(maker, tmp_path, name, [1])
        result = made.keep()
        assert any("lost chunk" in note for note in result.notes)
        assert result.unplaced_size == 0

    def test_blocks_of_any_length(self, maker: MakerFactory, tmp_path: Path) -> None:
        image = random.Random(3).randbytes(60 * KIB)
        made = damaged(maker, tmp_path, "pigz -11", [1], image=image, chunk=20 * KIB)
        result = made.keep()
        assert any("behind a lost chunk" in note for note in result.notes)


class TestCommandLine:
    def test_the_report_names_what_has_no_place(self, maker: MakerFactory, tmp_path: Path) -> None:
        made = damaged(maker, tmp_path, "gzip", [1, 4], chunk=250 * KIB)
        secret = {"QBACKUP_PASSPHRASE": made.passphrase}
        out = tmp_path / "out"
        ended = call("restore", made.backup, "-o", out, "--keep-damaged", "-q", env=secret)
        assert ended.status == 1
        assert "kept as private.img.unplaced" in ended.out
        assert "% of it is good" in ended.out
        ended = call("verify", made.backup, "-q", "--json", env=secret)
        (file,) = [file for file in ended.document["files"] if file["status"] == "damaged"]
        assert file["unplaced_size"] > 0 and "unplaced_as" not in file
        assert PERSONAL.format(1).removesuffix(".enc") in file["lost_chunks"][0]
