"""Format 4 with header and copy gone: the id is named, or searched for, and proven by a chunk."""

from __future__ import annotations

import gc
import json
import shutil
import tarfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import qbackup
from qbackup import BackupIdUnknown, IdSearchProgress, UsageError, WrongPassphrase
from qbackup.crypto.kdf import Derivation
from tests.support.commandline import call
from tests.support.restored import snapshot
from tests.support.vectorfiles import FOLDER

VECTOR = FOLDER / "gzip-folders"
ABOUT = json.loads(VECTOR.with_suffix(".json").read_text())
ID, PASSPHRASE = ABOUT["backup_id"], ABOUT["passphrase"]
BEGAN = datetime.strptime(ID.partition("-")[0], "%Y%m%dT%H%M%S")
PID = int(ID.partition("-")[2])
ENV = {"QBACKUP_PASSPHRASE": PASSPHRASE}
FRONT_SIZE = 20 * 1024  # header and copy, each in its own archive


def named(time: datetime) -> str:
    return time.strftime("qubes-%Y-%m-%dT%H%M%S")


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """A backup without its first 20 KiB, named for a time seven seconds before its beginning."""
    path = tmp_path / named(BEGAN - timedelta(seconds=7))
    data = bytearray(VECTOR.with_suffix(".qbackup").read_bytes())
    data[:FRONT_SIZE] = bytes(FRONT_SIZE)
    path.write_bytes(data)
    return path


class TestGivenId:
    def test_everything_comes_out(self, lost: Path, tmp_path: Path) -> None:
        with qbackup.open(VECTOR.with_suffix(".qbackup"), passphrase=PASSPHRASE) as archive:
            assert archive.restore(tmp_path / "whole").ok
        with qbackup.open(lost, passphrase=PASSPHRASE, salvage=True, backup_id=ID) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert all(result.ok for result in report.files) and not report.ok
        assert any("is proven by" in error for error in report.errors)
        assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")

    def test_without_one_it_is_said_what_is_missing(self, lost: Path) -> None:
        with pytest.raises(BackupIdUnknown) as caught:
            qbackup.open(lost, passphrase=PASSPHRASE, salvage=True)
        assert "--backup-id ID" in caught.value.advice
        assert "--salvage" not in caught.value.advice

    @pytest.mark.parametrize("given", ["20240917T101112-1", f"{ID}0"])
    def test_a_wrong_one_is_not_believed(self, lost: Path, given: str) -> None:
        with pytest.raises(WrongPassphrase):
            qbackup.open(lost, passphrase=PASSPHRASE, salvage=True, backup_id=given)

    def test_a_wrong_one_does_no_harm_where_the_header_is_whole(self) -> None:
        with qbackup.open(
            VECTOR.with_suffix(".qbackup"),
            passphrase=PASSPHRASE,
            salvage=True,
            backup_id="20240917T101112-1",
        ) as archive:
            assert archive.header.backup_id == ID
            assert archive.verify().ok

    @pytest.mark.parametrize("given", ["", "a\nb", "a\0b", "a\r"])
    def test_what_can_be_none_is_refused(self, lost: Path, given: str) -> None:
        with pytest.raises(UsageError):
            qbackup.open(lost, salvage=True, backup_id=given)

    def test_it_is_for_salvage_only(self, lost: Path) -> None:
        with pytest.raises(UsageError):
            qbackup.open(lost, backup_id=ID)


def search(backup: Path, window: str, passphrase: str = PASSPHRASE) -> str | None:
    with qbackup.open(backup, salvage=True) as archive:
        return archive.find_backup_id(passphrase, window)


class TestSearch:
    def test_finds_it_by_the_time_in_the_name(self, lost: Path) -> None:
        with qbackup.open(lost, salvage=True) as archive:
            assert archive.find_backup_id(PASSPHRASE, f"8,{PID - 3}-{PID + 3}") == ID
            archive.unlock(PASSPHRASE)
            assert archive.header.backup_id == ID
            assert not archive.verify(check=False).ok

    def test_finds_it_by_the_time_of_a_member(self, lost: Path, tmp_path: Path) -> None:
        with tarfile.open(VECTOR.with_suffix(".qbackup"), ignore_zeros=True) as archive:
            stored = archive.getmember("qubes.xml.000.enc").mtime
        away = datetime.fromtimestamp(stored) - BEGAN
        shutil.copy(lost, tmp_path / "unnamed")
        data = bytearray(lost.read_bytes())
        with tarfile.open(lost.with_name("unnamed"), ignore_zeros=True) as archive:
            block = archive.getmember("qubes.xml.000.enc").offset_data - 512
        assert away  # the vector was made at another time than its id says
        moment = int(BEGAN.timestamp()) + 6
        data[block + 136 : block + 148] = b"%011o\0" % moment
        data[block + 148 : block + 156] = b" " * 8
        data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
        (tmp_path / "unnamed").write_bytes(data)
        assert search(tmp_path / "unnamed", f"2,{PID}-{PID + 1}") == ID

    def test_finds_it_by_a_time_that_is_named(self, lost: Path, tmp_path: Path) -> None:
        time = BEGAN.strftime("%Y%m%dT%H%M%S")
        assert search(lost, f"0,{PID}-{PID},{time}") == ID
        assert search(lost, f"0,{PID + 1}-{PID + 2},{time}") is None

    def test_goes_on_where_it_was_stopped(self, lost: Path, derivations: list[Derivation]) -> None:
        states: list[IdSearchProgress] = []

        def stop(state: IdSearchProgress) -> None:
            states.append(state)
            if state.tried == 30:
                raise KeyboardInterrupt

        with qbackup.open(lost, salvage=True) as archive:
            with pytest.raises(KeyboardInterrupt):
                archive.find_backup_id(PASSPHRASE, f"8,{PID - 3}-{PID + 3}", progress=stop)
            assert states[-1].total == 17 * 7
            rest = states[-1].rest
        assert rest.endswith("from=30")
        del derivations[:]
        assert search(lost, rest) == ID
        position = 13 * 7 + 3  # seven seconds later is the 13th step, the number the fourth
        assert len(derivations) >= position - 30 + 1
        assert search(lost, rest.replace("from=30", f"from={position + 1}")) is None

    def test_tries_each_id_once(self, lost: Path, derivations: list[Derivation]) -> None:
        assert search(lost, f"1,{PID}-{PID + 4}") is None
        assert len(derivations) == len({d.secret for d in derivations}) == 15

    def test_a_wrong_passphrase_finds_nothing(self, lost: Path) -> None:
        assert search(lost, f"8,{PID}-{PID}", "guess") is None

    def test_is_for_salvage_of_format_4_only(self, lost: Path) -> None:
        with qbackup.open(VECTOR.with_suffix(".qbackup")) as archive, pytest.raises(UsageError):
            archive.find_backup_id(PASSPHRASE)
        with (
            qbackup.open(FOLDER / "v3-plain-raw.qbackup", salvage=True) as archive,
            pytest.raises(UsageError),
        ):
            archive.find_backup_id(PASSPHRASE)

    @pytest.mark.slow
    def test_in_a_minute_on_each_side_and_200_numbers(self, lost: Path) -> None:
        assert search(lost, f"60,{PID - 100}-{PID + 99}") == ID


class TestChunk:
    def test_a_damaged_head_is_passed_over(self, lost: Path) -> None:
        data = bytearray(lost.read_bytes())
        with tarfile.open(lost, ignore_zeros=True) as archive:
            places = [m.offset_data for m in archive.getmembers() if m.name.endswith(".enc")]
        for place in places[:-1]:
            data[place + 20] ^= 1
        lost.write_bytes(data)
        assert search(lost, f"8,{PID}-{PID}") == ID


class TestCommand:
    @pytest.fixture
    def window(self) -> str:
        return f"8,{PID - 2}-{PID + 2}"

    def test_searches_prints_the_id_and_goes_on(self, lost: Path, window: str) -> None:
        ended = call("list", lost, "--salvage", "--backup-id-window", window, env=ENV)
        assert ended.status == 1
        assert "85 ids" in ended.err and f"--backup-id {ID}" in ended.err
        ended = call("list", lost, "--salvage", "--backup-id", ID, env=ENV)
        assert ended.status == 1 and "searching" not in ended.err

    def test_nothing_found_is_status_3_with_what_may_be_wrong(self, lost: Path) -> None:
        ended = call("list", lost, "--salvage", "--backup-id-window", "1,1-2", env=ENV)
        assert ended.status == 3
        assert "none of 6 ids" in ended.err and "too narrow" in ended.err

    def test_json_is_one_document(self, lost: Path, window: str) -> None:
        options = ("--salvage", "--backup-id-window", window, "--json")
        ended = call("list", lost, *options, env=ENV)
        assert ended.document["header"]["backup_id"] == ID

    def test_a_whole_header_is_not_searched_for(self, window: str) -> None:
        backup = VECTOR.with_suffix(".qbackup")
        ended = call("list", backup, "--salvage", "--backup-id-window", window, env=ENV)
        assert ended.status == 0 and "searching" not in ended.err

    @pytest.mark.parametrize(
        "options",
        [
            ("--backup-id", ID),
            ("--backup-id-window", "1"),
            ("--salvage", "--backup-id", ID, "--backup-id-window", "1"),
            ("--salvage", "--backup-id-window", "nonsense"),
            ("--salvage", "--backup-id", ""),
        ],
    )
    def test_options_that_make_no_sense_are_status_2(
        self, lost: Path, options: tuple[str, ...]
    ) -> None:
        assert call("list", lost, *options, env=ENV).status == 2


def test_no_object_shows_the_passphrase(lost: Path) -> None:
    seen: list[str] = []

    def look(state: IdSearchProgress) -> None:
        if not seen:
            things = (t for t in gc.get_objects() if str(type(t).__module__).startswith("qbackup"))
            seen.extend(repr(thing) for thing in things)

    with qbackup.open(lost, salvage=True) as archive:
        archive.find_backup_id("an unlikely phrase", f"0,{PID}-{PID + 1}", progress=look)
    assert any("IdSearch(" in text for text in seen)
    assert not any("unlikely" in text for text in seen)
