"""`list` shows what nothing proves; its work and length don't grow out of proportion with planted
files.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup.archive.listing import FileListing
from tests.support import planted
from tests.support.commandline import call
from tests.support.vectorfiles import backup_path
from tests.support.work import at_most

MANY = 150
SECRET = {"QBACKUP_PASSPHRASE": planted.PASSPHRASE}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    good = backup_path(planted.GOOD).read_bytes()
    path = tmp_path_factory.mktemp("planted") / "backup"
    return planted.plant(good, path, "files of a qube", MANY, behind=b"qubes.xml.000.enc")


def listing(path: Path, *, pipe: bool = False) -> FileListing:
    source: Any = io.BytesIO(path.read_bytes()) if pipe else path
    if pipe:
        source.seekable = lambda: False
    with qbackup.open(source, passphrase=planted.PASSPHRASE) as backup:
        (qube,) = backup.qubes
        backup.read_to_end()
        return qube.listing()


@pytest.mark.parametrize("pipe", [False, True])
def test_files_are_sorted_by_what_names_them(crowded: Path, pipe: bool) -> None:
    found = listing(crowded, pipe=pipe)
    assert [file.name for file in found.named] == ["fedora/private.img"]
    names = [file.name for file in found.others]
    assert names[:2] == ["fedora/x0000000", "fedora/x0000001"]
    assert "fedora/apps.templates" in names, "Qubes writes it, so it is listed behind any number"
    assert len(found.others) + found.more == MANY + 2
    assert found.more == MANY + 1 - 100 and found.more_size > 0
    assert found.missing == ()


def test_people_are_told_which_files_are_not_in_qubes_xml(crowded: Path) -> None:
    ended = call("list", crowded, env=SECRET)
    row = ended.out.splitlines()[1]
    assert "private.img; not in qubes.xml: x0000000, x0000001, " in row
    assert row.endswith(f", {MANY + 2 - 20} more")
    assert (ended.status, ended.stderr) == (0, b"")


def test_programs_get_a_field_for_it(crowded: Path) -> None:
    (qube,) = call("list", crowded, "--json", env=SECRET).document["qubes"]
    named = {file["name"]: file["in_qubes_xml"] for file in qube["files"]}
    assert named["private.img"] is True
    assert named["x0000000"] is named["apps.templates"] is False
    assert qube["more_files"]["count"] == MANY + 1 - 100


def test_a_good_backup_has_nothing_that_is_only_counted() -> None:
    (qube,) = call("list", backup_path(planted.GOOD), "--json", env=SECRET).document["qubes"]
    assert "more_files" not in qube
    assert [file["name"] for file in qube["files"] if file["in_qubes_xml"]] == ["private.img"]


def test_each_owner_is_looked_for_once_however_many_qubes_there_are(
    tmp_path: Path,
) -> None:
    """A list of qubes asked for each qube's files looked at all files each time."""
    good = backup_path(planted.GOOD).read_bytes()
    path = planted.plant(good, tmp_path / "backup", "qubes", MANY, behind=b"qubes.xml.000.enc")
    with qbackup.open(path, passphrase=planted.PASSPHRASE) as backup:
        (qube,) = backup.qubes
        backup.read_to_end()
        qube.listing()
        with at_most(40 * 300):
            for _ in range(40):
                qube.listing()
