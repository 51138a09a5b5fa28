"""How threads are started where the machine has nothing left for one."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from qbackup.base.errors import MachineError
from qbackup.pipeline import threads
from qbackup.pipeline.threads import start_daemon

#: Starts threads with less and less room, until one is refused; each that was started has run.
_LESS_AND_LESS = """
import resource, threading
from qbackup.base.errors import MachineError
from qbackup.pipeline.threads import start_daemon

threading.stack_size(256 * 1024)
start_daemon(lambda: None, "first")
pages = int(open("/proc/self/statm").read().split()[0])
for kib in range(20_000, 0, -100):
    most = pages * resource.getpagesize() + kib * 1024
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    ran = threading.Event()
    try:
        start_daemon(ran.set, "next")
    except MachineError as error:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(kib, error)
        break
    assert ran.wait(60)
"""


class TestStart:
    def test_it_runs_as_a_daemon_under_its_name(self) -> None:
        seen: list[threading.Thread] = []
        ran = threading.Event()

        def target() -> None:
            seen.append(threading.current_thread())
            ran.set()

        start_daemon(target, "qbackup-test")
        assert ran.wait(60)
        assert (seen[0].name, seen[0].daemon) == ("qbackup-test", True)

    @pytest.mark.skipif(sys.platform != "linux", reason="limits of address space")
    def test_one_without_room_to_begin_is_refused_and_not_waited_for(self) -> None:
        code = [sys.executable, "-c", _LESS_AND_LESS]
        done = subprocess.run(code, capture_output=True, text=True, check=True, timeout=120)
        kib, _, error = done.stdout.strip().partition(" ")
        assert int(kib) > 256, "no room even for its stack"
        assert error == "this machine can't start a thread"

    def test_one_that_dies_before_its_first_line_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Memory can run out in the lines of `Thread` that come before it says that it runs."""
        monkeypatch.setattr(threads, "_ROUNDS", 2)
        monkeypatch.setattr(threading.Thread, "_bootstrap_inner", lambda self: None)
        with pytest.raises(MachineError, match="can't start a thread"):
            start_daemon(lambda: None, "qbackup-test")

    def test_what_the_system_refuses_is_the_machine_s_fault(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(threads, "_ROOM", 1 << 60)
        with pytest.raises(MachineError, match="can't start a thread"):
            start_daemon(lambda: None, "qbackup-test")
