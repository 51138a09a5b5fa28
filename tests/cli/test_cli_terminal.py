"""What a person sees on a terminal: progress, and files that `cat` shows there."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
from pathlib import Path

import pytest

from qbackup.base.report import Progress
from qbackup.cli.output import fit
from qbackup.cli.progress import ProgressLine, describe, human_size, human_time
from tests.conftest import MakerFactory
from tests.support import alter
from tests.support.commandline import SAMPLE, SAMPLE_FILE, SMALL_SECRET, Terminal, run
from tests.support.speed import rows

KEY = ("-p", SAMPLE_FILE)
SMALL_KEY = {"QBACKUP_PASSPHRASE": SMALL_SECRET}
LINE = re.compile(
    r"\r\x1b\[K *(?P<percent>\d+) %  (?P<done>[\d.]+ [KMGT]?i?B) of (?P<total>[\d.]+ [KMGT]?i?B)"
    r"  [\d.]+ [KMGT]?i?B/s  (\d+:\d\d|-:--) left  (?P<file>[^\r\n]+)"
)


class TestProgress:
    @rows("name", ["verify", "restore"])
    def test_bytes_percent_rate_time_left_and_file(self, name: str, tmp_path: Path) -> None:
        more = ["-o", str(tmp_path)] if name == "restore" else []
        with Terminal(name, SAMPLE, *more, *KEY) as terminal:
            assert terminal.finish().status == 0
        first = LINE.search(terminal.seen)
        assert first
        assert (first["percent"], first["done"], first["total"]) == ("0", "0 B", "3.6 KiB")
        assert first["file"] == "personal/private.img"

    def test_it_is_gone_before_the_report(self) -> None:
        with Terminal("verify", SAMPLE, *KEY) as terminal:
            terminal.finish()
        assert LINE.search(terminal.seen)
        assert terminal.seen.endswith(
            "\r\x1b[KAll 5 files are there, verified and whole (16.0 MiB).\r\n"
        )

    def test_it_goes_to_standard_error(self) -> None:
        with Terminal("verify", SAMPLE, "--json", *KEY, stdout=subprocess.PIPE) as terminal:
            ended = terminal.finish()
        assert ended.document["ok"] is True
        assert LINE.search(terminal.seen)

    def test_quiet_has_none(self) -> None:
        with Terminal("verify", SAMPLE, *KEY, "-q") as terminal:
            assert terminal.finish().status == 0
        assert terminal.seen == "All 5 files are there, verified and whole (16.0 MiB).\r\n"

    def test_a_short_run_that_is_no_terminals_has_none(self) -> None:
        assert run("verify", SAMPLE, *KEY).err == ""

    def test_from_a_pipe_without_a_total(self) -> None:
        with (
            SAMPLE.open("rb") as file,
            subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as pipe,
            Terminal("verify", "-", *KEY, stdin=pipe.stdout) as terminal,
        ):
            assert terminal.finish().status == 0
        assert "\r\x1b[K0 B  0 B/s  personal/private.img\r" in terminal.seen

    @rows("columns", [1, 20, 40])
    def test_it_never_takes_more_than_one_line(self, columns: int) -> None:
        with Terminal("verify", SAMPLE, *KEY, columns=columns) as terminal:
            assert terminal.finish().status == 0
        lines = re.findall(r"\r\x1b\[K([^\r\n]*)", terminal.seen)
        assert lines
        assert max(map(len, lines[:-1])) == columns - 1

    def test_names_are_made_visible(self, maker: MakerFactory, tmp_path: Path) -> None:
        backup = maker()
        backup.add_qube("w\x9b31m\u202e", files={"private.img": b"x"})
        path = backup.write(tmp_path / "b")
        with Terminal("verify", path, env=SMALL_KEY, columns=200) as terminal:
            terminal.finish()
        assert r"left  w\u009b31m\u202e/private.img" in terminal.seen
        assert "\x9b" not in terminal.seen
        assert "\u202e" not in terminal.seen

    def test_names_that_the_terminal_has_no_characters_for(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker()
        backup.add_qube("żółw", files={"private.img": b"x"})
        path = backup.write(tmp_path / "b")
        env = {**SMALL_KEY, "PYTHONIOENCODING": "ascii"}
        with Terminal("verify", path, env=env, columns=200) as terminal:
            assert terminal.finish().status == 0
        assert r"left  \u017c\xf3\u0142w/private.img" in terminal.seen


class FullDisk(io.StringIO):
    """What standard error is when it goes to a file on a full disk."""

    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestProgressText:
    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (2 << 40, "2.0 TiB"),
            (5000 << 40, "5000.0 TiB"),
        ],
    )
    def test_sizes(self, size: int, text: str) -> None:
        assert human_size(size) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3723, "1:02:03")]
    )
    def test_times(self, seconds: float, text: str) -> None:
        assert human_time(seconds) == text

    def test_a_line(self) -> None:
        progress = Progress(done=50 << 20, total=200 << 20, file="work/private.img")
        assert describe(progress, 10.0) == (
            " 25 %  50.0 MiB of 200.0 MiB  5.0 MiB/s  0:30 left  work/private.img"
        )

    def test_a_line_at_the_start(self) -> None:
        progress = Progress(done=0, total=200, file="a/b")
        assert describe(progress, 0.0) == "  0 %  0 B of 200 B  0 B/s  -:-- left  a/b"

    def test_a_line_without_a_total(self) -> None:
        assert (
            describe(Progress(done=2048, total=None, file="a/b"), 2.0) == "2.0 KiB  1.0 KiB/s  a/b"
        )

    @pytest.mark.parametrize(
        ("text", "columns", "shown"),
        [
            ("abc", 4, "abc"),
            ("abc", 3, "ab"),
            ("日本", 5, "日本"),
            ("日本", 4, "日"),
            ("日", 1, ""),
        ],
    )
    def test_what_fits(self, text: str, columns: int, shown: str) -> None:
        assert fit(text, columns) == shown

    def test_a_log_gets_a_line_now_and_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("qbackup.cli.progress._LOG_SECONDS", 0.0)
        stream = io.StringIO()
        line = ProgressLine(stream)
        line(Progress(done=0, total=10, file="a/b"))
        line(Progress(done=10, total=10, file="c/d"))
        line.clear()
        lines = stream.getvalue().splitlines()
        assert [text.split()[-1] for text in lines] == ["a/b", "c/d"]
        assert "\x1b" not in stream.getvalue()

    def test_a_log_that_is_full_is_no_reason_to_give_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("qbackup.cli.progress._LOG_SECONDS", 0.0)
        stream = FullDisk()
        line = ProgressLine(stream)
        line(Progress(done=0, total=10, file="a/b"))
        line(Progress(done=10, total=10, file="a/b"))
        assert stream.tries == 2


class TestCat:
    @pytest.fixture
    def path(self, maker: MakerFactory, tmp_path: Path) -> Path:
        backup = maker()
        files = {
            "notes.txt": "one\ttab\nż \x1b[31mred\u202e\x9b\n\nlast, no end".encode() + b"\xff",
            "crlf.txt": b"a\r\nb\rc\r\n",
            "long.txt": b"x" * ((1 << 20) - 1) + b"\n",
            "private.img": b"text, then\0a byte that is none",
        }
        backup.add_qube("work", files=files)
        return backup.write(tmp_path / "b")

    def test_text_is_made_visible(self, path: Path) -> None:
        with Terminal("cat", path, "work/notes.txt", "-q", env=SMALL_KEY) as terminal:
            assert terminal.finish().status == 0
        assert terminal.seen == (
            "one\ttab\r\nż \\x1b[31mred\\u202e\\u009b\r\n\r\nlast, no end\\xff"
        )

    def test_line_ends(self, path: Path) -> None:
        with Terminal("cat", path, "work/crlf.txt", "-q", env=SMALL_KEY) as terminal:
            assert terminal.finish().status == 0
        assert terminal.seen.replace("\r\n", "\n") in ("a\nb\nc\n", "a\nbc\n", "a\nb\\x0dc\n")

    @rows("name", ["private.img", "long.txt"])
    def test_what_is_no_text_for_a_terminal_is_refused(self, path: Path, name: str) -> None:
        with Terminal("cat", path, f"work/{name}", "-q", env=SMALL_KEY) as terminal:
            assert terminal.finish().status == 2
        assert terminal.seen.startswith(
            "qbackup: the file is not text, so a terminal can't show it: send it to a file"
        )

    @pytest.mark.slow
    def test_both_go_to_a_pipe_as_they_are(self, path: Path) -> None:
        assert run("cat", path, "work/crlf.txt", env=SMALL_KEY).stdout == b"a\r\nb\rc\r\n"
        assert run("cat", path, "work/long.txt", env=SMALL_KEY).stdout.count(b"x") == (1 << 20) - 1

    def test_qubes_xml(self, path: Path) -> None:
        with Terminal("cat", path, "qubes.xml", "-q", env=SMALL_KEY) as terminal:
            assert terminal.finish().status == 0
        assert terminal.seen.startswith("<qubes>\r\n")

    def test_a_file_altered_at_its_end_shows_nothing(self, path: Path, tmp_path: Path) -> None:
        damaged = alter.flipped(path, tmp_path / "d", "vm1/notes.txt.000.enc")
        with Terminal("cat", damaged, "work/notes.txt", "-q", env=SMALL_KEY) as terminal:
            assert terminal.finish().status == 1
        assert "tab" not in terminal.seen
