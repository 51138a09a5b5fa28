"""State behind a `BackupArchive`: what is checked before a byte is read, and what is left open."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator

import pytest

from qbackup.archive.opened import OpenedBackup
from qbackup.archive.options import OpenOptions
from qbackup.base.errors import Interrupted, UsageError, WrongPassphrase
from qbackup.base.limits import Limits
from tests.support import vectorfiles
from tests.support.sources import piped

NAME = "gzip-folders"
PASSPHRASE = vectorfiles.load(NAME)["passphrase"]
PLAIN = OpenOptions(
    limits=Limits(),
    jobs=None,
    memory=None,
    executor=None,
    executor_jobs=None,
    compression_filter=None,
    hmac_algorithm=None,
    salvage=False,
)


@pytest.fixture
def opened() -> Iterator[OpenedBackup]:
    with contextlib.closing(OpenedBackup(vectorfiles.backup_path(NAME), PLAIN, None)) as state:
        yield state


def test_a_pipe_is_not_salvaged() -> None:
    options = dataclasses.replace(PLAIN, salvage=True)
    with piped(vectorfiles.backup_path(NAME)) as pipe, pytest.raises(UsageError, match="pipe"):
        OpenedBackup(pipe, options, None)


@pytest.mark.parametrize("ask", ["header", "qubes"])
def test_a_locked_backup_gives_nothing_that_is_proven(opened: OpenedBackup, ask: str) -> None:
    with pytest.raises(UsageError, match="locked"):
        getattr(opened, ask)
    with pytest.raises(UsageError, match="locked"):
        opened.unlocked()
    with pytest.raises(UsageError, match="locked"):
        opened.restore_job((), progress=None, check=True)
    assert not opened.is_unlocked


def test_a_wrong_passphrase_leaves_it_locked(opened: OpenedBackup) -> None:
    with pytest.raises(WrongPassphrase):
        opened.unlock("wrong")
    assert not opened.is_unlocked
    opened.unlock(PASSPHRASE)
    assert opened.is_unlocked
    assert opened.header.backup_id == vectorfiles.load(NAME)["backup_id"]


def test_a_file_has_a_name_of_its_qube_once_qubes_are_known(opened: OpenedBackup) -> None:
    opened.unlock(PASSPHRASE)
    path = next(file.path for file in opened.catalog.files() if file.path.endswith("private.img"))
    assert opened.name_of(path) == path
    _ = opened.qubes.table
    qube, _, name = opened.name_of(path).partition("/")
    assert name == "private.img"
    assert qube in {entry["name"] for entry in vectorfiles.load(NAME)["qubes"]}


def test_what_fails_to_open_closes_its_source() -> None:
    source = io.BytesIO(vectorfiles.backup_path(NAME).read_bytes())
    with pytest.raises(WrongPassphrase):
        OpenedBackup(source, PLAIN, "wrong")
    assert not source.closed  # a file object stays its owner's


def test_a_closed_one_does_no_more_work(opened: OpenedBackup) -> None:
    opened.close()
    with pytest.raises(Interrupted):
        opened.unlock(PASSPHRASE)
