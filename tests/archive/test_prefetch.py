"""Which keys are begun before they are asked for, and that none is derived twice for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup.archive.archive import BackupArchive
from qbackup.base.errors import WrongPassphrase
from qbackup.crypto.kdf import Derivation, Deriver
from qbackup.crypto.romix.tuning import kernel_saves
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.pipeline.pipeline import Pipeline
from qbackup.pipeline.schedule import Schedule
from tests.maker import BackupMaker
from tests.maker.collected import PASSPHRASE
from tests.support import vectorfiles
from tests.support.inside import inside

NAME = "xz-many-chunks"
METADATA = "qubes.xml"
IMAGE = "vm1/private.img"
JOBS = 3


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Salts of the keys that are begun on speculation."""
    salts: list[bytes] = []
    expect = Pipeline.expect

    def seen(pipeline: Pipeline, derivation: Derivation) -> None:
        salts.append(derivation.salt)
        expect(pipeline, derivation)

    monkeypatch.setattr(Pipeline, "expect", seen)
    return salts


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Salts of all keys that are derived."""
    salts: list[bytes] = []
    submit = Schedule.submit

    def seen(schedule: Schedule[Any], ticket: Any, parameters: ScryptParameters) -> None:
        salts.append(ticket.derivation.salt)
        submit(schedule, ticket, parameters)

    monkeypatch.setattr(Schedule, "submit", seen)
    return salts


def salts_of(archive: BackupArchive, path: str) -> list[bytes]:
    """Of a file's chunks, as they are stored: bytes 16 to 47 of each."""
    file = inside(archive).catalog.find(path)
    assert file is not None
    return [bytes(chunk.read_head(96))[16:48] for chunk in file.chunks]


def opened(**options: Any) -> BackupArchive:
    return qbackup.open(vectorfiles.backup_path(NAME), jobs=JOBS, **options)


PASSWORD = vectorfiles.load(NAME)["passphrase"]


class TestFirstKeys:
    def test_that_of_the_list_is_begun_beside_the_headers(self, ahead: list[bytes]) -> None:
        with opened() as archive:
            archive.unlock(PASSWORD, ahead=True)
            assert ahead == salts_of(archive, METADATA)

    def test_none_is_where_nothing_more_is_wanted(self, ahead: list[bytes]) -> None:
        with opened() as archive:
            archive.expect_all()
            archive.unlock(PASSWORD)
            assert ahead == []

    def test_where_all_is_read_one_for_each_job_is(self, ahead: list[bytes]) -> None:
        with opened() as archive:
            archive.expect_all()
            archive.unlock(PASSWORD, ahead=True)
            chunks = salts_of(archive, IMAGE)
            assert len(chunks) > JOBS
            assert ahead == [*salts_of(archive, METADATA), *chunks[:JOBS]]

    def test_none_is_derived_twice(self, ahead: list[bytes], asked: list[bytes]) -> None:
        with opened() as archive:
            archive.expect_all()
            archive.unlock(PASSWORD, ahead=True)
            assert archive.verify().ok
            members = inside(archive).catalog.member_count()
        assert ahead
        assert len(asked) == len(set(asked)) == members - 1, "the header itself has none"

    def test_with_a_wrong_passphrase_they_are_forgotten(self, asked: list[bytes]) -> None:
        with opened() as archive:
            archive.expect_all()
            with pytest.raises(WrongPassphrase):
                archive.unlock("wrong", ahead=True)
            assert inside(archive).pipeline._pool._speculated == {}
            archive.unlock(PASSWORD, ahead=True)
            assert archive.verify().ok

    def test_one_that_costs_more_than_the_headers_is_not(
        self, tools: None, tmp_path: Path, ahead: list[bytes]
    ) -> None:
        """What it costs is the storage's word, until the header is proved."""
        maker = BackupMaker(tmp_path / "maker", chunk_size=8192)
        maker.add_qube("work", files={"private.img": bytes(20_000)})
        maker.scrypt_options_for[f"{IMAGE}.000"] = ("--logN", "12", "-r", "8", "-p", "1")
        with qbackup.open(maker.write(tmp_path / "backup"), jobs=JOBS) as archive:
            archive.expect_all()
            archive.unlock(PASSPHRASE, ahead=True)
            dear, *cheap = salts_of(archive, IMAGE)
            assert dear not in ahead
            assert ahead == [*salts_of(archive, METADATA), *cheap]


class TestTheKernelIsLoaded:
    """Only for keys that it is made for."""

    @pytest.fixture
    def loaded(self, monkeypatch: pytest.MonkeyPatch) -> list[ScryptParameters]:
        found: list[ScryptParameters] = []
        monkeypatch.setattr(
            "qbackup.pipeline.key_pool.KeyPool.warm_up", lambda _, p: found.append(p)
        )
        return found

    @pytest.mark.parametrize("r", [1, 4, 7, 9, 16])
    def test_not_for_another_r(self, loaded: list[ScryptParameters], r: int) -> None:
        pipeline = Pipeline(Deriver(), jobs=2)
        pipeline.expect_keys(ScryptParameters(18, r, 5), 50_000)
        assert (loaded, kernel_saves(250_000, 2, ScryptParameters(18, r, 5))) == ([], 0.0)
        pipeline.close()

    def test_then_there_are_always_full_passes_to_look_ahead_for(
        self, loaded: list[ScryptParameters]
    ) -> None:
        single = ScryptParameters(18, 8, 1)
        pipeline = Pipeline(Deriver(), jobs=4)
        pipeline.expect_keys(single, 50_000)
        assert loaded == [single]
        assert pipeline._window >= 4 * 8, "a pass for each job"
        pipeline.close()
