"""Opening and closing a backup with the library, and what it does before it is asked: nothing."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup import (
    BackupArchive,
    HeaderAltered,
    Interrupted,
    NotABackup,
    UnsupportedFormat,
    UsageError,
    WrongPassphrase,
)
from qbackup.crypto.kdf import Derivation
from tests.maker import (
    BackupMaker,
    assemble,
    published_header,
    replace,
)
from tests.support.librarybackup import (
    CHUNK,
    NOISE,
    PASSPHRASE,
    TEXT,
    Made,
    tar_of,
)
from tests.support.sources import ReadOnly, Recorded, piped


def chunk_names(archive: BackupArchive, name: str) -> list[str]:
    return [chunk.name for chunk in archive.file(name).chunks]


class TestOpening:
    def test_a_path_is_a_source(self, made: Made) -> None:
        for path in (made.path, str(made.path)):
            with qbackup.open(path, passphrase=PASSPHRASE) as archive:
                assert archive.is_seekable
                assert archive.open("personal/text").read() == TEXT

    def test_a_named_pipe_is_a_source(self, made: Made, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        writer = threading.Thread(target=lambda: fifo.write_bytes(made.path.read_bytes()))
        writer.start()
        with qbackup.open(fifo, passphrase=PASSPHRASE) as archive:
            assert not archive.is_seekable
            assert archive.verify().ok
        writer.join()

    def test_any_binary_file_object_is_a_source(self, made: Made) -> None:
        data = made.path.read_bytes()
        with made.path.open("rb") as file, made.path.open("rb", buffering=0) as raw:
            for source in (io.BytesIO(data), file, raw, Recorded(made.path)):
                with qbackup.open(cast(BinaryIO, source), passphrase=PASSPHRASE) as archive:
                    assert archive.is_seekable
                    assert archive.verify().ok

    def test_an_object_that_can_only_read_is_a_pipe(self, made: Made) -> None:
        with (
            contextlib.closing(ReadOnly(made.path)) as source,
            qbackup.open(cast(BinaryIO, source), passphrase=PASSPHRASE) as archive,
        ):
            assert not archive.is_seekable
            assert archive.verify().ok

    def test_a_file_object_stays_open_for_its_owner(self, made: Made) -> None:
        with made.path.open("rb") as file:
            with qbackup.open(file, passphrase=PASSPHRASE) as archive:
                archive.verify()
            assert not file.closed
            assert file.seek(0) == 0
            assert len(file.read()) == made.path.stat().st_size

    @pytest.mark.parametrize("numbers", [{"jobs": -1}, {"jobs": 0}, {"jobs": 1.5}, {"memory": -1}])
    def test_a_number_that_makes_no_sense_is_told(self, made: Made, numbers: Any) -> None:
        """With less than one job nothing would ever be derived."""
        with pytest.raises(UsageError, match="a whole number above 0"):
            qbackup.open(made.path, **numbers)

    def test_a_file_object_stays_open_when_opening_fails(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_bytes(b"no backup")
        with (tmp_path / "text").open("rb") as file:
            with pytest.raises(NotABackup):
                qbackup.open(file)
            assert not file.closed

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "empty"),
            (b"Dear diary\n" * 100, "tar"),
            (random.Random(3).randbytes(20_000), "tar"),
            (bytes(10_240), "nothing but zeros"),
            (tar_of({"letter.txt": b"hello"}), "letter.txt"),
            (tar_of({"let\x1b[2Jter": b"hello"}), r"let\\x1b\[2Jter"),
        ],
        ids=["empty", "text", "random", "zeros", "tar", "tar with an odd name"],
    )
    def test_what_is_no_backup_is_said_to_be_none(
        self, tmp_path: Path, content: bytes, says: str
    ) -> None:
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(NotABackup, match=says):
            qbackup.open(tmp_path / "file")
        with piped(tmp_path / "file") as pipe, pytest.raises(NotABackup, match=says):
            qbackup.open(pipe)

    def test_a_folder_a_device_and_no_file_are_no_backup(self, tmp_path: Path) -> None:
        with pytest.raises(NotABackup, match="folder"):
            qbackup.open(tmp_path)
        with pytest.raises(NotABackup, match="device"):
            qbackup.open("/dev/null")
        with pytest.raises(UsageError, match="no such file"):
            qbackup.open(tmp_path / "none")

    @pytest.mark.parametrize("version", ["1", "2", "3", "5", "99999999"])
    def test_other_versions_are_told_apart(self, made: Made, tmp_path: Path, version: str) -> None:
        header = made.maker.header.replace(b"version=4", b"version=" + version.encode())
        path = assemble(replace(made.members, "backup-header", header), tmp_path / "b")
        with pytest.raises(UnsupportedFormat, match=f"format {version}"):
            qbackup.open(path)

    def test_a_backup_with_no_header_is_told_to_be_of_format_2(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_bytes(tar_of({"qubes.xml.000": b"x", "qubes.xml.000.hmac": b"x"}))
        with qbackup.open(tmp_path / "b") as archive:
            assert archive.untrusted_header.version == 2
            with pytest.raises(HeaderAltered):
                archive.unlock("guess")

    def test_format_4_without_its_header_is_not_read(self, made: Made, tmp_path: Path) -> None:
        path = assemble(made.members[2:], tmp_path / "b")
        with pytest.raises(UnsupportedFormat, match="header is missing"):
            qbackup.open(path)

    def test_the_header_of_the_published_procedure_is_accepted(
        self, tools: None, tmp_path: Path
    ) -> None:
        maker = BackupMaker(tmp_path / "maker", header=published_header())
        maker.add_qube("work", files={"private.img": NOISE})
        path = maker.write(tmp_path / "b")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            assert archive.header.hmac_algorithm == "scrypt"
            assert archive.header.backup_id == maker.backup_id
            assert archive.open("work/private.img").read() == NOISE

    @pytest.mark.slow
    def test_everything_is_closed_when_opening_fails(self, made: Made, tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            with pytest.raises(WrongPassphrase):
                qbackup.open(made.path, passphrase="wrong")
            (tmp_path / "text").write_bytes(b"no backup")
            with pytest.raises(NotABackup):
                qbackup.open(tmp_path / "text")
            gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before


class TestPassphrase:
    def test_without_one_the_archive_is_locked_and_nothing_is_derived(
        self, made: Made, derivations: list[Derivation]
    ) -> None:
        with qbackup.open(made.path) as archive:
            assert not archive.is_unlocked
            assert archive.untrusted_header.version == 4
            locked: list[Callable[[], object]] = [
                lambda: archive.header,
                lambda: archive.qubes,
                lambda: archive.files,
                lambda: archive.metadata,
                lambda: archive.file("personal/text"),
                lambda: archive.open("personal/text"),
                archive.verify,
            ]
            for use in locked:
                with pytest.raises(UsageError, match="locked"):
                    use()
        assert derivations == []

    def test_a_locked_archive_makes_no_output_folder(self, made: Made, tmp_path: Path) -> None:
        with qbackup.open(made.path) as archive, pytest.raises(UsageError, match="locked"):
            archive.restore(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("way", ["file", "pipe"])
    def test_a_wrong_one_raises_and_may_be_tried_again(self, made: Made, way: str) -> None:
        with contextlib.ExitStack() as stack:
            source: Any = stack.enter_context(piped(made.path)) if way == "pipe" else made.path
            archive = stack.enter_context(qbackup.open(source))
            for wrong in ("", "wrong", PASSPHRASE + " ", b"\xff"):
                with pytest.raises(WrongPassphrase, match="passphrase"):
                    archive.unlock(wrong)
                assert not archive.is_unlocked
            archive.unlock(PASSPHRASE)
            assert archive.is_unlocked
            assert archive.verify().ok

    def test_it_may_be_bytes(self, made: Made) -> None:
        with qbackup.open(made.path, passphrase=PASSPHRASE.encode()) as archive:
            assert archive.open("personal/text").read() == TEXT

    @pytest.mark.parametrize("kind", [str, bytes])
    def test_it_may_be_a_callable_which_is_asked_once(
        self, made: Made, kind: type[str] | type[bytes]
    ) -> None:
        asked = []

        def ask() -> str | bytes:
            asked.append(1)
            return PASSPHRASE if kind is str else PASSPHRASE.encode()

        with qbackup.open(made.path, passphrase=ask) as archive:
            assert archive.verify().ok
        assert len(asked) == 1

    def test_what_a_callable_raises_comes_through(self, made: Made) -> None:
        def ask() -> str:
            raise EOFError("nobody there")

        with pytest.raises(EOFError, match="nobody there"):
            qbackup.open(made.path, passphrase=ask)

    def test_an_altered_header_is_no_wrong_passphrase(self, made: Made, tmp_path: Path) -> None:
        header = made.maker.header.replace(b"backup-id=2024", b"backup-id=2025")
        path = assemble(replace(made.members, "backup-header", header), tmp_path / "b")
        with qbackup.open(path) as archive:
            assert archive.untrusted_header.backup_id.startswith("2025")
            with pytest.raises(HeaderAltered, match="differs"):
                archive.unlock(PASSPHRASE)
            assert not archive.is_unlocked

    def test_one_longer_than_what_scrypt_reads_unlocks(self, tools: None, tmp_path: Path) -> None:
        maker = BackupMaker(tmp_path / "maker", passphrase="long and longer " * 150)
        maker.add_qube("work", files={"private.img": NOISE})
        path = maker.write(tmp_path / "b")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            assert archive.open("work/private.img").read() == NOISE


class TestLaziness:
    def test_nothing_is_derived_or_read_before_it_is_asked_for(
        self, made: Made, derivations: list[Derivation]
    ) -> None:
        source = Recorded(made.path)
        with tarfile.open(made.path, ignore_zeros=True) as outer:
            data = {m.name: range(m.offset_data, m.offset_data + m.size) for m in outer}

        def chunks_touched() -> set[str]:
            return {
                name
                for name, place in data.items()
                if name.endswith(".enc")
                for offset, length in source.reads
                if offset < place.stop and offset + length > place.start
            }

        with qbackup.open(cast(BinaryIO, source)) as archive:
            assert archive.untrusted_header.version == 4
            assert len(derivations) == 0
            assert source.bytes_read < CHUNK
            archive.unlock(PASSPHRASE)
            assert len(derivations) == 1
            assert chunks_touched() == set()
            assert archive.header.version == 4
            assert len(derivations) == 1
            qubes = archive.qubes
            documents = {name for name in data if name.startswith("qubes.xml")}
            assert chunks_touched() == documents
            assert len(derivations) == 1 + len(documents)
            before = len(derivations)
            assert [file.name for file in qubes[1].files] == ["vault/private.img"]
            file = archive.file("vault/private.img")
            assert file.stored_size > len(NOISE)
            assert [chunk.index for chunk in file.chunks] == list(range(7))
            with file.open() as stream:
                extents = file.extents()
                assert chunks_touched() == documents
                assert len(derivations) == before
                assert stream.read(1) == NOISE[:1]
                assert chunks_touched() == documents | {"vm2/private.img.000.enc"}
                assert len(derivations) == before + 1
                assert stream.read(100) == NOISE[1:101]
                assert len(derivations) == before + 1
                del extents
            assert len(derivations) == before + 1

    def test_the_parameters_of_a_chunk_cost_no_derivation(
        self, backup: BackupArchive, derivations: list[Derivation]
    ) -> None:
        file = backup.file("vault/private.img")
        before = len(derivations)
        assert {str(chunk.parameters) for chunk in file.chunks} == {"N=2^10, r=8, p=1"}
        with next(iter(file.chunks)).open():
            pass
        assert len(derivations) == before

    def test_qubes_xml_is_read_once(
        self, backup: BackupArchive, derivations: list[Derivation]
    ) -> None:
        assert backup.qubes and backup.files and backup.metadata
        before = len(derivations)
        assert backup.qubes and backup.files and backup.metadata
        assert backup.open("personal/text").closed is False
        assert len(derivations) == before

    def test_what_is_not_asked_for_is_not_derived(
        self, backup: BackupArchive, derivations: list[Derivation], tmp_path: Path
    ) -> None:
        assert backup.metadata
        before = len(derivations)
        backup.restore(tmp_path / "out", ["vault"])
        assert len(derivations) - before == len(chunk_names(backup, "vault/private.img"))

    def test_importing_qbackup_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; before = set(sys.modules); import qbackup;"
            "print(*sorted(set(sys.modules) - before))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        loaded = done.stdout.decode().split()
        roots = {name.partition(".")[0] for name in loaded}
        heavy = {"rich", "xml", "Crypto", "pyscrypt", "hashlib", "lzma", "bz2", "ssl", "argparse"}
        assert "qbackup" in roots
        assert roots & heavy == set()

    def test_importing_qbackup_imports_nothing_at_all(self) -> None:
        """No site: what that loads would hide what qbackup does."""
        root = str(Path(qbackup.__file__).parent.parent)
        code = (
            f"import sys; sys.path.insert(0, {root!r}); before = set(sys.modules); import qbackup;"
            "print(*sorted(set(sys.modules) - before))"
        )
        command = [sys.executable, "-I", "-S", "-c", code]
        done = subprocess.run(command, capture_output=True, check=True)
        assert done.stdout.split() == [b"qbackup"]

    def test_opening_a_backup_loads_no_xml_and_no_rich(self, made: Made) -> None:
        code = (
            "import sys; before = set(sys.modules); import qbackup\n"
            f"with qbackup.open({str(made.path)!r}) as b: b.untrusted_header\n"
            "print(*sorted(set(sys.modules) - before))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        roots = {name.partition(".")[0] for name in done.stdout.decode().split()}
        assert roots & {"rich", "xml", "pyscrypt", "argparse"} == set()

    def test_every_public_name_is_there(self) -> None:
        for name in qbackup.__all__:
            assert getattr(qbackup, name) is not None
        with pytest.raises(AttributeError, match="nonsense"):
            _ = qbackup.nonsense

    def test_it_is_typed(self) -> None:
        assert (Path(qbackup.__file__).parent / "py.typed").exists()


class TestClosing:
    def test_nothing_stays_open(self, made: Made, tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            archive = qbackup.open(made.path, passphrase=PASSPHRASE)
            archive.restore(tmp_path / "out")
            streams = [archive.open("vault/private.img") for _ in range(3)]
            streams[0].read(10)
            streams[1].read()
            extents = archive.file("vault/private.img").extents()
            next(extents)
            archive.close()
            archive.close()
            del streams, extents, archive
            gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before

    @pytest.mark.slow
    def test_a_program_that_uses_it_all_has_no_resource_warning(
        self, made: Made, tmp_path: Path
    ) -> None:
        code = f"""
import qbackup
with qbackup.open({str(made.path)!r}, passphrase={PASSPHRASE!r}) as backup:
    backup.restore({str(tmp_path / "out")!r})
    half_read = backup.open("vault/private.img")
    half_read.read(10)
    with backup.open("personal/text") as stream:
        stream.read()
    for entry in backup.file("dom0/user").entries():
        break
try:
    qbackup.open({str(made.path)!r}, passphrase="wrong")
except qbackup.WrongPassphrase:
    print("done")
"""
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", code],
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")

    def test_no_thread_stays(self, made: Made) -> None:
        before = threading.active_count()
        with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
            archive.verify()
        for thread in threading.enumerate():
            if thread.name.startswith("qbackup"):
                thread.join()  # it has handed over its key and is about to end
        assert threading.active_count() == before

    def test_a_closed_archive_says_so(self, made: Made, tmp_path: Path) -> None:
        with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
            qubes = archive.qubes
        assert [qube.name for qube in qubes] == ["personal", "vault", "dom0"]
        locked = qbackup.open(made.path)
        locked.close()
        with pytest.raises(Interrupted):
            locked.unlock(PASSPHRASE)
        with pytest.raises(Interrupted):
            archive.open("personal/text").read()
