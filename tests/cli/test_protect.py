"""`qbackup protect`: before it happens; and the repair, once it has happened."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from qbackup.base.errors import MachineError, UsageError
from qbackup.cli.protect import program
from qbackup.cli.protect import repair as repairing
from qbackup.cli.protect.repair import repair_command
from qbackup.storage.recovery_set import described_files, recovery_files
from tests.support import protectkit, vectorfiles
from tests.support.commandline import PATIENCE_SECONDS, Ended, call, run, start, wait_for
from tests.support.programs import need
from tests.support.protectkit import FOLDER, PROTECTED
from tests.support.speed import rows

NAME = PROTECTED[0]
DATA = vectorfiles.backup_path(NAME).read_bytes()
KEY = {"QBACKUP_PASSPHRASE": vectorfiles.load(NAME)["passphrase"]}
SET = sorted(path for path in FOLDER.iterdir() if path.name.startswith(f"{NAME}."))


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A small backup with the front and the recovery blocks that were committed."""
    path = tmp_path / NAME
    path.write_bytes(DATA)
    for file in SET:
        shutil.copy(file, tmp_path)
    return path


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A small backup with nothing beside it."""
    path = tmp_path / "backup"
    path.write_bytes(DATA)
    return path


def repaired(backup: Path, *, status: int = 0) -> Ended:
    """Runs the repair, which must leave the backup and all beside it as it is."""
    before = {path.name: path.read_bytes() for path in backup.parent.iterdir()}
    ended = call("protect", "--repair", backup, "-o", backup.parent / "new")
    after = {path.name: path.read_bytes() for path in backup.parent.iterdir()}
    assert ended.status == status, ended.stderr
    assert after.pop("new", None) == (None if status else DATA)
    assert after == before
    return ended


class TestProtecting:
    @pytest.mark.slow
    def test_it_writes_the_front_and_recovery_blocks(self, alone: Path) -> None:
        need("par2")
        ended = run("protect", alone)  # no passphrase
        assert ended.status == 0
        assert (alone.parent / "backup.front").read_bytes() == protectkit.front_of(NAME)
        assert [Path(path).name for path in recovery_files(str(alone))] == [
            "backup.par2",
            "backup.vol00+11.par2",
        ]
        assert len(list(alone.parent.iterdir())) == 4
        assert alone.read_bytes() == DATA

    def test_without_par2_the_front_is_written_and_the_rest_is_named(
        self, alone: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(program, "find_par2", lambda: None)
        ended = call("protect", alone)
        assert ended.status == 1
        assert "NO RECOVERY BLOCKS" in ended.err
        assert "apt install par2" in ended.err
        assert sorted(path.name for path in alone.parent.iterdir()) == ["backup", "backup.front"]
        assert call("protect", alone, "--front-only").status == 0

    def test_what_is_there_is_not_overwritten_unasked(self, alone: Path) -> None:
        front = alone.parent / "backup.front"
        assert call("protect", alone, "--front-only").status == 0
        assert call("protect", alone, "--front-only").status == 0  # the same bytes
        protectkit.damage(alone, "list-flipped", len(front.read_bytes()))
        ended = call("protect", alone, "--front-only")
        assert ended.status == 2
        assert "differs from how the backup begins now" in ended.err
        assert front.read_bytes() == protectkit.front_of(NAME)
        assert call("protect", alone, "--front-only", "--overwrite").status == 0
        assert front.read_bytes() != protectkit.front_of(NAME)

    @pytest.mark.slow
    def test_recovery_blocks_are_not_overwritten_unasked(self, backup: Path) -> None:
        need("par2")
        before = {path: path.read_bytes() for path in backup.parent.iterdir()}
        ended = call("protect", backup)
        assert ended.status == 2
        assert "is there already" in ended.err
        assert before == {path: path.read_bytes() for path in backup.parent.iterdir()}
        assert call("protect", backup, "--overwrite", "--redundancy", "20").status == 0
        assert len(recovery_files(str(backup))) == 2

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["-r backup", "späte Sicherung", ".x", "--"])
    def test_names_are_never_taken_for_options(self, name: str, tmp_path: Path) -> None:
        need("par2")
        backup = tmp_path / name
        backup.write_bytes(DATA)
        assert run("protect", "--", f"./{name}", cwd=tmp_path).status == 0
        assert run("protect", "--overwrite", "--", name, cwd=tmp_path).status == 0
        protectkit.damage(backup, "wiped", 1024)
        command = ["protect", "--repair", "-o", "./new", "--", name]
        assert run(*command, cwd=tmp_path).status == 0
        assert (tmp_path / "new").read_bytes() == DATA

    @rows("name", ["a*b", "a?b", "a\nb", 'a"b', "a:b", "a\\b", "b"])
    def test_a_name_that_par2_would_change_is_refused(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(DATA)
        ended = call("protect", tmp_path / name)
        assert ended.status == 2
        assert "rename the backup" in ended.err
        assert len(list(tmp_path.iterdir())) == 1
        assert call("protect", tmp_path / name, "--front-only").status == 0

    def test_what_has_nothing_beside_it_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "junk").write_bytes(b"\xff" * 5000)
        for arguments, status in (
            (["-"], 2),
            (["https://host/backup"], 2),
            (["/dev/null"], 2),
            ([tmp_path / "nothing"], 2),
            ([tmp_path], 2),
            ([tmp_path / "junk"], 4),
            ([tmp_path / "junk", "--repair"], 2),
            ([tmp_path / "junk", "--repair", "-o", tmp_path / "new"], 2),
            ([tmp_path / "junk", "-o", tmp_path / "new"], 2),
        ):
            ended = call("protect", *arguments)
            assert ended.status == status, ended.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["junk"]

    @pytest.mark.slow
    def test_an_interruption_leaves_nothing_unfinished(self, tmp_path: Path) -> None:
        need("par2")
        backup = tmp_path / "backup"
        shutil.copy(vectorfiles.backup_path(NAME), backup)
        with backup.open("ab") as file:
            file.truncate(1 << 30)  # zeros behind its end: long enough to be interrupted
        process = start("protect", backup)
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            front = tmp_path / "backup.front"
            wait_for(lambda: front.exists() and bool(children.read_text()))  # par2 is at work
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_SECONDS) == 130
        finally:
            process.kill()
            process.communicate()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "backup.front"]


class TestRepairing:
    @pytest.mark.slow
    def test_21_holes_and_the_lost_front_are_repaired(self, tmp_path: Path) -> None:
        need("par2")
        whole = DATA + long_tail()
        backup = tmp_path / "backup"
        backup.write_bytes(whole)
        assert call("protect", backup).status == 0
        protectkit.punch(backup, 21)
        protectkit.damage(backup, "wiped", 20_480)
        damaged = backup.read_bytes()
        assert call("protect", "--repair", backup, "-o", tmp_path / "new").status == 0
        assert (tmp_path / "new").read_bytes() == whole
        assert backup.read_bytes() == damaged

    def test_the_report_names_the_command_and_it_works(self, backup: Path) -> None:
        need("par2")
        protectkit.punch(backup, 2)
        ended = call("verify", backup, env=KEY)
        assert ended.status == 1
        assert f"qbackup protect --repair {backup} -o {backup}.repaired" in ended.out
        repaired(backup)
        assert call("verify", backup.parent / "new", env=KEY).status == 0

    def test_an_error_of_opening_names_the_command_too(self, backup: Path) -> None:
        (backup.parent / f"{NAME}.front").unlink()
        protectkit.damage(backup, "wiped", 51_200)
        ended = call("list", backup, env=KEY)
        assert ended.status == 4
        assert "protect --repair" in ended.err

    def test_no_command_is_named_without_recovery_blocks(self, alone: Path) -> None:
        assert repair_command(str(alone)) == ""
        assert repair_command("-") == ""
        protectkit.punch(alone, 2)
        assert "protect --repair" not in call("verify", alone, env=KEY).out

    def test_a_whole_backup_needs_none(self, backup: Path) -> None:
        need("par2")
        ended = call("protect", "--repair", backup, "-o", backup.parent / "new")
        assert ended.status == 0
        assert "nothing to repair" in ended.out
        assert not (backup.parent / "new").exists()

    def test_more_damage_than_blocks_is_reported(self, backup: Path) -> None:
        need("par2")
        backup.write_bytes(bytes(len(DATA)))
        ended = repaired(backup, status=1)
        assert "more is damaged than the recovery blocks can replace" in ended.err

    @pytest.mark.slow
    def test_damaged_recovery_blocks_do_no_harm(self, backup: Path) -> None:
        need("par2")
        for path in recovery_files(str(backup)):
            protectkit.punch(Path(path), 1)
        protectkit.punch(backup, 1)
        repaired(backup)

    @pytest.mark.slow
    def test_parts_are_repaired_into_one_file(self, tmp_path: Path) -> None:
        need("par2")
        for number, at in enumerate(range(0, len(DATA), 60_000)):
            (tmp_path / f"backup.{number:03}").write_bytes(DATA[at : at + 60_000])
        assert call("protect", tmp_path / "backup.000", "--redundancy", "10").status == 0
        protectkit.damage(tmp_path / "backup.000", "wiped", 2000)
        repaired(tmp_path / "backup.000")

    def test_on_a_disk_without_links_it_works_on_a_copy(
        self, backup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        need("par2")

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "symlink", refuse)
        protectkit.punch(backup, 1)
        repaired(backup)

    def test_par2_reads_the_blocks_that_were_checked(
        self, backup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A drive may answer otherwise when the blocks are read again."""
        checked: list[Path] = []

        def noted(path: str) -> Any:
            checked.append(Path(path))
            return described_files(path)

        def run_par2(command: Sequence[str], folder: str) -> tuple[int, str]:
            assert {path.parent for path in checked} == {Path(folder)}
            assert command[-1] == str(checked[0])
            return 0, ""

        monkeypatch.setattr(repairing, "described_files", noted)
        monkeypatch.setattr(repairing, "run_par2", run_par2)
        assert not repairing.repair("par2", str(backup), str(backup) + ".repaired")
        assert len(checked) == 2

    def test_a_link_is_no_repaired_file(
        self, backup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run_par2(command: Sequence[str], folder: str) -> tuple[int, str]:
            (Path(folder) / f"{backup.name}.1").touch()  # as if the file had been repaired
            return 0, ""

        monkeypatch.setattr(repairing, "run_par2", run_par2)
        output = backup.with_name("repaired")
        with pytest.raises(MachineError, match="left the backup's file as it is"):
            repairing.repair("par2", str(backup), str(output))
        assert not os.path.lexists(output)

    def test_an_existing_file_is_not_replaced(self, backup: Path) -> None:
        need("par2")
        protectkit.punch(backup, 1)
        new = backup.parent / "new"
        new.write_bytes(b"mine")
        assert call("protect", "--repair", backup, "-o", new).status == 2
        assert new.read_bytes() == b"mine"

    def test_without_par2_its_name_is_said(
        self, backup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(program, "find_par2", lambda: None)
        ended = repaired(backup, status=5)
        assert "apt install par2" in ended.err


class TestByHand:
    @pytest.mark.slow
    def test_the_kit_s_commands_repair_it(self, tmp_path: Path) -> None:
        need("par2")
        kit, home = tmp_path / "kit", tmp_path / "home"
        kit.mkdir()
        home.mkdir()
        for file in SET:
            shutil.copy(file, tmp_path)
        backup = tmp_path / NAME
        backup.write_bytes(DATA)
        protectkit.punch(backup, 2)
        page = (files("qbackup.cli.kit") / "RECOVERY.txt").read_text("utf-8")
        lines = [line.strip() for line in page.splitlines() if "~/repair" in line]
        commands = [line for line in lines if line.startswith(("mkdir", "cd"))]
        assert len(commands) == 2
        script = "\n".join(commands).replace("BACKUP", NAME)
        environment = {**os.environ, "HOME": str(home)}
        subprocess.run(["sh", "-ec", script], cwd=kit, env=environment, check=True)
        assert (home / "repair" / NAME).read_bytes() == DATA


def long_tail() -> bytes:
    """Bytes that a longer backup has behind the first ones: more blocks for 21 holes."""
    return random.Random(7).randbytes(1 << 20)


class TestPlantedBlocks:
    @rows("name", [b"../victim", b"/tmp/victim", b"victim", b"a/../" + NAME.encode()])
    def test_blocks_of_other_files_are_refused(self, name: bytes, backup: Path) -> None:
        for path in recovery_files(str(backup)):
            Path(path).write_bytes(renamed(Path(path).read_bytes(), name))
        victim = backup.parent / "victim"
        victim.write_bytes(b"dear")
        protectkit.punch(backup, 1)
        ended = repaired(backup, status=2)
        assert "the recovery blocks are not of this backup" in ended.err

    def test_a_second_description_of_the_same_name_is_refused(self, backup: Path) -> None:
        index, volume = recovery_files(str(backup))
        other = backup.parent / "other"
        other.mkdir()
        (other / "file").write_bytes(b"another one")
        extra = description(b"another one", NAME.encode())
        Path(index).write_bytes(Path(index).read_bytes() + extra)
        shutil.rmtree(other)
        assert len(described_files(index)) == 2
        protectkit.punch(backup, 1)
        assert "are not of this backup" in repaired(backup, status=2).err
        assert described_files(volume) < described_files(index)

    def test_a_packet_with_a_wrong_checksum_counts_for_nothing(self, backup: Path) -> None:
        index = Path(recovery_files(str(backup))[0])
        extra = bytearray(description(b"another one", b"victim"))
        extra[-1] ^= 1
        index.write_bytes(index.read_bytes() + extra)
        assert {file.untrusted_name for file in described_files(str(index))} == {NAME.encode()}

    @rows("data", [b"", b"PAR2\0PKT", b"PAR2\0PKT" * 1000, b"\xff" * 10_000])
    def test_garbage_is_no_set(self, data: bytes, backup: Path) -> None:
        need("par2")
        for path in recovery_files(str(backup)):
            Path(path).write_bytes(data)
        assert "are not of this backup, but of: nothing" in repaired(backup, status=2).err
        protectkit.damage(backup, "wiped", 4096)
        assert call("verify", backup, env=KEY).status == 0  # by the kept front

    def test_a_pipe_in_its_place_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "backup.par2")
        with pytest.raises(UsageError, match="not a regular file"):
            described_files(str(tmp_path / "backup.par2"))


def packets(data: bytes) -> list[bytes]:
    """The packets of a file with recovery blocks."""
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at + 8 : at + 16], "little")
        found.append(data[at : at + length])
        at += length
    return found


def sealed(head: bytes, rest: bytes) -> bytes:
    """A packet with its length and its checksum; `rest`: all behind the checksum."""
    length = (32 + len(rest)).to_bytes(8, "little")
    return head[:8] + length + hashlib.md5(rest, usedforsecurity=False).digest() + rest


def renamed(data: bytes, name: bytes) -> bytes:
    """The same set, for a file of another name."""
    padded = name + bytes(-len(name) % 4)
    return b"".join(
        sealed(packet, packet[32:120] + padded) if packet[48:64].endswith(b"FileDesc") else packet
        for packet in packets(data)
    )


def description(content: bytes, name: bytes) -> bytes:
    """A packet that describes another file, in the set of the vector."""
    like = next(p for p in packets(SET[1].read_bytes()) if p[48:64].endswith(b"FileDesc"))
    digest = hashlib.md5(content, usedforsecurity=False).digest()
    body = digest + digest + digest + len(content).to_bytes(8, "little")
    return sealed(like, like[32:64] + body + name + bytes(-len(name) % 4))
