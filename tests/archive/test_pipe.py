"""A backup on a pipe: its files come once, in order; what has passed is said to have passed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import qbackup
from qbackup import AlreadyPassed, BackupArchive, Damaged, Incomplete, NotInBackup, UsageError
from tests.conftest import MakerFactory
from tests.maker import (
    assemble,
    drop,
)
from tests.maker.collected import PASSPHRASE as MADE_WITH
from tests.support import alter
from tests.support.librarybackup import (
    IMAGE,
    NOISE,
    PASSPHRASE,
    TAR,
    TEXT,
    Made,
)
from tests.support.restored import files_below
from tests.support.sources import piped


class TestPipe:
    @pytest.fixture
    def pipe(self, made: Made) -> Iterator[BackupArchive]:
        with piped(made.path) as file, qbackup.open(file, passphrase=PASSPHRASE) as archive:
            yield archive

    def test_files_come_in_order(self, pipe: BackupArchive) -> None:
        assert pipe.open("personal/private.img").read() == IMAGE
        assert pipe.open("personal/archive.tar").read() == TAR
        assert pipe.open("vault/private.img").read() == NOISE
        assert [e.kind for e in pipe.file("dom0/user").entries()].count("file") == 1

    def test_what_has_passed_raises(self, pipe: BackupArchive) -> None:
        assert pipe.open("personal/archive.tar").read() == TAR
        for name in ("personal/private.img", "personal/text"):
            with pytest.raises(AlreadyPassed, match="already passed") as caught:
                pipe.open(name)
            assert isinstance(caught.value, UsageError)
        assert pipe.open("vault/private.img").read() == NOISE

    def test_a_file_can_be_read_once(self, pipe: BackupArchive) -> None:
        file = pipe.file("personal/private.img")
        assert file.open().read() == IMAGE
        for again in (file.open().read, lambda: list(file.extents()), lambda: list(file.chunks)):
            with pytest.raises(AlreadyPassed):
                again()
        assert pipe.open("personal/text").read() == TEXT

    def test_a_stream_that_was_overtaken_says_so(self, pipe: BackupArchive) -> None:
        overtaken = pipe.open("personal/private.img")
        assert overtaken.read(10) == IMAGE[:10]
        assert pipe.open("vault/private.img").read() == NOISE
        with pytest.raises(AlreadyPassed):
            overtaken.read()

    def test_a_file_that_was_found_and_passed_says_so(self, pipe: BackupArchive) -> None:
        passed = pipe.file("personal/private.img")
        assert pipe.open("vault/private.img").read() == NOISE
        with pytest.raises(AlreadyPassed):
            passed.open().read()

    def test_a_chunk_that_passed_says_so(self, pipe: BackupArchive) -> None:
        chunks = list(pipe.file("vault/private.img").chunks)
        assert len(chunks) == 7
        with pytest.raises(AlreadyPassed):
            _ = chunks[0].parameters
        with pytest.raises(AlreadyPassed):
            chunks[0].open().read()

    def test_a_chunk_can_be_read_once(self, pipe: BackupArchive) -> None:
        for chunk in pipe.file("vault/private.img").chunks:
            assert chunk.parameters.n == 1024
            assert chunk.open().read()
            with pytest.raises(AlreadyPassed):
                chunk.open().read()

    def test_chunks_can_not_be_picked(self, pipe: BackupArchive) -> None:
        chunks = cast(Any, pipe.file("vault/private.img").chunks)
        with pytest.raises(AlreadyPassed):
            chunks[0]

    def test_the_list_of_files_is_known_at_the_end(self, pipe: BackupArchive) -> None:
        assert [file.name for file in pipe.files] == []
        pipe.open("personal/text").read()
        assert [f.name for f in pipe.files] == ["personal/private.img", "personal/text"]
        pipe.verify(["vault", "dom0"])
        assert len(pipe.files) == 6
        assert [f.name for f in pipe.qubes[1].files] == ["vault/private.img"]
        assert pipe.qubes[1].files[0].chunk_count == 7
        assert pipe.qubes[1].files[0].stored_size > len(NOISE)

    def test_what_is_not_there_is_known_at_the_end(self, pipe: BackupArchive) -> None:
        with pytest.raises(NotInBackup):
            pipe.open("vault/none")
        assert len(pipe.files) == 6

    def test_qubes_are_known_at_once(self, pipe: BackupArchive) -> None:
        assert [qube.name for qube in pipe.qubes] == ["personal", "vault", "dom0"]

    def test_restore_from_a_pipe(self, pipe: BackupArchive, tmp_path: Path) -> None:
        report = pipe.restore(tmp_path / "out", ["personal/private.img", "vault"])
        assert report.ok
        assert (tmp_path / "out/personal/private.img").read_bytes() == IMAGE
        assert (tmp_path / "out/vault/private.img").read_bytes() == NOISE
        assert files_below(tmp_path / "out") == {
            "personal/private.img",
            "qubes.xml",
            "vault/private.img",
        }

    def test_restoring_what_has_passed_raises_and_writes_nothing(
        self, pipe: BackupArchive, tmp_path: Path
    ) -> None:
        assert pipe.open("personal/text").read() == TEXT
        with pytest.raises(AlreadyPassed, match=r"personal/private\.img"):
            pipe.restore(tmp_path / "out", ["personal/private.img"])
        with pytest.raises(AlreadyPassed):
            pipe.verify()
        assert not (tmp_path / "out").exists()
        assert pipe.restore(tmp_path / "out", ["vault"]).ok

    def test_a_file_asked_by_name_that_never_came_is_missing(
        self, pipe: BackupArchive, tmp_path: Path
    ) -> None:
        with pytest.raises(Incomplete) as caught:
            pipe.restore(tmp_path / "out", ["vault/none"])
        assert [(r.name, r.status) for r in caught.value.report.bad] == [("none", "missing")]

    @pytest.mark.slow
    @pytest.mark.parametrize("jobs", [1, 4])
    def test_a_damaged_file_has_all_its_chunks(
        self, maker: MakerFactory, tmp_path: Path, jobs: int
    ) -> None:
        """Also those that passed when it had been given up; as from a file."""
        backup = maker(compression_filter=None, chunk_size=4096)
        for name in ("first", "last"):
            backup.add_qube(name, files={"private.img": b"x" * (200 << 10)})
        path = backup.write(tmp_path / "whole")
        for name in ("vm1", "vm2"):
            path = alter.flipped(path, tmp_path / name, f"{name}/private.img.000.enc")
        with piped(path) as file:
            results = []
            for source in (path, file):
                with qbackup.open(source, passphrase=MADE_WITH, jobs=jobs) as archive:
                    results.append(archive.verify(check=False).files)
        assert results[0] == results[1]
        assert [result.chunks for result in results[0][1:]] == [53, 53]

    def test_a_doubled_chunk_is_passed_over(self, made: Made, tmp_path: Path) -> None:
        doubled = made.members
        place = next(i for i, m in enumerate(doubled) if m.name == "vm2/private.img.003.enc")
        for at in (place + 1, place + 3, len(doubled)):  # next to it, later, after other files
            members = [*doubled[:at], doubled[place], *doubled[at:]]
            path = assemble(members, tmp_path / "b")
            with piped(path) as file, qbackup.open(file, passphrase=PASSPHRASE) as archive:
                report = archive.verify()
            assert any("private.img.003" in text and "twice" in text for text in report.warnings)

    def test_a_stray_copy_of_another_files_chunk_costs_nothing(
        self, made: Made, tmp_path: Path
    ) -> None:
        members = made.members
        stray = next(m for m in members if m.name == "vm1/private.img.000.enc")
        place = next(i for i, m in enumerate(members) if m.name == "vm2/private.img.003.enc")
        path = assemble([*members[:place], stray, *members[place:]], tmp_path / "b")
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            seekable = archive.verify()
        with piped(path) as file, qbackup.open(file, passphrase=PASSPHRASE) as archive:
            report = archive.verify()
        assert report == seekable
        assert report.warnings == (
            "vm1/private.img.000: is in the archive twice; the first one is used",
        )

    def test_a_late_chunk_is_an_error_of_the_archive(self, made: Made, tmp_path: Path) -> None:
        last = next(m for m in made.members if m.name == "vm2/private.img.006.enc")
        path = assemble([*drop(made.members, last.name), last], tmp_path / "b")
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            assert archive.verify().ok  # a file can be gone through in any order
        with piped(path) as file, qbackup.open(file, passphrase=PASSPHRASE) as archive:
            report = archive.verify(check=False)
        assert [r.name for r in report.bad] == ["private.img"]
        assert any("private.img.006" in error for error in report.errors)

    def test_qubes_xml_that_comes_late_is_damage(self, made: Made, tmp_path: Path) -> None:
        documents = [m for m in made.members if m.name.startswith("qubes.xml")]
        others = [m for m in made.members if m not in documents]
        path = assemble([*others, *documents], tmp_path / "b")
        with piped(path) as file, qbackup.open(file, passphrase=PASSPHRASE) as archive:
            with pytest.raises(Damaged):
                _ = archive.qubes
            report = archive.restore(tmp_path / "out", check=False)
        assert not report.ok
        assert (tmp_path / "out/vm2/private.img").read_bytes() == NOISE
