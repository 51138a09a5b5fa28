"""Faults of the machine that restores: too little memory, too few descriptors or threads, no
temporary space, closed streams, signals. The status says so, in one sentence; what has a final
name is whole; a second run completes.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qbackup.cli.commands import list as list_command
from tests.support import alter
from tests.support.commandline import (
    SAMPLE,
    SAMPLE_FILE,
    Ended,
    call,
    command,
    environment,
    finish,
    run,
    start,
)
from tests.support.faults import KEY, Restores, undisturbed
from tests.support.librarybackup import Made
from tests.support.restored import Snapshot, files_below
from tests.support.slowruns import BEFORE_VAULT, wait_for_derivation
from tests.support.speed import rows

SAMPLE_KEY = ("-p", SAMPLE_FILE)
MIB = 1 << 20
#: What Python itself loads before and for this program, and can't do without.
_STANDARD = "import argparse, ctypes, hashlib, hmac, json, subprocess, threading, unicodedata"


@pytest.fixture(scope="module")
def final(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return undisturbed(made.path, tmp_path_factory.mktemp("undisturbed") / "out")


@pytest.fixture
def restores(made: Made, tmp_path: Path, final: Snapshot) -> Restores:
    return Restores(made.path, tmp_path / "out", final)


@pytest.fixture(scope="module")
def needed_mib() -> int:
    """Address space that Python takes, with what the standard library has of this program."""
    code = f"{_STANDARD}; print(open('/proc/self/status').read())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment(is_measured=False),
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("VmPeak:"))
    return int(line.split()[1]) // 1024 + 1


class TestMemory:
    """`ulimit -v`, from what Python itself can just be loaded with up to enough."""

    @rows("more", [1, 4, 7, 10, 13, 16, 19, 22, 26, 30, 36, 44, 60, 90, 400])
    def test_a_restore(self, restores: Restores, needed_mib: int, more: int) -> None:
        limits = {resource.RLIMIT_AS: (needed_mib + more) * MIB}
        ended = run(*restores.arguments("-q"), env=KEY, limits=limits)
        check_short_of_memory(ended)
        left = restores.left()
        if ended.status == 0:
            assert left
        assert ended.status == 0 or more < 400
        restores.check_second()

    @rows("name", ["list", "verify"])
    @rows("more", [1, 10, 17, 24, 30, 40, 60])
    def test_a_look(self, needed_mib: int, name: str, more: int) -> None:
        limits = {resource.RLIMIT_AS: (needed_mib + more) * MIB}
        check_short_of_memory(run(name, SAMPLE, *SAMPLE_KEY, limits=limits))

    @pytest.mark.parametrize("error", [MemoryError(), ImportError("no"), SystemError("no")])
    def test_that_is_too_short_to_load_a_module_is_the_machine_s_fault(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """Seen once in thousands of runs: an import ends with SystemError."""

        def fail(options: object) -> int:
            raise error

        monkeypatch.setattr(list_command, "run", fail)
        ended = call("list", SAMPLE, *SAMPLE_KEY)
        assert ended.status == 5
        assert ended.err.startswith(("qbackup: this machine failed: no", "qbackup: out of memory"))

    @pytest.mark.slow
    def test_that_runs_out_before_the_end_is_no_crash(self, tmp_path: Path) -> None:
        """Threads that are ended with the program must not need any."""
        out = tmp_path / "out"
        endless = alter.with_parameters(
            SAMPLE, tmp_path / "endless", "vm2/private.img.000.enc", 14, 8, 1 << 11
        )
        arguments = ("restore", endless, *alter.ANY_GROWTH, "-o", out, *SAMPLE_KEY)
        with start(*arguments) as process:
            wait_for_derivation(process, *(out / name for name in BEFORE_VAULT))
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
            used = pages * resource.getpagesize()
            resource.prlimit(process.pid, resource.RLIMIT_AS, (used, used))
            process.send_signal(signal.SIGINT)
            ended = finish(process, arguments)
        assert ended.status == 130
        assert ended.err == (
            "qbackup: interrupted; no half-written file was left under a final name\n"
        )
        assert "vault/private.img.part" not in files_below(out)


def check_short_of_memory(ended: Ended) -> None:
    """All is well, or the machine failed in one sentence, or keys did not fit and this is named."""
    if ended.status == 1:
        bad = [line for line in ended.out.splitlines() if line.startswith(("DAMAGED", "MISSING"))]
        assert bad
        assert all("memory" in line for line in bad)
        return
    assert ended.status in (0, 5)
    said = [line for line in ended.err.splitlines() if not line.startswith("  ")]  # advice
    assert ended.status == 0 or said[-1].startswith("qbackup: ")


class TestOtherLimits:
    @pytest.mark.slow
    @pytest.mark.parametrize("descriptors", [5, 6, 7, 8, 9, 10, 11, 12, 16])
    def test_too_few_descriptors(self, restores: Restores, descriptors: int) -> None:
        limits = {resource.RLIMIT_NOFILE: descriptors}
        ended = run(*restores.arguments("-q"), env=KEY, limits=limits)
        assert ended.status in (0, 5)
        assert ended.status == 0 or "Too many open files\n" in ended.err
        assert ended.status == (5 if descriptors < 8 else ended.status if descriptors < 16 else 0)
        restores.left()
        restores.check_second()

    @rows("name", ["restore", "verify", "list"])
    def test_no_thread_can_be_started(self, tmp_path: Path, name: str) -> None:
        """As each would get a larger stack than there is room for."""
        where: list[str | Path] = ["-o", tmp_path / "out"] if name == "restore" else []
        limits = {resource.RLIMIT_STACK: 4000 * MIB, resource.RLIMIT_AS: 1000 * MIB}
        ended = run(name, SAMPLE, *where, "--json", *SAMPLE_KEY, limits=limits)
        assert ended.status == 5
        assert ended.err == "qbackup: this machine can't start a thread\n"
        assert ended.document["kind"] == "MachineError"
        assert not (tmp_path / "out").exists()

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no such call here")
    def test_one_core_of_many(self, restores: Restores) -> None:
        core = min(os.sched_getaffinity(0))
        ended = run(
            *restores.arguments("-q", "-v"),
            env=KEY,
            before=lambda: os.sched_setaffinity(0, {core}),
        )
        assert ended.status == 0
        assert "lanes side by side: 1\n" in ended.err
        restores.left()

    @pytest.mark.slow
    def test_no_temporary_space_and_no_home(self, restores: Restores, tmp_path: Path) -> None:
        nowhere = "/proc/nowhere"
        names = ("HOME", "TMPDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
        ended = run(*restores.arguments("-q"), env=KEY | dict.fromkeys(names, nowhere))
        assert ended.status == 0
        restores.left()

    @pytest.mark.slow
    def test_nothing_is_written_but_the_output(self, restores: Restores, tmp_path: Path) -> None:
        own = tmp_path / "own"
        own.mkdir()
        names = ("HOME", "TMPDIR", "XDG_CACHE_HOME")
        ended = run(*restores.arguments("-q"), env=KEY | dict.fromkeys(names, str(own)), cwd=own)
        assert ended.status == 0
        assert list(own.iterdir()) == []

    @pytest.mark.slow
    def test_a_working_folder_that_is_gone(self, restores: Restores, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        ended = run(*restores.arguments("-q"), env=KEY, cwd=gone, before=gone.rmdir)
        assert ended.status == 0
        restores.left()


class TestClosedStreams:
    def shell(self, redirection: str, *arguments: str | Path) -> tuple[int, bytes, bytes]:
        """Status, standard output and standard error."""
        done = subprocess.run(
            ["bash", "-c", f'"$@" {redirection}', "sh", *command(*arguments)],
            capture_output=True,
            check=False,
            env=environment(KEY),
        )
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    @pytest.mark.slow
    def test_standard_input_that_nobody_reads(self, restores: Restores) -> None:
        assert self.shell("<&-", *restores.arguments("-q"))[0] == 0
        restores.left()

    def test_standard_input_that_is_the_backup(self, restores: Restores) -> None:
        status, _, err = self.shell("<&-", *restores.arguments(backup="-"))
        assert (status, err) == (4, b"qbackup: the file is empty\n")
        assert not restores.out.exists()

    def test_standard_input_that_is_the_passphrase(self, restores: Restores) -> None:
        status, _, err = self.shell("<&-", *restores.arguments("-p", "-"))
        assert (status, err) == (2, b"qbackup: the passphrase on standard input is empty\n")
        assert not restores.out.exists()

    @rows("redirection", [">/dev/full", ">&-", ">/dev/full 2>/dev/full"])
    def test_a_report_that_can_not_be_given_costs_no_file(
        self, restores: Restores, redirection: str
    ) -> None:
        for json in ([], ["--json"]):
            assert self.shell(redirection, *restores.arguments("-q", *json))[0] == 5
            assert set(restores.left()) == {p for p, w in restores.final.items() if w != "folder"}
        assert restores.check_second() == {"kept"}


#: What a restore waits for, and what is under way then.
MOMENTS = [
    ("vm1/private.img.001.enc", "personal/private.img.part"),
    ("vm2/private.img.004.enc", "vault/private.img.part"),
    ("dom0-home/user.001.enc", "dom0/user.part"),
]


class TestSignals:
    @pytest.mark.slow
    @pytest.mark.parametrize(("member", "part"), MOMENTS)
    @pytest.mark.parametrize(
        ("number", "status"),
        [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    )
    def test_leave_what_is_whole_and_nothing_else(
        self, restores: Restores, number: int, status: int, member: str, part: str
    ) -> None:
        with restores.paused(member, part) as paused:
            paused.process.send_signal(number)
            ended = paused.end()
        assert ended.status == status
        assert ended.document["ok"] is False
        assert "qubes.xml" in restores.left()
        assert "kept" in restores.check_second()

    @pytest.mark.slow
    def test_sigpipe_by_itself_is_no_reason_to_end(self, restores: Restores) -> None:
        with restores.paused(*MOMENTS[1]) as paused:
            paused.process.send_signal(signal.SIGPIPE)
            assert paused.go_on().status == 0
        restores.left()

    def test_stopped_and_continued_it_goes_on(self, restores: Restores) -> None:
        with restores.paused(*MOMENTS[1]) as paused:
            paused.process.send_signal(signal.SIGSTOP)
            paused.process.send_signal(signal.SIGCONT)
            assert paused.go_on().status == 0
        restores.left()
