"""The last line of a report: success only if everything is whole, and each kind counted."""

from __future__ import annotations

import pytest

from qbackup.base.report import FileResult, Report, Status
from qbackup.cli.report import report_text


def result(name: str, status: Status) -> FileResult:
    """The result for one file of 1,024 bytes."""
    error = None if status in ("ok", "kept") else "why"
    return FileResult(qube="work", name=name, status=status, error=error, size=1024)


WHOLE, KEPT = result("a", "ok"), result("b", "kept")
DAMAGED, MISSING, EXISTS = result("c", "damaged"), result("d", "missing"), result("e", "exists")


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
