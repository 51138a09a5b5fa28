"""Programs that qbackup starts get no variable that leads to the passphrase."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup.base import children

SOURCES = sorted(Path(qbackup.__file__).parent.rglob("*.py"))
SECRETS = {
    "QBACKUP_PASSPHRASE": "secret",
    "QBACKUP_PASSPHRASE_FILE": "file",
    "QBACKUP_PASSPHRASE_COMMAND": "command",
}
#: Ways to start a program that take no environment, or that nothing here needs.
OTHER_CALLS = (
    *(f"os.{name}" for name in ("system", "popen", "exec", "spawn", "posix_spawn", "fork")),
    "os.startfile",
    "asyncio.create_subprocess",
)
OTHER_MODULES = ("multiprocessing", "pty", "pexpect", "sh")
#: Calls that start a program → what their arguments must call.
STARTING = {"subprocess": "child_environment", "ProxyCommand": "without_secrets_of_environment"}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("secrets")
class TestEnvironment:
    def test_a_program_gets_all_but_the_secrets(self) -> None:
        here = dict(os.environ)
        assert children.child_environment() == {
            name: value for name, value in here.items() if name not in SECRETS
        }
        assert os.environ == here

    def test_they_are_taken_out_for_good(self) -> None:
        assert children.take_secrets(os.environ) == SECRETS
        assert not SECRETS.keys() & os.environ.keys()
        assert children.take_secrets(os.environ) == {}

    def test_a_command_that_somebody_else_starts(self) -> None:
        command = children.without_secrets_of_environment("sh -c 'env | grep QBACKUP; echo -n'")
        assert os.popen(command).read() == ""
        children.take_secrets(os.environ)
        assert children.without_secrets_of_environment("ssh -W h:22 x") == "ssh -W h:22 x"


class TestEveryStart:
    """No place in the product starts a program in another way."""

    def test_each_has_the_environment_of_that_function(self) -> None:
        started = [(path.name, call) for path in SOURCES for call in starts(tree_of(path))]
        assert {name for name, _ in started} >= {"external.py", "wheels.py", "passphrase.py"}
        assert [(name, ast.unparse(call)) for name, call in started if not is_right(call)] == []

    def test_there_is_no_other_way(self) -> None:
        found = [(path.name, name) for path in SOURCES for name in other_ways(tree_of(path))]
        assert found == []

    @pytest.mark.parametrize(
        "code",
        [
            "subprocess.run(['a'])",
            "subprocess.Popen(['a'], env=os.environ)",
            "subprocess.check_output(['a'], env={**child_environment(), **os.environ})",
            "paramiko.ProxyCommand(command)",
        ],
    )
    def test_a_forgotten_one_is_noticed(self, code: str) -> None:
        assert [is_right(call) for call in starts(ast.parse(code))] == [False]

    @pytest.mark.parametrize(
        "code",
        [
            "os.system('a')",
            "os.execvp('a', [])",
            "os.posix_spawn('a', [], {})",
            "from subprocess import run",
            "import subprocess as s",
            "import multiprocessing",
            "asyncio.create_subprocess_exec('a')",
        ],
    )
    def test_another_way_is_noticed(self, code: str) -> None:
        assert list(other_ways(ast.parse(code)))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def starts(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that start a program."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            is_module = isinstance(owner, ast.Name) and owner.id == "subprocess"
            if is_module or node.func.attr in STARTING:
                yield node


def is_right(call: ast.Call) -> bool:
    """Tells if the program gets what the function made, and nothing else."""
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr in STARTING:
        given, needed = call.args[0], STARTING[call.func.attr]
    else:
        named = [keyword.value for keyword in call.keywords if keyword.arg == "env"]
        if not named:
            return False
        given, needed = named[0], STARTING["subprocess"]
    return (
        isinstance(given, ast.Call) and isinstance(given.func, ast.Name) and given.func.id == needed
    )


def other_ways(tree: ast.Module) -> Iterator[str]:
    """Names by which a program could be started without that function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("subprocess", *OTHER_MODULES):
            yield node.module
        elif isinstance(node, ast.Import):
            names = (alias for alias in node.names if alias.name in ("subprocess", *OTHER_MODULES))
            yield from (each.name for each in names if each.name != "subprocess" or each.asname)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith(OTHER_CALLS):
            yield node.attr
