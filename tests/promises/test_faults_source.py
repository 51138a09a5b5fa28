"""Faults of what is restored from: it is cut, unplugged or changed while it is read. What comes
out is whole or it is named; it is never other bytes.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import qbackup
from tests.support import alter
from tests.support.commandline import Ended, finish, run, start, wait_for
from tests.support.faults import KEY, Restores, undisturbed
from tests.support.librarybackup import PASSPHRASE, Made
from tests.support.restored import Snapshot, errors, statuses
from tests.support.speed import rows

SEED = 20240917


@pytest.fixture(scope="module")
def final(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return undisturbed(made.path, tmp_path_factory.mktemp("undisturbed") / "out")


@pytest.fixture
def restores(made: Made, tmp_path: Path, final: Snapshot) -> Restores:
    """Of a copy, which may be changed."""
    path = tmp_path / "backup"
    shutil.copy(made.path, path)
    return Restores(path, tmp_path / "out", final)


def check_named(restores: Restores, ended: Ended) -> None:
    """What is not there is named, and the status says so."""
    missing = set(restores.final) - set(restores.left()) - {"vault", "personal", "dom0"}
    files = [path for path in missing if restores.final[path] != "folder"]
    if ended.status == 0:
        assert not files
    else:
        assert ended.status == 1
        assert any(file["status"] in ("damaged", "missing") for file in ended.document["files"])


def key_after(code: str) -> list[str]:
    """Options with which a line of Python runs between the backup's opening and its reading."""
    line = shlex.join([sys.executable, "-c", f"{code}; print({PASSPHRASE!r})"])
    return ["--passphrase-command", line]


class TestCutWhileItIsRead:
    """As a stick is that was pulled out, on a file system that says so with a shorter file."""

    @pytest.mark.slow
    @pytest.mark.parametrize("number", range(6))
    def test_at_a_random_place_after_its_members_were_found(
        self, made: Made, restores: Restores, number: int
    ) -> None:
        begin = alter.end_of(restores.backup, "qubes.xml.001.enc")
        sixth = (restores.backup.stat().st_size - begin) // 6
        end = begin + random.Random(SEED + number).randrange(sixth * number, sixth * (number + 1))
        cut = key_after(f"import os; os.truncate({str(restores.backup)!r}, {end})")
        ended = run(*restores.arguments("--json", "-q", *cut))
        check_named(restores, ended)
        assert restores.backup.stat().st_size == end
        shutil.copy(made.path, restores.backup)
        restores.check_second()

    def test_verify_says_the_same(self, restores: Restores) -> None:
        end = alter.end_of(restores.backup, "vm2/private.img.002.enc") - 10
        cut = key_after(f"import os; os.truncate({str(restores.backup)!r}, {end})")
        ended = run("verify", restores.backup, "--json", "-q", *cut)
        assert ended.status == 1
        bad = {f["name"]: f["error"] for f in ended.document["files"] if f["status"] != "ok"}
        assert set(bad) == {"private.img", "user"}
        assert "private.img.002: the archive ends inside this chunk" in bad["private.img"]

    @pytest.mark.parametrize("file", ["personal/private.img", "vault/private.img", "dom0/user"])
    def test_in_the_middle_of_a_file(self, restores: Restores, file: str) -> None:
        """All that comes later is damaged, what came before is not."""

        def cut(progress: qbackup.Progress) -> None:
            if progress.file == file:
                os.truncate(restores.backup, 20_000)

        with qbackup.open(restores.backup, passphrase=PASSPHRASE) as archive:
            report = archive.restore(restores.out, progress=cut, check=False)
        left = restores.left()
        for name, status in statuses(report).items():
            assert (name in left or f"{name}/link" in left) is (status == "ok")
        assert "dom0/user" in errors(report) or report.ok


class TestChangedWhileItIsRead:
    def test_replaced_by_another_file_it_is_still_the_one_that_was_opened(
        self, made: Made, restores: Restores, tmp_path: Path
    ) -> None:
        other = alter.flipped(made.path, tmp_path / "other", "vm2/private.img.002.enc")
        move = key_after(f"import os; os.replace({str(other)!r}, {str(restores.backup)!r})")
        ended = run(*restores.arguments("--json", "-q", *move))
        assert ended.status == 0
        assert restores.left() == {k: v for k, v in restores.final.items() if v != "folder"}

    def test_after_its_members_were_found(self, restores: Restores) -> None:
        place = alter.end_of(restores.backup, "vm2/private.img.002.enc") - 10
        code = f"f = open({str(restores.backup)!r}, 'r+b'); f.seek({place}); f.write(b'??')"
        ended = run(*restores.arguments("--json", "-q", *key_after(f"{code}; f.close()")))
        check_named(restores, ended)
        (bad,) = (file for file in ended.document["files"] if file["status"] != "ok")
        assert "private.img.002" in bad["error"]

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["restore", "verify"])
    def test_all_the_time(self, made: Made, restores: Restores, name: str) -> None:
        """Bytes of the file on the disk change, and change back, while the real command runs."""
        arguments = (
            restores.arguments("--json", "-q")
            if name == "restore"
            else ["verify", restores.backup, "--json", "-q"]
        )
        begin = alter.end_of(restores.backup, "qubes.xml.001.enc")
        good = 0
        for number in range(4):
            shutil.copy(made.path, restores.backup)
            shutil.rmtree(restores.out, ignore_errors=True)
            with changing(restores.backup, begin, SEED + number):
                ended = run(*arguments, env=KEY)
            assert ended.status in (0, 1)
            good += ended.status == 0
            if name == "restore":
                check_named(restores, ended)
        assert good < 4, "nothing of it was ever seen"


@contextlib.contextmanager
def changing(path: Path, begin: int, seed: int) -> Iterator[None]:
    """Within this context bytes behind a place change all the time."""
    rng, ends = random.Random(seed), threading.Event()
    size = path.stat().st_size

    def change() -> None:
        with path.open("r+b", buffering=0) as file:
            while not ends.is_set():
                place = rng.randrange(begin, size)
                old = os.pread(file.fileno(), 1, place)
                os.pwrite(file.fileno(), bytes([old[0] ^ 0x55]), place)
                ends.wait(0.002)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


class TestDrive:
    """A block device whose medium ends before it says so: the kernel answers with EIO."""

    @pytest.fixture
    def drive(self, restores: Restores) -> Iterator[Callable[[int], str]]:
        """Gives the device's path, after so many bytes there is nothing."""
        devices: list[str] = []

        def attach(end: int) -> str:
            command = ["losetup", "--show", "-f", "-r", str(restores.backup)]
            with contextlib.suppress(FileNotFoundError):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if not done.returncode:
                    devices.append(done.stdout.strip())
                    os.truncate(restores.backup, end)
                    return devices[0]
            pytest.skip("may not make a block device")

        yield attach
        for device in devices:
            subprocess.run(["losetup", "-d", device], check=True)

    @pytest.mark.slow
    def test_what_it_can_not_read_is_lost_and_the_rest_is_not(
        self, restores: Restores, drive: Callable[[int], str]
    ) -> None:
        end = -(-alter.end_of(restores.backup, "vm1/archive.tar.000.enc") // 4096) * 4096
        ended = run(*restores.arguments("--json", "-q", backup=drive(end)), env=KEY)
        check_named(restores, ended)
        assert "Input/output error" in ended.document["error"]
        assert "the drive may be failing" in " ".join(ended.document["warnings"])
        assert "personal/private.img" in restores.left()

    def test_where_its_front_can_not_be_read_it_is_the_machine_s_fault(
        self, restores: Restores, drive: Callable[[int], str]
    ) -> None:
        ended = run(*restores.arguments(backup=drive(8192)), env=KEY)
        assert ended.status == 5
        assert ended.err == "qbackup: reading the backup failed: Input/output error\n"
        assert not restores.out.exists()


class TestConnection:
    """Standard input is a connection, which the other side breaks off."""

    def broken_off(self, arguments: list[str | Path], backup: Path, end: int) -> Ended:
        """After so many bytes of the backup."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far = server.accept()[0]
        with near, start(*arguments, stdin=near.fileno(), env=KEY) as process:
            far.sendall(backup.read_bytes()[:end])
            wait_for(lambda: not _unread(near) or process.poll() is not None)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()  # a reset, not an end
            return finish(process, arguments)

    @rows(
        ("member", "more"),
        [("backup-header", -50), ("backup-header", 2000), ("backup-header.hmac", -50)],
        ids=["in the header", "behind it", "in its copy"],
    )
    @rows("name", ["restore", "verify", "list"])
    def test_in_the_front(self, restores: Restores, name: str, member: str, more: int) -> None:
        """It is not the backup that is altered: the same sentence whatever was being read."""
        arguments = restores.arguments(backup="-") if name == "restore" else [name, "-"]
        end = alter.end_of(restores.backup, member) + more
        ended = self.broken_off([*arguments, "--json"], restores.backup, end)
        assert ended.status == 5
        assert ended.document["kind"] == "ConnectionBroken"
        assert ended.document["error"] == "the connection broke: Connection reset by peer"
        assert "start the same command again" in ended.document["advice"]
        assert not restores.out.exists()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "member", ["qubes.xml.001.enc", "vm1/private.img.000.enc", "dom0-home/user.000.enc"]
    )
    def test_behind_it(self, restores: Restores, member: str) -> None:
        arguments = restores.arguments("--json", "-q", backup="-")
        end = alter.end_of(restores.backup, member) - 50
        ended = self.broken_off(arguments, restores.backup, end)
        assert ended.status == 5
        assert ended.document["ok"] is False
        assert not any(file["status"] == "damaged" for file in ended.document["files"])
        assert "Connection reset by peer" in str(ended.document)
        restores.left()
        restores.check_second()


def _unread(near: socket.socket) -> int:
    """Bytes that have come and that nobody has read."""
    import fcntl
    import termios

    return int(struct.unpack("i", fcntl.ioctl(near, termios.FIONREAD, bytes(4)))[0])
