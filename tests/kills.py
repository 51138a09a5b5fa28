"""Ends restores in the middle with SIGKILL, looks at what they left, and runs them again.

`python -m tests.kills 200` does so at 200 random moments of real runs of the command, and prints
what came of it; `python -m tests.kills` goes through every call that changes the folder and ends a
run right before it. Either fails at the first wrong byte under a final name, and at the first
second run that doesn't give what an undisturbed one gives.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import qbackup
from tests.maker import BackupMaker, make_sparse
from tests.support import librarybackup
from tests.support.commandline import finish, run, start
from tests.support.restored import Snapshot, snapshot

SEED = 20240917
_KEY = {"QBACKUP_PASSPHRASE": librarybackup.PASSPHRASE}
#: The calls that change what is on the disk; a run is ended before each of them.
_CALLS = (
    *("open", "mkdir", "write", "pwrite", "ftruncate", "fchmod", "utime", "fsync"),
    *("link", "symlink", "rename", "replace", "unlink", "rmdir"),
)


@dataclass
class Killed:
    """What came of so many kills.

    Args:
        kills: runs that were ended in the middle.
        left: how many of them had left this many whole files.
        kept: files that the second runs found whole.
    """

    kills: int = 0
    left: Counter[int] = field(default_factory=Counter)
    kept: int = 0

    def __str__(self) -> str:
        left = ", ".join(
            f"{count} with {files} whole" for files, count in sorted(self.left.items())
        )
        return (
            f"{self.kills} kills ({left}); no wrong byte under a final name, and"
            f" {self.kills} second runs of {self.kills} complete, with {self.kept} files kept"
        )


@dataclass(frozen=True)
class Scene:
    """A backup, and a folder that is restored into, again and again.

    Args:
        backup: with `vault/private.img` and `dom0/user` in it.
        folder: for all that is made.
        overwrite: other files stand in the folder before, and are to be replaced.
    """

    backup: Path
    folder: Path
    overwrite: bool = False

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.folder / "out"

    def prepare(self) -> Snapshot:
        """An output folder as before the first run; what is in it."""
        shutil.rmtree(self.out, ignore_errors=True)
        if not self.overwrite:
            return {}
        for name in ("vault/private.img", "dom0/user/Documents/old", "dom0/user/link"):
            path = self.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"what was there before")
        return snapshot(self.out)

    def final(self) -> Snapshot:
        """What an undisturbed run gives."""
        self.prepare()
        assert self.restore()["ok"]
        return snapshot(self.out, folders=True)

    def restore(self) -> dict[str, Any]:
        """A run to its end, in this process; its report."""
        with qbackup.open(self.backup, passphrase=librarybackup.PASSPHRASE, jobs=2) as archive:
            report = archive.restore(self.out, overwrite=self.overwrite, check=False)
        return {"ok": report.ok, "statuses": Counter(r.status for r in report.files)}

    def check(self, before: Snapshot, final: Snapshot, killed: Killed) -> None:
        """After a kill: nothing stands there but what is whole, what was there, and `.part`."""
        found = snapshot(self.out)
        for path, what in found.items():
            allowed = (final.get(path), before.get(path))
            assert ".part" in path or what in allowed, f"{path} is wrong after a kill"
        for path, what in before.items():  # nor is it lost until the new one is there
            old = path.replace("dom0/user/", "dom0/user.part.part/")
            replaced = path.startswith("dom0/user/") and "dom0/user/link" in found
            assert what in (found.get(path), found.get(old)) or path in found or replaced, path
        killed.kills += 1
        killed.left[sum(final.get(path) == what for path, what in found.items())] += 1

    def check_again(self, final: Snapshot, statuses: Mapping[str, int], killed: Killed) -> None:
        """After the second run: as if nothing had been."""
        assert snapshot(self.out, folders=True) == final
        assert set(statuses) <= {"ok", "kept"}
        killed.kept += statuses.get("kept", 0)


def at_random(scene: Scene, kills: int, seed: int = SEED) -> Killed:
    """Runs of the command, ended at random moments of their work on the folder."""
    rng = random.Random(seed)
    final, killed = scene.final(), Killed()
    longest = _working_seconds(scene)
    while killed.kills < kills:
        before = scene.prepare()
        if not _kill(scene, rng.uniform(0, longest)):
            continue
        scene.check(before, final, killed)
        arguments = _arguments(scene)
        again = run(*arguments, env=_KEY)
        assert again.status == 0, again
        statuses = Counter(file["status"] for file in again.document["files"])
        scene.check_again(final, statuses, killed)
    return killed


def _arguments(scene: Scene) -> list[str | Path]:
    more = ["--overwrite"] if scene.overwrite else []
    return ["restore", scene.backup, "-o", scene.out, "--json", "-q", *more]


def _begun(scene: Scene) -> bool:
    """Whether a run has begun to work on the folder."""
    return (scene.out / "qubes.xml").exists() or (scene.out / "qubes.xml.part").exists()


def _working_seconds(scene: Scene) -> float:
    scene.prepare()
    arguments = _arguments(scene)
    with start(*arguments, env=_KEY) as process:
        while not _begun(scene):
            time.sleep(0.001)
        begin = time.monotonic()
        assert finish(process, arguments).status == 0
    return time.monotonic() - begin


def _kill(scene: Scene, seconds: float) -> bool:
    """Starts a run and ends it so long after it began to write; False if it was over by then."""
    with start(*_arguments(scene), env=_KEY) as process:
        while not _begun(scene) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(seconds)
        process.kill()
        return process.wait() == -signal.SIGKILL


def at_every_call(scene: Scene) -> Killed:
    """Runs in forked processes, each ended before one more of the calls than the one before.

    To be called in a process that has no threads.
    """
    final, killed = scene.final(), Killed()
    for number in itertools.count():
        before = scene.prepare()
        process = os.fork()
        if not process:
            _restore_until(scene, number)
        if os.waitpid(process, 0)[1] != signal.SIGKILL:
            assert number > 50, "the calls are not counted"
            return killed
        scene.check(before, final, killed)
        process = os.fork()  # as above, so that this one stays without threads
        if not process:
            _report_again(scene, final, killed)
        assert os.waitpid(process, 0)[1] == 0, f"the run after a kill at call {number}"
        killed.kept += int((scene.folder / "kept").read_text())
    raise AssertionError


def _restore_until(scene: Scene, number: int) -> None:
    """Restores in this process, which ends before the call of this number, or after all."""
    counter = itertools.count()

    def counted(call: Any) -> Any:
        def instead(*arguments: Any, **options: Any) -> Any:
            if next(counter) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return instead

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    try:
        scene.restore()
    finally:
        os._exit(0)


def _report_again(scene: Scene, final: Snapshot, killed: Killed) -> None:
    """The second run, in a process of its own: status 0 if all is as it should be."""
    status = 1
    try:
        report = scene.restore()
        killed.kept = 0
        scene.check_again(final, report["statuses"], killed)
        (scene.folder / "kept").write_text(str(killed.kept))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def small_backup(folder: Path) -> Path:
    """An image with a hole, and a home: one of each way to get a name."""
    maker = BackupMaker(folder / "maker", passphrase=librarybackup.PASSPHRASE)
    image = make_sparse(folder / "image", 300_000, {0: b"data", 200_000: b"more"})
    maker.add_qube("vault", files={"private.img": image})
    home = folder / "user"
    (home / "Documents").mkdir(parents=True)
    (home / "Documents/letter").write_bytes(b"Zwierzu, pozycz psu cukr.")
    (home / "link").symlink_to("Documents/letter")
    maker.add_home("user", home)
    return maker.write(folder / "backup")


def main(arguments: list[str]) -> None:
    """See above. `calls` and `overwriting` as arguments are one half of what is done without."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        number = next(filter(str.isdigit, arguments), None)
        backup = librarybackup.make(folder).path if number else small_backup(folder)
        for overwrite, word in ((False, "calls"), (True, "overwriting")):
            if arguments in ([], [number]) or word in arguments:
                scene = Scene(backup, folder, overwrite)
                killed = at_random(scene, int(number)) if number else at_every_call(scene)
                print("overwriting:" if overwrite else "into an empty folder:", killed)


if __name__ == "__main__":
    main(sys.argv[1:])
