"""The last line of a report: success only if everything is whole, and each kind counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qbackup.base.notices import HeaderReplaced, OtherBackup
from qbackup.base.report import FileResult, Progress, Report, Status
from qbackup.cli.report import EarlyWarnings, report_text
from tests.support import alter
from tests.support.commandline import SMALL, SMALL_SECRET, backup_command, call

slow = pytest.mark.slow


def result(name: str, status: Status) -> FileResult:
    """The result for one file of 1,024 bytes."""
    error = None if status in ("ok", "kept") else "why"
    return FileResult(qube="work", name=name, status=status, error=error, size=1024)


WHOLE, KEPT = result("a", "ok"), result("b", "kept")
DAMAGED, MISSING, EXISTS = result("c", "damaged"), result("d", "missing"), result("e", "exists")
LIMIT, UNPROVEN = result("f", "limit"), replace(result("g", "damaged"), unproven=True)


@pytest.mark.parametrize(
    ("files", "errors", "last"),
    [
        ([WHOLE], [], "All 1 files are there, verified and whole (1.0 KiB)."),
        (
            [WHOLE, KEPT],
            [],
            "All 2 files are there, verified and whole (2.0 KiB; 1 already there, and read again).",
        ),
        (
            [WHOLE, DAMAGED, MISSING],
            [],
            "NOT EVERYTHING IS THERE: 2 not whole, 1 whole (1.0 KiB).",
        ),
        (
            [WHOLE, DAMAGED, EXISTS],
            [],
            "NOT EVERYTHING IS THERE: 1 not whole,"
            " 1 not written (something is in the way), 1 whole (1.0 KiB).",
        ),
        (
            [WHOLE, EXISTS],
            [],
            "NOT EVERYTHING IS THERE: 1 not written (something is in the way), 1 whole (1.0 KiB).",
        ),
        (
            [WHOLE, DAMAGED, LIMIT, UNPROVEN],
            [],
            "NOT EVERYTHING IS THERE: 1 not whole, 1 not read (a limit is in the way),"
            " 1 that nothing proves, 1 whole (1.0 KiB).",
        ),
        (
            [WHOLE, UNPROVEN],
            [],
            "ALL 1 FILES THAT ARE PROVEN ARE WHOLE (1.0 KiB); 1 others can't be verified, and"
            " nothing proves that they were ever in the backup (see above). The exit status is 1"
            " because of these.",
        ),
        (
            [WHOLE],
            [HeaderReplaced("the header was altered; its authenticated copy was used instead")],
            "ALL 1 FILES ARE WHOLE (1.0 KiB); the backup's header is not, and was replaced as said"
            " above. The exit status is 1 because of the header.",
        ),
        (
            [WHOLE],
            [HeaderReplaced("the header was altered"), OtherBackup("parts of two backups")],
            "ALL 1 FILES ARE WHOLE (1.0 KiB); the file holds another backup too (see above). The"
            " exit status is 1 because of that one.",
        ),
        (
            [WHOLE],
            [HeaderReplaced("the header was altered"), "the archive is broken"],
            "THE ARCHIVE IS NOT WHOLE (see above),"
            " but all 1 files that were found are whole (1.0 KiB).",
        ),
        (
            [WHOLE, DAMAGED],
            [HeaderReplaced("the header was altered")],
            "NOT EVERYTHING IS THERE: 1 not whole, 1 whole (1.0 KiB).",
        ),
        (
            [WHOLE],
            ["the archive is cut off"],
            "THE ARCHIVE IS NOT WHOLE (see above),"
            " but all 1 files that were found are whole (1.0 KiB).",
        ),
    ],
)
def test_the_last_line(files: list[FileResult], errors: list[str], last: str) -> None:
    report = Report(files=tuple(files), errors=tuple(errors))
    lines = report_text(report).splitlines()
    assert lines[-1] == last
    assert [line for line in lines if line.startswith("ARCHIVE")] == [
        f"ARCHIVE  {error}" for error in errors
    ]


def altered(data: bytearray) -> None:
    data[3] ^= 0x10


@pytest.mark.parametrize("damage", ["header", "its copy", pytest.param("no header", marks=slow)])
@pytest.mark.parametrize("command", ["verify", pytest.param("restore", marks=slow)])
def test_all_files_are_whole_though_the_header_is_not(
    tmp_path: Path, damage: str, command: str
) -> None:
    """The last line calls no file damaged and says why the status is 1; the JSON says the same."""
    backup = tmp_path / "backup"
    if damage == "no header":
        alter.without(SMALL, backup, alter.HEADER)
    else:
        name = alter.HEADER if damage == "header" else alter.HEADER_COPY
        alter.edited(SMALL, backup, name, altered)
    secret = {"QBACKUP_PASSPHRASE": SMALL_SECRET}
    ended = call(*backup_command(command, backup, tmp_path, "--salvage"), env=secret)
    assert ended.status == 1
    last = ended.out.splitlines()[-1]
    assert last.startswith("ALL 2 FILES ARE WHOLE (")
    assert last.endswith("The exit status is 1 because of the header.")
    words = backup_command(command, backup, tmp_path / "again", "--salvage", "--json")
    document = call(*words, env=secret).document
    assert (document["ok"], document["verdict"]) == (False, "header")
    assert {file["status"] for file in document["files"]} == {"ok"}


def test_a_limit_is_no_damage() -> None:
    report = Report(files=(WHOLE,), errors=("too many members",), archive_limit="--limit members=9")
    assert report_text(report).splitlines() == [
        "LIMIT  the archive: too many members",
        "what to do: --limit members=9",
        "THE ARCHIVE WAS NOT READ TO ITS END (see above),"
        " but all 1 files that were found are whole (1.0 KiB).",
    ]


def test_no_end_before_the_last_file_reads_like_success() -> None:
    text = report_text(Report(files=(WHOLE,)), stopped=True)
    assert text == "STOPPED BEFORE THE END: 1 whole (1.0 KiB)."


def test_what_was_done_already_is_not_advised() -> None:
    """Nothing of this file could be kept, though it was asked for."""
    for keeps_damaged in (False, True):
        report = Report(files=(WHOLE, DAMAGED), keeps_damaged=keeps_damaged)
        assert ("--keep-damaged" in " ".join(report.advice)) == (not keeps_damaged)
        assert any("another copy" in text for text in report.advice)


def test_no_advice_claims_a_restore() -> None:
    """The same report is made by `verify`, which writes nothing."""
    assert not any("restored" in text for text in Report(files=(WHOLE, MISSING)).advice)


def test_salvage_without_a_loss_asks_for_no_other_copy() -> None:
    fault = Report(files=(WHOLE,), errors=("the header was altered",), is_salvage=True)
    lost = Report(files=(WHOLE, DAMAGED), errors=("the header was altered",), is_salvage=True)
    assert not fault.advice
    assert any("another copy" in text for text in lost.advice)


class Display:
    """A display of progress that notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, progress: Progress) -> None:
        self.calls.append(progress.file)

    def clear(self) -> None:
        self.calls.append("clear")


@pytest.mark.parametrize("display", [None, Display()])
def test_warnings_come_before_the_first_file(
    display: Display | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, and those that came later stay for the end."""
    known = ["too small"]
    early = EarlyWarnings(lambda: known, display)
    assert (early.printed, capsys.readouterr().err) == ((), "")
    early(Progress(0, None, "a"))
    assert capsys.readouterr().err == "warning: too small\n"
    known.append("later")
    early(Progress(1, None, "b"))
    assert (list(early.printed), capsys.readouterr().err) == (["too small"], "")
    assert display is None or display.calls == ["clear", "a", "b"]


def test_a_sound_file_that_has_no_place_here_asks_for_no_other_backup() -> None:
    here = FileResult(qube="work", name="f", status="missing", error="why", advice="another disk")
    assert Report(files=(WHOLE, here)).advice == ("another disk",)
    assert "older backup" in Report(files=(here, MISSING)).advice[-1]
