"""Everyday forms of a backup: unpacked by hand into a folder, and packed again by somebody's tar.

Each is made out of a committed backup and must give what that gives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

import qbackup
from qbackup.base.errors import (
    LimitExceeded,
    MachineError,
    NotABackup,
    Unlockable,
    UnsupportedFormat,
)
from qbackup.base.limits import Limits
from qbackup.storage.source import Source
from qbackup.storage.unpacked import UnpackedSource, open_backup
from tests.support import vectorfiles
from tests.support.commandline import call
from tests.support.realbackups import passphrase_of
from tests.support.restored import Snapshot, snapshot, statuses
from tests.support.sources import piped
from tests.support.speed import rows

#: One of each format, with folders and homes, with and without a header.
NAMES = [
    "gzip-published-header",
    "xz-many-chunks",
    "pigz-home",
    "v3-template",
    "v3-gzip-many-chunks",
    "v3-home",
    "v2-candidate-gzip",
    "v2-template",
    "v2-beta3-gzip",
    "v2-beta3-encrypted",
]
NAME = "xz-many-chunks"
PACKERS = {
    "the folder itself": ("tar", "-cf", "OUT", "."),
    "names with a dot": ("tar", "--sort=name", "-cf", "OUT", "."),
    "gnu": ("tar", "--format=gnu", "-cf", "OUT", "."),
    "pax": ("tar", "--format=posix", "-cf", "OUT", "."),
    "ustar": ("tar", "--format=ustar", "-cf", "OUT", "."),
    "no padding": ("tar", "-b1", "-cf", "OUT", "."),
    "large records": ("tar", "-b", "64", "-cf", "OUT", "."),
    "owners": ("tar", "--owner=someone", "--group=users", "-cf", "OUT", "."),
    "the header last": ("sh", "-c", "tar -cf OUT $(ls -r)"),
    "in a folder": ("sh", "-c", "tar -C .. -cf OUT unpacked"),
    "in deep folders": ("sh", "-c", 'tar -C / -cf OUT "./${PWD#/}"'),
}


def unpack(name: str, folder: Path) -> Path:
    """Unpacks as step 1 of the published procedure does, with Python's own tar."""
    folder.mkdir()
    with tarfile.open(vectorfiles.backup_path(name), ignore_zeros=True) as archive:
        for member in archive:
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            file = archive.extractfile(member)
            assert file is not None
            path.write_bytes(file.read())
    return folder


def restored(source: Path, name: str, out: Path, *, salvage: bool = False) -> Snapshot:
    with qbackup.open(source, passphrase=passphrase_of(name), salvage=salvage) as archive:
        archive.restore(out)
        assert archive.warnings == [w for w in archive.warnings if "no part of a" in w]
    return snapshot(out)


def expected(name: str, out: Path) -> Snapshot:
    return restored(vectorfiles.backup_path(name), name, out)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    return unpack(NAME, tmp_path / "unpacked")


@pytest.fixture
def whole(tmp_path: Path) -> Snapshot:
    return expected(NAME, tmp_path / "expected")


def verified(source: Path, name: str = NAME) -> qbackup.Report:
    with qbackup.open(source, passphrase=passphrase_of(name)) as archive:
        return archive.verify(check=False)


class TestFolder:
    @rows("name", NAMES)
    def test_gives_what_the_backup_gives(self, name: str, tmp_path: Path) -> None:
        folder = unpack(name, tmp_path / "unpacked")
        assert restored(folder, name, tmp_path / "out") == expected(name, tmp_path / "expected")

    def test_real_tar_unpacks_the_same(self, tools: None, tmp_path: Path, whole: Snapshot) -> None:
        folder = tmp_path / "by tar"
        folder.mkdir()
        backup = vectorfiles.backup_path(NAME)
        subprocess.run(["tar", "-i", "-xf", backup, "-C", folder], check=True)
        assert restored(folder, NAME, tmp_path / "out") == whole

    def test_salvage_reads_it_too(self, unpacked: Path) -> None:
        passphrase = passphrase_of(NAME)
        with qbackup.open(unpacked, passphrase=passphrase, salvage=True) as archive:
            assert archive.verify(check=False).bad == ()

    @pytest.mark.parametrize("command", ["info", "list", "verify"])
    def test_every_command_takes_one(self, unpacked: Path, command: str) -> None:
        ended = call(command, unpacked, env={"QBACKUP_PASSPHRASE": passphrase_of(NAME)})
        assert ended.status == 0

    def test_files_beside_it_are_passed_over(self, unpacked: Path, whole: Snapshot) -> None:
        (unpacked / "README").write_bytes(b"hello")
        (unpacked / "backup-header.verified").write_bytes(b"version=4")
        (unpacked / "other").mkdir()
        (unpacked / "other" / "movie.mkv").write_bytes(b"x")
        for path in list(unpacked.rglob("*.enc")):
            path.with_suffix("").write_bytes(b"decrypted by hand, and nobody's chunk")
            (path.parent / f"._{path.name}").write_bytes(b"as macOS leaves it")
        assert restored(unpacked, NAME, unpacked.parent / "out") == whole
        assert verified(unpacked).warnings == ()

    def test_what_the_procedure_of_format_2_leaves_is_passed_over(self, tmp_path: Path) -> None:
        name = "v2-candidate-encrypted"
        folder = unpack(name, tmp_path / "unpacked")
        for path in list(folder.rglob("*.img.000")):
            path.with_name(path.name.replace(".000", ".dec.000")).write_bytes(b"decrypted")
        assert verified(folder, name).ok

    def test_a_chunk_that_is_not_there_is_missed(self, unpacked: Path) -> None:
        lost = sorted(unpacked.rglob("private.img.*.enc"))[1]
        lost.unlink()
        report = verified(unpacked)
        assert not report.ok and "damaged" in statuses(report).values()

    def test_a_file_that_is_not_there_is_missed(self, unpacked: Path) -> None:
        for lost in unpacked.rglob("private.img.*.enc"):
            lost.unlink()
        assert "missing" in statuses(verified(unpacked)).values()

    def test_a_cut_chunk_costs_its_file(self, unpacked: Path) -> None:
        cut = sorted(unpacked.rglob("private.img.*.enc"))[0]
        os.truncate(cut, cut.stat().st_size - 1)
        report = verified(unpacked)
        assert not report.ok and statuses(report)["qubes.xml"] == "ok"

    @pytest.mark.parametrize("name", ["backup-header.hmac", "backup-header", "qubes.xml.000.enc"])
    def test_without_a_part_of_its_front(self, unpacked: Path, name: str) -> None:
        (unpacked / name).unlink()
        if name == "qubes.xml.000.enc":
            assert statuses(verified(unpacked))["qubes.xml"] == "missing"
        else:
            with pytest.raises((Unlockable, UnsupportedFormat), match="missing"):
                verified(unpacked)


class TestHostileFolder:
    """A folder is as little trusted as a file."""

    def test_a_link_is_not_followed(self, unpacked: Path, tmp_path: Path) -> None:
        chunk = sorted(unpacked.rglob("private.img.*.enc"))[0]
        elsewhere = tmp_path / "elsewhere"
        shutil.move(chunk, elsewhere)
        chunk.symlink_to(elsewhere)
        report = verified(unpacked)
        assert not report.ok
        assert any(f"{chunk.name}: not a regular file" in text for text in report.warnings)

    def test_a_linked_folder_is_not_followed(self, unpacked: Path, tmp_path: Path) -> None:
        folder = sorted(unpacked.rglob("private.img.*.enc"))[0].parent
        shutil.move(folder, tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        assert "missing" in statuses(verified(unpacked)).values()

    def test_the_folder_itself_may_be_reached_by_a_link(
        self, unpacked: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to(unpacked)
        assert verified(tmp_path / "link").ok

    def test_a_pipe_in_a_chunks_place_is_not_waited_for(self, unpacked: Path) -> None:
        chunk = sorted(unpacked.rglob("private.img.*.enc"))[0]
        chunk.unlink()
        os.mkfifo(chunk)
        assert not verified(unpacked).ok

    @pytest.mark.parametrize("change", ["shorter", "longer", "link", "pipe", "gone", "folder"])
    def test_what_changes_while_it_is_read_costs_its_chunk(
        self, unpacked: Path, change: str
    ) -> None:
        chunk = sorted(unpacked.rglob("private.img.*.enc"))[0]
        with qbackup.open(unpacked, passphrase=passphrase_of(NAME)) as archive:
            if change == "shorter":
                os.truncate(chunk, 50)
            elif change == "longer":
                os.truncate(chunk, chunk.stat().st_size + 1)
            else:
                data = chunk.read_bytes()
                chunk.unlink()
                if change == "link":
                    (unpacked.parent / "elsewhere").write_bytes(data)
                    chunk.symlink_to(unpacked.parent / "elsewhere")
                elif change == "pipe":
                    os.mkfifo(chunk)
                elif change == "folder":
                    chunk.mkdir()
            report = archive.verify(check=False)
        assert len(report.bad) == 1 and statuses(report)["qubes.xml"] == "ok"

    def test_a_folder_that_becomes_a_link_leads_nowhere(
        self, unpacked: Path, tmp_path: Path
    ) -> None:
        folder = sorted(unpacked.rglob("private.img.*.enc"))[0].parent
        with qbackup.open(unpacked, passphrase=passphrase_of(NAME)) as archive:
            shutil.move(folder, tmp_path / "elsewhere")
            folder.symlink_to(tmp_path / "elsewhere")
            assert archive.verify(check=False).bad

    def test_no_more_entries_than_a_backup_may_have_members(self, unpacked: Path) -> None:
        for number in range(50):
            (unpacked / f"file {number}").touch()
        with pytest.raises(LimitExceeded) as caught:
            qbackup.open(unpacked, limits=Limits(members=40))
        assert caught.value.limit == "members"

    def test_names_of_any_bytes(self, unpacked: Path) -> None:
        (unpacked / "vm1\x1b[2J").mkdir(exist_ok=True)
        (unpacked / "vm1\x1b[2J" / os.fsdecode(b"caf\xe9.000.enc")).write_bytes(b"x")
        (unpacked / os.fsdecode(b"\xff.000.enc")).write_bytes(b"x")
        report = verified(unpacked)
        assert report.ok and all(text.isprintable() for text in report.warnings)

    def test_folders_that_are_too_deep_are_noted(self, unpacked: Path) -> None:
        deep = unpacked.joinpath(*["d"] * 260)
        deep.mkdir(parents=True)
        (deep / "x.000.enc").write_bytes(b"x")
        report = verified(unpacked)
        assert report.ok
        (note,) = [text for text in report.warnings if "deeper than 256 folders" in text]
        assert "--limit depth=257" in note

    def test_a_folder_that_may_not_be_read_is_noted(
        self, unpacked: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (unpacked / "lost+found").mkdir()
        scandir = os.scandir

        def refusing(path: int | str) -> object:
            if isinstance(path, int) and os.readlink(f"/proc/self/fd/{path}").endswith("found"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refusing)
        monkeypatch.setattr(os, "supports_fd", {refusing})
        report = verified(unpacked)
        assert report.ok and "lost+found: this folder can't be read" in report.warnings[0]


class TestUnpackedSource:
    def source(self, folder: Path) -> UnpackedSource:
        source = open_backup(folder, Limits())
        assert isinstance(source, UnpackedSource)
        return source

    def content(self, source: Source) -> bytes:
        buffer = bytearray(source.end())
        assert source.read_into(0, memoryview(buffer)) == len(buffer)
        return bytes(buffer)

    def test_is_a_tar_archive_that_tarfile_reads(self, unpacked: Path, tmp_path: Path) -> None:
        long = unpacked / "vm9" / ("n" * 200) / ("m" * 250)
        long.mkdir(parents=True)
        (long / "private.img.000.enc").write_bytes(b"long")
        source = self.source(unpacked)
        (tmp_path / "archive").write_bytes(self.content(source))
        with tarfile.open(tmp_path / "archive", ignore_zeros=True) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                assert file.read() == (unpacked / member.name).read_bytes()
            names = archive.getnames()
        assert names[:3] == ["backup-header", "backup-header.hmac", "qubes.xml.000.enc"]
        files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
        assert set(names) == files and len(names) == len(files)

    def test_any_piece_of_it_is_the_same(self, unpacked: Path) -> None:
        source = self.source(unpacked)
        content = self.content(source)
        for start in range(0, len(content) + 2000, 997):
            buffer = bytearray(1500)
            count = source.read_into(start, memoryview(buffer))
            assert bytes(buffer[:count]) == content[start : start + 1500]
        assert source.read_into(1 << 70, memoryview(bytearray(5))) == 0

    def test_closing_it_waits_for_nobody_and_ends_reading(self, unpacked: Path) -> None:
        source = self.source(unpacked)
        ended = threading.Event()

        def read() -> None:
            with pytest.raises(qbackup.QBackupError):
                while True:
                    self.content(source)
            ended.set()

        thread = threading.Thread(target=read)
        thread.start()
        source.close()
        thread.join(10)
        assert ended.is_set()


class TestNoFolderOfABackup:
    def test_names_the_backups_that_are_in_it(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            shutil.copy(vectorfiles.backup_path("v2-beta3-gzip" if name == "two" else NAME),
                        tmp_path / f"qubes-{name}")  # fmt: skip
        unpack(NAME, tmp_path / "unpacked\x1b")
        (tmp_path / "README").write_bytes(b"x")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("qubes-one")
        ended = call("list", tmp_path)
        assert ended.status == 4
        told = ended.stderr.decode()
        for name in ("qubes-one", "qubes-two", "unpacked\\x1b"):
            assert f"{tmp_path}/{name}" in told
        assert "README" not in told and "link" not in told

    def test_or_says_that_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(NotABackup, match="none was found"):
            qbackup.open(tmp_path)

    def test_a_backup_of_format_1_stays_what_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "qubes.xml").write_bytes(b"<QubesVmCollection/>")
        with pytest.raises(UnsupportedFormat, match="format 1"):
            qbackup.open(tmp_path)

    def test_a_folder_that_can_not_be_opened(
        self, unpacked: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refusing(*arguments: object, **options: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refusing)
        with pytest.raises(MachineError, match="Permission denied"):
            UnpackedSource(str(unpacked), Limits())


def pack(folder: Path, out: Path, command: Sequence[str]) -> Path:
    """Packs a folder by a program, within it."""
    words = [word.replace("OUT", str(out)) for word in command]
    subprocess.run(words, cwd=folder, check=True)
    return out


class TestPackedAgain:
    @rows("packer", PACKERS, quick=2)
    def test_gives_what_the_backup_gives(
        self, tools: None, packer: str, unpacked: Path, tmp_path: Path, whole: Snapshot
    ) -> None:
        packed = pack(unpacked, tmp_path / "packed", PACKERS[packer])
        assert restored(packed, NAME, tmp_path / "out") == whole
        assert restored_again(packed, tmp_path / "out")

    @rows("name", NAMES)
    def test_of_every_format(self, tools: None, name: str, tmp_path: Path) -> None:
        folder = unpack(name, tmp_path / "unpacked")
        packed = pack(folder, tmp_path / "packed", PACKERS["the header last"])
        assert restored(packed, name, tmp_path / "out") == expected(name, tmp_path / "expected")
        packed = pack(folder, tmp_path / "packed", PACKERS["in a folder"])
        assert restored(packed, name, tmp_path / "out 2") == snapshot(tmp_path / "out")

    @pytest.mark.parametrize("blocks", [0, 1])
    def test_without_an_end_mark_it_is_whole_with_a_warning(
        self, tools: None, unpacked: Path, tmp_path: Path, blocks: int
    ) -> None:
        packed = pack(unpacked, tmp_path / "packed", PACKERS["no padding"])
        os.truncate(packed, packed.stat().st_size - 512 * (2 - blocks))
        report = verified(packed)
        assert report.ok and "without an end mark" in report.warnings[0]

    def test_zeros_that_are_no_padding_are_said(
        self, tools: None, unpacked: Path, tmp_path: Path
    ) -> None:
        """Something may have been wiped out there, and nothing else would show that."""
        packed = pack(unpacked, tmp_path / "packed", PACKERS["no padding"])
        blocks = packed.stat().st_size // 512
        os.truncate(packed, (blocks + 100 + blocks % 2 + 1) * 512)
        report = verified(packed)
        assert report.ok and "members that stood there are lost" in report.warnings[0]

    def test_cut_at_a_members_border_what_is_missing_is_missed(
        self, tools: None, unpacked: Path, tmp_path: Path
    ) -> None:
        """Nothing tells it from an archive without an end mark, but what must be there."""
        names = ["backup-header", "backup-header.hmac", "qubes.xml.000.enc"]
        chunks = sorted(str(p.relative_to(unpacked)) for p in unpacked.rglob("private.img*"))
        command = ("tar", "-b1", "-cf", "OUT", *names, *chunks[:-1])
        packed = pack(unpacked, tmp_path / "packed", command)
        os.truncate(packed, packed.stat().st_size - 1024)
        assert not verified(packed).ok

    def test_from_a_pipe_when_its_order_is_the_old_one(
        self, tools: None, unpacked: Path, tmp_path: Path
    ) -> None:
        front = ("backup-header", "backup-header.hmac", "qubes.xml.000.enc")
        rest = sorted({p.name for p in unpacked.iterdir()} - set(front))
        for prefix in ("", "./", "unpacked/"):
            folder = unpacked.parent if prefix == "unpacked/" else unpacked
            names = [prefix + name for name in (*front, *rest)]
            packed = pack(folder, tmp_path / "packed", ("tar", "--sort=name", "-cf", "OUT", *names))
            with (
                piped(packed) as pipe,
                qbackup.open(pipe, passphrase=passphrase_of(NAME)) as archive,
            ):
                assert archive.verify().ok

    def test_from_a_pipe_in_another_order_says_what_to_do(
        self, tools: None, unpacked: Path, tmp_path: Path
    ) -> None:
        packed = pack(unpacked, tmp_path / "packed", PACKERS["the header last"])
        with piped(packed) as pipe, pytest.raises(qbackup.Unreadable, match="write it to a file"):
            qbackup.open(pipe)

    def test_salvage_takes_a_folder_in_front(
        self, tools: None, unpacked: Path, tmp_path: Path, whole: Snapshot
    ) -> None:
        packed = pack(unpacked, tmp_path / "packed", PACKERS["in deep folders"])
        passphrase = passphrase_of(NAME)
        with qbackup.open(packed, passphrase=passphrase, salvage=True) as archive:
            report = archive.restore(tmp_path / "out", check=False)
            assert report.bad == () and snapshot(tmp_path / "out") == whole

    def test_a_backup_in_a_folder_of_it_is_no_second_one(
        self, tools: None, unpacked: Path, tmp_path: Path
    ) -> None:
        """The same holds for a folder that was not packed again."""
        (unpacked / "an older one").mkdir()
        shutil.copy(unpacked / "backup-header", unpacked / "an older one")
        command = ("sh", "-c", "tar -C .. --sort=name -cf OUT unpacked")
        report = verified(pack(unpacked, tmp_path / "packed", command))
        assert report.ok and report.warnings

    def test_several_backups_in_one_archive_are_named(
        self, tools: None, unpacked: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(unpacked, tmp_path / "both" / "first")
        shutil.copytree(unpacked, tmp_path / "both" / "second")
        packed = pack(tmp_path / "both", tmp_path / "packed", PACKERS["the folder itself"])
        with pytest.raises(NotABackup, match=r"in a folder \((first/, second/|second/, first/)\)"):
            qbackup.open(packed)

    def test_a_header_at_the_top_is_the_one(
        self, tools: None, unpacked: Path, tmp_path: Path
    ) -> None:
        """Files that are planted in a folder, or lie there besides, make nothing ambiguous."""
        (unpacked / "old").mkdir()
        shutil.copy(unpacked / "backup-header", unpacked / "old")
        packed = pack(
            unpacked, tmp_path / "packed", ("tar", "-cf", "OUT", "old", *os.listdir(unpacked))
        )
        assert verified(packed).ok

    def test_another_tar_archive_is_none(self, tools: None, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "hello").write_bytes(b"x")
        packed = pack(folder, tmp_path / "packed", PACKERS["the folder itself"])
        with pytest.raises(NotABackup, match="not a Qubes backup"):
            qbackup.open(packed)


def restored_again(source: Path, out: Path) -> bool:
    """Tells whether a second run keeps all that the first one restored."""
    with qbackup.open(source, passphrase=passphrase_of(NAME)) as archive:
        return set(statuses(archive.restore(out)).values()) == {"kept"}
