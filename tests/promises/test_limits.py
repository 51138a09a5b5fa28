"""Every bound on untrusted input: a smaller one refuses a real backup, and names itself.

The same backup passes with the defaults, so what is refused is refused for its size alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup import BackupArchive, LimitExceeded, Limits
from qbackup.cli.report import report_text
from qbackup.crypto.kdf import Derivation
from qbackup.restore.nowhere import NowhereWriter
from qbackup.restore.tree import TreeRestore
from tests.maker import BackupMaker, assemble, make_sparse
from tests.support.inside import inside
from tests.support.librarybackup import IMAGE, IMAGE_SIZE, KIB, NOISE, PASSPHRASE, Made
from tests.support.restored import errors, statuses
from tests.support.speed import rows

MIB = 1 << 20


@pytest.fixture(scope="module")
def odd(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A backup with much of each thing that is counted, compressed with xz."""
    folder = tmp_path_factory.mktemp("limits")
    maker = BackupMaker(folder / "maker", compression_filter="xz")
    holes = {4096 * 2 * n: b"x" * 4096 for n in range(64)}
    image = make_sparse(folder / "image", MIB, holes)
    maker.add_qube("gnu", files={"private.img": image})
    maker.add_qube("own", files={"private.img": image}, qubes_writer=["private.img"])
    home = folder / "user"
    deep = home.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    (home / ("n" * 200)).write_bytes(b"long")
    for number in range(50):
        (home / f"link{number}").symlink_to("t" * 60)
    maker.add_home("user", home)
    return Made(maker.write(folder / "backup"), maker)


@contextlib.contextmanager
def opened(made: Made, **limits: int) -> Iterator[BackupArchive]:
    passphrase = made.maker.passphrase
    with qbackup.open(made.path, passphrase=passphrase, limits=Limits(**limits)) as archive:
        yield archive


def read_all(archive: BackupArchive, name: str) -> None:
    with archive.open(name) as stream:
        while stream.read(65536):
            pass


def unpack(archive: BackupArchive) -> None:
    """As verifying a home does, with the error as it is raised."""
    with NowhereWriter().tree("dom0", "user") as sink:
        tree = TreeRestore(sink, inside(archive).limits)
        for entry in archive.file("dom0/user").entries():
            tree.add(entry)
        tree.finish()


Use = Callable[[BackupArchive], object]

# limit → (a value that is too small, one that is just enough, what meets it)
READING: dict[str, tuple[int, int, Use]] = {
    "sparse_entries": (63, 65, lambda a: read_all(a, "gnu/private.img")),
    "file_size": (MIB - 1, MIB, lambda a: read_all(a, "own/private.img")),
    "read_all": (MIB - 1, MIB, lambda a: a.open("gnu/private.img").read()),
    "tree_entries": (72, 73, lambda a: list(a.file("dom0/user").entries())),
    "depth": (20, 21, unpack),
    "tree_deferred": (5000, 20_000, unpack),
    "name": (200, 256, lambda a: list(a.file("dom0/user").entries())),
    "decoder_memory": (MIB, 160 * MIB, lambda a: a.metadata),
    "qubes": (1, 100, lambda a: a.qubes),
}


@pytest.mark.parametrize("limit", READING)
class TestReading:
    def test_too_small_a_value_refuses_and_names_itself(self, odd: Made, limit: str) -> None:
        too_small, _, use = READING[limit]
        with pytest.raises(LimitExceeded) as caught, opened(odd, **{limit: too_small}) as archive:
            use(archive)
        assert caught.value.limit == limit

    def test_just_enough_is_enough(self, odd: Made, limit: str) -> None:
        _, enough, use = READING[limit]
        with opened(odd, **{limit: enough}) as archive:
            use(archive)


@pytest.mark.parametrize("limit", sorted(READING.keys() - {"read_all", "decoder_memory"}))
def test_a_restore_says_it_for_that_file_and_goes_on(odd: Made, limit: str, tmp_path: Path) -> None:
    too_small, _, _ = READING[limit]
    with opened(odd, **{limit: too_small}) as archive:
        report = archive.restore(tmp_path / "out", check=False)
    assert not report.ok
    assert set(statuses(report).values()) == {"ok", "limit"}
    (met,) = {result.limit for result in report.bad}
    assert met == limit
    assert any(f"--limit {limit}=" in advice for advice in report.advice)


def test_a_restore_with_too_little_memory_for_the_filter_says_so(odd: Made, tmp_path: Path) -> None:
    with opened(odd, decoder_memory=MIB) as archive:
        report = archive.restore(tmp_path / "out", check=False)
    assert set(statuses(report).values()) == {"limit"}
    assert all("decoder_memory" in error for error in errors(report).values())


def test_every_limit_has_a_test() -> None:
    elsewhere = {
        "scrypt_memory",
        "scrypt_work",
        "scrypt_lanes",
        "scrypt_growth",
        "header",
        "metadata",
        "members",
        "chunk",
        "pax_header",
        "trailing_zeros",
        "zeros",
        "front",
        "journal",
        "image_extents",
        "small_streams",
        "compressed_excess",
        "copy_losses",
        "damaged_ranges",
    }
    assert {field.name for field in dataclasses.fields(Limits)} == elsewhere | set(READING)


class TestDerivations:
    """A derivation that would cost too much is never started."""

    @pytest.mark.parametrize(
        ("limit", "enough"),
        [
            ("scrypt_memory", 128 * 8 * 1024),
            ("scrypt_work", 8 * 1024),
            ("scrypt_lanes", 8),
        ],
    )
    def test_of_the_header(
        self, made: Made, derivations: list[Derivation], limit: str, enough: int
    ) -> None:
        with opened(made, **{limit: enough}) as archive:
            assert archive.verify().ok
        derivations.clear()
        with qbackup.open(made.path, limits=Limits(**{limit: enough - 1})) as archive:
            for _ in range(2):
                with pytest.raises(LimitExceeded, match=limit) as caught:
                    archive.unlock(PASSPHRASE)
                assert caught.value.limit == limit
            assert not archive.is_unlocked
        assert derivations == []

    @pytest.mark.parametrize(
        ("limit", "enough", "options"),
        [
            ("scrypt_memory", 128 * 8 * 2048, ("--logN", "11", "-r", "8", "-p", "1")),
            ("scrypt_work", 8 * 2 * 1024, ("--logN", "10", "-r", "8", "-p", "2")),
            ("scrypt_lanes", 16, ("--logN", "10", "-r", "8", "-p", "2")),
        ],
    )
    def test_of_one_chunk(
        self,
        tools: None,
        tmp_path: Path,
        derivations: list[Derivation],
        limit: str,
        enough: int,
        options: tuple[str, ...],
    ) -> None:
        """Parameters differ from chunk to chunk; one that asks for too much costs its file."""
        maker = BackupMaker(tmp_path / "maker")
        maker.scrypt_options_for["vm1/private.img.000"] = options
        maker.add_qube("costly", files={"private.img": NOISE, "notes.txt": b"cheap"})
        maker.add_qube("cheap", files={"private.img": NOISE})
        made = Made(maker.write(tmp_path / "backup"), maker)
        with opened(made, **{limit: enough}) as archive:
            assert archive.verify().ok
        with opened(made, **{limit: enough - 1}) as archive:
            assert archive.metadata
            derivations.clear()
            with (
                pytest.raises(LimitExceeded, match=limit) as caught,
                archive.open("costly/private.img") as stream,
            ):
                stream.read(1)
            assert derivations == []
            assert caught.value.limit == limit
            assert caught.value.chunk == "vm1/private.img.000"
            assert caught.value.file == "costly/private.img"
            report = archive.verify(check=False)
        assert list(errors(report)) == ["costly/private.img"]
        assert [(r.status, r.limit) for r in report.bad] == [("limit", limit)]
        assert f"--limit {limit}=" in report.advice[0]
        assert limit in errors(report)["costly/private.img"]


class TestArchive:
    def test_header(self, made: Made) -> None:
        size = len(made.maker.header)
        with opened(made, header=size) as archive:
            assert archive.header.version == 4
        with pytest.raises(LimitExceeded) as caught:
            qbackup.open(made.path, limits=Limits(header=size - 1))
        assert caught.value.limit == "header"

    def test_header_copy(self, made: Made, tmp_path: Path) -> None:
        """It has its own length, which is the attacker's to choose too."""
        copy = made.maker.members()[1]
        members = made.members
        longer = dataclasses.replace(copy, path=tmp_path / "copy")
        longer.path.write_bytes(copy.path.read_bytes() + bytes(1000))
        members[1] = longer
        path = assemble(members, tmp_path / "backup")
        limits = Limits(header=len(made.maker.header))
        with (
            qbackup.open(path, limits=limits) as archive,
            pytest.raises(LimitExceeded) as caught,
        ):
            archive.unlock(PASSPHRASE)
        assert caught.value.limit == "header"

    def test_metadata(self, made: Made, tmp_path: Path) -> None:
        size = len(made.maker.default_qubes_xml())
        with opened(made, metadata=size) as archive:
            assert len(archive.metadata) == size
        with opened(made, metadata=size - 1) as archive:
            with pytest.raises(LimitExceeded) as caught:
                _ = archive.qubes
            report = archive.restore(tmp_path / "out", check=False)
        assert caught.value.limit == "metadata"
        assert statuses(report)["qubes.xml"] == "limit"
        assert (tmp_path / "out/vm2/private.img").read_bytes() == NOISE

    def test_members(self, made: Made) -> None:
        count = len(made.members)
        with opened(made, members=count) as archive:
            assert archive.verify().ok
        with opened(made, members=count - 1) as archive:
            report = archive.verify(check=False)
            error = inside(archive).catalog.error
        assert isinstance(error, LimitExceeded)
        assert error.limit == "members"
        assert not report.ok and any("members" in text for text in report.errors)
        assert any("--limit members=" in text for text in report.advice)
        assert "LIMIT  the archive: " in report_text(report)

    def test_chunk(self, made: Made, derivations: list[Derivation]) -> None:
        largest = max(m.path.stat().st_size for m in made.members if m.name.endswith(".enc"))
        with opened(made, chunk=largest) as archive:
            assert archive.verify().ok
        with opened(made, chunk=largest - 1) as archive:
            (chunk, *_) = archive.file("vm2/private.img").chunks
            derivations.clear()
            for use in (lambda: chunk.parameters, chunk.open().read):
                with pytest.raises(LimitExceeded) as caught:
                    use()
                assert caught.value.limit == "chunk"
                assert caught.value.chunk == "vm2/private.img.000"
            assert derivations == []
            assert not archive.verify(check=False).ok

    def test_pax_header_of_the_outer_archive(self, made: Made) -> None:
        """A header that is too long ends the archive, as a limit and no damage."""
        with pytest.raises(LimitExceeded, match="at byte 0") as caught:
            qbackup.open(made.path, limits=Limits(pax_header=10))
        assert caught.value.limit == "pax_header"
        assert "--limit pax_header=" in caught.value.advice

    def test_pax_header_of_an_inner_archive(self, tools: None, tmp_path: Path) -> None:
        maker = BackupMaker(tmp_path / "maker", compression_filter=None)
        maker.add_qube("work", files={"private.img": b"data"})
        maker.members()
        info = tarfile.TarInfo("vm1/private.img")
        info.pax_headers = {"comment": "x" * 3000}
        inner = info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
        chunk = maker.encrypt("vm1/private.img.000", inner)
        members = [chunk if m.name == chunk.name else m for m in maker.members()]
        path = assemble(members, tmp_path / "backup")
        made = Made(path, maker)
        with opened(made, pax_header=4000) as archive:
            assert archive.open("work/private.img").read() == b""
        with opened(made, pax_header=2000) as archive, pytest.raises(LimitExceeded) as caught:
            archive.open("work/private.img").read()
        assert caught.value.limit == "pax_header"

    def test_trailing_zeros_of_an_inner_archive(self, tools: None, tmp_path: Path) -> None:
        """GNU tar with a large record pads that much; what it pads is bounded all the same."""
        maker = BackupMaker(tmp_path / "maker", compression_filter=None)
        maker.add_qube("work", files={"private.img": b"data"})
        maker.members()
        (tmp_path / "private.img").write_bytes(b"data")
        command = ["tar", "-Pc", "-b", "256", "-f", "-", "-C", str(tmp_path)]
        command += ["--xform=s:^:vm1/:", "private.img"]
        inner = subprocess.run(command, capture_output=True, check=True).stdout
        assert len(inner) == 128 * KIB
        chunk = maker.encrypt("vm1/private.img.000", inner)
        members = [chunk if m.name == chunk.name else m for m in maker.members()]
        made = Made(assemble(members, tmp_path / "backup"), maker)
        with opened(made, trailing_zeros=128 * KIB) as archive:
            assert archive.open("work/private.img").read() == b"data"
        with (
            opened(made, trailing_zeros=100 * KIB) as archive,
            pytest.raises(LimitExceeded) as caught,
        ):
            archive.open("work/private.img").read()
        assert caught.value.limit == "trailing_zeros"

    def test_zeros_behind_the_outer_archive(self, made: Made, tmp_path: Path) -> None:
        """More of them than are read are no fault; something else behind them is one."""
        limits = Limits(zeros=100 * KIB)
        for behind, ok in ((b"", True), (b"x" * KIB, False)):
            path = tmp_path / "backup"
            path.write_bytes(made.path.read_bytes() + bytes(200 * KIB) + behind)
            with qbackup.open(path, passphrase=PASSPHRASE, limits=limits) as archive:
                report = archive.verify(check=False)
            assert report.bad == () and report.ok == ok
            told = report.warnings if ok else report.errors
            assert any("zeros" in text for text in told)


class TestMemory:
    """What is held does not grow with what is stored."""

    CODE = """
import sys, qbackup
with qbackup.open(sys.argv[1], passphrase=sys.argv[2]) as backup:
    report = backup.restore(sys.argv[3])
print(*[l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")])
"""

    def peak(self, maker: BackupMaker, folder: Path) -> int:
        """Peak resident memory of a restore in a process of its own, in bytes."""
        path = maker.write(folder / f"{maker.workdir.name}.backup")
        command = [sys.executable, "-c", self.CODE, str(path), maker.passphrase]
        out = folder / f"{maker.workdir.name}.out"
        done = subprocess.run([*command, str(out)], stdout=subprocess.PIPE, check=True)
        return int(done.stdout) * KIB

    @pytest.mark.slow
    def test_it_does_not_grow_with_the_size_of_the_backup(
        self, tools: None, tmp_path: Path
    ) -> None:
        peaks = []
        for name, size in (("small", 8 * MIB), ("large", 64 * MIB)):
            (tmp_path / name).write_bytes(os.urandom(size))
            maker = BackupMaker(
                tmp_path / f"{name}.maker", compression_filter=None, chunk_size=4 * MIB
            )
            maker.add_qube("work", files={"private.img": tmp_path / name})
            peaks.append(self.peak(maker, tmp_path))
        assert peaks[1] - peaks[0] < 16 * MIB

    @rows("compression_filter", ["gzip", "bzip2", "xz", "zstd"])
    def test_what_inflates_a_thousand_times_is_no_bomb(
        self, tools: None, tmp_path: Path, compression_filter: str
    ) -> None:
        """96 MiB of zeros, stored and not sparse, in a chunk of a few KiB."""
        peaks = []
        for name, size in (("small", MIB), ("large", 96 * MIB)):
            (tmp_path / name).write_bytes(bytes(size))
            maker = BackupMaker(tmp_path / f"{name}.maker", compression_filter=compression_filter)
            maker.add_qube("work", files={"private.img": tmp_path / name})
            path = maker.members()[-1].path
            assert path.stat().st_size < 200 * KIB
            peaks.append(self.peak(maker, tmp_path))
        assert peaks[1] - peaks[0] < 24 * MIB
        restored = tmp_path / "large.maker.out/work/private.img"
        assert (restored.stat().st_size, restored.stat().st_blocks) == (96 * MIB, 0)


def test_the_defaults_let_all_of_this_through(odd: Made, made: Made) -> None:
    for backup in (odd, made):
        with opened(backup) as archive:
            assert archive.verify().ok
    with opened(made, read_all=IMAGE_SIZE) as archive:
        assert archive.open("personal/private.img").read() == IMAGE
