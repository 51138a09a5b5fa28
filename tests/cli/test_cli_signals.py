"""How the program ends when it is not its own idea: signals, closed outputs, full disks, too little
memory. No traceback, no half-written file, and the status that says so.
"""

from __future__ import annotations

import configparser
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from qbackup.cli import signals
from qbackup.cli.main import main
from tests.conftest import MakerFactory
from tests.support import alter, vectorfiles
from tests.support.commandline import (
    SAMPLE,
    SAMPLE_FILE,
    SAMPLE_SECRET,
    SMALL,
    SMALL_SECRET,
    Ended,
    Terminal,
    backup_command,
    call,
    check_always,
    command,
    environment,
    finish,
    one_document,
    run,
    start,
    wait_for,
)
from tests.support.restored import files_below
from tests.support.slowruns import BEFORE_VAULT, wait_for_derivation
from tests.support.speed import rows

KEY = ("-p", SAMPLE_FILE)
SMALL_KEY = {"QBACKUP_PASSPHRASE": SMALL_SECRET}
IMAGE = "vm1/private.img.000.enc"
REAL = vectorfiles.backup_path("zstdmt-real-scrypt")


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """The sample, but vault's image asks for a derivation of minutes, just within the limits: a run
    that ends soon has not waited for it.
    """
    return alter.with_parameters(
        SAMPLE, tmp_path / "endless", "vm2/private.img.000.enc", 14, 8, 1 << 11
    )


class TestSignals:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("number", "status", "word"),
        [
            (signal.SIGINT, 130, "interrupted"),
            (signal.SIGTERM, 143, "terminated"),
            (signal.SIGHUP, 129, "terminated"),
        ],
    )
    def test_in_the_middle_of_a_derivation(
        self, number: int, status: int, word: str, endless: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        arguments = ("restore", endless, *alter.ANY_GROWTH, "-o", out, *KEY)
        with start(*arguments) as process:
            wait_for_derivation(process, *(out / name for name in BEFORE_VAULT))
            process.send_signal(number)
            ended = finish(process, arguments)
        assert ended.status == status
        assert ended.err == f"qbackup: {word}; no half-written file was left under a final name\n"
        assert ended.out == ""
        assert files_below(out) == {"qubes.xml", "personal/private.img", "personal/firewall.xml"}

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_one_that_wakes_nobody(
        self, number: int, status: int, endless: Path, tmp_path: Path
    ) -> None:
        """As one does that comes just before the wait: given to another thread, it is the same."""
        out = tmp_path / "out"
        arguments = ("restore", endless, *alter.ANY_GROWTH, "-o", out, *KEY)
        with start(*arguments) as process:
            wait_for_derivation(process, *(out / name for name in BEFORE_VAULT))
            threads = (int(name) for name in os.listdir(f"/proc/{process.pid}/task"))
            other = next(thread for thread in threads if thread != process.pid)
            assert ctypes.CDLL(None).tgkill(process.pid, other, number) == 0
            assert finish(process, arguments).status == status

    def test_at_the_parameters_of_a_real_backup(self, tmp_path: Path) -> None:
        arguments = ("restore", REAL, "-o", tmp_path)
        with start(*arguments, env=SMALL_KEY) as process:
            wait_for_derivation(process, tmp_path / "qubes.xml")
            process.send_signal(signal.SIGINT)
            ended = finish(process, arguments)
        assert ended.status == 130
        assert files_below(tmp_path) == {"qubes.xml"}

    @pytest.mark.slow
    def test_left_alone_the_real_parameters_give_the_file(self, tmp_path: Path) -> None:
        assert run("restore", REAL, "-o", tmp_path, env=SMALL_KEY).status == 0
        assert (tmp_path / "sys-usb/notes.txt").read_bytes() == b"Nothing to see here.\n"

    @pytest.mark.slow
    def test_while_the_header_is_unlocked(self, tmp_path: Path) -> None:
        path = alter.with_parameters(SAMPLE, tmp_path / "b", alter.HEADER_COPY, 14, 8, 1 << 11)
        arguments = ("restore", path, "-o", tmp_path / "out", *KEY)
        with start(*arguments) as process:
            # more threads than one: a derivation runs
            wait_for(lambda: len(os.listdir(f"/proc/{process.pid}/task")) > 1)
            process.send_signal(signal.SIGINT)
            assert finish(process, arguments).status == 130
        assert not (tmp_path / "out").exists()

    def test_ctrl_c_on_the_terminal(self, endless: Path, tmp_path: Path) -> None:
        with Terminal(
            "restore", endless, *alter.ANY_GROWTH, "-o", tmp_path / "out", *KEY
        ) as terminal:
            terminal.expect("left  vault/private.img")
            terminal.send("\x03")
            assert terminal.finish().status == 130
        # the progress line has gone, and with it what the terminal echoes for Ctrl-C
        assert terminal.seen.endswith(
            "\r\x1b[Kqbackup: interrupted; no half-written file was left under a final name\r\n"
        )
        assert "vault/private.img" not in files_below(tmp_path / "out")

    @pytest.mark.slow
    def test_ctrl_c_again_and_again(self, endless: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        arguments = ("restore", endless, *alter.ANY_GROWTH, "-o", out, *KEY)
        with start(*arguments) as process:
            wait_for_derivation(process, *(out / name for name in BEFORE_VAULT))
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.001)
            ended = finish(process, arguments)
        assert ended.status == 130
        assert "vault/private.img" not in files_below(out)

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_while_a_pipe_gives_nothing(self, number: int, status: int) -> None:
        arguments = ("verify", "-", "-v", *KEY)
        with start(*arguments, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(SAMPLE.read_bytes()[:25_000])
            process.stdin.flush()
            assert process.stderr.readline().startswith(b"key derivation")  # it is unlocked
            process.send_signal(number)
            assert process.wait(120) == status
            assert b"Traceback" not in process.stderr.read()

    @rows("name", ["verify", "restore"])
    @rows(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
    def test_json_says_it_too(
        self, name: str, number: int, word: str, endless: Path, tmp_path: Path
    ) -> None:
        arguments = backup_command(name, endless, tmp_path, *alter.ANY_GROWTH, "--json", *KEY)
        with Terminal(*arguments, stdout=subprocess.PIPE) as terminal:
            terminal.expect("left  vault/private.img")
            terminal.process.send_signal(number)
            ended = terminal.finish()
        assert one_document(ended.stdout) == {
            "schema": 1,
            "ok": False,
            "error": word,
            "kind": word,
            "files": [],
        }

    @pytest.mark.slow
    def test_ignored_ones_stay_ignored(self, tmp_path: Path) -> None:
        """As `nohup` has it."""
        arguments = ("verify", REAL)
        script = "trap '' HUP; exec \"$@\""
        with subprocess.Popen(
            ["sh", "-c", script, "sh", *command(*arguments, "-v")],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(SMALL_KEY),
        ) as process:
            assert process.stderr is not None
            process.stderr.readline()  # unlocked: the signals are set
            process.send_signal(signal.SIGHUP)
            assert process.wait(120) == 0

    def test_a_caller_gets_its_handlers_back(self, capsys: pytest.CaptureFixture[str]) -> None:
        before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        assert main(["info", str(SAMPLE)]) == 0
        after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        assert before == after

    def test_a_lock_that_a_signal_found_half_taken(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def command(arguments: list[str], document: object) -> int:
            try:
                raise KeyboardInterrupt
            finally:
                threading.Condition().release()  # a RuntimeError, while the interrupt unwinds

        monkeypatch.setattr("qbackup.cli.main._run_command", command)
        assert main(["info", str(SAMPLE)]) == 130
        assert capsys.readouterr().err == "qbackup: interrupted\n"

    def test_a_burst_counts_once_and_a_later_one_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caught = []
        with signals.unwinding(is_program=False):
            for seconds in (60.0, 60.0, 0.0, 0.0):
                monkeypatch.setattr(signals, "_BURST_SECONDS", seconds)
                try:
                    signal.raise_signal(signal.SIGTERM)
                    caught.append(0)
                except signals.Terminated as end:
                    caught.append(end.number)
        assert caught == [signal.SIGTERM, 0, 0, 0]
        monkeypatch.setattr(signals, "_BURST_SECONDS", 0.0)
        with signals.unwinding(is_program=False):
            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)

    def test_in_process_the_statuses_are_the_same(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        line = f"sh -c 'kill -TERM {os.getpid()}; sleep 60'"
        for name, status in (("TERM", 143), ("INT", 130), ("HUP", 129)):
            arguments = ["list", "--json", str(SAMPLE), "--passphrase-command"]
            assert main([*arguments, line.replace("TERM", name)]) == status
            captured = capsys.readouterr()
            assert one_document(captured.out.encode())["ok"] is False
            assert captured.err in ("qbackup: interrupted\n", "qbackup: terminated\n")

    @pytest.mark.slow
    def test_the_passphrase_is_not_in_the_process_list(self, endless: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        arguments = ("restore", endless, *alter.ANY_GROWTH, "-o", out)
        with start(*arguments, env={"QBACKUP_PASSPHRASE": SAMPLE_SECRET}) as process:
            wait_for_derivation(process, *(out / name for name in BEFORE_VAULT))
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            process.terminate()
            finish(process, arguments)
        assert b"restore" in line
        assert SAMPLE_SECRET.encode() not in line


ENTRIES = {
    "module": "import runpy; runpy.run_module('qbackup', run_name='__main__', alter_sys=True)",
    "script": "import sys; from {} import {} as entry; sys.exit(entry())",
}


def console_script() -> str:
    """What the installed script `qbackup` does, from the package's own description."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parent.parent.parent / "setup.cfg")
    entry = setup["options.entry_points"]["console_scripts"].partition("=")[2].strip()
    return ENTRIES["script"].format(*entry.split(":"))


class TestSignalsAtTheStart:
    """They come while modules are loaded: when one of them is looked for."""

    @pytest.fixture(params=["module", "script"])
    def entry(self, request: pytest.FixtureRequest) -> str:
        return console_script() if request.param == "script" else ENTRIES["module"]

    def run(
        self, entry: str, *arguments: str | Path, module: str, number: int, times: int
    ) -> Ended:
        """Runs with signals that come when this module is looked for."""
        code = (
            "import os, sys\n"
            "class Finder:\n"
            "    def find_spec(name, *rest):\n"
            f"        for _ in range({times} * (name == {module!r})):\n"
            f"            os.kill(os.getpid(), {number})\n"
            "sys.meta_path.insert(0, Finder)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code + entry, *map(str, arguments)],
            capture_output=True,
            check=False,
            env=environment(),
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        ended = Ended(done.returncode, done.stdout, done.stderr)
        check_always(arguments, ended)
        return ended

    @rows("module", ["qbackup.cli", "qbackup.cli.options"])
    @rows(
        ("number", "status", "word"),
        [
            (signal.SIGINT, 130, "interrupted"),
            (signal.SIGTERM, 143, "terminated"),
            (signal.SIGHUP, 129, "terminated"),
        ],
    )
    def test_end_it_as_later_ones_do(
        self, entry: str, module: str, number: int, status: int, word: str
    ) -> None:
        arguments = ("verify", SAMPLE, "--json", *KEY)
        ended = self.run(entry, *arguments, module=module, number=number, times=1)
        assert (ended.status, ended.err) == (status, f"qbackup: {word}\n")
        assert ended.document["kind"] == word

    def test_twice_end_it_at_once(self, entry: str) -> None:
        module = "qbackup.cli.options"
        ended = self.run(entry, "--version", module=module, number=signal.SIGINT, times=2)
        assert ended == Ended(130, b"", b"")


class TestClosedOutput:
    def shell(self, script: str, *arguments: str | Path) -> tuple[int, str]:
        """Status and standard error of a script in which "$@" is the program."""
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {script}", "sh", *command(*arguments)],
            capture_output=True,
            check=False,
            env=environment(SMALL_KEY),
        )
        err = done.stderr.decode()
        assert "Traceback" not in err
        assert "Exception ignored" not in err
        return done.returncode, err

    def test_cat_into_a_program_that_wants_no_more(self) -> None:
        assert self.shell('"$@" | head -c 10', "cat", SMALL, "personal/private.img") == (141, "")

    @rows(
        "arguments",
        [
            ("info", SMALL),
            ("list", SMALL),
            ("list", SMALL, "--json"),
            ("verify", SMALL, "--json"),
            ("cat", SMALL, "qubes.xml"),
            ("--help",),
            ("--version",),
        ],
        ids=lambda arguments: " ".join(map(str, arguments[::2])),
    )
    def test_a_reader_that_has_gone(self, arguments: tuple[str | Path, ...]) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        ended = run(*arguments, env=SMALL_KEY, stdout=writer)
        os.close(writer)
        assert ended.status == 141
        assert ended.err == ""

    def test_standard_error_into_a_program_that_wants_no_more(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        ended = run("list", SMALL, "nonsense", env=SMALL_KEY, stderr=writer)
        os.close(writer)
        assert ended.status == 141

    @rows("arguments", [("list", SMALL), ("cat", SMALL, "personal/private.img")])
    @rows("redirection", [">/dev/full", ">&-"])
    def test_an_output_that_cannot_be_written_is_status_5(
        self, arguments: tuple[str | Path, ...], redirection: str
    ) -> None:
        status, err = self.shell(f'"$@" {redirection}', *arguments)
        assert status == 5
        assert "can't write to standard output" in err

    def test_json_on_a_full_disk_is_status_5(self) -> None:
        assert self.shell('"$@" >/dev/full', "verify", SMALL, "--json")[0] == 5

    @rows("redirection", ["2>/dev/full", "2>&-"])
    def test_standard_error_is_no_reason_to_fail(self, redirection: str) -> None:
        assert self.shell(f'"$@" {redirection}', "verify", SMALL, "-v")[0] == 0
        assert self.shell(f'"$@" {redirection}', "verify", SMALL, "nobody")[0] == 2

    def test_no_standard_streams_at_all(self, tmp_path: Path) -> None:
        """The files of a restore must not get the numbers of the streams."""
        script = (
            f'"$@" --passphrase-command "sh -c \'echo x >&2; echo {SMALL_SECRET}\'" <&- >&- 2>&-'
        )
        done = subprocess.run(
            ["bash", "-c", script, "sh", *command("restore", SMALL, "-o", tmp_path)],
            check=False,
            env=environment(),
        )
        assert done.returncode == 5
        (expected,) = vectorfiles.load("gzip-published-header")["files"]
        described = vectorfiles.describe_content(tmp_path / "personal/private.img")
        assert described["sha256"] == expected["sha256"]


_IN_A_CALLBACK = """
import signal, time, weakref
from qbackup.cli import signals

class Thing:
    pass

def collected(reference):
    signal.raise_signal({number})

with signals.unwinding(is_program=True):
    try:
        thing = Thing()
        reference = weakref.ref(thing, collected)
        del thing
        time.sleep(30)
        print("lost")
    except (KeyboardInterrupt, signals.Terminated) as end:
        print(type(end).__name__)
"""


@pytest.mark.parametrize(("number", "name"), [(2, "KeyboardInterrupt"), (15, "Terminated")])
def test_one_that_comes_where_nobody_can_be_told_is_not_lost(number: int, name: str) -> None:
    code = [sys.executable, "-c", _IN_A_CALLBACK.format(number=number)]
    done = subprocess.run(code, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{name}\n", "")


class TestThisMachineFails:
    @rows("where", ["a file", "below a file", "not allowed"])
    def test_no_output_folder(self, where: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        out = {
            "a file": tmp_path / "file",
            "below a file": tmp_path / "file/out",
            "not allowed": Path("/proc/qbackup"),
        }[where]
        ended = run("restore", SAMPLE, "-o", out, *KEY)
        assert ended.status == 5
        assert f"can't use the output folder {out}" in ended.err
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_drive_that_cannot_be_read(self) -> None:
        ended = run("info", "/proc/self/mem")
        assert ended.status == 5
        assert "can't open" in ended.err or "reading the backup failed" in ended.err

    def test_too_little_memory_for_a_derivation(self, tmp_path: Path) -> None:
        path = alter.with_parameters(SAMPLE, tmp_path / "b", "vm2/private.img.000.enc", 22, 8, 1)
        ended = run(
            *("restore", path, "-o", tmp_path / "out", *alter.ANY_GROWTH, *KEY),
            limits={resource.RLIMIT_AS: 2 << 30},
        )
        assert ended.status == 1
        (line,) = (line for line in ended.out.splitlines() if "4096 MiB are needed" in line)
        assert "vault/private.img: " in line
        assert "not enough memory to derive a key" in line
        assert "vault/private.img" not in files_below(tmp_path / "out")
        assert "personal/private.img" in files_below(tmp_path / "out"), "it costs its file only"

    def test_no_room_for_a_thread(self) -> None:
        """Threads of this process get stacks that are larger than what it may still take."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        allowed = pages * resource.getpagesize() + (128 << 20)
        before = resource.getrlimit(resource.RLIMIT_AS)
        threading.stack_size(256 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, before[1]))
        try:
            ended = call("verify", SAMPLE, "--json", *KEY)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
            threading.stack_size(0)
        assert ended.status == 5
        assert ended.document["kind"] == "MachineError"
        assert "thread" in ended.document["error"]

    def test_too_little_memory_for_the_header(self, tmp_path: Path) -> None:
        path = alter.with_parameters(SAMPLE, tmp_path / "b", alter.HEADER_COPY, 22, 8, 1)
        ended = run("list", path, "--json", *KEY, limits={resource.RLIMIT_AS: 2 << 30})
        assert ended.status == 5
        assert ended.document["kind"] == "NotEnoughMemory"

    @pytest.mark.slow
    def test_too_little_memory_for_a_chunk(self, maker: MakerFactory, tmp_path: Path) -> None:
        backup = maker(compression_filter=None)
        backup.add_qube("work", files={"private.img": os.urandom(80 << 20)})
        path = backup.write(tmp_path / "b")
        limits = {resource.RLIMIT_DATA: 80 << 20}
        ended = run("restore", path, "-o", tmp_path / "out", env=SMALL_KEY, limits=limits)
        assert ended.status == 5
        assert "memory" in ended.err
        assert files_below(tmp_path / "out") == {"qubes.xml"}


class TestFullDisk:
    @pytest.mark.slow
    def test_a_disk_that_fills_up(
        self, small_disk: Path, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker()
        backup.add_qube("first", files={"private.img": b"x" * (1 << 20)})
        backup.add_qube("second", files={"private.img": b"y" * (3 << 20)})
        backup.add_qube("third", files={"private.img": b"z" * 1000})
        path = backup.write(tmp_path / "b")
        ended = run("restore", path, "-o", small_disk / "out", env=SMALL_KEY)
        assert ended.status == 5
        assert "qbackup: can't write private.img: No space left on device\n" in ended.err
        assert ended.err.endswith("start the same command again\n")
        assert "warning: this may not fit: " in ended.err
        assert "STOPPED BEFORE THE END: 2 whole (1.0 MiB).\n" in ended.err
        assert "All " not in ended.err
        assert files_below(small_disk / "out") == {"qubes.xml", "first/private.img"}
        again = run("restore", path, "--json", "-o", small_disk / "again", env=SMALL_KEY)
        assert again.status == 5
        assert again.document["ok"] is False
        assert "No space left" in again.document["error"]
        assert again.document["kind"] == "MachineError"

    def test_a_disk_that_is_too_small_from_the_start(
        self, small_disk: Path, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker()
        backup.add_qube("work", files={"private.img": os.urandom(3 << 20)})
        path = backup.write(tmp_path / "b")
        ended = run("restore", path, "-o", small_disk / "out", env=SMALL_KEY)
        assert ended.status == 5
        assert "not enough room" in ended.err
        assert files_below(small_disk) == set()

    @pytest.mark.slow
    def test_a_disk_that_may_only_be_read(self, small_disk: Path) -> None:
        (small_disk / "out").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        for out in (small_disk / "new", small_disk / "out"):
            ended = run("restore", SAMPLE, "-o", out, *KEY)
            assert ended.status == 5
            assert "Read-only file system" in ended.err


def test_helpers_check_what_they_promise() -> None:
    """A check that can't fail would prove nothing."""
    for out, err in (
        (b"", b"Traceback (most recent call last):"),
        (b"", SAMPLE_SECRET.encode()),
        (SMALL_SECRET.encode(), b""),
        (b"\x1b[31m", b""),
        ("\u202e".encode(), b""),
    ):
        with pytest.raises(AssertionError):
            check_always(("list",), Ended(0, out, err))
    for out in (b'{"schema": 1} {"schema": 1}', b'{"schema": 1}\nmore'):
        with pytest.raises(ValueError, match="Extra data"):
            check_always(("list", "--json"), Ended(0, out, b""))
    assert sys.executable in command("list")
