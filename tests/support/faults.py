"""Restores under a fault: what may be left of the first, and what the second must give."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.maker import BackupMaker, make_sparse
from tests.support import alter, librarybackup
from tests.support.commandline import Ended, call, finish, start, wait_for
from tests.support.restored import Snapshot, snapshot

KEY = {"QBACKUP_PASSPHRASE": librarybackup.PASSPHRASE}
_PR_CAPBSET_DROP = 24


class Restores:
    """Restores of one backup into one folder.

    Args:
        backup: with `librarybackup.PASSPHRASE`.
        out: the output folder.
        final: what an undisturbed run gives.
    """

    def __init__(self, backup: Path, out: Path, final: Snapshot) -> None:
        self.backup = backup
        self.out = out
        self.final = final

    def arguments(self, *options: str, backup: str | Path | None = None) -> list[str | Path]:
        """A restore, from another place perhaps."""
        return ["restore", backup or self.backup, "-o", self.out, *options]

    def left(self) -> Snapshot:
        """What the first run has left: nothing but files that are whole."""
        found = snapshot(self.out) if self.out.is_dir() else {}
        wrong = {path: what for path, what in found.items() if self.final.get(path) != what}
        assert not wrong, wrong
        return found

    def check_second(self) -> set[str]:
        """A second run completes, and says so; which statuses it gives."""
        again = call(*self.arguments("--json", "-q"), env=KEY)
        assert again.status == 0, again
        differs = set(snapshot(self.out, folders=True).items()) ^ set(self.final.items())
        assert not differs, differs
        statuses = {file["status"] for file in again.document["files"]}
        assert statuses <= {"ok", "kept"}
        return statuses

    @contextlib.contextmanager
    def paused(self, member: str, part: str) -> Iterator[Paused]:
        """A run that waits behind a member for the rest of a pipe, with this file under way."""
        arguments = self.arguments("--json", "-q", backup="-")
        with start(*arguments, stdin=subprocess.PIPE, env=KEY) as process:
            assert process.stdin is not None
            with contextlib.closing(process.stdin):
                data = self.backup.read_bytes()
                end = alter.end_of(self.backup, member)
                process.stdin.write(data[:end])
                process.stdin.flush()
                wait_for((self.out / part).exists)
                yield Paused(process, arguments, data[end:])


class Paused:
    """See `Restores.paused`."""

    def __init__(
        self, process: subprocess.Popen[bytes], arguments: list[str | Path], rest: bytes
    ) -> None:
        self.process = process
        self._arguments = arguments
        self._rest = rest

    def go_on(self) -> Ended:
        """Gives it the rest, and waits for its end."""
        return finish(self.process, self._arguments, self._rest)

    def end(self) -> Ended:
        """Waits for its end, which must come without the rest."""
        self.process.wait(120)
        return finish(self.process, self._arguments)


def undisturbed(backup: Path, folder: Path) -> Snapshot:
    """What a restore without faults gives."""
    assert call("restore", backup, "-o", folder, "-q", env=KEY).status == 0
    return snapshot(folder, folders=True)


def compressed_backup(folder: Path) -> Path:
    """Two qubes and a home that need much more room than they take in the backup."""
    maker = BackupMaker(folder / "maker", passphrase=librarybackup.PASSPHRASE)
    text = b"some text" * 1000
    image = make_sparse(folder / "image", 300_000, {0: b"x" * 20_000, 200_000: b"more" * 5000})
    maker.add_qube("personal", files={"private.img": b"a" * 60_000, "text": text})
    maker.add_qube("vault", files={"private.img": image})
    home = folder / "user"
    (home / "Documents/deep").mkdir(parents=True)
    for number in range(4):
        (home / f"Documents/{number}").write_bytes(b"letter" * 2000)
    (home / "Documents/deep/x").write_bytes(b"x")
    (home / "link").symlink_to("Documents/1")
    maker.add_home("user", home)
    return maker.write(folder / "backup")


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Callable[[str], None]]:
    """Mounts a file system in memory there; gives what mounts it anew, with other options."""

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount a file system: {done.stderr.decode().strip()}")

    folder.mkdir(exist_ok=True)
    mount(options)
    try:
        yield lambda more: mount(f"remount,{more}")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def become_ordinary() -> None:
    """To be called in a child before it runs a program: root then may no more than others."""
    prctl = ctypes.CDLL(None).prctl
    for number in range(64):
        prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def is_ordinary() -> bool:
    """Whether this very process may not do everything."""
    return os.geteuid() != 0
