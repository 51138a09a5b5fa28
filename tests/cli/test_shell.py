"""Completions and the manual page are those of the parser, and shells and man can read them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qbackup.cli.shell import FILES, completions
from tests import make_shell
from tests.support.commandline import run

COMMANDS = {"info", "list", "verify", "restore", "cat", "ls", "cp", "kit", "completion"}


def need(program: str) -> None:
    if shutil.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")


def bash(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    need("bash")
    (tmp_path / "completions").write_text(completions("bash"))
    code = """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        $(complete -p qbackup | sed 's/.*-F \\([^ ]*\\).*/\\1/') qbackup "${@: -1}" "${@: -2:1}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", code, "sh", tmp_path / "completions", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("name", [*FILES.values(), make_shell.MANUAL])
def test_they_are_those_of_the_parser(name: str) -> None:
    pytest.importorskip("shtab")
    pytest.importorskip("build_manpages")
    if name == make_shell.MANUAL and sys.version_info[:2] > (3, 12):
        pytest.skip("argparse breaks lines otherwise there")
    assert (make_shell.FOLDER / name).read_text() == make_shell.made()[name]


class TestCompletions:
    @pytest.mark.parametrize("shell", FILES)
    def test_the_command_prints_them(self, shell: str) -> None:
        ended = run("completion", shell)
        assert ended.status == 0
        assert ended.out == completions(shell)

    def test_an_unknown_shell(self) -> None:
        ended = run("completion", "csh")
        assert ended.status == 2
        assert "csh" in ended.err

    def test_commands(self, tmp_path: Path) -> None:
        assert set(bash(tmp_path, "qbackup", "")) >= COMMANDS
        assert bash(tmp_path, "qbackup", "res") == ["restore"]

    def test_options(self, tmp_path: Path) -> None:
        assert bash(tmp_path, "qbackup", "restore", "--keep") == ["--keep-damaged"]
        assert "--keep-damaged" not in bash(tmp_path, "qbackup", "list", "--")

    def test_files_and_folders(self, tmp_path: Path) -> None:
        (tmp_path / "qubes-backup").write_text("")
        (tmp_path / "qubes-folder").mkdir()
        offered = bash(tmp_path, "qbackup", "restore", "qubes-")
        assert {name.rstrip("/") for name in offered} == {"qubes-backup", "qubes-folder"}
        offered = bash(tmp_path, "qbackup", "restore", "qubes-backup", "-o", "qubes-")
        assert [name.rstrip("/") for name in offered] == ["qubes-folder"]

    @pytest.mark.parametrize(("shell", "option"), [("zsh", "-n"), ("fish", "--no-execute")])
    def test_other_shells_can_read_them(self, shell: str, option: str) -> None:
        need(shell)
        path = make_shell.FOLDER / FILES[shell]
        done = subprocess.run([shell, option, path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


class TestManual:
    @pytest.mark.slow
    def test_it_names_every_command_and_option(self) -> None:
        text = (make_shell.FOLDER / make_shell.MANUAL).read_text().replace("\\-", "-")
        for name in COMMANDS:
            assert f"qbackup {name}" in text
            options = [
                w
                for w in run(name, "--help").out.split()
                if w.startswith("--") and "--help" not in w
            ]
            for option in options:
                assert option.strip(",.[]()") in text

    def test_man_can_read_it(self) -> None:
        need("man")
        done = subprocess.run(
            ["man", "--warnings", "-l", make_shell.FOLDER / make_shell.MANUAL],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANWIDTH": "80"},
        )
        assert done.stderr == ""
        for head in ("NAME", "SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "EXAMPLES"):
            assert f"\n{head}\n" in f"\n{done.stdout}"
