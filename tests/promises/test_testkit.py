"""The testkit: every vector, as a library and as a command, with all that comes of it compared:
exit status, report, and every file below a folder that holds more than the output.

The vectors are committed, so these tests need no tool; only making them again does.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup import Limits, Report
from tests.support.commandline import call
from tests.support.restored import content, statuses
from tests.support.speed import rows
from tests.support.tarbytes import header
from tests.testkit import generate, runner, vector
from tests.testkit.vector import EXPECTATIONS, FILE_ERRORS, SOURCES, Vector

NAMES = vector.names()
MIB = 1 << 20

VECTORS = {name: vector.load(name) for name in NAMES}
#: Bytes that don't fit, though the command finds the passphrase that they stand for in a file.
OTHER_READINGS = {
    "passphrase-wrong-decomposed": "were composed (Unicode NFC): with that the passphrase fits"
}


def one_of_each() -> list[str]:
    """The first vector of each group with each exit status, and those that only a pipe can run."""
    kinds: dict[tuple[str, int], str] = {}
    for name, chosen in VECTORS.items():
        kinds.setdefault((name.partition("-")[0], chosen.exit), name)
    pipes = [name for name, chosen in VECTORS.items() if chosen.source == "pipe"]
    return sorted({*kinds.values(), *pipes})


def library_ways() -> list[Any]:
    """Every vector and way to read it. Quick are all ways of `one_of_each`, and the first way of
    every sixteenth vector.
    """
    every, first = {*one_of_each()}, {*NAMES[::16]}
    return [
        pytest.param(
            name,
            way,
            marks=() if name in every or (name in first and not number) else pytest.mark.slow,
        )
        for name, chosen in VECTORS.items()
        for number, way in enumerate(runner.sources(chosen))
    ]


def command_ways() -> list[Any]:
    """Every vector that the command can have from a file, but for those below."""
    quick = one_of_each()
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.slow)
        for name, chosen in VECTORS.items()
        if chosen.source != "pipe" and name not in OTHER_READINGS
    ]


@pytest.fixture
def backup(name: str, tmp_path: Path) -> Path:
    """The vector's backup as a file."""
    path = tmp_path / "backup"
    path.write_bytes(VECTORS[name].backup)
    return path


class TestEveryVector:
    @pytest.mark.parametrize(("name", "way"), library_ways())
    def test_through_the_library(self, name: str, way: str, backup: Path, tmp_path: Path) -> None:
        chosen = VECTORS[name]
        arena = runner.Arena(tmp_path / way)
        runner.check(chosen, runner.restore(chosen, backup, way, arena.out))
        arena.check(chosen)

    @pytest.mark.parametrize("name", command_ways())
    def test_through_the_command(self, name: str, backup: Path, tmp_path: Path) -> None:
        chosen = VECTORS[name]
        arena = runner.Arena(tmp_path / "arena")
        runner.check(chosen, runner.restore_by_command(chosen, backup, arena.out))
        arena.check(chosen)


@rows("name", one_of_each(), quick=3)
def test_a_process_says_and_leaves_the_same(name: str, backup: Path, tmp_path: Path) -> None:
    chosen = VECTORS[name]
    arena = runner.Arena(tmp_path / "arena")
    runner.check(chosen, runner.restore_by_process(chosen, backup, arena.out))
    arena.check(chosen)


@pytest.mark.parametrize("name", OTHER_READINGS)
def test_the_command_says_which_reading_of_a_passphrase_file_fits(
    name: str, backup: Path, tmp_path: Path
) -> None:
    assert VECTORS[name].expect == "wrong passphrase"  # and so does the library
    (tmp_path / "p").write_bytes(VECTORS[name].passphrase)
    ended = call("restore", backup, "-o", tmp_path / "out", "-p", tmp_path / "p", "--json")
    assert ended.status == 0
    assert ended.document["ok"] and len(ended.document["files"]) > 1
    assert OTHER_READINGS[name] in ended.err


class TestVectors:
    """What makes them vectors."""

    def test_are_many(self) -> None:
        assert len(NAMES) >= 700

    def test_are_small(self) -> None:
        assert sum(vector.path_of(name).stat().st_size for name in NAMES) < 9 * MIB

    @pytest.mark.slow
    def test_read_and_write_the_same(self) -> None:
        for name, chosen in VECTORS.items():
            assert vector.parse(name, chosen.to_bytes()) == chosen

    def test_options_and_bytes_of_every_kind_survive(self) -> None:
        odd = "a b%\n\udcff\u202e"
        chosen = replace(
            VECTORS["plain"],
            options=("--salvage", "--keep-damaged"),
            format=3,
            passphrase=bytes(range(1, 256)),
            files={odd: content(b"")},
            links={odd: odd},
            lost={odd: "damaged"},
            warnings=(odd,),
            backup=b"\n\n",
        )
        assert vector.parse(chosen.name, chosen.to_bytes()) == chosen

    def test_a_line_that_nobody_knows_is_no_vector(self) -> None:
        data = VECTORS["plain"].to_bytes()
        for line in (b"colour: blue\n", b"format: 4\n", b"hello\n"):
            with pytest.raises(ValueError):
                vector.parse("plain", line + data)

    def test_expect_what_there_is(self) -> None:
        for name, chosen in VECTORS.items():
            assert chosen.exit in EXPECTATIONS[chosen.expect], name
            assert set(chosen.lost.values()) <= set(FILE_ERRORS), name
            assert chosen.source in SOURCES, name
            assert bool(chosen.files) == (chosen.exit < 2) or chosen.lost, name
            assert bool(chosen.lost) <= (chosen.exit == 1), name
        assert {chosen.expect for chosen in VECTORS.values()} == set(EXPECTATIONS)

    def test_have_one_comment_each(self) -> None:
        comments = [chosen.comment for chosen in VECTORS.values()]
        assert len(set(comments)) == len(comments)

    def test_where_file_and_pipe_differ_both_are_said(self) -> None:
        said = {s: {n for n, v in VECTORS.items() if v.source == s} for s in ("file", "pipe")}
        both = {name.removesuffix("-file") for name in said["file"]}
        assert both == {name.removesuffix("-pipe") for name in said["pipe"]}

    @pytest.mark.slow
    def test_are_what_the_generator_makes(self, tools: None, tmp_path: Path) -> None:
        """But for salts: the heads are the same."""
        made = {chosen.name: chosen.head() for chosen in generate.make(tmp_path)}
        assert made == {name: chosen.head() for name, chosen in VECTORS.items()}


class TestTheRunner:
    """It would see what is wrong: each vector's expectation, changed, fails."""

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda v: replace(v, exit=0, expect="success"),
            lambda v: replace(v, lost={}),
            lambda v: replace(v, lost={**v.lost, "mail/private.img": "missing"}),
            lambda v: replace(v, lost=dict.fromkeys(v.lost, "missing")),
            lambda v: replace(v, lost=dict.fromkeys(v.lost, "refused")),
            lambda v: replace(v, expect="archive damaged"),
            lambda v: replace(v, expect="limit"),
            lambda v: replace(v, warnings=("vm12/other",)),
        ],
    )
    def test_what_is_said(self, wrong: Callable[[Vector], Vector], tmp_path: Path) -> None:
        chosen = VECTORS["chunk-second-dropped"]
        arena = runner.Arena(tmp_path / "arena")
        backup = tmp_path / "backup"
        backup.write_bytes(chosen.backup)
        outcome = runner.restore(chosen, backup, "file", arena.out)
        runner.check(chosen, outcome)
        with pytest.raises(AssertionError):
            runner.check(wrong(chosen), outcome)

    @pytest.mark.parametrize(
        "harm",
        [
            lambda folder: (folder / "bystander").unlink(),
            lambda folder: (folder / "out/bystander").write_bytes(b"changed"),
            lambda folder: (folder / "evil").touch(),
            lambda folder: (folder / "out/work/private.img.part").touch(),
            lambda folder: (folder / "out/work/private.img").touch(),
            lambda folder: (folder / "out/evil").symlink_to("/etc/passwd"),
            lambda folder: os.truncate(folder / "out/mail/private.img", 79),
        ],
    )
    def test_what_is_left(self, harm: Callable[[Path], object], tmp_path: Path) -> None:
        chosen = VECTORS["chunk-second-dropped"]
        arena = runner.Arena(tmp_path / "arena")
        backup = tmp_path / "backup"
        backup.write_bytes(chosen.backup)
        runner.restore(chosen, backup, "file", arena.out)
        arena.check(chosen)
        harm(arena.folder)
        with pytest.raises(AssertionError):
            arena.check(chosen)

    def test_a_folder_where_nothing_is_to_be_written(self, tmp_path: Path) -> None:
        arena = runner.Arena(tmp_path / "arena")
        arena.check(VECTORS["copy-missing"])
        (arena.out / "work").mkdir()
        with pytest.raises(AssertionError):
            arena.check(VECTORS["copy-missing"])


class Endless:
    """A backup, then members for ever; each is made when it is read."""

    def __init__(self, front: bytes, members: Iterator[bytes]) -> None:
        self._ready = front
        self._members = members
        self.given = 0

    def read(self, size: int) -> bytes:
        while len(self._ready) < min(size, 512):
            self._ready += next(self._members)
        given, self._ready = self._ready[:size], self._ready[size:]
        self.given += len(given)
        return given


class TestEndlessMembers:
    """A backup of ten million members and more ends at the limit."""

    def restore(self, members: Iterator[bytes], limit: int, out: Path) -> Report:
        chosen = VECTORS["plain"]
        source = Endless(chosen.backup, members)
        with qbackup.open(
            cast(BinaryIO, source), passphrase=chosen.passphrase, limits=Limits(members=limit)
        ) as archive:
            report = archive.restore(out, check=False)
        assert source.given < len(chosen.backup) + (limit + 100) * 512
        assert report.errors == (f"the archive has more than {limit} members",)
        restored = {name for name, status in statuses(report).items() if status == "ok"}
        assert restored == set(chosen.files)
        return report

    @pytest.mark.slow
    def test_of_no_meaning(self, tmp_path: Path) -> None:
        report = self.restore(itertools.repeat(header(b"x")), 50_000, tmp_path)
        assert len(report.warnings) < 2000

    def test_of_one_file(self, tmp_path: Path) -> None:
        chunks = (header(b"vm12/more.%03d.enc" % n) for n in itertools.count())
        report = self.restore(chunks, 5000, tmp_path)
        assert statuses(report)["work/more"] == "damaged"

    def test_of_files(self, tmp_path: Path) -> None:
        files = (header(b"vm12/more%d.000.enc" % n) for n in itertools.count())
        report = self.restore(files, 500, tmp_path)
        assert len(report.bad) == 490
