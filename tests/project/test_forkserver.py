"""A run that was forked is a process like one of a new interpreter: same words, same status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import forkserver
from tests.support.commandline import SAMPLE, SMALL, SMALL_SECRET, Terminal, run, start
from tests.support.forkserver import processes_are_forked

KEY = {"QBACKUP_PASSPHRASE": SMALL_SECRET}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux's makes it")


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are forked, whatever this pytest was asked for."""
    for name in list(os.environ):
        if name.startswith("COV"):
            monkeypatch.delenv(name)
    monkeypatch.setenv(forkserver.SWITCH, "1")


@pytest.mark.parametrize(
    "arguments",
    [["verify", SMALL], ["list", SMALL, "--json"], ["restore", SMALL], ["cat", SMALL, "x/y"], []],
    ids=str,
)
def test_a_run_ends_as_one_of_a_new_interpreter(
    arguments: list[str | Path], forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run(*arguments, env=KEY)
    monkeypatch.delenv(forkserver.SWITCH)
    assert ended == run(*arguments, env=KEY)


def test_it_is_a_child_of_this_process_in_a_session_of_its_own(forked: None) -> None:
    with start("list", "-", stdin=subprocess.PIPE) as process:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(state[1]) == os.getpid()
        assert os.getsid(process.pid) == process.pid
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_it_has_its_own_folder_mask_and_input(forked: None, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        options = ["restore", "-", "-o", "out"]
        ended = run(*options, stdin=SMALL.read_bytes(), env=KEY, cwd=tmp_path)
    finally:
        os.umask(before)
    assert ended.status == 0
    assert (tmp_path / "out" / "qubes.xml").is_file()
    assert "QBACKUP_PASSPHRASE" not in os.environ


def test_it_asks_on_its_own_terminal(forked: None) -> None:
    with Terminal("list", SMALL) as terminal:
        terminal.type_secret(f"{SMALL_SECRET}\n")
        assert terminal.finish().status == 0
        assert "personal" in terminal.seen


@pytest.mark.parametrize("name", ["LC_ALL", "PYTHONUTF8", "LD_PRELOAD"])
def test_what_python_reads_at_its_start_needs_a_new_one(forked: None, name: str) -> None:
    assert processes_are_forked(KEY)
    assert not processes_are_forked({name: "x"})


def test_tests_can_ask_for_new_interpreters(forked: None, new_interpreters: None) -> None:
    assert not processes_are_forked(None)
    with start("info", SAMPLE) as process:
        assert b"-m\0qbackup" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.communicate()
