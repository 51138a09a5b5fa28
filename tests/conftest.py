"""Fixtures that every test may use: the real programs, and a maker of backups."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import qbackup
from qbackup import BackupArchive
from qbackup.crypto.kdf import Derivation, Deriver
from tests.maker import BackupMaker, missing_tools
from tests.support import atrest, librarybackup, programs
from tests.support.keypools import kernel as kernel
from tests.support.slowruns import small_disk as small_disk

MakerFactory = Callable[..., BackupMaker]

# Examples have no deadline, which a busy machine would miss; all else is as it was (in continuous
# integration Hypothesis chooses the same examples each time).
settings.register_profile("no-clock", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=30)


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C works in every test, also where a shell's background job began with it ignored.

    Where only quick tests are run, and not in continuous integration, Hypothesis tries fewer
    examples.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    is_quick = config.getoption("markexpr", "") == "not slow" and "CI" not in os.environ
    settings.load_profile("quick" if is_quick else "no-clock")


@pytest.fixture(scope="session", autouse=True)
def hang_up_ends_a_process() -> Iterator[None]:
    """Processes of tests end by SIGHUP, also where `nohup` began the tests with it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In this process, fsync of what is on the tests' own file system returns at once.

    No test cuts the power, and a sixth of all time would be this wait. Tests of what is
    synchronised, and when, record the calls; files on mounts that a test makes are synchronised.
    """
    real, device = os.fsync, tmp_path_factory.getbasetemp().stat().st_dev

    def fsync(fd: Any) -> None:
        if os.fstat(fd).st_dev != device:
            real(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


@pytest.fixture(autouse=True)
def own_threads() -> None:
    """Tests that count threads count their own."""
    atrest.forget_others()


@pytest.fixture(scope="session")
def tools() -> None:
    """Skips where a real program is missing; in continuous integration (`CI` is set) that is a
    failure.
    """
    programs.refuse(missing_tools())


@pytest.fixture
def maker(tools: None, tmp_path: Path) -> MakerFactory:
    """`maker(**options)` gives a new `BackupMaker` with its own folder; options as in its
    constructor.
    """
    numbers = itertools.count()

    def make(**options: Any) -> BackupMaker:
        return BackupMaker(tmp_path / f"maker-{next(numbers)}", **options)

    return make


@pytest.fixture(scope="session")
def made(tools: None, tmp_path_factory: pytest.TempPathFactory) -> librarybackup.Made:
    """The backup of `tests.support.librarybackup`, made once; nobody changes it."""
    return librarybackup.make(tmp_path_factory.mktemp("library"))


@pytest.fixture
def backup(made: librarybackup.Made) -> Iterator[BackupArchive]:
    """The same, open and unlocked."""
    with qbackup.open(made.path, passphrase=librarybackup.PASSPHRASE) as archive:
        yield archive


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> list[Derivation]:
    """Every key that is derived, in order; the real derivation runs."""
    jobs: list[Derivation] = []
    derive = Deriver.derive

    def counted(self: Deriver, job: Derivation, threads: int = 1) -> bytes:
        jobs.append(job)
        return derive(self, job, threads)

    monkeypatch.setattr(Deriver, "derive", counted)
    return jobs
