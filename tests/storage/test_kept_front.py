"""The front that is kept beside a backup: what belongs to it, and when such a file is ignored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qbackup import LimitExceeded, Limits, NotABackup
from qbackup.storage.kept_front import find_front, read_front
from qbackup.storage.source import open_source
from qbackup.storage.unpacked import open_backup
from tests.support import protectkit, vectorfiles
from tests.support.protectkit import PROTECTED
from tests.support.speed import rows

LIMITS = Limits()


@pytest.mark.parametrize("name", PROTECTED)
def test_the_front_is_the_backup_s_beginning_up_to_the_first_qube(name: str) -> None:
    path = vectorfiles.backup_path(name)
    front = read_front(open_source(path), LIMITS)
    assert front == protectkit.front_of(name)
    assert path.read_bytes().startswith(front)
    in_front = [name for name, _ in protectkit.members_in(front)]
    others = [name for name, _ in protectkit.members_in(path.read_bytes())][len(in_front) :]
    assert all(name.startswith(("backup-header", "qubes.xml.")) for name in in_front)
    assert others and not any(name.startswith("qubes.xml.") for name in others)


def test_a_front_is_bounded() -> None:
    source = open_source(vectorfiles.backup_path(PROTECTED[0]))
    with pytest.raises(LimitExceeded, match="front") as caught:
        read_front(source, Limits(metadata=1000))
    assert caught.value.limit == "metadata"


def test_no_front_is_kept_of_what_does_not_begin_as_a_backup(tmp_path: Path) -> None:
    data = vectorfiles.backup_path(PROTECTED[0]).read_bytes()
    path = tmp_path / "backup"
    path.write_bytes(data[len(protectkit.front_of(PROTECTED[0])) :])
    with pytest.raises(NotABackup, match="no front to keep"):
        read_front(open_source(path), LIMITS)


@rows("kind", ["nothing", "noise", "link", "pipe", "folder", "long"], quick=2)
def test_a_file_that_is_no_front_is_ignored_with_a_reason(kind: str, tmp_path: Path) -> None:
    front, front_bytes = tmp_path / "backup.front", protectkit.front_of(PROTECTED[0])
    if kind == "link":
        (tmp_path / "other").write_bytes(front_bytes)
        front.symlink_to("other")
    elif kind == "pipe":
        os.mkfifo(front)
    elif kind == "folder":
        front.mkdir()
    else:
        front.write_bytes({"nothing": b"", "noise": b"\xff" * 5000, "long": front_bytes}[kind])
    warnings: list[str] = []
    limits = Limits(metadata=1000) if kind == "long" else LIMITS
    assert find_front(tmp_path / "backup", limits, warnings.append) is None
    assert len(warnings) == 1
    assert "backup.front is not used, as it is no front of a backup" in warnings[0]


def test_only_a_path_has_a_front(tmp_path: Path) -> None:
    protectkit.planted(PROTECTED[0], tmp_path)
    with (tmp_path / "backup").open("rb") as file:
        assert find_front(file, LIMITS, pytest.fail) is None
    assert find_front("https://host/backup", LIMITS, pytest.fail) is None
    assert find_front(str(tmp_path / "backup"), LIMITS, pytest.fail) is not None


def test_a_folder_s_message_names_the_backup_and_not_its_front(tmp_path: Path) -> None:
    protectkit.planted(PROTECTED[0], tmp_path)
    with pytest.raises(NotABackup) as caught:
        open_backup(tmp_path, LIMITS)
    assert str(caught.value).endswith(f"name {tmp_path / 'backup'}")
