"""What a person sees on a terminal where rich is installed."""

from __future__ import annotations

import errno
import io
import re
import subprocess

import pytest

pytest.importorskip("rich")

from qbackup.base.report import Progress
from qbackup.cli import output, pretty
from tests.support.commandline import SAMPLE, SAMPLE_FILE, Terminal

KEY = ("-p", SAMPLE_FILE)
COLOURS = {"TERM": "xterm-256color"}
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen(io.StringIO):
    """A terminal that keeps what it gets."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def plain(text: str) -> str:
    """Without a terminal's codes."""
    return _CODES.sub("", text)


def table(screen: Screen, *qubes: tuple[str, ...]) -> str:
    return pretty.qubes_table(
        screen, [("QUBE", "CLASS", "LABEL", "TEMPLATE", "SIZE", "FILES"), *qubes]
    )


def shown(screen: Screen, progress: Progress, seconds: float = 10.0) -> str:
    """What the live progress draws at one moment."""
    times = iter([0.0])
    live = pretty.LiveProgress(screen, lambda: next(times, seconds))
    live._progress = progress
    return pretty.rendered(screen, live.render())


class Gone(Screen):
    """A terminal whose connection broke."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.EIO, "Input/output error")


class TestWhatIsNotObeyed:
    def test_the_report_has_no_codes_but_its_own(self, screen: Screen) -> None:
        """The system's and other libraries' messages have passed nobody who looks for them."""
        text = pretty.report(screen, "DAMAGED  a: \x1b]0;title\x07 \x9b2J \u202e\nAll")
        assert plain(text) == "DAMAGED  a: \\x1b]0;title\\x07 \\u009b2J \\u202e\nAll"


class TestATerminalThatWentAway:
    def test_costs_the_progress_only(self, screen: Screen) -> None:
        live = pretty.LiveProgress(Gone())
        live(Progress(1, 2, "work/private.img"))
        live(Progress(2, 2, "work/private.img"))
        live.clear()


class TestList:
    def test_labels_have_their_colour_and_their_name(self, screen: Screen) -> None:
        text = table(
            screen,
            ("work", "AppVM", "blue", "-", "1.0 GiB", "private.img"),
            ("odd", "AppVM", "pink", "-", "?", "private.img"),
        )
        assert "\x1b[34m● \x1b[0mblue" in text
        assert "  pink" in plain(text)
        assert "● pink" not in plain(text)

    def test_nothing_in_a_name_is_obeyed(self, screen: Screen) -> None:
        text = table(screen, ("[red]a[/red]", ":smile:", "red", "[b]", "1 B", "[link=x]y[/link]"))
        line = plain(text).splitlines()[1]
        for name in ("[red]a[/red]", ":smile:", "[b]", "[link=x]y[/link]"):
            assert name in line

    def test_what_is_missing_stands_out(self, screen: Screen) -> None:
        text = table(screen, ("work", "AppVM", "red", "-", "1 B", "private.img IS MISSING"))
        assert "\x1b[1;31mIS MISSING\x1b[0m" in text

    def test_on_a_narrow_terminal_nothing_is_left_out(
        self, screen: Screen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        names = ", ".join(f"file-{i}.img" for i in range(9))
        text = plain(table(screen, ("work", "AppVM", "red", "fedora-40", "1.0 GiB", names)))
        assert max(map(len, text.splitlines())) <= 40
        squeezed = re.sub(r"\s+", "", text)
        for word in ("work", "AppVM", "1.0GiB"):
            assert word in squeezed
        assert squeezed.count(".img") == 9

    def test_a_terminal_without_the_dot(self, screen: Screen) -> None:
        screen.encoding = "ascii"
        text = table(screen, ("w\u00f6rk", "AppVM", "red", "-", "1 B", "private.img"))
        assert text.isascii()
        assert "\\xf6" in text
        assert "* \x1b[0mred" in text


class TestReport:
    @pytest.mark.parametrize(
        ("line", "code"),
        [
            ("DAMAGED  work/private.img: its checksum is wrong", "\x1b[1;31mDAMAGED\x1b[0m  work"),
            ("MISSING  qubes.xml: gone", "\x1b[1;31mMISSING\x1b[0m"),
            ("NOT EVERYTHING IS THERE: 1 not whole", "\x1b[1;31mNOT EVERYTHING IS THERE: 1 not"),
            ("All 5 files are there", "\x1b[1;32mAll 5 files are there\x1b[0m"),
            ("what to do: try it", "\x1b[36mwhat to do: try it\x1b[0m"),
            ("    bytes: 0-4096 good", "    bytes: 0-4096 good"),
        ],
    )
    def test_what_matters_has_a_colour(self, screen: Screen, line: str, code: str) -> None:
        assert code in pretty.report(screen, line)

    def test_words_are_the_same(self, screen: Screen) -> None:
        text = "DAMAGED  a/b: c [bold]d[/bold]\n    bytes: 1-2 lost\nAll 0 files are there"
        assert plain(pretty.report(screen, text)) == text

    def test_no_color(self, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        text = pretty.report(screen, "DAMAGED  a/b: c")
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", text)


class TestProgress:
    def test_it_shows_total_share_rate_time_left_files_and_keys(self, screen: Screen) -> None:
        mib = 1 << 20
        progress = Progress(50 * mib, 200 * mib, "b/x", ("a/private.img", "b/x"), 2, 7)
        lines = plain(shown(screen, progress)).splitlines()
        assert lines[0].endswith(" 25 %")
        assert lines[1] == "50.0 MiB of 200.0 MiB  5.0 MiB/s  0:30 left"
        assert lines[2] == "deriving 2 keys, 7 more asked for"
        assert lines[3:] == ["  a/private.img", "  b/x"]

    def test_from_a_pipe_there_is_no_total(self, screen: Screen) -> None:
        lines = plain(shown(screen, Progress(2048, None, "a/b", ("a/b",), 1))).splitlines()
        assert lines[0] == "2.0 KiB  205 B/s"
        assert lines[1] == "deriving 1 key, 0 more asked for"

    def test_many_files_are_counted(self, screen: Screen) -> None:
        files = tuple(f"qube/{i}" for i in range(16))
        assert plain(shown(screen, Progress(1, 2, "x", files))).endswith("  and 12 more")

    @pytest.mark.parametrize("columns", [10, 20, 40])
    def test_no_line_takes_two(
        self, screen: Screen, monkeypatch: pytest.MonkeyPatch, columns: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        progress = Progress(1, 2, "x", ("q" * 200, "\u5b57" * 50), 2, 3)
        lines = plain(shown(screen, progress)).splitlines()
        assert len(lines) == 5
        assert max(map(len, lines)) <= columns

    def test_what_the_terminal_can_not_show_is_escaped(self, screen: Screen) -> None:
        screen.encoding = "ascii"
        assert shown(screen, Progress(1, 2, "x", ("w\u00f6rk/\u25cf",))).isascii()


class TestRuns:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["verify", "restore"])
    def test_progress_is_gone_before_the_report(self, name: str, tmp_path: object) -> None:
        more = ["-o", str(tmp_path)] if name == "restore" else []
        with Terminal(name, SAMPLE, *more, *KEY, env=COLOURS) as terminal:
            assert terminal.finish().status == 0
        assert "personal/private.img" in terminal.seen
        last = terminal.seen.rstrip().rpartition("\x1b[2K")[2]  # behind the last line taken away
        assert plain(last).endswith("All 5 files are there, verified and whole (16.0 MiB).")
        assert "\x1b[?25h" in terminal.seen, "the cursor is there again"

    @pytest.mark.slow
    def test_a_report_that_goes_elsewhere_is_plain(self) -> None:
        with Terminal("verify", SAMPLE, *KEY, env=COLOURS, stdout=subprocess.PIPE) as terminal:
            ended = terminal.finish()
        assert ended.out == "All 5 files are there, verified and whole (16.0 MiB).\n"

    @pytest.mark.slow
    def test_quiet_has_no_progress(self) -> None:
        with Terminal("verify", SAMPLE, *KEY, "-q", env=COLOURS) as terminal:
            assert terminal.finish().status == 0
        assert "private.img" not in terminal.seen

    @pytest.mark.slow
    def test_the_list(self) -> None:
        with Terminal("list", SAMPLE, *KEY, env=COLOURS) as terminal:
            assert terminal.finish().status == 0
        assert "\x1b[33m● \x1b[0myellow" in terminal.seen

    @pytest.mark.slow
    def test_ctrl_c_gives_the_terminal_back(self, tmp_path: object) -> None:
        with Terminal("verify", SAMPLE, *KEY, env=COLOURS) as terminal:
            terminal.expect("private.img")
            terminal.send("\x03")
            ended = terminal.finish()
        assert ended.status in (0, 130)
        assert terminal.seen.count("\x1b[?25l") == terminal.seen.count("\x1b[?25h")

    @pytest.mark.slow
    @pytest.mark.parametrize("term", ["dumb", "unknown", ""])
    def test_a_terminal_that_can_not(self, term: str) -> None:
        with Terminal("list", SAMPLE, *KEY, env={"TERM": term}) as terminal:
            assert terminal.finish().status == 0
        assert "\x1b[33m" not in terminal.seen


def test_without_rich_it_is_plain(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert output.is_pretty(screen)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not output.is_pretty(screen)
