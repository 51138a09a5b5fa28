"""The recovery kit: with it, Python alone restores a backup, as a page in it says."""

from __future__ import annotations

import ast
import errno
import hashlib
import io
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from qbackup.base.errors import MachineError, UsageError
from qbackup.cli.kit import start
from qbackup.cli.kit.build import program, write_kit, write_plain_kit
from qbackup.cli.kit.launch import _use_wheel, read_sums
from qbackup.cli.kit.wheels import Machine, fetch, fitting
from tests.docs import byhand
from tests.support.commandline import SAMPLE, SAMPLE_FILE, run
from tests.support.restored import snapshot

#: Python without anything that was installed beside it.
BARE = [getattr(sys, "_base_executable", sys.executable), "-I", "-S"]
KEY = ["-p", str(SAMPLE_FILE)]
LINUX = Machine("Linux", "x86_64", (2, 36), None)
ARM_LINUX = Machine("Linux", "aarch64", (2, 36), None)
OLD_LINUX = Machine("Linux", "x86_64", (2, 12), None)
MUSL = Machine("Linux", "x86_64", None, None)
MAC = Machine("Darwin", "arm64", None, (14, 2))


def started(
    kit: Path, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The kit's program, by Python alone."""
    command = [*BARE, str(kit / "qbackup.pyz"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain_kit(tmp_path_factory.mktemp("plain") / "kit")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pip gets them; without a network only CI insists."""
    folder = tmp_path_factory.mktemp("wheels")
    try:
        fetch(folder)
    except MachineError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def full(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kit(tmp_path_factory.mktemp("full") / "kit", wheels)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("expected") / "out"
    assert run("restore", SAMPLE, "-o", out, *KEY).status == 0
    return dict(snapshot(out))


def made_wheel(code: str) -> bytes:
    """One whose modules begin with this."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Crypto/__init__.py", "")
        archive.writestr("Crypto/Cipher/__init__.py", code)
    return buffer.getvalue()


def broken_wheel() -> bytes:
    """One whose compressed data can't be inflated."""
    data = bytearray(made_wheel("text = 1\n" * 1000))
    at = data.index(b"Crypto/Cipher/__init__.py") + len("Crypto/Cipher/__init__.py")
    data[at : at + 8] = b"\xff" * 8
    return bytes(data)


class TestProgram:
    @pytest.mark.slow
    def test_it_restores_with_python_alone(
        self, plain: Path, expected: dict[str, object], tmp_path: Path
    ) -> None:
        done = started(plain, "restore", "-v", SAMPLE, "-o", tmp_path / "out", *KEY)
        assert done.returncode == 0, done.stderr
        assert snapshot(tmp_path / "out") == expected
        assert "key derivation: hashlib, pyscrypt; AES: libcrypto" in done.stderr

    @pytest.mark.slow
    def test_it_uses_a_wheel_that_fits(
        self, full: Path, expected: dict[str, object], tmp_path: Path
    ) -> None:
        own = tmp_path / "temporary"
        own.mkdir()
        out = tmp_path / "out"
        done = started(full, "restore", "-v", SAMPLE, "-o", out, *KEY, TMPDIR=str(own))
        assert done.returncode == 0, done.stderr
        assert snapshot(out) == expected
        assert "key derivation: pycryptodome" in done.stderr
        assert "AES: pycryptodome" in done.stderr
        assert list(own.iterdir()) == [], "what was unpacked is removed again"

    def test_the_same_program_gives_the_same_file(self) -> None:
        assert program() == program()

    def test_it_can_make_another_kit(self, plain: Path, tmp_path: Path) -> None:
        done = started(plain, "kit", "--no-wheels", "-o", tmp_path / "kit")
        assert done.returncode == 0, done.stderr
        assert snapshot(tmp_path / "kit") == snapshot(plain)

    @pytest.mark.slow
    def test_it_has_the_completions_of_shells(self, plain: Path) -> None:
        for shell in ("bash", "zsh", "fish"):
            done = started(plain, "completion", shell)
            assert done.returncode == 0, done.stderr
            assert done.stdout == run("completion", shell).out

    def test_a_signal_while_it_prepares_ends_it_without_a_traceback(self) -> None:
        code = (
            "import os, signal, sys; from qbackup.__main__ import main;"
            " sys.argv = ['qbackup', '--version'];"
            " sys.exit(main(lambda: os.kill(os.getpid(), signal.SIGINT)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert done.returncode == 130, done
        assert done.stderr == b"qbackup: interrupted\n"

    def test_an_older_python_is_told_so(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(start, "OLDEST", (9, 9))
        assert start.main(pytest.fail) == 5  # type: ignore[no-untyped-call]
        assert "9.9 or newer is needed" in capsys.readouterr().err

    def test_any_python_3_can_read_its_beginning(self, plain: Path) -> None:
        with zipfile.ZipFile(plain / "qbackup.pyz") as archive:
            for name in ("__main__.py", "qbackup/cli/kit/start.py", "qbackup/cli/kit/__init__.py"):
                ast.parse(archive.read(name), feature_version=(3, 4))


class TestDamage:
    def copied(self, kit: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(kit, tmp_path / "copy"))

    def test_the_sums_are_those_of_sha256sum(self, plain: Path) -> None:
        sums = read_sums(plain / "SHA256SUMS")
        assert set(sums) == {"qbackup.pyz", "RECOVERY.txt"}
        for name, digest in sums.items():
            assert hashlib.sha256((plain / name).read_bytes()).hexdigest() == digest
        if shutil.which("sha256sum"):
            subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=plain, check=True)

    def test_a_changed_program_says_so(self, plain: Path, tmp_path: Path) -> None:
        kit = self.copied(plain, tmp_path)
        with (kit / "qbackup.pyz").open("r+b") as file:
            file.write(b"#!/usr/bin/env pyth0n3\n")
        done = started(kit, "--version")
        assert done.returncode == 0
        assert done.stderr.startswith("warning: qbackup.pyz does not match SHA256SUMS")

    def test_a_program_without_its_folder_does_not_say_that_it_is_changed(
        self, plain: Path, tmp_path: Path
    ) -> None:
        shutil.copy(plain / "qbackup.pyz", tmp_path)
        done = started(tmp_path, "--version")
        assert done.returncode == 0
        assert done.stderr.startswith("warning: there is no SHA256SUMS beside qbackup.pyz")
        assert "changed" not in done.stderr

    def test_without_a_standard_error_it_works_too(self, plain: Path, tmp_path: Path) -> None:
        shutil.copy(plain / "qbackup.pyz", tmp_path)
        command = shlex.join([*BARE, str(tmp_path / "qbackup.pyz"), "--version"])
        done = subprocess.run(["sh", "-c", f"{command} 2>&-"], capture_output=True, check=False)
        assert done.returncode == 0
        assert done.stdout.startswith(b"qbackup ")

    def test_a_wheel_is_read_once(
        self, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A drive that gives another one the second time gains nothing."""
        kit = self.copied(plain, tmp_path)
        wheel = self.with_wheels(kit, made_wheel("raise ImportError"))
        read: list[Path] = []
        whole = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            data = whole(path)
            if path.suffix == ".whl":
                read.append(path)
                path.write_bytes(made_wheel(f"open({str(tmp_path / 'evil')!r}, 'w')"))
            return data

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        monkeypatch.setattr(sys, "path", list(sys.path))
        for name in [name for name in sys.modules if name.partition(".")[0] == "Crypto"]:
            monkeypatch.delitem(sys.modules, name)
        _use_wheel(kit, read_sums(kit / "SHA256SUMS"))
        assert wheel in read
        assert not (tmp_path / "evil").exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("code", ["raise ImportError", "import os; os.gone", "syntax error"])
    def test_a_wheel_that_this_python_is_too_new_for_costs_nothing(
        self, plain: Path, tmp_path: Path, code: str
    ) -> None:
        kit = self.copied(plain, tmp_path)
        self.with_wheels(kit, made_wheel(code))
        done = started(kit, "list", "-v", SAMPLE, *KEY)
        assert done.returncode == 0, done.stderr
        assert "key derivation: hashlib" in done.stderr

    def with_wheels(self, kit: Path, content: bytes) -> Path:
        """Puts one into the kit for each system that this may run on; the one that fits here."""
        (kit / "wheels").mkdir()
        for system in ("manylinux_2_5_x86_64", "musllinux_1_0_x86_64", "manylinux_2_5_aarch64"):
            name = f"wheels/pycryptodome-1.0-cp37-abi3-{system}.whl"
            (kit / name).write_bytes(content)
            with (kit / "SHA256SUMS").open("a") as sums:
                sums.write(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        return next(fitting((kit / "wheels").iterdir()))

    @pytest.mark.slow
    def test_a_wheel_that_is_damaged_is_not_used(self, full: Path, tmp_path: Path) -> None:
        kit = self.copied(full, tmp_path)
        (wheel,) = fitting((kit / "wheels").iterdir())
        data = bytearray(wheel.read_bytes())
        data[len(data) // 2] ^= 1
        wheel.write_bytes(data)
        done = started(kit, "list", "-v", SAMPLE, *KEY)
        assert done.returncode == 0
        assert f"{wheel.name} does not match SHA256SUMS, and is not used" in done.stderr
        assert "key derivation: hashlib" in done.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize("content", [b"no archive", b"", broken_wheel()])
    def test_a_wheel_that_is_none_costs_nothing(
        self, plain: Path, tmp_path: Path, content: bytes
    ) -> None:
        kit = self.copied(plain, tmp_path)
        self.with_wheels(kit, content)
        done = started(kit, "list", "-v", SAMPLE, *KEY)
        assert done.returncode == 0, done.stderr
        assert "key derivation: hashlib" in done.stderr

    @pytest.mark.slow
    def test_nowhere_to_unpack_a_wheel_costs_nothing(self, full: Path) -> None:
        done = started(full, "list", SAMPLE, *KEY, TMPDIR="/proc/nowhere")
        assert done.returncode == 0, done.stderr


class TestWriting:
    def test_the_command_says_what_it_wrote(self, tmp_path: Path) -> None:
        ended = run("kit", "--no-wheels", "-o", tmp_path / "kit")
        assert ended.status == 0
        assert "RECOVERY.txt" in ended.out

    def test_a_kit_that_is_there_is_left_alone(self, plain: Path) -> None:
        before = snapshot(plain)
        with pytest.raises(UsageError, match=r"a kit in .* already"):
            write_plain_kit(plain)
        assert snapshot(plain) == before

    @pytest.mark.parametrize("name", ["SHA256SUMS", "qbackup.pyz", "RECOVERY.txt", "wheels"])
    def test_nothing_is_written_through_a_planted_link(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "kit").mkdir()
        (tmp_path / "kit" / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UsageError, match="a part of one"):
            write_plain_kit(tmp_path / "kit")
        assert os.listdir(tmp_path) == ["kit"]
        assert os.listdir(tmp_path / "kit") == [name]

    def test_beside_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "qubes-backup").write_bytes(b"all there is")
        write_plain_kit(tmp_path)
        assert (tmp_path / "qubes-backup").read_bytes() == b"all there is"

    @pytest.mark.slow
    @pytest.mark.parametrize("failing", ["qbackup.pyz", "RECOVERY.txt", ".whl", "SHA256SUMS"])
    def test_one_that_can_not_be_finished_leaves_nothing(
        self, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        """So the same command can be started again when there is room."""
        (tmp_path / "qubes-backup").write_bytes(b"all there is")
        real = os.fsync

        def full(fd: int) -> None:
            if os.readlink(f"/proc/self/fd/{fd}").endswith(failing):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(MachineError, match="No space left"):
                write_kit(tmp_path, wheels)
        assert os.listdir(tmp_path) == ["qubes-backup"]
        write_kit(tmp_path, wheels)

    def test_a_folder_without_wheels(self, tmp_path: Path) -> None:
        ended = run("kit", "--wheels", tmp_path, "-o", tmp_path / "kit")
        assert ended.status == 2
        assert "no wheels of pycryptodome" in ended.err
        assert not (tmp_path / "kit").exists()

    @pytest.mark.parametrize("where", ["data", "end", "all"])
    def test_a_wheel_that_is_damaged_is_not_put_into_it(self, tmp_path: Path, where: str) -> None:
        """Nobody would find out before it is needed, on another system."""
        data = {"data": broken_wheel(), "end": made_wheel("")[:-30], "all": b""}[where]
        wheel = tmp_path / "pycryptodome-1.0-cp37-abi3-win_amd64.whl"
        wheel.write_bytes(data)
        with pytest.raises(MachineError, match=r"win_amd64\.whl is damaged"):
            write_kit(tmp_path / "kit", tmp_path)
        assert not (tmp_path / "kit").exists()

    def test_where_nothing_can_be_written(self) -> None:
        ended = run("kit", "--no-wheels", "-o", "/proc/nowhere/kit")
        assert ended.status == 5
        assert ended.err.startswith("qbackup: the kit can't be written: ")

    @pytest.mark.slow
    def test_without_a_network_it_says_what_else_can_be_done(self, tmp_path: Path) -> None:
        nowhere = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
        ended = run("kit", "-o", tmp_path / "kit", env=nowhere)
        assert ended.status == 5
        assert "pip can't get pycryptodome" in ended.err
        assert "--no-wheels" in ended.err
        assert not (tmp_path / "kit").exists()


class TestPip:
    """pip has a network: it gets neither the passphrase nor code of the folder it is started in."""

    PIP = "import os, sys; open({seen!r}, 'w').write(repr(dict(os.environ))); sys.exit('no pip')"

    def planted(self, folder: Path, seen: Path) -> None:
        folder.mkdir()
        (folder / "pip.py").write_text(self.PIP.format(seen=str(seen)))

    def test_it_gets_no_passphrase(self, tmp_path: Path) -> None:
        self.planted(tmp_path / "modules", tmp_path / "seen")
        env = {"PYTHONPATH": f"{tmp_path}/modules", "QBACKUP_PASSPHRASE": "secret", "KEPT": "yes"}
        env |= {"QBACKUP_PASSPHRASE_FILE": "secret", "QBACKUP_PASSPHRASE_COMMAND": "secret"}
        ended = run("kit", "-o", tmp_path / "kit", env=env)
        assert ended.status == 5
        assert "no pip" in ended.err
        seen = (tmp_path / "seen").read_text()
        assert "'KEPT': 'yes'" in seen
        assert "secret" not in seen
        assert "QBACKUP_PASSPHRASE" not in seen

    def test_one_in_the_current_folder_is_not_it(self, tmp_path: Path) -> None:
        self.planted(tmp_path / "stick", tmp_path / "seen")
        nowhere = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
        ended = run("kit", "-o", tmp_path / "kit", env=nowhere, cwd=tmp_path / "stick")
        assert ended.status == 5
        assert not (tmp_path / "seen").exists()


class TestWhichWheelFits:
    @pytest.mark.parametrize(
        ("machine", "tag", "fits"),
        [
            (LINUX, "manylinux2014_x86_64", True),
            (LINUX, "manylinux_2_17_x86_64", True),
            (LINUX, "manylinux_2_39_x86_64", False),
            (LINUX, "manylinux2014_aarch64", False),
            (LINUX, "musllinux_1_2_x86_64", False),
            (ARM_LINUX, "manylinux2014_aarch64", True),
            (OLD_LINUX, "manylinux2014_x86_64", False),
            (OLD_LINUX, "manylinux1_x86_64", True),
            (MUSL, "musllinux_1_2_x86_64", True),
            (MUSL, "manylinux2014_x86_64", False),
            (MAC, "macosx_10_9_universal2", True),
            (MAC, "macosx_15_0_arm64", False),
            (MAC, "macosx_11_0_x86_64", False),
            (MAC, "manylinux2014_x86_64", False),
            (LINUX, "macosx_10_9_universal2", False),
            (LINUX, "win_amd64", False),
        ],
    )
    def test_by_its_tag(self, machine: Machine, tag: str, fits: bool) -> None:
        wheel = Path(f"pycryptodome-1.0-cp37-abi3-{tag}.whl")
        assert list(fitting([wheel], machine)) == ([wheel] if fits else [])

    @pytest.mark.parametrize(
        "name",
        [
            "pycryptodomex-1.0-cp37-abi3-manylinux1_x86_64.whl",
            "pycryptodome-1.0-cp310-cp310-manylinux1_x86_64.whl",
            "pycryptodome.whl",
        ],
    )
    def test_others_do_not(self, name: str) -> None:
        assert list(fitting([Path(name)], LINUX)) == []

    @pytest.mark.slow
    def test_one_of_those_that_pip_gets_fits_here(self, wheels: Path) -> None:
        assert len(list(wheels.iterdir())) > 3
        assert len(list(fitting(wheels.iterdir()))) == 1


class TestTheProcedure:
    """The page's last part, by the real programs."""

    @pytest.mark.slow
    @pytest.mark.parametrize("file", ["vm1/private.img", "vm1/firewall.xml"])
    def test_it_gives_the_file(
        self, plain: Path, expected: dict[str, object], tools: None, tmp_path: Path, file: str
    ) -> None:
        text = (plain / "RECOVERY.txt").read_text()
        commands = byhand.for_backup(byhand.kit_blocks(text), SAMPLE)
        passphrase = SAMPLE_FILE.read_text().strip()
        said = byhand.run(commands, tmp_path, passphrase, changes={"vm1/private.img": file})
        assert f"GOOD: {file} is in the folder personal\n" in said
        restored = snapshot(tmp_path / "by-hand/personal")
        assert restored[file] == expected[file.replace("vm1", "personal")]
