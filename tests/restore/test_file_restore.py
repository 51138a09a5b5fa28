"""Restore of one file: the beginning of its archive decides what it becomes, not its name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import pytest

import qbackup
from qbackup import BackupArchive
from qbackup.base.limits import Limits
from qbackup.restore.file_restore import FileRestore, Task
from qbackup.restore.nowhere import NowhereWriter
from qbackup.restore.plan import Plan, Target
from qbackup.restore.sinks import AlreadyExists, ExistingFile, FileSink
from tests.support import vectorfiles
from tests.support.inside import inside

HOME = "pigz-home"


class Quick(NowhereWriter):
    """Gives up at the first loss, as a restore into a folder does."""

    goes_past_damage = False


class Full(Quick):
    """Has a file of every name already."""

    def __init__(self, found: ExistingFile) -> None:
        self._found = found

    def image(self, qube: str, name: str) -> contextlib.AbstractContextManager[FileSink]:
        raise AlreadyExists

    def found(self, qube: str, name: str) -> ExistingFile:
        return self._found


@pytest.fixture(params=["gzip-folders", HOME, "v3-home", "v2-icon-link"])
def backup(request: pytest.FixtureRequest) -> Iterator[BackupArchive]:
    passphrase = vectorfiles.load(request.param)["passphrase"]
    with qbackup.open(vectorfiles.backup_path(request.param), passphrase=passphrase) as archive:
        yield archive


def tasks(backup: BackupArchive) -> Iterator[tuple[Plan, Task]]:
    state = inside(backup)
    paths = [file.path for file in state.catalog.seen_files()]
    plan = Plan(state.qubes.table, (), paths, state.files.holds_folder)
    for number, reader in enumerate(state.files.coming()):
        target = plan.target(reader.path)
        if target is not None:
            yield plan, Task(number, reader, target)


def run(backup: BackupArchive, plan: Plan, task: Task, writer: NowhereWriter) -> list[str]:
    state = inside(backup)
    events = state.pipeline.run(state.unlocked().format, task.file.stored.chunks)
    with contextlib.closing(cast(Any, events)):
        restore = FileRestore(plan, writer, Limits())
        sizes: list[int] = []
        results = restore.run(task, events, sizes.append)
    assert {result.qube for result in results} == {task.target.qube}
    if results[0].status == "ok":
        assert sum(sizes) == task.file.stored.stored_size
    return [result.status for result in results]


@pytest.mark.parametrize("make", [NowhereWriter, Quick])
def test_each_file_of_a_whole_backup_is_whole(
    backup: BackupArchive, make: type[NowhereWriter]
) -> None:
    found = [run(backup, plan, task, make()) for plan, task in tasks(backup)]
    assert found
    assert {status for statuses in found for status in statuses} == {"ok"}


@pytest.mark.parametrize(
    ("there", "status"),
    [
        (ExistingFile(), "exists"),
        (ExistingFile(is_known=True), "exists"),
        (ExistingFile(is_known=True, is_whole=True), "kept"),
    ],
)
def test_what_is_in_the_way_stays_or_is_the_same(there: ExistingFile, status: str) -> None:
    passphrase = vectorfiles.load("gzip-folders")["passphrase"]
    with qbackup.open(vectorfiles.backup_path("gzip-folders"), passphrase=passphrase) as backup:
        plan, task = next(
            (plan, task) for plan, task in tasks(backup) if task.target.name == "private.img"
        )
        assert run(backup, plan, task, Full(there)) == [status]


def test_an_unsafe_name_is_refused_before_anything_is_read(backup: BackupArchive) -> None:
    plan, task = next(tasks(backup))
    target = Target("work", "..", "it leads out of the folder")
    restore = FileRestore(plan, NowhereWriter(), Limits())
    (result,) = restore.run(Task(0, task.file, target), iter(()), lambda size: None)
    assert result.status == "damaged"
    assert result.error == "refused: it leads out of the folder"
