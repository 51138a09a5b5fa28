"""The passphrase and the keys are nowhere but in the program's memory.

Real runs leave traces: command lines, environments of what is started, both output streams, every
file in the output folder. All are searched, whatever way a run ends.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import itertools
import logging
import os
import resource
import signal
import stat
import sys
import tarfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import qbackup
from qbackup.archive.passphrase import Passphrase
from qbackup.cli.passphrase import Request
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_format import HEADER_SIZE
from qbackup.crypto.subkeys import RootKey
from qbackup.pipeline.key_request import KeyFuture
from tests.support import alter, vectorfiles
from tests.support.commandline import SMALL, SMALL_SECRET, finish, run, start, wait_for
from tests.support.inside import inside, stored_of
from tests.support.speed import rows

MANY = vectorfiles.backup_path("xz-many-chunks")
WRONG = "not the passphrase, but somebody's"
KEPT = {"KEPT": "yes"}
#: Writes down what every process of the machine, or its user, can read of it and of its parent.
SPY = """#!/bin/sh
cat /proc/$$/environ >{seen}/environ-$$
cat /proc/$$/cmdline /proc/$PPID/cmdline >{seen}/cmdline-$$
{then}
"""
#: Stands in for `xz -d`, which is not on every machine.
UNPACK = (
    "import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer)"
)
#: Goes on for as long as the program is there.
WAIT = "touch {begun}; while grep -q qbackup /proc/$PPID/cmdline; do sleep 0.1; done"


def keys_of(backup: Path, secret: str) -> Iterator[bytes]:
    """Every chunk's key and the header's, by hashlib alone: 64 bytes, and both halves of them."""
    with tarfile.open(backup, ignore_zeros=True) as archive:  # more than one, end to end
        members = {member.name: member for member in archive}

        def read(name: str) -> bytes:
            file = archive.extractfile(members[name])
            assert file is not None
            return file.read()

        header = dict(line.split("=", 1) for line in read("backup-header").decode().splitlines())
        backup_id = header.get("backup-id") or header["backup_id"]
        for name in members.keys() - {"backup-header"}:
            prefix = "" if name == "backup-header.hmac" else f"{backup_id}!"
            material = f"{prefix}{name.removesuffix('.enc').removesuffix('.hmac')}!{secret}"
            head = read(name)[:HEADER_SIZE]
            n, r, p = 1 << head[7], *(int.from_bytes(head[i : i + 4], "big") for i in (8, 12))
            key = hashlib.scrypt(
                material.encode(), salt=head[16:48], n=n, r=r, p=p, maxmem=1 << 30, dklen=64
            )
            yield from (key, key[:32], key[32:])


@dataclass(frozen=True)
class Hunt:
    """Looks for secrets in every spelling that a mistake would give them."""

    needles: tuple[bytes, ...]

    @classmethod
    def after(cls, *secrets: bytes) -> Hunt:
        """In the clear, as repr shows bytes, in hexadecimal and in base64."""
        found = itertools.chain.from_iterable(
            (
                secret,
                repr(secret)[2:-1].encode(),
                secret.hex().encode(),
                base64.b64encode(secret).rstrip(b"="),
            )
            for secret in secrets
        )
        return cls(tuple(found))

    def in_bytes(self, where: object, data: bytes) -> None:
        """Fails when there is one."""
        for needle in self.needles:
            assert needle not in data, f"a secret is in {where}"

    def below(self, folder: Path) -> int:
        """Searches names and contents of every file; how many there are."""
        count = 0
        for path in folder.rglob("*"):
            self.in_bytes("a name", os.fsencode(path))
            if path.is_file() and not path.is_symlink():
                self.in_bytes(path, path.read_bytes())
                count += 1
        return count


def hunt_for(backup: Path) -> Hunt:
    """All that is secret about a vector, and the wrong passphrase."""
    keys = keys_of(backup, SMALL_SECRET)
    return Hunt.after(SMALL_SECRET.encode(), WRONG.encode(), *keys)


class TestKeysAreKnown:
    def test_they_are_those_that_open_the_chunks(self) -> None:
        """Otherwise the search below would look for nothing."""
        known = set(keys_of(SMALL, SMALL_SECRET))
        with qbackup.open(SMALL, passphrase=SMALL_SECRET) as backup:
            for chunk in backup.file("personal/private.img").chunks:
                format_ = inside(backup).format.unlock(
                    backup.header, SMALL_SECRET.encode(), inside(backup).limits
                )
                head = stored_of(chunk).read_head(HEADER_SIZE)
                locked = format_.file().parse_head(chunk.name, chunk.index, head)
                assert any(len(key) == 64 and locked.accepts(key) for key in known)


@dataclass(frozen=True)
class Scene:
    """A passphrase command and a decompression filter that spy, and a folder to restore into."""

    folder: Path

    @property
    def out(self) -> Path:
        """Where restores go."""
        return self.folder / "out"

    @property
    def seen(self) -> Path:
        """What the spies wrote down."""
        return self.folder / "seen"

    def spy(self, name: str, then: str) -> Path:
        """A program that writes down what it can see, and goes on."""
        self.seen.mkdir(exist_ok=True)
        path = self.folder / name
        path.write_text(SPY.format(seen=self.seen, then=then))
        path.chmod(0o755)
        return path

    def check(self, hunt: Hunt, stdout: bytes, stderr: bytes, *, spies: int) -> None:
        """Searches all that a run left."""
        hunt.in_bytes("standard output", stdout)
        hunt.in_bytes("standard error", stderr)
        hunt.below(self.out)
        hunt.below(self.seen)
        found = [path.read_bytes() for path in self.seen.glob("environ-*")]
        environments = [environment for environment in found if environment]  # not killed before
        assert len(environments) >= spies
        for environment in environments:
            assert b"KEPT=yes" in environment
            assert b"QBACKUP_PASSPHRASE" not in environment
        lines = [path.read_bytes() for path in self.seen.glob("cmdline-*")]
        assert all(b"restore" in line for line in lines if line)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


class TestRuns:
    """Every source of the passphrase, every end of a restore."""

    @rows(("source", "spies"), [("variable", 1), ("file", 1), ("command", 2)])
    @rows("case", ["whole", "wrong", "damaged"])
    def test_nothing_is_left_of_it(
        self, case: str, source: str, spies: int, scene: Scene, tmp_path: Path
    ) -> None:
        hunt, backup = hunt_for(MANY), MANY
        if case == "damaged":
            backup = alter.flipped(MANY, tmp_path / "damaged", "vm1/private.img.005.enc")
        (tmp_path / "secret").write_text(WRONG if case == "wrong" else SMALL_SECRET)
        env = {
            "variable": {"QBACKUP_PASSPHRASE": (tmp_path / "secret").read_text()},
            "file": {"QBACKUP_PASSPHRASE_FILE": str(tmp_path / "secret")},
            "command": {
                "QBACKUP_PASSPHRASE_COMMAND": str(scene.spy("asks", f"cat {tmp_path}/secret"))
            },
        }[source]
        unpack = scene.spy("unpacks", f"exec {sys.executable} -c '{UNPACK}'")
        options = ("restore", backup, "-o", scene.out, "-v", "--compression-filter", unpack)
        ended = run(*options, env={**env, **KEPT})
        assert ended.status == {"whole": 0, "wrong": 3, "damaged": 1}[case], ended.err
        # with a wrong passphrase nothing is unpacked, and where a chunk is damaged that is stopped
        scene.check(hunt, ended.stdout, ended.stderr, spies=spies - (case != "whole"))
        if case == "whole":
            assert (scene.out / ".qbackup-journal").stat().st_size

    @rows("number", [signal.SIGINT, signal.SIGTERM])
    def test_nor_after_a_signal(self, number: int, scene: Scene, tmp_path: Path) -> None:
        unpack = scene.spy("unpacks", WAIT.format(begun=tmp_path / "begun"))
        options = ("restore", MANY, "-o", scene.out, "-v", "--compression-filter", unpack)
        env, cores = {"QBACKUP_PASSPHRASE": SMALL_SECRET, **KEPT}, {resource.RLIMIT_CORE: 1 << 20}
        with start(*options, env=env, limits=cores) as process:
            wait_for((tmp_path / "begun").exists)
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            process.send_signal(number)
            ended = finish(process, options)
        assert ended.status == 128 + number
        scene.check(hunt_for(MANY), ended.stdout, ended.stderr, spies=1)
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4] == "0"  # a crash writes no memory down

    @rows(
        "mistake",
        [["--passphrase", "hunter2"], ["--passphrase=hunter2"], ["-P", "hunter2"], ["-Phunter2"]],
    )
    @rows("name", ["list", "verify"])
    def test_one_given_as_an_argument_by_mistake_is_not_repeated(
        self, name: str, mistake: list[str]
    ) -> None:
        ended = run(name, SMALL, *mistake, "--json")
        assert ended.status == 2
        assert mistake[0][:2] in ended.err
        Hunt.after(b"hunter2").in_bytes("the output", ended.stdout + ended.stderr)


class TestLibrary:
    def test_no_object_shows_it(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        hunt = hunt_for(SMALL)
        secret = SMALL_SECRET.encode()
        with qbackup.open(SMALL, passphrase=SMALL_SECRET) as backup:
            file = backup.file("personal/private.img")
            (chunk,) = file.chunks
            format_ = inside(backup).unlocked().format
            head = stored_of(chunk).read_head(HEADER_SIZE)
            locked = format_.file().parse_head(chunk.name, chunk.index, head)
            key = next(key for key in keys_of(SMALL, SMALL_SECRET) if locked.accepts(key))
            report = backup.verify()
            assert locked.derivation is not None
            inside(backup).pipeline.expect(locked.derivation)  # a ticket that nobody takes away
            state = inside(backup)
            shown = [backup, backup.header, backup.qubes, file, chunk, state.unlocked(), format_]
            shown += [locked, locked.derivation, report, report.files, RootKey(key)]
            shown += [state, state.pipeline, state.deriver, state.limits, backup.warnings]
            shown += [Request(None, f"echo {SMALL_SECRET}", {"A": SMALL_SECRET}, False)]
            own = [
                thing
                for thing in gc.get_objects()
                if str(type(thing).__module__).startswith("qbackup")
            ]
            assert any(isinstance(thing, Derivation) for thing in own)
            assert any(isinstance(thing, KeyFuture) for thing in own)
            for thing in shown:
                hunt.in_bytes(type(thing), f"{thing!r} {thing}".encode("utf-8", "replace"))
            for thing in own:
                with contextlib.suppress(AttributeError):  # other tests leave some half made
                    hunt.in_bytes(type(thing), f"{thing!r} {thing}".encode("utf-8", "replace"))
        assert secret in hunt.needles
        hunt.in_bytes("the log", caplog.text.encode())

    @pytest.mark.parametrize(
        ("passphrase", "error"),
        [
            (WRONG, qbackup.WrongPassphrase),
            (WRONG.encode(), qbackup.WrongPassphrase),
            (lambda: WRONG, qbackup.WrongPassphrase),
            (WRONG + "\ud800", qbackup.UsageError),
            (SMALL_SECRET, qbackup.ChunkDamaged),
        ],
    )
    def test_no_exception_holds_it(
        self, passphrase: Passphrase, error: type[Exception], tmp_path: Path
    ) -> None:
        hunt = hunt_for(SMALL)
        damaged = alter.flipped(SMALL, tmp_path / "damaged", "vm1/private.img.000.enc")
        with (
            pytest.raises(error) as caught,
            qbackup.open(damaged, passphrase=passphrase) as backup,
            backup.open("personal/private.img") as image,
        ):
            image.read()
        link: BaseException | None = caught.value
        hunt.in_bytes("the traceback", "".join(traceback.format_exception(link)).encode())
        while link is not None:
            shown = f"{link!r} {link} {link.args} {vars(link)}"
            hunt.in_bytes(type(link), shown.encode("ascii", "replace"))
            link = link.__cause__ or link.__context__


class TestModes:
    @rows("umask", [0o000, 0o022, 0o077])
    @rows("name", ["gzip-published-header", "pigz-home"])
    def test_what_is_restored_is_its_owners_alone(
        self, name: str, umask: int, tmp_path: Path
    ) -> None:
        """A home's files have the modes that they had, and nobody else gets to them."""
        backup, out = vectorfiles.backup_path(name), tmp_path / "new" / "out"
        (tmp_path / "new").mkdir()
        options = ("restore", backup, "-o", out)
        before = os.umask(umask)
        try:
            process = start(*options, env={"QBACKUP_PASSPHRASE": SMALL_SECRET})
        finally:
            os.umask(before)
        with process:
            assert finish(process, options).status == 0
        homes = [out / "dom0"]
        for path in [out, *out.rglob("*")]:
            mode = path.lstat().st_mode
            if any(home in path.parents for home in homes):
                continue
            assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path
        below = [path for path in out.rglob("*") if homes[0] in path.parents]
        assert bool(below) == (name == "pigz-home")
