"""The commands, what they print for people, and their exit statuses, each as a real process."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import random
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import qbackup.__main__
from qbackup import __version__
from qbackup.cli.main import main
from qbackup.cli.options import build_parser
from tests.conftest import MakerFactory
from tests.maker import forged_archive
from tests.support import alter, vectorfiles
from tests.support.commandline import (
    SAMPLE,
    SAMPLE_FILE,
    SMALL,
    SMALL_SECRET,
    backup_command,
    call,
    command,
    environment,
    one_document,
    run,
)
from tests.support.restored import files_below
from tests.support.speed import rows

KEY = ("-p", SAMPLE_FILE)
SMALL_KEY = {"QBACKUP_PASSPHRASE": SMALL_SECRET}
COMMANDS = ("info", "list", "verify", "restore", "cat")
IMAGE = "vm1/private.img.000.enc"
REAL = vectorfiles.backup_path("zstdmt-real-scrypt")
#: A run whose derivation would go on beyond this is ended by the system, with another status.
NO_DERIVATION = {resource.RLIMIT_CPU: 20}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class TestProgram:
    def test_version(self) -> None:
        assert run("--version").out == f"qbackup {__version__}\n"

    def test_module_and_program_are_the_same(self) -> None:
        (entry,) = importlib.metadata.entry_points(group="console_scripts", name="qbackup")
        assert entry.load() is qbackup.__main__.main

    def test_help_names_every_command(self) -> None:
        ended = run("--help")
        assert ended.status == 0
        assert all(f"\n    {name} " in ended.out for name in COMMANDS)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_help_of_each_command(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"usage: qbackup {name} " in out
        for word in ("--passphrase-file", "--passphrase-command", "QBACKUP_PASSPHRASE_COMMAND"):
            assert word in out
        for word in ("--jobs N", "--memory SIZE", "--compression-filter NAME", "-q", "-v"):
            assert word in out
        assert ("--json" in out) is (name != "cat")
        assert ("--overwrite" in out) is (name == "restore")

    def test_no_option_takes_a_passphrase(self) -> None:
        assert main(["list", "x", "--passphrase", "secret"]) == 2

    def test_a_shortened_option_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Else --js would be JSON that a mistake is not told in."""
        assert main(["list", str(SAMPLE), "-p", str(SAMPLE_FILE), "--js"]) == 2
        assert "--js" in capsys.readouterr().err

    def test_importing_it_imports_nothing_heavy(self) -> None:
        heavy = "{'Crypto', 'xml.etree.ElementTree', 'subprocess', 'rich', 'hashlib', 'lzma'}"
        code = (
            f"import sys, qbackup.cli.main; sys.exit(' '.join({heavy} & sys.modules.keys()) or 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=False, env=environment()
        )
        if "COVERAGE_PROCESS_CONFIG" not in os.environ:  # coverage itself imports some
            assert (done.returncode, done.stderr) == (0, b"")

    def test_the_version_needs_only_what_argparse_needs(self) -> None:
        """Loading these takes longer than all the rest; site must not have loaded them before.
        From Python 3.14 on argparse itself loads two of them, for its colours.
        """
        root = str(Path(qbackup.__file__).parent.parent)
        begin = f"import sys; sys.path.insert(0, {root!r}); sys.argv[1:] = ['--version']\n"
        end = "sys.exit(' '.join({'typing', 'dataclasses', 'inspect'} & sys.modules.keys()))"
        product = begin + f"from qbackup.__main__ import main; main(); {end}"
        argparse = begin + f"import argparse; argparse.ArgumentParser(); {end}"
        done, needed = (
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", code], capture_output=True, check=False
            )
            for code in (product, argparse)
        )
        assert done.stdout == f"qbackup {qbackup.__version__}\n".encode()
        assert set(done.stderr.split()) == set(needed.stderr.split())


class TestWrongUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["nonsense"],
            ["list"],
            ["restore", "BACKUP"],
            ["cat", "BACKUP"],
            ["cat", "BACKUP", "a/b", "c/d"],
            ["info", "BACKUP", "personal"],
            ["verify", "BACKUP", "--overwrite"],
            ["cat", "BACKUP", "a/b", "--json"],
            ["verify", "BACKUP", "-o", "out"],
            ["verify", "BACKUP", "-q", "name", "--nonsense", "other"],
            ["info", "BACKUP", "-q", "name"],
            ["info", "BACKUP", "--", "name"],
            ["list", "BACKUP", "--jobs", "0"],
            ["restore", "BACKUP", "-o", ""],
            ["kit", "-o", ""],
            ["list", "BACKUP", "--jobs", "-1"],
            ["list", "BACKUP", "--jobs", "two"],
            ["list", "BACKUP", "--jobs", "²"],
            ["list", "BACKUP", "--memory", "0"],
            ["list", "BACKUP", "--memory", "0G"],
            ["list", "BACKUP", "--memory", "x"],
            ["list", "BACKUP", "--memory", "M"],
            ["list", "BACKUP", "--memory", ""],
            ["list", "BACKUP", "--memory", "1.5G"],
            ["list", "BACKUP", "--memory", "-400M"],
            ["list", "BACKUP", "--memory", "9" * 5000],
        ],
    )
    def test_status_2_and_where_to_read_on(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("qbackup: ")
        assert "--help" in err

    def test_a_backup_that_is_not_there(self, tmp_path: Path) -> None:
        ended = call("list", tmp_path / "nothing")
        assert ended.status == 2
        assert "nothing: there is no such file" in ended.err

    def test_standard_input_that_is_not_there(self, tmp_path: Path) -> None:
        script = 'exec "$@" <&-'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *command("list", "-", *KEY)],
            capture_output=True,
            check=False,
            env=environment(),
        )
        assert done.returncode == 4
        assert b"Traceback" not in done.stderr

    @rows("name", ["nobody", "personal/nothing.img", "dom0/nobody", ""], quick=2)
    @rows("way", ["verify", "restore", "cat"], quick=2)
    def test_what_is_not_in_the_backup_is_said_before_anything_is_written(
        self, way: str, name: str, tmp_path: Path
    ) -> None:
        (_, _, *more) = backup_command(way, SAMPLE, tmp_path) if way == "restore" else ("", "")
        ended = call(way, SAMPLE, name, *more, *KEY)
        assert ended.status == 2
        assert "in this backup" in ended.err or "has no file" in ended.err
        assert ended.out == ""
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_a_wrong_qube_is_said_for_a_pipe_too(self, tmp_path: Path) -> None:
        ended = run(
            "restore", "-", "nobody", "-o", tmp_path / "out", *KEY, stdin=SAMPLE.read_bytes()
        )
        assert ended.status == 2
        assert not (tmp_path / "out").exists()


class TestExitStatuses:
    """One of each from a real process; 130, 141 and 143 are in test_cli_signals.py."""

    def test_0(self) -> None:
        assert run("verify", SAMPLE, *KEY).status == 0

    @pytest.mark.slow
    def test_1(self, tmp_path: Path) -> None:
        assert run("verify", alter.flipped(SAMPLE, tmp_path / "b", IMAGE), *KEY).status == 1

    def test_2(self) -> None:
        assert run("verify", SAMPLE, "nobody", *KEY).status == 2

    def test_3(self) -> None:
        assert run("verify", SAMPLE, env=SMALL_KEY).status == 3

    def test_4(self, tmp_path: Path) -> None:
        assert run("verify", tmp_path, *KEY).status == 4

    def test_5(self, tmp_path: Path) -> None:
        assert run("restore", SAMPLE, "-o", SAMPLE_FILE, *KEY).status == 5


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1", 1),
            ("512k", 512 << 10),
            ("400M", 400 << 20),
            ("400MB", 400 << 20),
            ("400MiB", 400 << 20),
            ("2G", 2 << 30),
            ("2g", 2 << 30),
            ("1T", 1 << 40),
        ],
    )
    def test_memory(self, text: str, size: int) -> None:
        options = build_parser().parse_args(["list", "BACKUP", "--memory", text])
        assert options.memory == size

    @pytest.mark.parametrize("count", [1 << 20, 1 << 64])
    def test_more_jobs_than_any_machine_has_cores_change_nothing(self, count: int) -> None:
        ended = call("verify", SAMPLE, *KEY, "--jobs", str(count))
        assert ended.status == 0, ended

    def test_jobs_and_memory_are_used(self) -> None:
        ended = call("verify", SAMPLE, *KEY, "--jobs", "3", "--memory", "20M", "-v")
        assert ended.status == 0
        assert "lanes side by side: 3\n" in ended.err


class TestInfo:
    def test_without_a_passphrase_it_is_marked_as_not_authenticated(self) -> None:
        ended = call("info", SAMPLE)
        assert ended.status == 0
        lines = dict(line.split(":", 1) for line in ended.out.splitlines())
        assert "NOT authenticated" in lines["format"]
        assert lines["format"].split()[0] == "4"
        assert lines["backup id"].strip() == "20240917T101112-1234"
        assert lines["compression"].strip() == "gzip"
        assert lines["members"].strip() == "7, of them 5 chunks"
        assert lines["scrypt"].strip() == "N=2^14, r=8, p=1: 5 chunks"
        assert "MiB of memory" in lines["a restore here"]

    def test_with_one_it_is_authenticated(self) -> None:
        ended = call("info", SAMPLE, *KEY)
        assert ended.status == 0
        assert "(authenticated)" in ended.out

    def test_the_cost_grows_with_the_parameters(self, tmp_path: Path) -> None:
        costly = alter.with_parameters(SAMPLE, tmp_path / "costly", IMAGE, 20, 8, 32)
        plain, dear = (
            call("info", path, "--json").document["estimate"] for path in (SAMPLE, costly)
        )
        assert dear["seconds"] > 10 * plain["seconds"]
        assert dear["memory"] >= plain["memory"] + (1 << 30) - (1 << 24)

    def test_memory_bounds_the_cost(self, tmp_path: Path) -> None:
        costly = alter.with_parameters(SAMPLE, tmp_path / "costly", IMAGE, 18, 8, 8)
        more, less = (
            call("info", costly, "--json", "--jobs", "8", "--memory", size).document["estimate"]
            for size in ("4G", "600M")
        )
        assert more["memory"] - less["memory"] == 6 * (256 << 20)
        assert more["seconds"] < less["seconds"]

    def test_a_chunk_without_a_header_is_counted(self, tmp_path: Path) -> None:
        damaged = alter.flipped(SAMPLE, tmp_path / "damaged", IMAGE, 50)
        ended = call("info", damaged)
        assert "damaged:        1 chunk without a readable header" in ended.out

    @pytest.mark.slow
    def test_parameters_beyond_all_bounds_are_only_told(self, tmp_path: Path) -> None:
        monster = alter.with_parameters(SAMPLE, tmp_path / "b", IMAGE, 255, 2**15 - 1, 2**15 - 1)
        ended = run("info", monster, limits=NO_DERIVATION)
        assert ended.status == 0
        assert "N=2^255, r=32767, p=32767: 1 chunk\n" in ended.out
        assert "about 0:0" in ended.out, "nobody will derive that key"

    def test_a_wrong_passphrase_is_status_3(self) -> None:
        assert call("info", SAMPLE, env=SMALL_KEY).status == 3

    def test_verbose_names_the_key_derivation(self) -> None:
        assert "key derivation: pycryptodome" in call("info", SAMPLE, "-v").err

    def test_what_is_cut_off_is_told(self, tmp_path: Path) -> None:
        ended = call("info", alter.cut(SAMPLE, tmp_path / "cut", IMAGE, 100))
        assert ended.status == 1
        assert "cut off" in ended.err or "ends" in ended.err


class TestList:
    def test_a_table_of_the_qubes(self) -> None:
        ended = call("list", SAMPLE, *KEY)
        assert ended.status == 0
        rows = [line.split(maxsplit=6) for line in ended.out.splitlines()]
        assert rows[0] == ["QUBE", "CLASS", "LABEL", "TEMPLATE", "SIZE", "FILES"]
        assert rows[1][:4] == ["personal", "AppVM", "yellow", "fedora-40"]
        assert rows[1][6] == "private.img, firewall.xml"
        assert rows[2][:4] == ["vault", "AppVM", "black", "fedora-40"]
        assert rows[3][:4] == ["dom0", "AdminVM", "black", "-"]
        assert rows[3][6] == "user"
        assert ended.err == ""

    def test_a_missing_image_is_status_1(self, tmp_path: Path) -> None:
        path = alter.without(SAMPLE, tmp_path / "less", IMAGE)
        ended = call("list", path, *KEY)
        assert ended.status == 1
        assert "firewall.xml, private.img IS MISSING" in ended.out
        assert "qbackup: files are missing from this backup" in ended.err

    def test_a_qube_of_which_nothing_is_there_is_status_1(self, tmp_path: Path) -> None:
        path = alter.without(SAMPLE, tmp_path / "less", "dom0-home/user.000.enc")
        ended = call("list", path, *KEY)
        assert ended.status == 1
        assert "user IS MISSING" in ended.out

    def test_a_cut_archive_is_status_1(self, tmp_path: Path) -> None:
        path = alter.cut(SAMPLE, tmp_path / "cut", "dom0-home/user.000.enc", 100)
        ended = call("list", path, *KEY)
        assert ended.status == 1
        assert ended.out.startswith("QUBE")

    def test_a_damaged_qubes_xml_is_status_1(self, tmp_path: Path) -> None:
        ended = call("list", alter.flipped(SAMPLE, tmp_path / "b", "qubes.xml.000.enc"), *KEY)
        assert ended.status == 1
        assert "qubes.xml" in ended.err


class TestVerify:
    def test_all(self) -> None:
        ended = call("verify", SAMPLE, *KEY)
        assert (ended.status, ended.err) == (0, "")
        assert ended.out == "All 5 files are there, verified and whole (16.0 MiB).\n"

    @pytest.mark.slow
    def test_nothing_is_written(self, tmp_path: Path) -> None:
        assert run("verify", SAMPLE, *KEY, cwd=tmp_path).status == 0
        assert list(tmp_path.iterdir()) == []

    def test_selection(self) -> None:
        ended = call("verify", SAMPLE, "vault", "personal/firewall.xml", *KEY, "--json")
        names = [(file["qube"], file["name"]) for file in ended.document["files"]]
        assert sorted(names) == [
            ("", "qubes.xml"),
            ("personal", "firewall.xml"),
            ("vault", "private.img"),
        ]

    def test_damage_is_status_1_and_named_with_its_chunk(self, tmp_path: Path) -> None:
        ended = call("verify", alter.flipped(SAMPLE, tmp_path / "b", IMAGE), *KEY)
        assert ended.status == 1
        (line,) = (line for line in ended.out.splitlines() if line.startswith("DAMAGED"))
        assert line.startswith("DAMAGED  personal/private.img: vm1/private.img.000: ")
        assert "NOT EVERYTHING IS THERE: 1 not whole, 4 whole" in ended.out

    def test_damage_elsewhere_does_not_matter(self, tmp_path: Path) -> None:
        path = alter.flipped(SAMPLE, tmp_path / "b", IMAGE)
        assert call("verify", path, "vault", *KEY).status == 0

    def test_what_is_missing_is_status_1(self, tmp_path: Path) -> None:
        ended = call("verify", alter.without(SAMPLE, tmp_path / "b", IMAGE), *KEY)
        assert ended.status == 1
        assert "MISSING  personal/private.img: " in ended.out

    def test_a_cut_archive_is_status_1(self, tmp_path: Path) -> None:
        ended = call("verify", alter.cut(SAMPLE, tmp_path / "b", IMAGE, 100), *KEY)
        assert ended.status == 1
        assert "ARCHIVE  " in ended.out


class TestRestore:
    def test_all(self, tmp_path: Path) -> None:
        ended = call("restore", SAMPLE, "-o", tmp_path / "new" / "out", *KEY)
        assert (ended.status, ended.err) == (0, "")
        assert files_below(tmp_path / "new" / "out") == {
            "qubes.xml",
            "personal/private.img",
            "personal/firewall.xml",
            "vault/private.img",
            "dom0/user/notes.txt",
            "dom0/user/.config/qubes/layout.conf",
        }

    def test_the_image_is_what_was_backed_up(self, tmp_path: Path) -> None:
        (expected,) = vectorfiles.load("gzip-published-header")["files"]
        assert call("restore", SMALL, "-o", tmp_path, env=SMALL_KEY).status == 0
        assert sha256((tmp_path / "personal/private.img").read_bytes()) == expected["sha256"]

    @rows(
        ("names", "files"),
        [
            (["vault"], {"vault/private.img"}),
            (["vault/"], {"vault/private.img"}),
            (["personal/firewall.xml"], {"personal/firewall.xml"}),
            (["dom0/user"], {"dom0/user/notes.txt", "dom0/user/.config/qubes/layout.conf"}),
            (
                ["vault", "personal/firewall.xml"],
                {"vault/private.img", "personal/firewall.xml"},
            ),
        ],
    )
    def test_selection(self, names: list[str], files: set[str], tmp_path: Path) -> None:
        assert main(["restore", str(SAMPLE), *names, "-o", str(tmp_path), *map(str, KEY)]) == 0
        assert files_below(tmp_path) == files | {"qubes.xml"}

    @rows(
        "order",
        [
            ["vault", "-o", "OUT", "personal/firewall.xml"],
            ["-o", "OUT", "vault", "-q", "personal/firewall.xml"],
            ["-o", "OUT", "vault", "--", "personal/firewall.xml"],
            ["-o", "OUT", "--", "vault", "personal/firewall.xml"],
        ],
        ids=" ".join,
    )
    def test_names_stand_anywhere(self, order: list[str], tmp_path: Path) -> None:
        words = [str(tmp_path) if word == "OUT" else word for word in order]
        assert call("restore", *KEY, SAMPLE, *words).status == 0
        assert files_below(tmp_path) == {"qubes.xml", "vault/private.img", "personal/firewall.xml"}

    def test_what_is_there_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "personal").mkdir()
        (tmp_path / "personal/firewall.xml").write_text("mine")
        ended = call("restore", SAMPLE, "personal", "-o", tmp_path, *KEY)
        assert ended.status == 1
        assert "EXISTS  personal/firewall.xml: " in ended.out
        assert "--overwrite" in ended.out
        assert (tmp_path / "personal/firewall.xml").read_text() == "mine"
        assert (tmp_path / "personal/private.img").exists()

    def test_overwrite_replaces_it(self, tmp_path: Path) -> None:
        (tmp_path / "personal").mkdir()
        (tmp_path / "personal/firewall.xml").write_text("mine")
        assert call("restore", SAMPLE, "-o", tmp_path, "--overwrite", *KEY).status == 0
        assert (tmp_path / "personal/firewall.xml").read_text().startswith("<firewall")

    def test_a_damaged_file_has_no_final_name_and_the_others_are_there(
        self, tmp_path: Path
    ) -> None:
        path = alter.flipped(SAMPLE, tmp_path / "b", IMAGE)
        ended = call("restore", path, "-o", tmp_path / "out", *KEY)
        assert ended.status == 1
        assert "personal/private.img" in ended.out
        assert files_below(tmp_path / "out") == {
            "qubes.xml",
            "personal/firewall.xml",
            "vault/private.img",
            "dom0/user/notes.txt",
            "dom0/user/.config/qubes/layout.conf",
        }

    def test_setuid_is_dropped_and_said(self, tmp_path: Path) -> None:
        ended = call("restore", vectorfiles.backup_path("pigz-home"), "-o", tmp_path, env=SMALL_KEY)
        assert ended.status == 0
        assert "dom0/jo.doe: setuid: setuid or setgid dropped\n" in ended.out

    def test_members_that_are_nobodys_are_warned_of(self, tmp_path: Path) -> None:
        odd = forged_archive("vm77/private.img.000.enc", b"x") + forged_archive("README", b"x")
        path = alter.extended(SAMPLE, tmp_path / "b", odd)
        ended = call("verify", path, *KEY)
        assert ended.status == 0
        assert "warning: README: no part of a backup has such a name, ignored\n" in ended.err
        assert "warning: vm77/private.img: belongs to no qube of this backup" in ended.err


class TestCat:
    def test_a_file_to_a_pipe_byte_for_byte(self) -> None:
        (expected,) = vectorfiles.load("gzip-published-header")["files"]
        ended = call("cat", SMALL, "personal/private.img", env=SMALL_KEY)
        assert (ended.status, ended.err) == (0, "")
        assert sha256(ended.stdout) == expected["sha256"]

    @pytest.mark.slow
    def test_to_a_file(self, tmp_path: Path) -> None:
        with (tmp_path / "out").open("wb") as out:
            assert run("cat", SAMPLE, "personal/firewall.xml", *KEY, stdout=out).status == 0
        assert (tmp_path / "out").read_text().startswith('<firewall version="2">')

    def test_qubes_xml(self) -> None:
        ended = call("cat", SAMPLE, "qubes.xml", *KEY)
        assert ended.status == 0
        assert ended.out.startswith("<qubes>")

    def test_a_damaged_file_is_status_1(self, tmp_path: Path) -> None:
        ended = call(
            "cat", alter.flipped(SAMPLE, tmp_path / "b", IMAGE), "personal/private.img", *KEY
        )
        assert (ended.status, ended.stdout) == (1, b"")
        assert "vm1/private.img.000: " in ended.err

    def test_a_damaged_qubes_xml_is_status_1(self, tmp_path: Path) -> None:
        path = alter.flipped(SAMPLE, tmp_path / "b", "qubes.xml.000.enc")
        assert call("cat", path, "qubes.xml", *KEY).status == 1

    def test_a_folder_is_status_2(self) -> None:
        ended = call("cat", SAMPLE, "dom0/user", *KEY)
        assert (ended.status, ended.stdout) == (2, b"")
        assert "folder" in ended.err

    def test_warnings_come_after_the_file(self, tmp_path: Path) -> None:
        path = alter.extended(SAMPLE, tmp_path / "b", forged_archive("README", b"x"))
        ended = call("cat", path, "personal/firewall.xml", *KEY)
        assert ended.status == 0
        assert "warning: README: " in ended.err


class TestPipe:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_reads_standard_input(self, name: str, tmp_path: Path) -> None:
        from_file = run(*backup_command(name, SAMPLE, tmp_path / "file"), *KEY)
        piped = run(*backup_command(name, "-", tmp_path / "pipe"), *KEY, stdin=SAMPLE.read_bytes())
        assert piped.status == 0
        if name != "info":  # its estimate is a measurement
            assert piped.stdout == from_file.stdout
        if name == "restore":
            assert files_below(tmp_path / "pipe/out") == files_below(tmp_path / "file/out")

    @pytest.mark.slow
    def test_standard_input_may_be_the_file_itself(self) -> None:
        with SAMPLE.open("rb") as file:
            assert run("verify", "-", *KEY, stdin=file).status == 0

    @pytest.mark.slow
    def test_a_named_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        with subprocess.Popen(["cp", str(SAMPLE), str(tmp_path / "fifo")]) as writer:
            ended = run("verify", tmp_path / "fifo", *KEY)
        assert (ended.status, writer.returncode) == (0, 0)

    @rows("name", ["list", "verify", "restore"])
    def test_a_pipe_that_ends_early_is_status_1(self, name: str, tmp_path: Path) -> None:
        path = alter.cut(SAMPLE, tmp_path / "cut", "vm2/private.img.000.enc", 700)
        ended = run(*backup_command(name, "-", tmp_path), *KEY, stdin=path.read_bytes())
        assert ended.status == 1


class TestNotABackup:
    @rows("way", ["info", "list", "verify", "restore", "cat"])
    def test_nothing_at_all_on_standard_input(self, way: str, tmp_path: Path) -> None:
        ended = run(*backup_command(way, "-", tmp_path), *KEY, stdin=b"")
        assert ended.status == 4
        assert not (tmp_path / "out").exists()

    @rows(
        ("name", "data"),
        [
            ("empty", b""),
            ("text", b"This is no backup.\n" * 1000),
            ("random", random.Random(4).randbytes(100_000)),
            ("zeros", bytes(100_000)),
            ("another archive", forged_archive("README", b"hello")),
        ],
    )
    def test_other_files(self, name: str, data: bytes, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(data)
        ended = run("restore", tmp_path / name, "-o", tmp_path / "out", *KEY, limits=NO_DERIVATION)
        assert (ended.status, ended.out) == (4, "")
        assert not (tmp_path / "out").exists()

    def test_a_folder(self, tmp_path: Path) -> None:
        ended = run("list", tmp_path, *KEY)
        assert ended.status == 4
        assert "this is a folder" in ended.err

    @pytest.mark.slow
    def test_a_device_and_a_socket(self, tmp_path: Path) -> None:
        assert run("list", "/dev/null", *KEY).status == 4
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            assert run("list", tmp_path / "s", *KEY).status == 4

    @pytest.mark.parametrize(
        ("old", "new", "status"),
        [
            (b"version=4", b"vers)on=4", 4),
            (b"version=4", b"version=6", 4),
            (b"scrypt", b"scrxpt", 3),  # the authenticated copy tells that it was altered
        ],
    )
    def test_a_bit_of_the_header_that_flipped_is_told_with_what_to_do(
        self, tmp_path: Path, old: bytes, new: bytes, status: int
    ) -> None:
        alter.substituted(SAMPLE, tmp_path / "b", alter.HEADER, old, new)
        ended = call("list", tmp_path / "b", *KEY)
        assert ended.status == status
        assert "--salvage" in ended.err

    @pytest.mark.slow
    @pytest.mark.parametrize("version", [b"2", b"3", b"5", b"x"])
    def test_other_versions(self, version: bytes, tmp_path: Path) -> None:
        path = alter.substituted(
            SAMPLE, tmp_path / "b", alter.HEADER, b"version=4", b"version=" + version
        )
        for ended in (run("info", path), run("verify", path, *KEY, limits=NO_DERIVATION)):
            assert ended.status == 4
            assert f"format {version.decode()}" in ended.err

    @rows(("log2_n", "r", "p"), [(40, 8, 1), (10, 8, 1 << 20), (28, 8, 1)])
    def test_parameters_over_the_limits_are_never_derived(
        self, log2_n: int, r: int, p: int, tmp_path: Path
    ) -> None:
        path = alter.with_parameters(SAMPLE, tmp_path / "b", alter.HEADER_COPY, log2_n, r, p)
        ended = run("verify", path, *KEY, limits=NO_DERIVATION)
        assert ended.status == 4
        assert "limit" in ended.err

    @pytest.mark.slow
    def test_an_unknown_filter_names_the_option(self, maker: MakerFactory, tmp_path: Path) -> None:
        header = maker().header.replace(b"filter=gzip", b"filter=rot13")
        backup = maker(header=header)
        backup.add_qube("work", files={"private.img": b"data" * 1000})
        path = backup.write(tmp_path / "b")
        ended = run("restore", path, "-o", tmp_path / "out", env=SMALL_KEY)
        assert ended.status == 4
        assert "rot13" in ended.err
        assert "--compression-filter" in ended.err
        assert not (tmp_path / "out").exists()
        assert run("verify", path, "--compression-filter", "gzip", env=SMALL_KEY).status == 0


class TestLocked:
    @pytest.mark.parametrize("way", ["list", "verify", "restore", "cat"])
    def test_a_wrong_passphrase(self, way: str, tmp_path: Path) -> None:
        ended = call(*backup_command(way, SAMPLE, tmp_path), env=SMALL_KEY)
        assert (ended.status, ended.stdout) == (3, b"")
        assert "the passphrase does not fit" in ended.err
        assert not (tmp_path / "out").exists()

    @rows(
        ("old", "new"),
        [(b"filter=gzip", b"filter=lzma"), (b"T101112", b"T101113"), (b"=True", b"=Yes ")],
    )
    def test_an_altered_header(self, old: bytes, new: bytes, tmp_path: Path) -> None:
        path = alter.substituted(SAMPLE, tmp_path / "b", alter.HEADER, old, new)
        ended = call("restore", path, "-o", tmp_path / "out", *KEY)
        assert ended.status == 3
        assert "altered" in ended.err
        assert not (tmp_path / "out").exists()

    def test_a_damaged_copy_of_the_header(self, tmp_path: Path) -> None:
        path = alter.flipped(SAMPLE, tmp_path / "b", alter.HEADER_COPY)
        assert call("list", path, *KEY).status == 3

    def test_no_copy_of_the_header(self, tmp_path: Path) -> None:
        path = alter.without(SAMPLE, tmp_path / "b", alter.HEADER_COPY)
        ended = call("list", path, *KEY)
        assert ended.status == 3
        assert "backup-header.hmac" in ended.err


class TestCompressionFilter:
    def test_none_reads_raw(self) -> None:
        path = vectorfiles.backup_path("none-empty-file")
        same = call("verify", path, "--compression-filter", "none", env=SMALL_KEY)
        other = call("verify", path, "--compression-filter", "gzip", env=SMALL_KEY)
        assert (same.status, other.status) == (0, 1)
        assert "as you asked" not in same.err
        assert (
            "warning: files are decompressed with gzip, as you asked; the header says none"
            in other.err
        )

    def test_a_program_of_the_users(self, tmp_path: Path) -> None:
        program = tmp_path / "my-filter"
        program.write_text('#!/bin/sh\n[ "$*" = -d ] && exec gzip -dc\nexit 9\n')
        program.chmod(0o755)
        ended = call(
            "cat", SMALL, "personal/private.img", "--compression-filter", program, env=SMALL_KEY
        )
        (expected,) = vectorfiles.load("gzip-published-header")["files"]
        assert ended.status == 0
        assert sha256(ended.stdout) == expected["sha256"]

    def test_its_environment_has_no_passphrase(self, tmp_path: Path) -> None:
        program = tmp_path / "my-filter"
        program.write_text(f"#!/bin/sh\nenv >{tmp_path}/environment\nexec gzip -dc\n")
        program.chmod(0o755)
        ended = call(
            "list", SMALL, "--compression-filter", program, env={**SMALL_KEY, "KEPT": "yes"}
        )
        assert ended.status == 0
        dumped = (tmp_path / "environment").read_text()
        assert "KEPT=yes" in dumped
        assert "QBACKUP" not in dumped
        assert SMALL_SECRET not in dumped


class TestVerboseAndQuiet:
    def test_verbose_tells_what_is_used(self) -> None:
        ended = call("verify", SAMPLE, *KEY, "-v")
        assert "key derivation: pycryptodome, hashlib, pyscrypt; AES: " in ended.err
        assert "lanes side by side: " in ended.err

    def test_otherwise_nothing_is_said(self) -> None:
        assert call("verify", SAMPLE, *KEY).err == ""
        assert call("verify", SAMPLE, *KEY, "-q").err == ""


class TestSlowMachine:
    """No compiled key derivation can be loaded: it works, and says what that means."""

    def run_slow(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        code = (
            "import hashlib, sys; del hashlib.scrypt; sys.modules['Crypto.Protocol.KDF'] = None\n"
            "from qbackup.cli.main import main; sys.exit(main())"
        )
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            check=False,
            env=environment(SMALL_KEY),
            text=True,
        )

    @pytest.mark.slow
    def test_it_warns_and_does_it(self) -> None:
        done = self.run_slow("list", SMALL, "-v")
        assert done.returncode == 0
        assert "personal" in done.stdout
        assert "key derivation: pyscrypt; AES: " in done.stderr
        assert "warning: only the slow pure-Python key derivation can be loaded" in done.stderr

    @pytest.mark.slow
    def test_info_takes_a_small_measure(self) -> None:
        done = self.run_slow("info", REAL, "--json")
        estimate = one_document(done.stdout.encode())["estimate"]
        assert done.returncode == 0
        assert estimate["seconds"] > 60  # where others take seconds
        assert estimate["memory"] < 2 * (256 << 20)  # one lane after the other


class TestTextFromOutside:
    """Whatever a name holds, a terminal is never given what it would obey: `run` sees to it."""

    ESCAPES = "\x1b]0;title\x07\x1b[31mred\u202e\u200b\x9b1m"
    SHOWN = r"\x1b]0;title\x07\x1b[31mred\u202e\u200b\u009b1m"

    @pytest.mark.parametrize("where", ["missing", "folder", "not a backup"])
    def test_the_name_of_the_backup(self, where: str, tmp_path: Path) -> None:
        path = tmp_path / self.ESCAPES
        if where == "folder":
            path.mkdir()
        elif where == "not a backup":
            path.write_text("x")
        ended = call("list", path, *KEY)
        assert ended.status in (2, 4)
        assert self.SHOWN in ended.err or where == "not a backup"  # which says nothing of its name

    @rows(
        "arguments",
        [
            [ESCAPES],
            ["list", "BACKUP", ESCAPES],
            ["list", "BACKUP", "--jobs", ESCAPES],
            ["list", "BACKUP", "--memory", ESCAPES],
            ["list", "BACKUP", f"--{ESCAPES}"],
            ["verify", SAMPLE, ESCAPES, *KEY],
            ["verify", SAMPLE, f"personal/{ESCAPES}", *KEY],
            ["cat", SAMPLE, ESCAPES, *KEY],
            ["list", SAMPLE, "-p", ESCAPES],
            ["list", SAMPLE, "--passphrase-command", ESCAPES],
            ["list", SAMPLE, "--passphrase-command", f"'{ESCAPES}"],
            ["list", SAMPLE, *KEY, "--compression-filter", ESCAPES],
            ["restore", SAMPLE, *KEY, "-o", f"/dev/null/{ESCAPES}"],
        ],
    )
    def test_names_in_arguments(self, arguments: list[str | Path], tmp_path: Path) -> None:
        ended = run(*arguments, cwd=tmp_path)
        assert ended.status in (2, 3, 5)
        assert r"\x1b" in ended.err or "--passphrase-command" in arguments

    def test_values_of_qubes_xml(self, maker: MakerFactory, tmp_path: Path) -> None:
        backup = maker()
        backup.add_qube("work", klass="AppVM", files={"private.img": b"data" * 1000})
        hostile = "w\x9b31m\u202e\u2066&#x85;&#x7f;\u200b"
        document = backup.default_qubes_xml().decode()
        backup.qubes_xml = (
            document.replace(">work<", f">{hostile}<")
            .replace(">fedora-40<", f">t{hostile}<")
            .replace(">red<", f">l{hostile}<")
            .replace("AppVM", f"A{hostile}")
            .encode()
        )
        path = backup.write(tmp_path / "b")
        listed = call("list", path, env=SMALL_KEY)
        assert listed.status == 0
        shown = r"w\u009b31m\u202e\u2066\u0085\x7f\u200b"
        for before in ("", "A", "l", "t"):
            assert f"{before}{shown}  " in listed.out
        verified = call("verify", alter.flipped(path, tmp_path / "d", IMAGE), env=SMALL_KEY)
        assert verified.status == 1
        assert f"DAMAGED  {shown}/private.img" in verified.out

    @pytest.mark.slow
    def test_names_of_members(self, tmp_path: Path) -> None:
        odd = forged_archive("vm1/a\x1b[31m\u202e\udcff.000.enc", b"x" * 200)
        odd += forged_archive("\x1b[31m\u202e\udcff", b"x")
        odd += forged_archive("vm1/\u202e\udcff.000.enc", b"x" * 200)
        path = alter.extended(SAMPLE, tmp_path / "b", odd)
        for name in ("info", "list", "verify", "restore"):
            ended = call(*backup_command(name, path, tmp_path), *KEY)
            assert r"\x1b[31m\u202e\xff" in ended.err
            assert name == "info" or r"\u202e\xff" in ended.out

    def test_names_in_a_home(self, maker: MakerFactory, tmp_path: Path) -> None:
        home = tmp_path / "user"
        home.mkdir()
        name = b"fifo-\x1b[31m\xe2\x80\xae\xff\n"
        os.mkfifo(os.path.join(os.fsencode(home), name))
        setuid = os.path.join(os.fsencode(home), b"setuid" + name)
        Path(os.fsdecode(setuid)).write_text("x")
        os.chmod(setuid, 0o4755)
        backup = maker()
        backup.add_home("user", home)
        path = backup.write(tmp_path / "b")
        ended = call("restore", path, "-o", tmp_path / "out", env=SMALL_KEY)
        assert ended.status == 0
        assert r"dom0/user: fifo-\x1b[31m\u202e\xff\x0a: a pipe, which is never made" in ended.out
        assert r"dom0/user: setuidfifo-\x1b[31m\u202e\xff\x0a: setuid" in ended.out


class TestEncodings:
    @pytest.fixture
    def path(self, maker: MakerFactory, tmp_path: Path) -> Path:
        """A backup whose qube, file and user have names that are not ASCII."""
        backup = maker()
        backup.add_qube("żółw-日本", files={"private.img": b"data" * 1000})
        home = tmp_path / "używa"
        home.mkdir()
        backup.add_home("używa", home)
        return backup.write(tmp_path / "backup-ż")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "more",
        [
            {"PYTHONIOENCODING": "ascii"},
            {"PYTHONIOENCODING": "ascii:strict"},
            {"PYTHONIOENCODING": "latin-1"},
            {"LC_ALL": "C"},
            {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"LC_ALL": "C.UTF-8"},
        ],
        ids=str,
    )
    def test_no_encoding_is_a_reason_to_fail(
        self, path: Path, more: dict[str, str], tmp_path: Path
    ) -> None:
        env = {**SMALL_KEY, **more}
        listed = run("list", path, env=env)
        restored_ = run("restore", path, "żółw-日本", "-o", tmp_path / "out-ż", env=env)
        image = tmp_path / "out-ż/żółw-日本/private.img"
        assert image.read_bytes() == b"data" * 1000
        image.write_bytes(b"changed")
        again = run("restore", path, "-o", tmp_path / "out-ż", env=env)
        assert (listed.status, restored_.status, again.status) == (0, 0, 1)
        name = "żółw-日本" if more.get("LC_ALL") in ("C", "C.UTF-8") else "w-"
        assert name in listed.out
        assert name in again.out


class TestInProcess:
    """`main` as a function: it gives back what it changed."""

    def test_a_thread_may_call_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as executor:
            assert executor.submit(main, ["list", str(SAMPLE), *map(str, KEY)]).result() == 0
        assert "personal" in capsys.readouterr().out

    @pytest.mark.slow
    def test_statuses(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        key = [*map(str, KEY)]
        assert main(["info", str(SAMPLE)]) == 0
        assert main(["verify", str(SAMPLE), *key, "-v"]) == 0
        assert main(["verify", str(SAMPLE), "nobody", *key]) == 2
        assert main(["verify", str(SMALL), *key]) == 3
        assert main(["verify", str(tmp_path), *key]) == 4
        assert main(["restore", str(SAMPLE), *key, "-o", "/dev/null/out"]) == 5
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert captured.out.count("verified and whole") == 1

    def test_a_backup_from_a_terminal_is_refused(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        master, slave = os.openpty()
        with open(slave) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert main(["list", "-", *map(str, KEY)]) == 2
        os.close(master)
        assert "standard input is a terminal" in capsys.readouterr().err
