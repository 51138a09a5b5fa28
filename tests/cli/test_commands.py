"""The registry of commands: a row and a file for each, and no more loaded than is asked for."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qbackup
from qbackup.cli import commands
from tests.support.commandline import environment

CLI = Path(qbackup.__file__).parent / "cli"
NAMES = [row.name for row in commands.REGISTRY]

# names that reference.md does not document, and that the command line once used
INSIDES = ("catalog", "deriver", "format", "pipeline", "name_of", "unlocked", "limits")


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code in an interpreter that has loaded nothing else before, `site` included."""
    beginning = f"import sys; sys.path.insert(0, {str(CLI.parents[1])!r})\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", beginning + code, *arguments],
        capture_output=True,
        check=False,
        text=True,
        env=environment(),
    )


def test_each_file_is_a_row_and_each_row_a_file() -> None:
    files = {path.stem for path in (CLI / "commands").glob("*.py")} - {"__init__"}
    assert files == set(NAMES)
    assert len(NAMES) == len(files)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_has_a_parser_work_and_examples(name: str) -> None:
    command = commands.load(name)
    assert isinstance(command.EXAMPLES, str)
    assert list(inspect.signature(command.add_arguments).parameters) == ["parser"]
    assert list(inspect.signature(command.run).parameters) == ["options"]
    command.add_arguments(argparse.ArgumentParser())


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_loads_its_own_file_and_nothing_heavy(name: str) -> None:
    """Python 3.14's own argparse loads `dataclasses` for its colours; that does not count."""
    done = run_python(
        "import argparse; argparse.ArgumentParser().format_help(); given = set(sys.modules)\n"
        "from qbackup.cli.main import main; main(sys.argv[1:])\n"
        "heavy = {'qbackup.archive.archive', 'qbackup.image.tree', 'qbackup.cli.passphrase',\n"
        "         'typing', 'dataclasses', 'json', 'subprocess', 'Crypto', 'rich'}\n"
        "own = [m for m in sys.modules if m.startswith('qbackup.cli.commands.')]\n"
        "print(*sorted(heavy & sys.modules.keys() - given), *own, file=sys.stderr)",
        name,
        "--help",
    )
    assert done.stdout.startswith(f"usage: qbackup {name} ")
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:
        assert done.stderr == f"qbackup.cli.commands.{name}\n"


def test_the_main_help_loads_no_command() -> None:
    done = run_python(
        "from qbackup.cli.main import main; main(['--help'])\n"
        "sys.exit(any(m.startswith('qbackup.cli.commands.') for m in sys.modules))"
    )
    assert (done.returncode, done.stderr) == (0, "")
    for row in commands.REGISTRY:
        assert row.name in done.stdout
        assert row.summary in " ".join(done.stdout.split())


def test_the_command_line_uses_the_archives_documented_names_only() -> None:
    """Also of `archive` as an attribute: `self.archive.catalog`."""
    pattern = re.compile(rf"\barchive\.({'|'.join(INSIDES)}|_\w+)\b")
    for path in CLI.rglob("*.py"):
        code = re.sub(r"^\s*(from|import) .*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
        assert not pattern.findall(code), path
