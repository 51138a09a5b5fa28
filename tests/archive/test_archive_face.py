"""What the library says of a backup as a whole: the names that the command line stands on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup import UsageError
from tests.support import vectorfiles
from tests.support.commandline import SAMPLE, SAMPLE_FILE
from tests.support.sources import piped

PASSPHRASE = SAMPLE_FILE.read_text("utf-8").rstrip("\n")


@contextlib.contextmanager
def opened(path: Path, *, is_pipe: bool) -> Iterator[qbackup.BackupArchive]:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(piped(path)) if is_pipe else path
        yield stack.enter_context(qbackup.open(source))


def test_an_estimate_needs_no_passphrase() -> None:
    with qbackup.open(SAMPLE) as backup:
        cost = backup.estimate()
    assert isinstance(cost, qbackup.Cost)
    assert cost.members == cost.chunks + 2  # the header and its copy
    assert 0 < cost.stored_size <= SAMPLE.stat().st_size
    assert sum(cost.parameters.values()) == cost.chunks
    assert cost.unreadable == 0


def test_backends_are_named_and_nothing_more() -> None:
    with qbackup.open(SAMPLE, jobs=3) as backup:
        backends = backup.backends
    assert isinstance(backends, qbackup.Backends)
    assert backends.jobs == 3
    assert backends.key_derivation
    assert all(isinstance(name, str) for name in backends.key_derivation)


def test_only_older_formats_have_caveats() -> None:
    with qbackup.open(SAMPLE) as backup:
        assert backup.caveats == ()
    old = next(name for name in vectorfiles.names() if name.startswith("v3-"))
    with qbackup.open(vectorfiles.backup_path(old)) as backup:
        assert backup.caveats
        assert all(isinstance(caveat, str) for caveat in backup.caveats)


def test_a_whole_archive_has_no_errors() -> None:
    with qbackup.open(SAMPLE) as backup:
        backup.read_to_end()
        assert backup.errors == ()


@pytest.mark.parametrize("is_pipe", [False, True])
def test_where_it_breaks_off_is_an_error(tmp_path: Path, is_pipe: bool) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(SAMPLE.read_bytes()[: SAMPLE.stat().st_size // 2])
    with opened(cut, is_pipe=is_pipe) as backup:
        backup.unlock(PASSPHRASE)
        backup.read_to_end()
        assert len(backup.errors) == 1
        assert "cut off" in backup.errors[0] or "ends" in backup.errors[0]


@pytest.mark.parametrize("is_pipe", [False, True])
def test_files_come_in_the_archives_order(is_pipe: bool) -> None:
    with qbackup.open(SAMPLE, passphrase=PASSPHRASE) as backup:
        expected = [file.name for file in backup.files]
    with opened(SAMPLE, is_pipe=is_pipe) as backup:
        backup.unlock(PASSPHRASE)
        _ = backup.qubes
        found = list(backup.iter_files())
        assert [each.name for each in found] == expected
        assert "qubes.xml" not in expected
        folders = [each.name for each in found if backup.holds_folder(each)]
        assert folders == [name for name in expected if name.startswith("dom0/")]


def test_files_of_a_locked_backup_are_refused() -> None:
    with qbackup.open(SAMPLE) as backup, pytest.raises(UsageError, match="locked"):
        backup.iter_files()
