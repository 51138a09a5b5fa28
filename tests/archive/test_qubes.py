"""What is in a backup: qubes, files, chunks, extents, entries; and what can be done with all."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup import (
    BackupArchive,
    ChunkDamaged,
    FolderArchive,
    Incomplete,
    NotInBackup,
    Progress,
    UnsupportedFormat,
    UsageError,
)
from qbackup.crypto.kdf import Derivation, Deriver
from tests.maker import (
    BackupMaker,
    append_bytes,
    assemble,
    flip_byte,
    forged_archive,
    published_header,
)
from tests.support.librarybackup import (
    CHUNK,
    IMAGE,
    IMAGE_SIZE,
    KIB,
    NOISE,
    PASSPHRASE,
    TEXT,
    Made,
)
from tests.support.sources import piped
from tests.support.speed import rows


def verified(stream: BinaryIO) -> Any:
    """The stream with what it has beyond BinaryIO: read1, peek, complete."""
    return stream


def chunk_names(archive: BackupArchive, name: str) -> list[str]:
    return [chunk.name for chunk in archive.file(name).chunks]


class TestWhatIsInIt:
    @pytest.mark.slow
    def test_the_header_has_the_fields_of_the_backup(self, backup: BackupArchive) -> None:
        assert backup.header.version == 4
        assert backup.header.backup_id == "20240917T101112-1234"
        assert backup.header.compression_filter is None
        assert not backup.header.compressed
        assert backup.header.encrypted

    def test_qubes_have_their_fields(self, backup: BackupArchive) -> None:
        found = [(q.name, q.klass, q.label, q.template, q.netvm) for q in backup.qubes]
        assert found == [
            ("personal", "AppVM", "yellow", "fedora-40", "sys-firewall"),
            ("vault", "StandaloneVM", "black", None, ""),
            ("dom0", "AdminVM", "black", None, None),
        ]
        assert all(qube.size is not None and qube.size > 0 for qube in backup.qubes)

    def test_qubes_have_their_files(self, backup: BackupArchive) -> None:
        assert {qube.name: [file.name for file in qube.files] for qube in backup.qubes} == {
            "personal": [
                "personal/private.img",
                "personal/text",
                "personal/archive.tar",
                "personal/empty",
            ],
            "vault": ["vault/private.img"],
            "dom0": ["dom0/user"],
        }
        assert [f.name for f in backup.files] == [f.name for q in backup.qubes for f in q.files]

    def test_metadata_is_the_document(self, made: Made, backup: BackupArchive) -> None:
        assert backup.metadata == made.maker.default_qubes_xml()

    def test_each_has_a_printable_repr(self, backup: BackupArchive) -> None:
        file = backup.file("vault/private.img")
        assert repr(backup.qubes[1]) == "<Qube vault (StandaloneVM)>"
        assert repr(file) == "<BackupFile vault/private.img>"
        assert repr(next(iter(file.chunks))) == (
            f"<EncryptedChunk vm2/private.img.000 of {CHUNK + 128} bytes>"
        )

    def test_files_have_their_fields(self, made: Made, backup: BackupArchive) -> None:
        file = backup.file("vault/private.img")
        stored = [m for m in made.members if m.name.startswith("vm2/private.img")]
        assert file.name == "vault/private.img"
        assert file.path == "vm2/private.img"
        assert file.stored_size == sum(member.path.stat().st_size for member in stored)
        assert [f"{chunk.name}.enc" for chunk in file.chunks] == [member.name for member in stored]
        assert file.chunk_count == len(stored) == 7
        assert not file.is_folder
        assert backup.file("dom0/user").is_folder

    def test_a_file_is_found_by_its_path_in_the_archive_too(self, backup: BackupArchive) -> None:
        assert backup.file("vm2/private.img").name == "vault/private.img"

    @pytest.mark.parametrize("name", ["vault", "vault/", "vault/none", "none/x", "", "qubes.xml"])
    def test_what_is_not_there_is_said_so(self, backup: BackupArchive, name: str) -> None:
        with pytest.raises(NotInBackup):
            backup.file(name)
        with pytest.raises(NotInBackup):
            backup.open(name)

    def test_chunks_have_their_fields(self, made: Made, backup: BackupArchive) -> None:
        chunks = backup.file("vault/private.img").chunks
        for number, chunk in enumerate(chunks):
            assert chunk.index == number
            assert chunk.name == f"vm2/private.img.{number:03d}"
            parameters = chunk.parameters
            assert (parameters.n, parameters.r, parameters.p) == (1024, 8, 1)
            member = next(m for m in made.members if m.name == f"{chunk.name}.enc")
            assert chunk.size == member.path.stat().st_size

    def test_chunks_open_to_the_stored_stream(self, backup: BackupArchive) -> None:
        parts = []
        for chunk in backup.file("vault/private.img").chunks:
            with chunk.open() as plaintext:
                parts.append(plaintext.read())
                assert verified(plaintext).complete
        archive = b"".join(parts)
        assert [len(part) for part in parts] == [CHUNK] * 6 + [len(archive) - 6 * CHUNK]
        with tarfile.open(fileobj=io.BytesIO(archive)) as inner:
            member = inner.extractfile("vm2/private.img")
            assert member is not None and member.read() == NOISE

    def test_chunks_are_a_sequence(self, backup: BackupArchive) -> None:
        chunks = cast(Any, backup.file("vault/private.img").chunks)
        assert len(chunks) == 7
        assert chunks[-1].index == 6
        assert [chunk.index for chunk in chunks[1:3]] == [1, 2]
        with pytest.raises(IndexError):
            chunks[7]


class TestExtents:
    def test_they_are_data_and_holes_in_order_without_gaps(self, backup: BackupArchive) -> None:
        content, position, holes = bytearray(IMAGE_SIZE), 0, 0
        for extent in backup.file("personal/private.img").extents():
            assert extent.offset == position
            position += extent.length
            if extent.data is None:
                holes += extent.length
            else:
                assert len(extent.data) == extent.length
                content[extent.offset : position] = extent.data
        assert position == IMAGE_SIZE
        assert bytes(content) == IMAGE
        assert holes == IMAGE_SIZE - 24 * KIB

    def test_they_end_only_when_all_is_proven(self, made: Made, tmp_path: Path) -> None:
        last = "vm2/private.img.006.enc"
        path = assemble(flip_byte(made.members, last, -1), tmp_path / "b")
        with (
            qbackup.open(path, passphrase=PASSPHRASE) as archive,
            pytest.raises(ChunkDamaged) as caught,
        ):
            list(archive.file("vault/private.img").extents())
        assert caught.value.file == "vault/private.img"
        assert caught.value.chunk == "vm2/private.img.006"


class TestFolders:
    def test_they_have_entries(self, backup: BackupArchive) -> None:
        found = {}
        for entry in backup.file("dom0/user").entries():
            data = b"".join(bytes(extent.data or b"") for extent in entry.extents())
            found[entry.path] = (entry.kind, entry.target, data)
        assert found == {
            ".": ("folder", "", b""),
            "Documents": ("folder", "", b""),
            "Documents/letter": ("file", "", TEXT),
            "link": ("symlink", "Documents/letter", b""),
        }

    def test_an_entry_that_went_by_can_not_be_read(self, backup: BackupArchive) -> None:
        entries = list(backup.file("dom0/user").entries())
        with pytest.raises(UsageError, match="already passed"):
            list(entries[0].extents())

    def test_entries_that_are_not_read_are_passed(self, backup: BackupArchive) -> None:
        paths = [entry.path for entry in backup.file("dom0/user").entries()]
        assert sorted(paths) == [".", "Documents", "Documents/letter", "link"]

    def test_open_and_extents_on_them_say_what_to_use(
        self, backup: BackupArchive, derivations: list[Derivation]
    ) -> None:
        file = backup.file("dom0/user")
        before = len(derivations)
        for use in (file.open, file.extents, lambda: backup.open("dom0/user")):
            with pytest.raises(FolderArchive, match=r"entries\(\)") as caught:
                use()
            assert caught.value.file == "dom0/user"
        assert len(derivations) == before


class TestRestoreAndVerify:
    def test_selection_and_progress(self, backup: BackupArchive, tmp_path: Path) -> None:
        seen: list[Progress] = []
        report = backup.restore(
            tmp_path / "out", ["personal/private.img", "vault"], progress=seen.append
        )
        assert report.ok
        wanted = ["personal/private.img", "vault/private.img"]
        total = sum(backup.file(name).stored_size for name in wanted)
        assert {progress.total for progress in seen} == {total}
        assert [progress.done for progress in seen] == sorted(p.done for p in seen)
        assert (seen[0].done, seen[-1].done) == (0, total)
        assert list(dict.fromkeys(progress.file for progress in seen)) == wanted
        chunks = sum(len(chunk_names(backup, name)) for name in wanted)
        assert len({progress.done for progress in seen}) == chunks + 1  # after every chunk

    def test_progress_on_a_pipe_has_no_total(self, made: Made) -> None:
        seen: list[Progress] = []
        with piped(made.path) as file, qbackup.open(file, passphrase=PASSPHRASE) as archive:
            archive.verify(progress=seen.append)
        assert {progress.total for progress in seen} == {None}
        assert seen[-1].file == "dom0/user"

    def test_an_error_in_the_callback_ends_the_restore(
        self, backup: BackupArchive, tmp_path: Path
    ) -> None:
        class Stop(Exception):
            pass

        def stop(progress: Progress) -> None:
            if progress.done:
                raise Stop

        with pytest.raises(Stop):
            backup.restore(tmp_path / "out", ["vault"], progress=stop)
        assert os.listdir(tmp_path / "out/vault") == []

    def test_incomplete_is_raised_unless_all_is_whole(self, made: Made, tmp_path: Path) -> None:
        path = assemble(flip_byte(made.members, "vm2/private.img.003.enc", 99), tmp_path / "b")
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            with pytest.raises(Incomplete, match="1 of 7 files") as caught:
                archive.verify()
            assert not caught.value.report.ok
            report = archive.verify(check=False)
            assert report == caught.value.report
            with pytest.raises(Incomplete) as restored:
                archive.restore(tmp_path / "out")
            assert [r.name for r in restored.value.report.bad] == ["private.img"]
            assert not archive.restore(tmp_path / "again", check=False).ok
            assert archive.verify(["personal"]).ok  # the others are not concerned

    def test_an_unknown_name_is_said_before_anything_is_written(
        self, backup: BackupArchive, tmp_path: Path
    ) -> None:
        for names in (["none"], ["vault", "none"], ["vault/none"], ["personal/vault"]):
            with pytest.raises(NotInBackup, match=r"none|vault"):
                backup.restore(tmp_path / "out", names)
            with pytest.raises(NotInBackup):
                backup.verify(names, check=False)
        assert not (tmp_path / "out").exists()

    def test_a_filter_may_be_named_instead_of_the_header_s(
        self, tools: None, tmp_path: Path
    ) -> None:
        header = published_header(compression_filter="mygzip")
        maker = BackupMaker(tmp_path / "maker", header=header)
        maker.add_qube("work", files={"private.img": NOISE})
        path = maker.write(tmp_path / "b")
        with pytest.raises(UnsupportedFormat, match="--compression-filter mygzip"):
            qbackup.open(path, passphrase=maker.passphrase)
        for name in ("gzip", "pigz", "/bin/gzip"):
            with qbackup.open(path, passphrase=maker.passphrase, compression_filter=name) as b:
                assert b.open("work/private.img").read() == NOISE
        with qbackup.open(path, passphrase=maker.passphrase, compression_filter="none") as b:
            assert not b.verify(check=False).ok

    @rows(("jobs", "memory"), [(1, 1), (1, 1 << 30), (8, 1 << 30), (64, 1)], quick=2)
    def test_jobs_and_memory_change_no_result(
        self, made: Made, tmp_path: Path, jobs: int, memory: int
    ) -> None:
        path = assemble(flip_byte(made.members, "vm2/private.img.003.enc", 99), tmp_path / "b")
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            usual = archive.verify(check=False)
        with qbackup.open(path, passphrase=PASSPHRASE, jobs=jobs, memory=memory) as archive:
            assert archive.verify(check=False) == usual

    def test_a_slow_machine_believes_the_same_chunks(
        self, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each derivation takes far longer than its parameters are worth, as on a busy machine."""
        path = assemble(flip_byte(made.members, "vm1/text.002.enc", 99), tmp_path / "b")
        names = ["personal/text", "vault"]
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            usual = archive.verify(names, check=False)
        derive = Deriver.derive

        def slow(self: Deriver, job: Derivation, threads: int = 1) -> bytes:
            time.sleep(0.15)
            return derive(self, job, threads)

        monkeypatch.setattr(Deriver, "derive", slow)
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            assert archive.verify(names, check=False) == usual

    def test_forged_members_are_passed_over_with_a_warning(
        self, made: Made, tmp_path: Path
    ) -> None:
        path = tmp_path / "b"
        shutil.copyfile(made.path, path)
        append_bytes(path, forged_archive("vm9/private.img.000.enc", b"x" * 200))
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            report = archive.verify()
            with pytest.raises(NotInBackup):
                archive.file("vm9/private.img.001")
        assert any("vm9/private.img" in text for text in report.warnings)
