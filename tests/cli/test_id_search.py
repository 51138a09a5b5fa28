"""The search for a lost id on the command line: its cost is said first, and how to go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from qbackup import IdSearchProgress, ScryptParameters
from qbackup.archive.unlock.id_window import IdWindow
from qbackup.cli.id_search import SearchDisplay, duration
from tests.support.vectorfiles import FOLDER

REAL = ScryptParameters(20, 8, 1)
WINDOW = IdWindow(seconds=60, first_pid=1, last_pid=200, time=datetime(2024, 9, 17, 10, 11, 12))


def state(tried: int, per_second: float | None) -> IdSearchProgress:
    return IdSearchProgress(
        tried=tried, total=WINDOW.size, per_second=per_second, parameters=REAL, window=WINDOW
    )


class TestDisplay:
    def test_the_number_of_ids_comes_first_and_then_the_time(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        display = SearchDisplay(quiet=False)
        display(state(1, None))
        assert "24200 ids, 60,1-200,20240917T101112" in capsys.readouterr().err
        display(state(2, None))
        assert capsys.readouterr().err == ""
        display(state(10, 0.8))
        assert "0.8 ids a second: all of them take 8 hours at most" in capsys.readouterr().err
        display(state(11, 0.8))
        assert "at most. A narrower" not in capsys.readouterr().err

    def test_stopped_it_says_how_to_go_on_even_if_quiet(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        display = SearchDisplay(quiet=True)
        display(state(30, 0.8))
        assert capsys.readouterr().err == ""
        display.stop()
        shown = capsys.readouterr().err
        assert "--backup-id-window 60,1-200,20240917T101112,from=30" in shown

    def test_stopped_before_it_began_it_says_nothing(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        SearchDisplay(quiet=False).stop()
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (59.4, "0:59"),
        (3601, "1:00:01"),
        (5 * 3600, "5 hours"),
        (100 * 3600, "4 days"),
        (3e9, "95 years"),
    ],
)
def test_times_are_said_plainly(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.slow
def test_an_interrupt_ends_it_with_what_goes_on(tmp_path: Path) -> None:
    about = json.loads((FOLDER / "gzip-folders.json").read_text())
    data = bytearray((FOLDER / "gzip-folders.qbackup").read_bytes())
    data[: 20 * 1024] = bytes(20 * 1024)
    (tmp_path / "qubes-2024-09-17T101112").write_bytes(data)
    arguments = ("list", "qubes-2024-09-17T101112", "--salvage", "--backup-id-window")
    with subprocess.Popen(
        [sys.executable, "-m", "qbackup", *arguments, "600,5000-32000"],
        cwd=tmp_path,
        env={"QBACKUP_PASSPHRASE": about["passphrase"], "PYTHONPATH": str(Path.cwd())},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert "searching for the backup's id" in first
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert ",20240917T101112,from=" in rest and "interrupted" in rest
