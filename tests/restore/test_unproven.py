"""Planted files are counted; each file that something proves or names has a result of its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup.base.report import FileResult, Report
from qbackup.cli.documents import report_document
from qbackup.cli.report import report_text
from qbackup.restore.unproven import UnprovenResults
from tests.support import planted
from tests.support.vectorfiles import backup_path

NAMED, MANY = 5, 40
BEHIND = b"qubes.xml.000.enc"
GOOD_FILES = ["private.img", "apps.templates", "my.extension"]


@pytest.fixture(autouse=True)
def few_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qbackup.restore.unproven._NAMED", NAMED)


def verified(path: Path, *, pipe: bool = False, **options: Any) -> Report:
    source: Any = path
    if pipe:
        source = io.BytesIO(path.read_bytes())
        source.seekable = lambda: False
    with qbackup.open(source, passphrase=planted.PASSPHRASE, **options) as backup:
        return backup.verify(check=False)


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    good = backup_path(planted.GOOD).read_bytes()
    return planted.plant(good, tmp_path / "backup", "files of a qube", MANY, behind=BEHIND)


@pytest.mark.parametrize("way", ["file", "pipe", "salvage"])
class TestManyPlantedFiles:
    def test_are_counted_with_the_first_of_them(self, crowded: Path, way: str) -> None:
        report = verified(crowded, pipe=way == "pipe", salvage=way == "salvage")
        assert not report.ok
        assert [result.name for result in report.bad] == [f"x{n:07}" for n in range(NAMED)]
        assert all(result.unproven for result in report.bad)
        (more,) = report.unproven
        assert (more.status, more.count, more.first.name) == ("damaged", MANY - NAMED, "x0000005")
        assert report.bad_count == MANY
        good = [result.name for result in report.files if result.ok and result.qube]
        assert good == GOOD_FILES
        assert report.summary() == f"{MANY} of {MANY + 4} files are not whole"

    def test_are_reported_in_few_words(self, crowded: Path, way: str) -> None:
        report = verified(crowded, pipe=way == "pipe", salvage=way == "salvage")
        text = report_text(report)
        assert f"UNPROVEN  {MANY} files with the status damaged" in text
        assert "the first of them fedora/x0000000" in text
        last = text.splitlines()[-1]
        assert last.startswith("ALL 4 FILES THAT ARE PROVEN ARE WHOLE (")
        assert f"; {MANY} others can't be verified, and nothing proves" in last
        document = report_document(report)
        (more,) = document["unproven"]
        assert (more["status"], more["count"], more["first"]["name"]) == (
            "damaged", MANY - NAMED, "x0000005",
        )  # fmt: skip
        assert len(document["files"]) == 4 + NAMED and document["ok"] is False


def test_restore_gives_all_that_is_good(crowded: Path, tmp_path: Path) -> None:
    with qbackup.open(crowded, passphrase=planted.PASSPHRASE) as backup:
        report = backup.restore(tmp_path / "out", check=False)
    assert report.bad_count == MANY
    assert sorted(path.name for path in (tmp_path / "out" / "fedora").iterdir()) == sorted(
        GOOD_FILES
    )


def test_a_file_of_which_a_chunk_was_believed_is_named(tmp_path: Path) -> None:
    """The extension's own file has a planted second chunk: it is whole, and a warning names it."""
    good = backup_path(planted.GOOD).read_bytes()
    path = planted.plant(good, tmp_path / "backup", "files of a qube", MANY, behind=BEHIND)
    block = next(planted.members("one planted name", [0]))
    name = b"vm7/my.extension.001.enc"
    end = planted.with_name(block, name)
    path.write_bytes(path.read_bytes() + end + bytes(9728))
    report = verified(path)
    assert report.verdict == "unproven" and "my.extension" in [
        result.name for result in report.files if result.ok
    ]
    (text,) = [text for text in report.warnings if "beyond the verified end" in text]
    assert "my.extension" in text


def test_a_file_that_is_asked_for_or_usual_is_named(tmp_path: Path) -> None:
    good = backup_path(planted.GOOD).read_bytes()
    path = planted.plant(good, tmp_path / "backup", "files of a qube", MANY, behind=BEHIND)
    block = next(planted.members("one planted name", [0]))
    end = planted.with_name(block, b"vm7/firewall.xml.000.enc")
    path.write_bytes(path.read_bytes() + end + bytes(9728))
    assert [r.name for r in verified(path).bad if not r.unproven] == ["firewall.xml"]
    with qbackup.open(path, passphrase=planted.PASSPHRASE) as backup:
        (asked,) = backup.verify(["fedora/x0000030"], check=False).bad
    assert asked.name == "x0000030" and not asked.unproven


def test_a_crowd_of_chunks_is_one_file_with_the_first_of_them(tmp_path: Path) -> None:
    good = backup_path(planted.GOOD).read_bytes()
    path = planted.plant(good, tmp_path / "backup", "chunks of one file", MANY, behind=BEHIND)
    (lost,) = verified(path).bad
    assert lost.unproven and lost.chunks == MANY
    assert len(lost.lost_chunks) == 11 and lost.lost_chunks[-1] == f"{MANY - 10} more or so"


KINDS = ("files of no qube", "no part of a backup", "links", "one name", "headers")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pipe", [False, True])
def test_members_that_change_nothing_are_counted_by_kind(
    kind: str, pipe: bool, tmp_path: Path
) -> None:
    good = backup_path(planted.GOOD).read_bytes()
    behind = b"vm7/private.img.000.enc" if kind == "one name" else BEHIND
    report = verified(planted.plant(good, tmp_path / "x", kind, MANY, behind=behind), pipe=pipe)
    assert report.ok
    assert len(report.warnings) == 11
    assert report.warnings[-1].startswith(f"{MANY - 10} more members: ")


def test_each_status_is_counted_by_itself() -> None:
    unproven = UnprovenResults()
    for number in range(20):
        for status in ("damaged", "limit"):
            result = FileResult(qube="q", name=f"{number}", status=status)
            assert len(unproven.named((result,))) == (number < NAMED)
    assert [(more.status, more.count, more.first.name) for more in unproven.counted] == [
        ("damaged", 15, "5"),
        ("limit", 15, "5"),
    ]
